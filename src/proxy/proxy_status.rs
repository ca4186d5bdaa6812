//! `Proxy-Status`: what this proxy did for an answer (RFC 9209), as a structured field
//! (RFC 9651).
//!
//! One member, this proxy's, is added behind those that an endpoint has sent: the last one is
//! the hop that is next to the client. Without `-proxy-status` it stands on answers of the
//! proxy's own only and tells the type of error, nothing of who stands behind the proxy.
//!
//! A [`Failure`] has its reason as text only, where the log needs no more; the types of RFC
//! 9209 are finer in places. There the words decide, as the tests pin them down.

use std::fmt::Write as _;

use crate::dispatch::trail::Trail;
use crate::http::forward::PSEUDONYM;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::failure::{Failure, Timeout};

/// Of a request for which no endpoint had a usable answer.
#[must_use]
pub fn exhausted(trail: &Trail, with_details: bool) -> String {
    let mut member = PSEUDONYM.to_owned();
    let error = match trail.last() {
        Some((Failure::Timeout(_), false)) => "connection_timeout",
        Some((failure, _)) => error_type(failure),
        None => "proxy_internal_error",
    };
    // Writing to a `String` does not fail.
    let _ = write!(member, "; error={error}");
    if let Some((Failure::Status(status), _)) = trail.last() {
        let _ = write!(member, "; received-status={status}");
    }
    if with_details {
        let _ = write!(member, "; details={}", string(&trail.to_string()));
    }
    member
}

/// Of an endpoint's answer.
#[must_use]
pub fn relayed(endpoint: &Endpoint, hedged: bool, trail: &Trail) -> String {
    format!(
        "{PSEUDONYM}; next-hop={}; details={}",
        // Host and port only: user name and password are no part of it.
        string(endpoint.url.authority()),
        string(&trail.winner(endpoint.index, hedged))
    )
}

/// RFC 9209 2.3.
fn error_type(failure: &Failure) -> &'static str {
    match failure {
        Failure::Dns(_) => "dns_error",
        Failure::Connect(reason) => match reason.as_str() {
            "connection refused" => "connection_refused",
            "no route to host" | "network is unreachable" => "destination_ip_unroutable",
            _ => "destination_unavailable",
        },
        Failure::Tls(reason) if reason.starts_with("the endpoint's certificate") => {
            "tls_certificate_error"
        }
        Failure::Tls(reason) if reason.starts_with("TLS refused") => "tls_alert_received",
        Failure::Tls(_) => "tls_protocol_error",
        Failure::Broken(reason) => broken(reason),
        Failure::Timeout(Timeout::Connect(_)) => "connection_timeout",
        Failure::Timeout(Timeout::Read(_)) => "connection_read_timeout",
        Failure::Timeout(Timeout::Head(_) | Timeout::Whole(_) | Timeout::Request(_)) => {
            "http_response_timeout"
        }
        // There is no type for an answer that is not wanted.
        Failure::Status(_) => "destination_unavailable",
        Failure::Cancelled | Failure::Internal(_) => "proxy_internal_error",
    }
}

fn broken(reason: &str) -> &'static str {
    if reason.contains("in the middle of the answer") {
        "http_response_incomplete"
    } else if reason.contains("head is larger") {
        "http_response_header_section_size"
    } else if reason.contains("transfer coding") {
        "http_response_transfer_coding"
    } else if reason.contains("connection reset") || reason.contains("connection closed") {
        "connection_terminated"
    } else {
        "http_protocol_error"
    }
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
    use crate::util::io_error::describe;
    use std::time::Duration;

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

    #[test]
    fn every_failure_has_its_type() {
        let second = Duration::from_secs(1);
        let os = |errno: rustix::io::Errno| describe(&errno.into());
        let broken = |reason: &str| Failure::Broken(reason.to_owned());
        let tls = |error: rustls::Error| crate::upstream::tls::failure(&error);
        let table = [
            (Failure::Dns("no such name".to_owned()), "dns_error"),
            (
                Failure::Connect(os(rustix::io::Errno::CONNREFUSED)),
                "connection_refused",
            ),
            (
                Failure::Connect(os(rustix::io::Errno::HOSTUNREACH)),
                "destination_ip_unroutable",
            ),
            (
                Failure::Connect(os(rustix::io::Errno::NETUNREACH)),
                "destination_ip_unroutable",
            ),
            (
                Failure::Connect("no address".to_owned()),
                "destination_unavailable",
            ),
            (
                tls(rustls::CertificateError::Expired.into()),
                "tls_certificate_error",
            ),
            (
                tls(rustls::CertificateError::UnknownIssuer.into()),
                "tls_certificate_error",
            ),
            (
                tls(rustls::Error::AlertReceived(
                    rustls::AlertDescription::AccessDenied,
                )),
                "tls_alert_received",
            ),
            (tls(rustls::Error::DecryptError), "tls_protocol_error"),
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
            (
                broken(&os(rustix::io::Errno::CONNRESET)),
                "connection_terminated",
            ),
            (
                broken("connection closed without an answer"),
                "connection_terminated",
            ),
            (
                broken("connection closed in the middle of the answer"),
                "http_response_incomplete",
            ),
            (
                broken("the answer's head is larger than 65535 bytes"),
                "http_response_header_section_size",
            ),
            (
                broken("unknown transfer coding"),
                "http_response_transfer_coding",
            ),
            (
                broken("no valid HTTP answer: invalid version"),
                "http_protocol_error",
            ),
            (
                Failure::Internal("no thread".to_owned()),
                "proxy_internal_error",
            ),
        ];
        for (failure, wanted) in table {
            assert_eq!(error_type(&failure), wanted, "{failure:?}");
        }
    }
}
