//! What a proxy changes in a message's head: pure functions, both directions.
//!
//! Everything that is not named here passes as it came: names in their case, order,
//! duplicates, values byte for byte.
//!
//! | header | request | response | why |
//! |---|---|---|---|
//! | `Connection` and what it names, `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade` | removed | removed | hop by hop: RFC 9110 7.6.1 |
//! | `Trailer` | removed | removed | trailers are not passed on: RFC 9110 6.6.2 |
//! | `Proxy-Authorization` / `Proxy-Authenticate` | removed | removed | meant for the first proxy: RFC 9110 11.7 |
//! | `Expect` | removed | – | answered here: RFC 9110 10.1.1 |
//! | `Host` | the endpoint's, or the client's with `-keep-host` | – | mirrors live on different hosts |
//! | `Content-Length` | of the body as it is sent | the endpoint's, or chunked | RFC 9112 6 |
//! | `Authorization` | from the endpoint's URL, if the client has none | – | RFC 9110 11.6.2 |
//! | `X-Forwarded-For` | the client's address appended | – | |
//! | `X-Forwarded-Host`, `X-Forwarded-Proto` | replaced | – | a client must not forge them |
//! | `Via` | added | added | RFC 9110 7.6.3 |

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::endpoint_url::EndpointUrl;

/// A header line: the name in its case, the value without white space around it.
pub type Header = (String, Vec<u8>);

/// This proxy's name in `Via`.
pub const PSEUDONYM: &str = "balancing-reverse-proxy";

/// Minor version of HTTP/1, as in the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    fn via(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
        }
    }
}

/// Whose name an endpoint finds in `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// The endpoint's own.
    Endpoint,
    /// The one that the client asked for; the endpoint's own where there is none.
    Client,
}

/// A client's request as far as an endpoint gets to see it.
#[derive(Debug)]
pub struct RequestHead {
    /// A token (RFC 9110 9.1), in its case.
    pub method: String,
    /// Origin form (RFC 9112 3.2.1), as the client wrote it.
    pub target: String,
    /// The client's version.
    pub version: Version,
    /// The host that the client asked for: of an absolute-form target, else `Host`.
    pub host: Option<String>,
    /// All header lines.
    pub headers: Vec<Header>,
    /// The client's address.
    pub client: IpAddr,
}

/// The request's head for one endpoint, with the empty line.
///
/// `body` is the body's length in bytes, if the client has sent one, be it empty.
#[must_use]
pub fn request_head(
    request: &RequestHead,
    endpoint: &EndpointUrl,
    host: HostRule,
    body: Option<u64>,
) -> Vec<u8> {
    let mut head = HeadWriter::new(&format!(
        "{} {} HTTP/1.1",
        request.method,
        endpoint.target(&request.target)
    ));
    let named = named_by_connection(&request.headers);
    let last_forwarded_for = request
        .headers
        .iter()
        .rposition(|(name, _)| is(name, "X-Forwarded-For"));
    let kept = match host {
        HostRule::Endpoint => None,
        HostRule::Client => request.host.as_deref(),
    };
    let mut host = Some(kept.unwrap_or(endpoint.authority()));
    if !request.headers.iter().any(|(name, _)| is(name, "Host")) {
        head.line("Host", host.take().unwrap_or_default());
    }
    let needs_length = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    let mut length = body.or(needs_length.then_some(0));
    let mut has_authorization = false;

    for (index, (name, value)) in request.headers.iter().enumerate() {
        if is(name, "Host") {
            if let Some(authority) = host.take() {
                head.line(name, authority);
            }
        } else if is(name, "Content-Length") || is(name, "Transfer-Encoding") {
            if let Some(length) = length.take() {
                head.line("Content-Length", length);
            }
        } else if Some(index) == last_forwarded_for {
            let mut chain = value.clone();
            if !chain.is_empty() {
                chain.extend_from_slice(b", ");
            }
            chain.extend_from_slice(request.client.to_string().as_bytes());
            head.raw_line(name, &chain);
        } else if !(is_hop_by_hop(name, &named) || is_replaced(name)) {
            has_authorization |= is(name, "Authorization");
            head.raw_line(name, value);
        }
    }

    if let Some(length) = length {
        head.line("Content-Length", length);
    }
    if let Some(authorization) = endpoint.authorization()
        && !has_authorization
    {
        head.line("Authorization", authorization);
    }
    if last_forwarded_for.is_none() {
        head.line("X-Forwarded-For", request.client);
    }
    if let Some(host) = &request.host {
        head.line("X-Forwarded-Host", host);
    }
    head.line("X-Forwarded-Proto", "http");
    head.line("Via", via(request.version));
    head.finish()
}

