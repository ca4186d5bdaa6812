//! Lines about a request: what names it, and what it has come to.
//!
//! Each has two forms, a text and the members of a JSON object. Only the one that is written
//! (`-log-json`) is made.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::Duration;

use log::kv::Value;
use log::{Level, Record};

use super::escape::Escaped;
use super::json::{MEMBERS, Message, OrNull, Seconds};
use crate::http::request::RequestHead;
use crate::util::text::JsonString;

/// The target of records about requests that were served (`-log-requests`).
pub(super) const SERVED: &str = concat!(module_path!(), "::served");

/// How much of a target stands in a line, in bytes. A head may be much longer.
const LONGEST_TARGET: usize = 2048;

/// The same of a method.
const LONGEST_METHOD: usize = 32;

/// What names a request in the log. Printed, it stands behind a line about the request:
/// `(GET /p of 127.0.0.1:5123)`.
#[derive(Clone, Copy, Debug)]
pub struct RequestName<'a> {
    /// Empty where it was not understood.
    pub method: &'a str,
    /// As the client wrote it; empty where it was not understood.
    pub target: &'a [u8],
    /// The client's address.
    pub client: SocketAddr,
}

impl<'a> RequestName<'a> {
    /// Of a request whose head is valid.
    #[must_use]
    pub fn of(head: &'a RequestHead, client: SocketAddr) -> Self {
        Self {
            method: head.method(),
            target: head.target(),
            client,
        }
    }

    /// The client's address, fit for a log line: an IPv4 one as such, also on a listener for both
    /// families.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(self.client.ip().to_canonical(), self.client.port())
    }

    /// Logs a line about the request, which is named behind the message.
    pub fn log(&self, message: fmt::Arguments<'_>) {
        self.log_at(Level::Info, message);
    }

    /// Logs an error that concerns the request, which is named behind the message.
    pub fn log_error(&self, message: fmt::Arguments<'_>) {
        self.log_at(Level::Error, message);
    }

    fn log_at(&self, level: Level, message: fmt::Arguments<'_>) {
        let members = (Message(level, message), Members(self));
        log(
            level,
            module_path!(),
            format_args!("{message} {self}"),
            format_args!("{}{}", members.0, members.1),
        );
    }
}

/// What a request has come to. With `-log-json` each request that was received has one.
#[derive(Clone, Copy)]
pub struct RequestReport<'a> {
    /// What names the request.
    pub request: RequestName<'a>,
    /// Of the answer that the client got; `None`: the client got none.
    pub status: Option<u16>,
    /// Sent to the client, the answer's head included.
    pub bytes: u64,
    /// From the first byte of the request to the end of the answer.
    pub duration: Duration,
    /// The endpoint that gave the answer; `None`: none did.
    pub endpoint: Option<usize>,
    /// The answer is that of a hedge.
    pub hedged: bool,
    /// The member `attempts` of the object, an array of [`AttemptReport`]s.
    pub attempts: &'a dyn Display,
    /// Why the request was not served, or not as a whole.
    pub reason: Option<&'a dyn Display>,
}

/// The member `attempts` of a request that was put to no endpoint.
pub const NO_ATTEMPTS: &str = "\"attempts\":[]";

/// What an attempt has come to.
#[derive(Clone, Copy)]
pub struct AttemptReport<'a> {
    /// The endpoint's number.
    pub endpoint: usize,
    /// `usable`, `cancelled`, `unsent`, `not_tried` or the type of the error (RFC 9209 2.3).
    pub outcome: &'a str,
    /// Why the answer is not usable, in words.
    pub reason: Option<&'a dyn Display>,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    /// From its start until its outcome was known.
    pub duration: Duration,
    /// It was a hedge.
    pub hedged: bool,
    /// How often the request was sent once more, on another connection.
    pub resent: u32,
}

