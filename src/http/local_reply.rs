//! Local replies: the answers that the proxy gives itself.
//!
//! Each is one line of plain text with its length, `Date` and `Proxy-Status` (RFC 9209).

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::request::{Persistence, Rejection};
use super::response::whole_seconds;
use super::via::PSEUDONYM;

/// The name of the header.
pub const PROXY_STATUS: &str = "Proxy-Status";

/// An answer that this process makes itself.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Status code; one of those whose reason phrase is known here.
    pub status: u16,
    /// The value of `Content-Type`; empty: none.
    pub content_type: &'a str,
    /// The content.
    pub content: &'a [u8],
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// The head alone, as a HEAD request wants it (RFC 9110 9.3.2).
    pub is_head: bool,
    /// Further header lines, each with its CRLF.
    pub extra: &'a str,
}

impl Reply<'_> {
    /// The whole answer.
    #[must_use]
    pub fn to_bytes(&self, now: SystemTime) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + self.content.len());
        let (name, end) = match self.content_type {
            "" => ("", ""),
            _ => ("Content-Type: ", "\r\n"),
        };
        // Writing to a `Vec` does not fail.
        let _ = write!(
            bytes,
            "HTTP/1.1 {} {}\r\n\
             Date: {}\r\n\
             {name}{}{end}\
             Content-Length: {}\r\n\
             {}{}\r\n",
            self.status,
            reason(self.status),
            httpdate::HttpDate::from(now),
            self.content_type,
            self.content.len(),
            self.extra,
            self.persistence.header_line(),
        );
        if !self.is_head {
            bytes.extend_from_slice(self.content);
        }
        bytes
    }
}

/// The type of an answer that is a line of plain text.
pub const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// The answer to a request that is not served. Its connection is closed. `is_origin`: it is no
/// proxy's, and has no `Proxy-Status`.
#[must_use]
pub fn rejected(rejection: &Rejection, now: SystemTime, is_origin: bool) -> Vec<u8> {
    let status = rejection.status;
    let proxy_status = (!is_origin).then(|| proxy_status(status));
    Reply {
        status,
        content_type: PLAIN_TEXT,
        content: format!("{}\n", rejection.reason).as_bytes(),
        persistence: Persistence::Close,
        is_head: rejection.is_head,
        extra: &lines(status, proxy_status.as_deref(), None),
    }
    .to_bytes(now)
}

/// The answer if no endpoint has a usable one.
#[derive(Clone, Copy, Debug)]
pub struct Exhausted<'a> {
    /// Status code.
    pub status: u16,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// The head alone.
    pub is_head: bool,
    /// The value of `Proxy-Status`: why.
    pub proxy_status: &'a str,
    /// When it is worth asking again, if that is known.
    pub retry_after: Option<Duration>,
}

impl Exhausted<'_> {
    /// The whole answer.
    #[must_use]
    pub fn to_bytes(&self, now: SystemTime) -> Vec<u8> {
        Reply {
            status: self.status,
            content_type: PLAIN_TEXT,
            content: b"endpoints failed to return a valid answer\n",
            persistence: self.persistence,
            is_head: self.is_head,
            extra: &lines(self.status, Some(self.proxy_status), self.retry_after),
        }
        .to_bytes(now)
    }
}

/// `Proxy-Status` of a request that this proxy rejects with this status code.
#[must_use]
pub fn proxy_status(status: u16) -> String {
    match status {
        400..=499 | 505 => format!("{PSEUDONYM}; error=http_request_error; status-code={status}"),
        500 => format!("{PSEUDONYM}; error=proxy_internal_error"),
        508 => format!("{PSEUDONYM}; error=proxy_loop_detected"),
        _ => format!("{PSEUDONYM}; error=proxy_internal_response"),
    }
}

/// `Proxy-Status`, and the header lines that belong to a status code. `retry_after` is when it is
/// worth asking again, if that is known.
fn lines(status: u16, proxy_status: Option<&str>, retry_after: Option<Duration>) -> String {
    let allow = match status {
        // RFC 9110 15.5.6: what is allowed has to be said.
        405 => "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n",
        _ => "",
    };
    let soon = (status == 503).then_some(Duration::from_secs(1));
    let retry_after = match retry_after.or(soon) {
        Some(span) => format!("Retry-After: {}\r\n", whole_seconds(span)),
        None => String::new(),
    };
    let proxy_status = match proxy_status {
        Some(value) => format!("{PROXY_STATUS}: {value}\r\n"),
        None => String::new(),
    };
    format!("{proxy_status}{allow}{retry_after}")
}