/// How the end of a response's body is marked for the client (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body: HEAD, 204, 304. A `Content-Length` says what a GET would get.
    Bodiless,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The end of the connection: all that an HTTP/1.0 client can be told.
    Close,
}

/// An endpoint's response head.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// The endpoint's reason phrase; may be empty.
    pub reason: Vec<u8>,
    /// The endpoint's version.
    pub version: Version,
    /// All header lines.
    pub headers: Vec<Header>,
    /// Lines of this proxy's own, that stand behind them.
    pub added: Vec<Header>,
}

/// What the client is told of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1's default: it goes on, and nothing needs to be said.
    Stays,
    /// It goes on, which an HTTP/1.0 client has to be told.
    KeepAlive,
    /// It ends with this response.
    Close,
}

/// The response's head for the client, with the empty line.
#[must_use]
pub fn response_head(
    response: &ResponseHead,
    framing: Framing,
    persistence: Persistence,
) -> Vec<u8> {
    let mut head = HeadWriter::new(&format!("HTTP/1.1 {:03} ", response.status));
    head.extend_first_line(&response.reason);
    let named = named_by_connection(&response.headers);
    let mut framing_line = match framing {
        Framing::Length(length) => Some(("Content-Length", length.to_string())),
        Framing::Chunked => Some(("Transfer-Encoding", "chunked".to_owned())),
        Framing::Bodiless | Framing::Close => None,
    };
    let mut length_passed = framing != Framing::Bodiless || response.status == 204;

    for (name, value) in &response.headers {
        if is(name, "Content-Length") || is(name, "Transfer-Encoding") {
            if let Some((framing_name, framing_value)) = framing_line.take() {
                let same = is(name, framing_name);
                head.line(if same { name } else { framing_name }, framing_value);
            } else if is(name, "Content-Length") && !length_passed {
                length_passed = true;
                head.raw_line(name, value);
            }
        } else if !is_hop_by_hop(name, &named) {
            head.raw_line(name, value);
        }
    }

    if let Some((name, value)) = framing_line {
        head.line(name, value);
    }
    for (name, value) in &response.added {
        head.raw_line(name, value);
    }
    head.line("Via", via(response.version));
    match persistence {
        Persistence::Stays => {}
        Persistence::KeepAlive => head.line("Connection", "keep-alive"),
        Persistence::Close => head.line("Connection", "close"),
    }
    head.finish()
}

/// Whether two header names are the same (RFC 9110 5.1).
#[must_use]
pub fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// The elements of all `name` lines, comma-separated lists (RFC 9110 5.6.1).
pub fn elements<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(header, _)| is(header, name))
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn named_by_connection(headers: &[Header]) -> Vec<&[u8]> {
    elements(headers, "Connection").collect()
}

fn is_hop_by_hop(name: &str, named_by_connection: &[&[u8]]) -> bool {
    const HOP_BY_HOP: [&str; 9] = [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Transfer-Encoding",
        "Upgrade",
        "Trailer",
        "Proxy-Authorization",
        "Proxy-Authenticate",
    ];
    HOP_BY_HOP.iter().any(|header| is(name, header))
        || named_by_connection
            .iter()
            .any(|named| named.eq_ignore_ascii_case(name.as_bytes()))
}

/// Request headers that this proxy answers or writes itself.
fn is_replaced(name: &str) -> bool {
    ["Expect", "X-Forwarded-Host", "X-Forwarded-Proto"]
        .iter()
        .any(|header| is(name, header))
}

fn via(received: Version) -> String {
    format!("{} {PSEUDONYM}", received.via())
}

/// Writes a head line by line.
struct HeadWriter(Vec<u8>);

impl HeadWriter {
    fn new(first_line: &str) -> Self {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(first_line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        Self(bytes)
    }

    fn extend_first_line(&mut self, text: &[u8]) {
        self.0.truncate(self.0.len() - 2);
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\r\n");
    }

    fn raw_line(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = write!(text, "{value}");
        self.raw_line(name, text.as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> Vec<Header> {
        lines
            .iter()
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_owned(), value.as_bytes().to_vec())
            })
            .collect()
    }

    fn request(method: &str, lines: &[&str]) -> RequestHead {
        RequestHead {
            method: method.to_owned(),
            target: "/t?q".to_owned(),
            version: Version::Http11,
            host: Some("client.example".to_owned()),
            headers: headers(lines),
            client: "10.0.0.1".parse().unwrap(),
        }
    }

