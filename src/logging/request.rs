//! Lines about a request: what names it.

use std::fmt::{self, Display};
use std::net::SocketAddr;

use log::{Level, Record};

use super::escape::Escaped;

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

impl RequestName<'_> {
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
        let mut record = Record::builder();
        record.level(level).target(module_path!());
        log::logger().log(&record.args(format_args!("{message} {self}")).build());
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
}
