//! The answers that the proxy gives itself: refusals and exhaustion.

use std::time::SystemTime;

use crate::forward::Persistence;
use crate::proxy_status::{self, PROXY_STATUS};

/// A refusal, whole: a status code and one line of plain text.
///
/// `is_head`: the head alone, as a HEAD request wants it (RFC 9110 9.3.2).
#[must_use]
pub fn own_answer(status: u16, text: &str, persistence: Persistence, is_head: bool) -> Vec<u8> {
    let proxy_status = proxy_status::refused(status);
    answer(status, text, persistence, is_head, &proxy_status)
}

/// The answer when no endpoint has a usable one. `proxy_status`: why.
#[must_use]
pub fn exhausted(
    status: u16,
    persistence: Persistence,
    is_head: bool,
    proxy_status: &str,
) -> Vec<u8> {
    let text = "endpoints failed to return a valid answer";
    answer(status, text, persistence, is_head, proxy_status)
}

fn answer(
    status: u16,
    text: &str,
    persistence: Persistence,
    is_head: bool,
    proxy_status: &str,
) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let extra = match status {
        // RFC 9110 15.5.6: what is allowed has to be said.
        405 => "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n",
        503 => "Retry-After: 1\r\n",
        _ => "",
    };
    let connection = match persistence {
        Persistence::Stays => "",
        Persistence::KeepAlive => "Connection: keep-alive\r\n",
        Persistence::Close => "Connection: close\r\n",
    };
    let length = text.len() + 1;
    let body = if is_head { "" } else { text };
    let end = if is_head { "" } else { "\n" };
    format!(
        "HTTP/1.1 {status} {}\r\n\
         Date: {date}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         {PROXY_STATUS}: {proxy_status}\r\n\
         {extra}{connection}\r\n\
         {body}{end}",
        reason(status)
    )
    .into_bytes()
}

/// RFC 9110 section 15, as far as it is used here.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(answer: &[u8]) -> Vec<String> {
        let text = String::from_utf8(answer.to_vec()).unwrap();
        text.split("\r\n")
            .filter(|line| !line.starts_with("Date: "))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn says_how_long_it_is_and_that_it_is_the_last_one() {
        assert_eq!(
            lines(&own_answer(503, "busy", Persistence::Close, false)),
            [
                "HTTP/1.1 503 Service Unavailable",
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
        assert_eq!(
            lines(&own_answer(500, "oh", Persistence::Stays, true)),
            [
                "HTTP/1.1 500 Internal Server Error",
                "Content-Type: text/plain; charset=utf-8",
                "Content-Length: 3",
                "Proxy-Status: balancing-reverse-proxy; error=proxy_internal_error",
                "",
                ""
            ]
        );
    }
}