    fn lines(head: &[u8]) -> Vec<String> {
        let text = String::from_utf8(head.to_vec()).unwrap();
        let text = text.strip_suffix("\r\n\r\n").unwrap();
        text.split("\r\n").map(str::to_owned).collect()
    }

    fn forwarded(url: &str, request: &RequestHead, body: Option<u64>) -> Vec<String> {
        let url = url.parse().unwrap();
        lines(&request_head(request, &url, HostRule::Endpoint, body))
    }

    const OURS: [&str; 4] = [
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: client.example",
        "X-Forwarded-Proto: http",
        "Via: 1.1 balancing-reverse-proxy",
    ];

    #[test]
    fn what_is_not_named_keeps_case_order_and_duplicates() {
        let request = request(
            "GET",
            &["host: client.example", "X-B: 1", "x-a: 2", "X-B: 3"],
        );
        assert_eq!(
            forwarded("http://e.example:81/base", &request, None),
            [
                &[
                    "GET /base/t?q HTTP/1.1",
                    "host: e.example:81",
                    "X-B: 1",
                    "x-a: 2",
                    "X-B: 3"
                ][..],
                &OURS
            ]
            .concat()
        );
    }

    #[test]
    fn hop_by_hop_headers_stop_here() {
        let removed = [
            "Connection: close, X-Named",
            "connection: , x-also-named ,",
            "X-Named: 1",
            "X-Also-Named: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: trailers",
            "Trailer: X-T",
            "Transfer-Encoding: chunked",
            "Upgrade: h2c",
            "Proxy-Authorization: Basic eA==",
            "Expect: 100-continue",
            "X-Forwarded-Host: forged",
            "X-Forwarded-Proto: forged",
        ];
        let request = request("GET", &[&["Host: c"], &removed[..]].concat());
        assert_eq!(
            forwarded("http://e", &request, None),
            [&["GET /t?q HTTP/1.1", "Host: e"][..], &OURS].concat()
        );
    }

