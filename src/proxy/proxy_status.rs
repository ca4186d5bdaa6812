//! `Proxy-Status`: what this proxy did for an answer (RFC 9209), as a structured field
//! (RFC 9651).
//!
//! One member, this proxy's, is added behind those that an endpoint has sent: the last one is
//! the hop that is next to the client. Without `-proxy-status` it stands on answers of the
//! proxy's own only and gives the type of error, nothing of what stands behind the proxy.

use std::fmt::Write as _;

use crate::dispatch::attempt_log::AttemptLog;
use crate::http::via::PSEUDONYM;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::failure::{Failure, Timeout};

/// Of a request for which no endpoint had a usable answer.
#[must_use]
pub fn exhausted(attempt_log: &AttemptLog, with_details: bool) -> String {
    let mut member = PSEUDONYM.to_owned();
    let error = match attempt_log.decisive() {
        Some((Failure::Timeout(Timeout::Head(_) | Timeout::Request(_)), false)) => {
            "connection_timeout"
        }
        Some((failure, _)) => failure.error_type(),
        None => "proxy_internal_error",
    };
    // Writing to a `String` does not fail.
    let _ = write!(member, "; error={error}");
    if let Some((Failure::Status(status), _)) = attempt_log.decisive() {
        let _ = write!(member, "; received-status={status}");
    }
    if with_details {
        let _ = write!(member, "; details={}", string(&attempt_log.to_string()));
    }
    member
}

/// Of an endpoint's answer.
#[must_use]
pub fn relayed(endpoint: &Endpoint, hedged: bool, attempt_log: &AttemptLog) -> String {
    format!(
        "{PSEUDONYM}; next-hop={}; details={}",
        // Host and port only: user name and password are no part of it.
        string(endpoint.url.authority()),
        string(&attempt_log.winner(endpoint.index, hedged).to_string())
    )
}

/// A String (RFC 9651 4.1.6): printable ASCII in quotes. Anything else becomes `?`.
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            'µ' => quoted.push('u'),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_printable_ascii_in_quotes() {
        for (text, wanted) in [
            ("", r#""""#),
            ("a b~", r#""a b~""#),
            (r#"say "\""#, r#""say \"\\\"""#),
            ("350µs, caf\u{e9}\r\n\0\u{7f}", r#""350us, caf?????""#),
        ] {
            assert_eq!(string(text), wanted);
        }
    }
}
