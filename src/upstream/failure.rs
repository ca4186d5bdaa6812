//! Why an attempt gave no usable answer.
//!
//! A failure is always about one endpoint, so its text does not repeat which one:
//! the log line puts the endpoint in front. Texts are lower case, without a full
//! stop, and name what the user can change where there is something to change.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::go_duration::GoDuration;
use crate::util::io_error::describe;

/// What became of an attempt that gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint's host name has no address, or the look-up failed.
    Dns(String),
    /// No connection: refused, unreachable, out of descriptors.
    Connect(String),
    /// The TLS handshake failed, or a record did not verify.
    Tls(String),
    /// The connection broke, or what came over it is not HTTP/1.1.
    Broken(String),
    /// Nothing came for too long.
    Timeout(Timeout),
    /// A complete answer, whose status is not terminal.
    Status(u16),
    /// Nobody wants the answer any more. Never logged as an endpoint's failure.
    Cancelled,
    /// This process could not make the attempt.
    Internal(String),
}

/// Which of the timeouts ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// `-connect-timeout`: name look-up, TCP and TLS handshake together.
    Connect(Duration),
    /// `-per-try-timeout` before the answer's head was complete.
    Head(Duration),
    /// `-per-try-timeout` before an answer that is read whole first was whole.
    Whole(Duration),
    /// `-per-try-timeout` while waiting for the next piece of the body.
    Read(Duration),
    /// `-request-timeout`: all attempts of the request together.
    Request(Duration),
}

impl Failure {
    /// A connection that broke while in use.
    #[must_use]
    pub fn broken(error: &io::Error) -> Self {
        Self::Broken(describe(error))
    }

    /// Wraps the failure so that it survives its way through ureq.
    ///
    /// The kind is `Other`: ureq takes some kinds for a clean end of the body.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// The failure that [`Failure::into_io`] wrapped, or what a bare error means.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(failure) => Self::clone(failure),
            None => Self::broken(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(reason)
            | Self::Connect(reason)
            | Self::Tls(reason)
            | Self::Broken(reason)
            | Self::Internal(reason) => f.write_str(reason),
            Self::Timeout(timeout) => timeout.fmt(f),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(after) => write!(
                f,
                "timed out: no connection within {} (-connect-timeout)",
                GoDuration::from(*after)
            ),
            Self::Head(after) => write!(
                f,
                "timed out: no answer within {} (-per-try-timeout)",
                GoDuration::from(*after)
            ),
            Self::Whole(after) => write!(
                f,
                "timed out: no whole answer within {} (-per-try-timeout, -commit-after)",
                GoDuration::from(*after)
            ),
            Self::Read(after) => write!(
                f,
                "timed out: nothing more of the answer within {} (-per-try-timeout)",
                GoDuration::from(*after)
            ),
            Self::Request(after) => write!(
                f,
                "timed out: no usable answer within {} (-request-timeout)",
                GoDuration::from(*after)
            ),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_its_way_through_an_io_error() {
        let failure = Failure::Timeout(Timeout::Head(Duration::from_secs(30)));
        assert_eq!(Failure::from_io(&failure.clone().into_io()), failure);
    }

    #[test]
    fn a_timeout_names_the_flag() {
        let failure = Failure::Timeout(Timeout::Connect(Duration::from_millis(1500)));
        assert_eq!(
            failure.to_string(),
            "timed out: no connection within 1.5s (-connect-timeout)"
        );
    }
}