impl<'a> RequestReport<'a> {
    /// Of a request that was put to no endpoint, and answered so.
    #[must_use]
    pub fn without_endpoint(
        request: RequestName<'a>,
        status: Option<u16>,
        bytes: u64,
        duration: Duration,
    ) -> Self {
        Self {
            request,
            status,
            bytes,
            duration,
            endpoint: None,
            hedged: false,
            attempts: &NO_ATTEMPTS,
            reason: None,
        }
    }

    /// Logs that the request was served. `text` is the whole line.
    pub fn log_served(&self, text: fmt::Arguments<'_>) {
        log(Level::Info, SERVED, text, format_args!("{self}"));
    }

    /// Logs that the request was not served, or not as a whole. It is named behind `text`.
    pub fn log(&self, text: fmt::Arguments<'_>) {
        log(
            Level::Info,
            module_path!(),
            format_args!("{text} {}", self.request),
            format_args!("{self}"),
        );
    }
}

fn log(level: Level, target: &str, text: fmt::Arguments<'_>, members: fmt::Arguments<'_>) {
    let members = (MEMBERS, Value::from_display(&members));
    let mut record = Record::builder();
    record.level(level).target(target).key_values(&members);
    log::logger().log(&record.args(text).build());
}

/// The members of a JSON object.
impl Display for RequestReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{},\"status\":{},\"bytes\":{},\"duration_s\":{},\"endpoint\":{},\"hedged\":{},{}",
            Members(&self.request),
            OrNull(self.status),
            self.bytes,
            Seconds(self.duration),
            OrNull(self.endpoint),
            self.hedged,
            self.attempts,
        )?;
        self.reason
            .map_or(Ok(()), |reason| reason_member(f, reason))
    }
}

/// A JSON object.
impl Display for AttemptReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{\"endpoint\":{},\"outcome\":{},\"duration_s\":{},\"hedged\":{},\"status\":{}",
            self.endpoint,
            JsonString(self.outcome),
            Seconds(self.duration),
            self.hedged,
            OrNull(self.status),
        )?;
        if self.resent > 0 {
            write!(f, ",\"resent\":{}", self.resent)?;
        }
        self.reason
            .map_or(Ok(()), |reason| reason_member(f, reason))?;
        f.write_str("}")
    }
}

fn reason_member(f: &mut fmt::Formatter<'_>, reason: &dyn Display) -> fmt::Result {
    write!(f, ",\"reason\":{}", JsonString(reason))
}

/// What names a request, as members of a JSON object.
struct Members<'a>(&'a RequestName<'a>);

impl Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestName { method, target, .. } = *self.0;
        let method = (!method.is_empty()).then_some(JsonString(Method(method)));
        let target = (!target.is_empty()).then_some(JsonString(Target(target)));
        write!(
            f,
            ",\"client\":\"{}\",\"method\":{},\"target\":{}",
            self.0.client(),
            OrNull(method),
            OrNull(target),
        )
    }
}

impl Display for RequestName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        if !self.method.is_empty() {
            write!(f, "{} ", Method(self.method))?;
        }
        if !self.target.is_empty() {
            write!(f, "{} ", Target(self.target))?;
        }
        write!(f, "of {})", self.client())
    }
}

/// A target, fit for a log line: bytes that are not UTF-8 are escaped as in `\xff`, and what
/// is longer than 2,048 bytes is cut short, with `…` in its place.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a>(pub &'a [u8]);

impl Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..LONGEST_TARGET) {
            Some(start) if self.0.len() > LONGEST_TARGET => write!(f, "{}…", Escaped(start)),
            _ => Escaped(self.0).fmt(f),
        }
    }
}

/// A method, which is a token: ASCII.
struct Method<'a>(&'a str);