    #[test]
    fn the_length_is_that_of_the_body_as_it_is_sent() {
        type Row<'a> = (&'a str, &'a [&'a str], Option<u64>, &'a [&'a str]);
        let table: [Row<'_>; 8] = [
            ("GET", &[], None, &[]),
            (
                "GET",
                &["Content-Length: 0"],
                Some(0),
                &["Content-Length: 0"],
            ),
            (
                "DELETE",
                &["Content-Length: 3"],
                Some(3),
                &["Content-Length: 3"],
            ),
            ("POST", &[], None, &["Content-Length: 0"]),
            (
                "PUT",
                &["content-length: 7", "X: 1"],
                Some(7),
                &["Content-Length: 7", "X: 1"],
            ),
            (
                "GET",
                &["Transfer-Encoding: chunked", "X: 1"],
                Some(9),
                &["Content-Length: 9", "X: 1"],
            ),
            (
                "POST",
                &["Transfer-Encoding: chunked"],
                Some(0),
                &["Content-Length: 0"],
            ),
            ("FOO", &[], None, &[]),
        ];
        for (method, given, body, wanted) in table {
            let request = request(method, &[&["Host: c"], given].concat());
            let first = format!("{method} /t?q HTTP/1.1");
            assert_eq!(
                forwarded("http://e", &request, body),
                [&[first.as_str(), "Host: e"][..], wanted, &OURS].concat()
            );
        }
    }

    #[test]
    fn forwarded_for_grows_at_its_end() {
        let given = [
            "Host: c",
            "x-forwarded-for: 1.1.1.1",
            "X: 1",
            "X-Forwarded-For: 2.2.2.2, 3.3.3.3",
        ];
        let forwarded = forwarded("http://e", &request("GET", &given), None);
        assert_eq!(
            forwarded,
            [
                "GET /t?q HTTP/1.1",
                "Host: e",
                "x-forwarded-for: 1.1.1.1",
                "X: 1",
                "X-Forwarded-For: 2.2.2.2, 3.3.3.3, 10.0.0.1",
                "X-Forwarded-Host: client.example",
                "X-Forwarded-Proto: http",
                "Via: 1.1 balancing-reverse-proxy"
            ]
        );
    }

    #[test]
    fn user_information_is_sent_unless_the_client_has_its_own() {
        let own = forwarded(
            "http://u:p@e",
            &request("GET", &["Host: c", "authorization: Bearer x"]),
            None,
        );
        assert!(own.contains(&"authorization: Bearer x".to_owned()));
        assert!(!own.iter().any(|line| line.contains("Basic")));
        let ours = forwarded("http://u:p@e", &request("GET", &["Host: c"]), None);
        assert!(ours.contains(&"Authorization: Basic dTpw".to_owned()));
    }

    #[test]
    fn a_client_without_host_gets_one_and_hides_none() {
        let mut request = request("GET", &[]);
        request.version = Version::Http10;
        request.host = None;
        assert_eq!(
            forwarded("http://e", &request, None),
            [
                "GET /t?q HTTP/1.1",
                "Host: e",
                "X-Forwarded-For: 10.0.0.1",
                "X-Forwarded-Proto: http",
                "Via: 1.0 balancing-reverse-proxy"
            ]
        );
    }

    #[test]
    fn the_host_that_the_client_asked_for_is_kept_on_demand() {
        type Row<'a> = (&'a [&'a str], Option<&'a str>, &'a [&'a str]);
        // A host that differs from the line's is that of an absolute-form target.
        let table: [Row<'_>; 5] = [
            (
                &["X: 1", "host: c:81"],
                Some("c:81"),
                &["X: 1", "host: c:81"],
            ),
            (&["Host: "], Some(""), &["Host: "]),
            (&[], Some("target"), &["Host: target"]),
            (
                &["Host: c", "X: 1"],
                Some("target:8"),
                &["Host: target:8", "X: 1"],
            ),
            (&[], None, &["Host: e:81"]),
        ];
        for (given, host, wanted) in table {
            let mut request = request("GET", given);
            request.host = host.map(str::to_owned);
            let url = "http://e:81".parse().unwrap();
            let forwarded = lines(&request_head(&request, &url, HostRule::Client, None));
            let start = [&["GET /t?q HTTP/1.1"][..], wanted, &OURS[..1]].concat();
            assert_eq!(forwarded[..start.len()], start);
            let told = forwarded
                .iter()
                .find_map(|line| line.strip_prefix("X-Forwarded-Host: "));
            assert_eq!(told, host);
        }
    }

    fn returned(status: u16, given: &[&str], framing: Framing) -> Vec<String> {
        let response = ResponseHead {
            status,
            reason: b"Fine".to_vec(),
            version: Version::Http11,
            headers: headers(given),
            added: Vec::new(),
        };
        lines(&response_head(&response, framing, Persistence::Stays))
    }

    const VIA: &str = "Via: 1.1 balancing-reverse-proxy";

    #[test]
    fn a_response_is_framed_where_the_endpoint_framed_it() {
        let table: [(&[&str], Framing, &[&str]); 6] = [
            (
                &["content-length: 5", "X: 1"],
                Framing::Length(5),
                &["content-length: 5", "X: 1"],
            ),
            (
                &["Transfer-Encoding: chunked", "X: 1"],
                Framing::Chunked,
                &["Transfer-Encoding: chunked", "X: 1"],
            ),
            (
                &["X: 1"],
                Framing::Chunked,
                &["X: 1", "Transfer-Encoding: chunked"],
            ),
            (
                &["Transfer-Encoding: chunked", "Content-Length: 5"],
                Framing::Chunked,
                &["Transfer-Encoding: chunked"],
            ),
            (&["Transfer-Encoding: chunked"], Framing::Close, &[]),
            (
                &["Content-Length: 5", "Content-Length: 5"],
                Framing::Length(5),
                &["Content-Length: 5"],
            ),
        ];
        for (given, framing, wanted) in table {
            assert_eq!(
                returned(200, given, framing),
                [&["HTTP/1.1 200 Fine"][..], wanted, &[VIA]].concat()
            );
        }
    }

    #[test]
    fn without_a_body_the_length_says_what_it_would_be() {
        let given = ["Content-Length: 5", "Transfer-Encoding: chunked"];
        assert_eq!(
            returned(304, &given, Framing::Bodiless),
            ["HTTP/1.1 304 Fine", "Content-Length: 5", VIA]
        );
        // RFC 9110 8.6: never in a 204.
        assert_eq!(
            returned(204, &given, Framing::Bodiless),
            ["HTTP/1.1 204 Fine", VIA]
        );
    }

    #[test]
    fn hop_by_hop_headers_of_a_response_stop_here() {
        let given = [
            "Connection: X-Named",
            "X-Named: 1",
            "Keep-Alive: timeout=5",
            "Upgrade: h2c",
            "Trailer: X-T",
            "Server: theirs",
            "Set-Cookie: a",
            "Set-Cookie: b",
        ];
        assert_eq!(
            returned(200, &given, Framing::Length(0)),
            [
                "HTTP/1.1 200 Fine",
                "Server: theirs",
                "Set-Cookie: a",
                "Set-Cookie: b",
                "Content-Length: 0",
                VIA
            ]
        );
    }
}
