//! Why an attempt gave no usable answer.
//!
//! A failure is always about one endpoint, so its text does not repeat which one:
//! the log line puts the endpoint in front. Texts are lower case, without a full
//! stop, and name what the user can change where there is something to change.
//!
//! Always: log lines and `Proxy-Status` come from the types. A text is printed, and
//! never read again.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::http::response::HeadFault;
use crate::util::go_duration::GoDuration;
use crate::util::io_error::describe;

/// What became of an attempt that gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint's host name has no address, or the look-up failed: why.
    Dns(String),
    /// No connection: refused, unreachable.
    Connect(ConnectFault),
    /// The TLS handshake failed, or a record did not verify.
    Tls(TlsFault),
    /// The connection broke, or what came over it is not HTTP/1.1.
    Broken(ExchangeFault),
    /// Nothing came for too long.
    Timeout(Timeout),
    /// A complete answer, whose status is not terminal.
    Status(u16),
    /// An answer whose status is terminal, and whose body makes it unusable.
    UnusableBody,
    /// The answer is not wanted any more. Never logged as an endpoint's failure.
    Cancelled,
    /// This process could not make the attempt.
    Internal(String),
}

/// Why no connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectFault {
    /// There is no address to connect to.
    NoAddress,
    /// The last address that was tried reported an error.
    Io(IoFault),
}

/// What went wrong with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The endpoint's certificate is not accepted: what is wrong with it.
    Certificate(String),
    /// The endpoint has refused the session: why.
    Alert(String),
    /// The connection was closed during the handshake.
    Closed,
    /// What came is no TLS.
    NotSpoken,
    /// The connection broke during the handshake.
    Io(IoFault),
    /// Anything else, in the words of rustls.
    Other(String),
}

/// What went wrong on a connection that had been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeFault {
    /// Reading or writing failed.
    Io(IoFault),
    /// An orderly end before the first byte of an answer.
    NoAnswer,
    /// A 408 on a kept connection that it closes: the endpoint had given up waiting for a
    /// request (RFC 9110 15.5.9).
    IdleTimeout,
    /// An orderly end within the answer's head.
    HeadCut,
    /// An orderly end within the answer's body.
    BodyCut,
    /// TLS ended without `close_notify`.
    NoCloseNotify,
    /// An orderly end while the request was being sent.
    RequestCut,
    /// The answer came before the whole request was sent, and refuses it.
    AnsweredEarly,
    /// The answer's head is larger than this, in bytes.
    HeadTooLarge(usize),
    /// The answer's head is malformed, or leaves the end of its body in doubt.
    Head(HeadFault),
    /// A 1xx answer that only an upgrade can have.
    UnwantedUpgrade(u16),
    /// The chunked coding of the body is malformed: in which way.
    Chunks(&'static str),
}

/// An I/O error: its kind, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoFault {
    kind: io::ErrorKind,
    words: String,
}

impl From<&io::Error> for IoFault {
    fn from(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            words: describe(error),
        }
    }
}

impl From<io::ErrorKind> for IoFault {
    fn from(kind: io::ErrorKind) -> Self {
        Self::from(&io::Error::from(kind))
    }
}

/// Which of the timeouts ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// `-connect-timeout`: name look-up, TCP and TLS handshake together.
    Connect(Duration),
    /// `-connect-timeout` before the name had been looked up.
    Lookup(Duration),
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
        Self::Broken(ExchangeFault::Io(error.into()))
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

    /// Its type as RFC 9209 2.3 names it.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns_error",
            Self::Connect(fault) => fault.error_type(),
            Self::Tls(TlsFault::Certificate(_)) => "tls_certificate_error",
            Self::Tls(TlsFault::Alert(_)) => "tls_alert_received",
            Self::Tls(_) => "tls_protocol_error",
            Self::Broken(fault) => fault.error_type(),
            Self::Timeout(Timeout::Connect(_)) => "connection_timeout",
            Self::Timeout(Timeout::Lookup(_)) => "dns_timeout",
            Self::Timeout(Timeout::Read(_)) => "connection_read_timeout",
            Self::Timeout(Timeout::Head(_) | Timeout::Whole(_) | Timeout::Request(_)) => {
                "http_response_timeout"
            }
            Self::Status(508) => "proxy_loop_detected",
            // There is no type for an answer that is not wanted.
            Self::Status(_) | Self::UnusableBody => "destination_unavailable",
            Self::Cancelled | Self::Internal(_) => "proxy_internal_error",
        }
    }
}

impl ConnectFault {
    fn error_type(&self) -> &'static str {
        let Self::Io(fault) = self else {
            return "destination_unavailable";
        };
        match fault.kind {
            io::ErrorKind::ConnectionRefused => "connection_refused",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "destination_ip_unroutable"
            }
            _ => "destination_unavailable",
        }
    }
}

impl ExchangeFault {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Io(_)
            | Self::NoAnswer
            | Self::IdleTimeout
            | Self::NoCloseNotify
            | Self::RequestCut => "connection_terminated",
            Self::HeadCut | Self::BodyCut => "http_response_incomplete",
            Self::HeadTooLarge(_) => "http_response_header_section_size",
            Self::Head(HeadFault::Coding | HeadFault::CodingInHttp10) | Self::Chunks(_) => {
                "http_response_transfer_coding"
            }
            Self::AnsweredEarly | Self::Head(_) | Self::UnwantedUpgrade(_) => "http_protocol_error",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(reason) | Self::Internal(reason) => f.write_str(reason),
            Self::Connect(fault) => fault.fmt(f),
            Self::Tls(fault) => fault.fmt(f),
            Self::Broken(fault) => fault.fmt(f),
            Self::Timeout(timeout) => timeout.fmt(f),
            Self::Status(status) => write!(f, "status {status}"),
            Self::UnusableBody => f.write_str("unusable body"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address"),
            Self::Io(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(fault) => write!(f, "the endpoint's certificate {fault}"),
            Self::Alert(alert) => write!(f, "TLS refused by the endpoint: {alert}"),
            Self::Closed => f.write_str("connection closed during the TLS handshake"),
            Self::NotSpoken => f.write_str("the endpoint does not speak TLS (is it http://?)"),
            Self::Io(fault) => write!(f, "{fault} during the TLS handshake"),
            Self::Other(reason) => write!(f, "TLS: {reason}"),
        }
    }
}

