//! NTLM and Negotiate authenticate a connection, not a request.
//!
//! Whatever is sent on such a connection later is done in the name of the same user (RFC 4559
//! 6 warns of it). So a connection on which one of them has been used, or offered by a 401, is
//! private to the client's connection. `HAProxy` does the same.

use crate::http::header::Headers;

/// Whether one of the challenges or credentials in the lines of that name authenticates the
/// connection.
pub(super) fn is_of_connection(headers: &Headers, name: &str) -> bool {
    headers.elements(name).any(|element| {
        let scheme = element.split(|byte| b" \t".contains(byte)).next();
        scheme.is_some_and(|scheme| {
            scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemes_are_found_wherever_they_stand() {
        let table = [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAAB", true),
            ("Negotiate", true),
            ("Basic realm=\"a, b\", Negotiate YII=", true),
            ("Basic TlRMTQ==", false),
            ("Bearer NTLM", false),
            ("NTLMv2 x", false),
            ("", false),
        ];
        for (value, wanted) in table {
            let mut headers = Headers::new();
            headers.push(b"X-Other", b"NTLM");
            headers.push(b"www-authenticate", b"Digest x=y");
            headers.push(b"WWW-Authenticate", value.as_bytes());
            assert_eq!(
                is_of_connection(&headers, "WWW-Authenticate"),
                wanted,
                "{value}"
            );
        }
    }
}