/// The reason phrase of a status code (RFC 9110 15, RFC 6585, RFC 8470, RFC 5842), as far as they are used
/// by the programs of this package; else empty.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lines_of(answer: &[u8]) -> Vec<String> {
        let text = String::from_utf8(answer.to_vec()).unwrap();
        text.split("\r\n").map(str::to_owned).collect()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn a_rejection_has_its_length_and_closes_the_connection() {
        assert_eq!(
            lines_of(&rejected(&Rejection::new(503, "busy"), now(), false)),
            [
                "HTTP/1.1 503 Service Unavailable",
                "Date: Sun, 06 Nov 1994 08:49:37 GMT",
                "Content-Type: text/plain; charset=utf-8",
                "Content-Length: 5",
                "Proxy-Status: balancing-reverse-proxy; error=proxy_internal_response",
                "Retry-After: 1",
                "Connection: close",
                "",
                "busy\n"
            ]
        );
    }

    #[test]
    fn head_gets_the_length_and_no_body() {
        let reply = Reply {
            status: 500,
            content_type: PLAIN_TEXT,
            content: b"oh\n",
            persistence: Persistence::KeepAlive,
            is_head: true,
            extra: "Proxy-Status: p\r\nX-A: b\r\n",
        };
        assert_eq!(
            lines_of(&reply.to_bytes(now())),
            [
                "HTTP/1.1 500 Internal Server Error",
                "Date: Sun, 06 Nov 1994 08:49:37 GMT",
                "Content-Type: text/plain; charset=utf-8",
                "Content-Length: 3",
                "Proxy-Status: p",
                "X-A: b",
                "Connection: keep-alive",
                "",
                ""
            ]
        );
    }

    #[test]
    fn the_answer_without_a_usable_one_says_why() {
        let answer = lines_of(&exhausted(502, None));
        assert_eq!(answer[0], "HTTP/1.1 502 Bad Gateway");
        assert_eq!(answer[4], "Proxy-Status: p; error=e");
        assert_eq!(
            answer[5..],
            ["", "endpoints failed to return a valid answer\n"]
        );
    }

    fn exhausted(status: u16, retry_after: Option<Duration>) -> Vec<u8> {
        let exhausted = Exhausted {
            status,
            persistence: Persistence::Stays,
            is_head: false,
            proxy_status: "p; error=e",
            retry_after,
        };
        exhausted.to_bytes(now())
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_none_too_few() {
        let millis = |millis| Some(Duration::from_millis(millis));
        for (status, retry_after, wanted) in [
            (500, millis(30_000), "Retry-After: 30"),
            (500, millis(29_001), "Retry-After: 30"),
            (502, millis(1), "Retry-After: 1"),
            (503, millis(2_500), "Retry-After: 3"),
            (503, None, "Retry-After: 1"),
            (504, None, ""),
        ] {
            let answer = lines_of(&exhausted(status, retry_after));
            assert_eq!(answer[5], wanted, "{status} {retry_after:?}");
        }
    }

    #[test]
    fn each_status_has_its_reason_phrase_error_type_and_lines() {
        let request_error = "error=http_request_error; status-code=";
        for (status, phrase, error, line) in [
            (400, "Bad Request", request_error, ""),
            (
                405,
                "Method Not Allowed",
                request_error,
                "Allow: GET, HEAD,",
            ),
            (408, "Request Timeout", request_error, ""),
            (413, "Content Too Large", request_error, ""),
            (417, "Expectation Failed", request_error, ""),
            (431, "Request Header Fields Too Large", request_error, ""),
            (
                500,
                "Internal Server Error",
                "error=proxy_internal_error",
                "",
            ),
            (
                503,
                "Service Unavailable",
                "error=proxy_internal_response",
                "Retry-After: 1",
            ),
            (
                505,
                "HTTP Version Not Supported",
                "error=http_request_error; status-code=505",
                "",
            ),
            (508, "Loop Detected", "error=proxy_loop_detected", ""),
        ] {
            let answer = lines_of(&rejected(&Rejection::new(status, "x"), now(), false));
            assert_eq!(answer[0], format!("HTTP/1.1 {status} {phrase}"));
            let code = if error == request_error {
                status.to_string()
            } else {
                String::new()
            };
            assert_eq!(
                answer[4],
                format!("Proxy-Status: balancing-reverse-proxy; {error}{code}")
            );
            assert!(answer[5].starts_with(line), "{answer:?}");
        }
    }
}
