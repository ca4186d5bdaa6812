//! `Max-Forwards` on OPTIONS and TRACE (RFC 9110 7.6.2): how many times a request may still be
//! forwarded, and the answer of the hop at which it may not.
//!
//! On any other method, and where it is no number, the field passes untouched. A request of
//! another method costs the comparison of its method.

use std::time::SystemTime;

use super::header::digits;
use super::local_reply::{PROXY_STATUS, Reply};
use super::request::{Persistence, RequestHead};
use super::via::PSEUDONYM;

/// Parts of the names of header fields that are likely to be credentials, in lower case: they
/// are not sent back by TRACE (RFC 9110 9.3.8).
const CREDENTIALS: [&[u8]; 8] = [
    b"auth",
    b"cookie",
    b"token",
    b"key",
    b"secret",
    b"passw",
    b"credential",
    b"session",
];

/// The number in `Max-Forwards`, where the field applies and is well formed. One that is too
/// large to be counted is the largest that can be.
#[must_use]
pub fn of(request: &RequestHead) -> Option<u64> {
    if !matches!(request.method(), "OPTIONS" | "TRACE") {
        return None;
    }
    let mut values = request.headers().all("Max-Forwards");
    let value = values.next()?;
    // Several lines are no number: the field is not a list.
    let value = digits(value).filter(|_| values.next().is_none())?;
    Some(value.parse().unwrap_or(u64::MAX))
}

/// The answer to a request that may not be forwarded any more: an empty one to OPTIONS, the
/// request without its credentials to TRACE.
#[must_use]
pub fn final_answer(request: &RequestHead, persistence: Persistence, now: SystemTime) -> Vec<u8> {
    let (content_type, content) = match request.method() {
        "TRACE" => ("message/http", echo(request)),
        _ => ("", Vec::new()),
    };
    Reply {
        status: 200,
        content_type,
        content: &content,
        persistence,
        is_head: false,
        extra: &format!("{PROXY_STATUS}: {PSEUDONYM}\r\n"),
    }
    .to_bytes(now)
}

/// The head as it was received, with its target in origin form and without credentials.
fn echo(request: &RequestHead) -> Vec<u8> {
    let mut echo = Vec::with_capacity(512);
    echo.extend_from_slice(request.method().as_bytes());
    echo.push(b' ');
    echo.extend_from_slice(request.target());
    echo.extend_from_slice(b" HTTP/");
    echo.extend_from_slice(request.version().number().as_bytes());
    echo.extend_from_slice(b"\r\n");
    let lines = request.headers().iter();
    for line in lines.filter(|line| !is_credential(line.name)) {
        echo.extend_from_slice(line.name);
        echo.extend_from_slice(b": ");
        echo.extend_from_slice(line.value);
        echo.extend_from_slice(b"\r\n");
    }
    echo.extend_from_slice(b"\r\n");
    echo
}

fn is_credential(name: &[u8]) -> bool {
    let has = |part: &&[u8]| {
        let mut parts = name.windows(part.len());
        parts.any(|found| found.eq_ignore_ascii_case(part))
    };
    CREDENTIALS.iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header::Headers;
    use crate::http::request::Version;
    use std::time::Duration;

    fn request(method: &str, lines: &[(&str, &str)], version: Version) -> RequestHead {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        let client = "10.0.0.1".parse().unwrap();
        RequestHead::new(method, b"/t?q=1", version, None, headers, client)
    }

    fn number(method: &str, values: &[&str]) -> Option<u64> {
        let lines: Vec<_> = values
            .iter()
            .map(|value| ("max-forwards", *value))
            .collect();
        of(&request(method, &lines, Version::Http11))
    }

    #[test]
    fn the_number_counts_on_options_and_trace_if_it_is_well_formed() {
        let table: [(&[&str], Option<u64>); 13] = [
            (&["0"], Some(0)),
            (&["00"], Some(0)),
            (&["1"], Some(1)),
            (&["010"], Some(10)),
            (&["18446744073709551615"], Some(u64::MAX)),
            (&["18446744073709551616"], Some(u64::MAX)),
            (&[], None),
            (&[""], None),
            (&["-1"], None),
            (&["+1"], None),
            (&["1, 1"], None),
            (&["\u{660}"], None),
            (&["0", "0"], None),
        ];
        for (values, wanted) in table {
            assert_eq!(number("OPTIONS", values), wanted, "{values:?}");
            assert_eq!(number("TRACE", values), wanted, "{values:?}");
            for method in ["GET", "HEAD", "POST", "options", "Trace", "PROPFIND"] {
                assert_eq!(number(method, values), None, "{method} {values:?}");
            }
        }
    }

    fn answer(request: &RequestHead, persistence: Persistence) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        String::from_utf8(final_answer(request, persistence, now)).unwrap()
    }

    #[test]
    fn options_gets_an_empty_answer() {
        let lines = [("Max-Forwards", "0"), ("X-A", "b")];
        assert_eq!(
            answer(
                &request("OPTIONS", &lines, Version::Http11),
                Persistence::Stays
            ),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Length: 0\r\nProxy-Status: balancing-reverse-proxy\r\n\r\n"
        );
    }

    #[test]
    fn trace_gets_the_request_without_credentials() {
        let lines = [
            ("host", "h"),
            ("Max-Forwards", "0"),
            ("Authorization", "Basic eA=="),
            ("proxy-authorization", "Basic eA=="),
            ("Cookie", "a=1"),
            ("Cookie2", "a=1"),
            ("X-Api-Key", "1"),
            ("X-Auth-Token", "1"),
            ("X-Amz-Security-Token", "1"),
            ("X-Client-Secret", "1"),
            ("Password", "1"),
            ("X-SESSION-ID", "1"),
            ("X-Credentials", "1"),
            ("Via", "1.1 a"),
            ("Via", "1.1 b"),
            ("X-Empty", ""),
        ];
        let echo = "TRACE /t?q=1 HTTP/1.0\r\nhost: h\r\nMax-Forwards: 0\r\n\
                    Via: 1.1 a\r\nVia: 1.1 b\r\nX-Empty: \r\n\r\n";
        let length = echo.len();
        let request = request("TRACE", &lines, Version::Http10);
        for (persistence, line) in [
            (Persistence::Close, "Connection: close\r\n"),
            (Persistence::KeepAlive, "Connection: keep-alive\r\n"),
        ] {
            assert_eq!(
                answer(&request, persistence),
                format!(
                    "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                     Content-Type: message/http\r\nContent-Length: {length}\r\n\
                     Proxy-Status: balancing-reverse-proxy\r\n{line}\r\n{echo}"
                )
            );
        }
    }
}