impl fmt::Display for ExchangeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(fault) => fault.fmt(f),
            Self::NoAnswer => f.write_str("connection closed without an answer"),
            Self::IdleTimeout => {
                f.write_str("connection closed without an answer (status 408 on a kept connection)")
            }
            Self::HeadCut => f.write_str("connection closed in the middle of the answer's head"),
            Self::BodyCut => f.write_str("connection closed in the middle of the answer"),
            Self::NoCloseNotify => {
                f.write_str("connection closed early (TLS without close_notify)")
            }
            Self::RequestCut => f.write_str("connection closed before the whole request was sent"),
            Self::AnsweredEarly => f.write_str("answered before the whole request was sent"),
            Self::HeadTooLarge(limit) => {
                write!(f, "the answer's head is larger than {limit} bytes")
            }
            Self::Head(fault) => fault.fmt(f),
            Self::UnwantedUpgrade(status) => {
                write!(f, "answered {status} though no upgrade was asked for")
            }
            Self::Chunks(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Display for IoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, after, flags) = match self {
            Self::Connect(after) => ("no connection", after, "-connect-timeout"),
            Self::Lookup(after) => ("the name was not looked up", after, "-connect-timeout"),
            Self::Head(after) => ("no answer", after, "-per-try-timeout"),
            Self::Whole(after) => {
                let flags = "-per-try-timeout, -commit-after";
                ("no whole answer", after, flags)
            }
            Self::Read(after) => ("nothing more of the answer", after, "-per-try-timeout"),
            Self::Request(after) => ("no usable answer", after, "-request-timeout"),
        };
        let after = GoDuration::from(*after);
        write!(f, "timed out: {what} within {after} ({flags})")
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

    #[test]
    fn every_failure_has_its_type() {
        use rustix::io::Errno;
        let second = Duration::from_secs(1);
        let connect = |errno: Errno| Failure::Connect(ConnectFault::Io(os(errno)));
        let certificate = Failure::Tls(TlsFault::Certificate("has expired".to_owned()));
        let name = String::new;
        let internal = Failure::Internal("no thread".to_owned());
        let dns = Failure::Dns(name());
        let no_address = Failure::Connect(ConnectFault::NoAddress);
        let alert = Failure::Tls(TlsFault::Alert(name()));
        let table = [
            (dns, "dns_error"),
            (connect(Errno::CONNREFUSED), "connection_refused"),
            (connect(Errno::HOSTUNREACH), "destination_ip_unroutable"),
            (connect(Errno::NETUNREACH), "destination_ip_unroutable"),
            (connect(Errno::ACCESS), "destination_unavailable"),
            (no_address, "destination_unavailable"),
            (certificate, "tls_certificate_error"),
            (alert, "tls_alert_received"),
            (Failure::Tls(TlsFault::Other(name())), "tls_protocol_error"),
            (Failure::Tls(TlsFault::Closed), "tls_protocol_error"),
            (
                Failure::Timeout(Timeout::Connect(second)),
                "connection_timeout",
            ),
            (
                Failure::Timeout(Timeout::Head(second)),
                "http_response_timeout",
            ),
            (
                Failure::Timeout(Timeout::Request(second)),
                "http_response_timeout",
            ),
            (
                Failure::Timeout(Timeout::Read(second)),
                "connection_read_timeout",
            ),
            (Failure::Status(503), "destination_unavailable"),
            (Failure::Status(508), "proxy_loop_detected"),
            (Failure::UnusableBody, "destination_unavailable"),
            (internal, "proxy_internal_error"),
        ];
        for (failure, wanted) in table {
            assert_eq!(failure.error_type(), wanted, "{failure:?}");
            assert!(crate::metrics::REASONS.contains(&wanted), "{wanted}");
        }
    }

    #[test]
    fn every_fault_of_an_exchange_has_its_type() {
        use ExchangeFault as Fault;
        let reset = os(rustix::io::Errno::CONNRESET);
        let no_size = "a chunk without a size";
        let table = [
            (Fault::Io(reset), "connection_terminated"),
            (Fault::NoAnswer, "connection_terminated"),
            (Fault::NoCloseNotify, "connection_terminated"),
            (Fault::RequestCut, "connection_terminated"),
            (Fault::HeadCut, "http_response_incomplete"),
            (Fault::BodyCut, "http_response_incomplete"),
            (
                Fault::HeadTooLarge(65535),
                "http_response_header_section_size",
            ),
            (
                Fault::Head(HeadFault::Coding),
                "http_response_transfer_coding",
            ),
            (Fault::Chunks(no_size), "http_response_transfer_coding"),
            (Fault::Head(HeadFault::Lengths), "http_protocol_error"),
            (Fault::UnwantedUpgrade(101), "http_protocol_error"),
        ];
        for (fault, wanted) in table {
            assert_eq!(Failure::Broken(fault).error_type(), wanted);
            assert!(crate::metrics::REASONS.contains(&wanted), "{wanted}");
        }
    }

    fn os(errno: rustix::io::Errno) -> IoFault {
        IoFault::from(&io::Error::from(errno))
    }
}