impl Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..LONGEST_METHOD) {
            Some(start) if self.0.len() > LONGEST_METHOD => write!(f, "{start}…"),
            _ => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: &str, target: &[u8]) -> String {
        let client = "[::ffff:127.0.0.1]:5123".parse().unwrap();
        let name = RequestName {
            method,
            target,
            client,
        };
        name.to_string()
    }

    #[test]
    fn a_request_is_named_as_far_as_it_is_understood() {
        for (method, target, shown) in [
            ("GET", &b"/p?q"[..], "(GET /p?q of 127.0.0.1:5123)"),
            ("M-SEARCH", b"*", "(M-SEARCH * of 127.0.0.1:5123)"),
            ("GET", b"/\xff", "(GET /\\xff of 127.0.0.1:5123)"),
            ("GET", b"", "(GET of 127.0.0.1:5123)"),
            ("", b"", "(of 127.0.0.1:5123)"),
        ] {
            assert_eq!(name(method, target), shown);
        }
    }

    #[test]
    fn what_is_long_is_cut_short() {
        let target = [b'x'; LONGEST_TARGET + 1];
        let whole = "x".repeat(LONGEST_TARGET);
        let method = "M".repeat(LONGEST_METHOD);
        let shown = format!("({method} {whole} of 127.0.0.1:5123)");
        assert_eq!(name(&method, &target[1..]), shown);
        let shown = format!("({method}… {whole}… of 127.0.0.1:5123)");
        assert_eq!(name(&format!("{method}M"), &target), shown);
        // In the middle of a character.
        let target = "\u{fc}".repeat(LONGEST_TARGET);
        let shown = Target(&target.as_bytes()[1..]).to_string();
        assert!(shown.starts_with("\\xbc\u{fc}"), "{shown}");
        assert!(shown.ends_with("\u{fc}\\xc3…"), "{shown}");
    }

    #[test]
    fn an_ipv4_client_of_a_listener_for_both_families_is_shown_as_ipv4() {
        for (address, shown) in [
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            let name = RequestName {
                method: "",
                target: b"",
                client: address.parse().unwrap(),
            };
            assert_eq!(name.client().to_string(), shown);
        }
    }

    #[test]
    fn a_request_and_its_attempts_are_json_objects() {
        let failed = AttemptReport {
            endpoint: 0,
            outcome: "destination_unavailable",
            reason: Some(&"status 503"),
            status: Some(503),
            duration: Duration::from_millis(2),
            hedged: false,
            resent: 1,
        };
        let won = AttemptReport {
            endpoint: 1,
            outcome: "usable",
            reason: None,
            status: Some(200),
            duration: Duration::from_millis(1),
            hedged: true,
            resent: 0,
        };
        let report = RequestReport {
            request: RequestName {
                method: "GET",
                target: b"/\xff\"",
                client: "127.0.0.1:5123".parse().unwrap(),
            },
            status: Some(200),
            bytes: 123,
            duration: Duration::from_millis(3),
            endpoint: Some(1),
            hedged: true,
            attempts: &format!("\"attempts\":[{failed},{won}]"),
            reason: None,
        };
        assert_eq!(
            report.to_string(),
            ",\"client\":\"127.0.0.1:5123\",\"method\":\"GET\",\"target\":\"/\\\\xff\\\"\",\
             \"status\":200,\"bytes\":123,\"duration_s\":0.003000,\"endpoint\":1,\"hedged\":true,\
             \"attempts\":[{\"endpoint\":0,\"outcome\":\"destination_unavailable\",\
             \"duration_s\":0.002000,\"hedged\":false,\"status\":503,\"resent\":1,\
             \"reason\":\"status 503\"},{\"endpoint\":1,\"outcome\":\"usable\",\"duration_s\":0.001000,\"hedged\":true,\
             \"status\":200}]"
        );
        let given_up = RequestReport {
            request: RequestName {
                method: "",
                target: b"",
                ..report.request
            },
            status: None,
            endpoint: None,
            attempts: &NO_ATTEMPTS,
            reason: Some(&"the client went away"),
            ..report
        };
        assert_eq!(
            given_up.to_string(),
            ",\"client\":\"127.0.0.1:5123\",\"method\":null,\"target\":null,\"status\":null,\
             \"bytes\":123,\"duration_s\":0.003000,\"endpoint\":null,\"hedged\":true,\
             \"attempts\":[],\"reason\":\"the client went away\"}"
                .trim_end_matches('}')
        );
    }
}
