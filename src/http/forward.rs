//! The header rules: what the proxy removes from, adds to and changes in a message's head. Pure
//! functions, both directions.
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
//! | what the endpoint has header lines for | the endpoint's lines; removed on TRACE, but for `Host` | – | see [`endpoint_config`](super::endpoint_config) |
//! | `Host` | the endpoint's, or the client's with `-keep-host` | – | mirrors live on different hosts |
//! | `Content-Length` | of the body as it is sent | the endpoint's, or chunked | RFC 9112 6 |
//! | `Accept-Encoding` | `identity` with `-unusable-body` | – | bodies are searched as they are |
//! | `Authorization` | from the endpoint's URL, if the client has none; not on TRACE | – | RFC 9110 11.6.2, 9.3.8 |
//! | `X-Forwarded-For` | the client's address appended | – | |
//! | `X-Forwarded-Host`, `X-Forwarded-Proto` | replaced, or kept where there are any with `-keep-forwarded` | – | a client must not forge them |
//! | `Max-Forwards` | less one on OPTIONS and TRACE | – | RFC 9110 7.6.2 |
//! | `Date` | – | added where there is none, when it is received (in `upstream`) | RFC 9110 6.6.1 |
//! | `Location`, `Content-Location` | – | the proxy's URL for the endpoint's with `-rewrite-location` | see [`location`](super::location) |
//! | `Via` | added, but with `-no-via` | added, but with `-no-via` | RFC 9110 7.6.3, see [`via`](super::via) |
//!
//! A head is written straight into its buffer: one allocation, and one more where
//! `Connection` names headers.

use std::fmt::Display;
use std::io::Write as _;

use super::endpoint_config::HeaderLines;
use super::header::{Header, Headers, is};
use super::location::LocationRewrite;
use super::max_forwards;
use super::request::{Persistence, RequestHead, Version};
use super::response::{BodyFraming, ResponseHead};
use super::via::ViaEntry;
use crate::http::endpoint_url::EndpointUrl;

/// Room for the lines that are added to a head, in bytes.
const ADDED: usize = 256;

/// What is set for all messages; the default is to add and keep nothing.
#[derive(Clone, Debug, Default)]
pub struct ForwardRules {
    /// Which name `Host` gives to an endpoint.
    pub host: HostRule,
    /// What is added to `Via`; `None`: nothing. What others have written in it stays.
    pub via: Option<ViaEntry>,
    /// `X-Forwarded-Host` and `X-Forwarded-Proto` of a request are kept, each where it is there
    /// and not empty.
    pub keep_forwarded: bool,
    /// Endpoints are asked not to encode bodies, whatever the client takes.
    pub only_identity: bool,
    /// URLs of an endpoint in its answers are made the proxy's.
    pub rewrite_location: bool,
}

/// Which name `Host` gives to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRule {
    /// The endpoint's own.
    #[default]
    Endpoint,
    /// The one that the client asked for; the endpoint's own where there is none.
    Client,
}

impl HostRule {
    fn of<'a>(self, request: &'a RequestHead, endpoint: &'a EndpointUrl) -> &'a [u8] {
        let kept = match self {
            Self::Endpoint => None,
            Self::Client => request.host(),
        };
        kept.unwrap_or(endpoint.authority().as_bytes())
    }
}

/// The request's head for one endpoint, with the empty line. `own` are the endpoint's lines.
///
/// `body` is the length in bytes of the body that the client has sent, which may be empty;
/// `None` if it has announced none.
#[must_use]
pub fn request_head(
    request: &RequestHead,
    endpoint: &EndpointUrl,
    own: &HeaderLines,
    rules: &ForwardRules,
    body: Option<u64>,
) -> Vec<u8> {
    let headers = request.headers();
    let mut head = HeadWriter::new(headers);
    head.bytes(request.method().as_bytes());
    head.bytes(b" ");
    endpoint.write_target(request.target(), &mut head.0);
    head.bytes(b" HTTP/1.1\r\n");

    let named = Named::by_connection(headers);
    let last_forwarded_for = headers
        .iter()
        .rposition(|header| is(header.name, "X-Forwarded-For"));
    let mut host = Some(own.host().unwrap_or(rules.host.of(request, endpoint)));
    if headers.get("Host").is_none() {
        head.line(b"Host", host.take().unwrap_or_default());
    }
    let needs_length = matches!(request.method(), "POST" | "PUT" | "PATCH");
    let mut length = body.or(needs_length.then_some(0));
    let mut has_authorization = own.replace(b"Authorization");
    let max_forwards = max_forwards::of(request);
    let mut kept = KeptForwarded::replaced_by(own);

    for (index, header) in headers.iter().enumerate() {
        let name = header.name;
        if is(name, "Host") {
            if let Some(authority) = host.take() {
                head.line(name, authority);
            }
        } else if is(name, "Content-Length") || is(name, "Transfer-Encoding") {
            if let Some(length) = length.take() {
                head.display(b"Content-Length", length);
            }
        } else if own.replace(name) {
            // The endpoint's lines follow.
        } else if Some(index) == last_forwarded_for {
            head.begin(name);
            if !header.value.is_empty() {
                head.bytes(header.value);
                head.bytes(b", ");
            }
            head.end(request.client());
        } else if let Some(number) = max_forwards
            && is(name, "Max-Forwards")
            && !named.has(name)
        {
            head.display(name, number.saturating_sub(1));
        } else if !(is_hop_by_hop(name) || named.has(name) || is_replaced(name, rules)) {
            has_authorization |= is(name, "Authorization");
            head.line(name, header.value);
        } else if rules.keep_forwarded && !named.has(name) && kept.takes(header) {
            head.line(name, header.value);
        }
    }

    if let Some(length) = length {
        head.display(b"Content-Length", length);
    }
    // RFC 9110 9.3.8: the answer would show them to the client.
    let has_keys = request.method() != "TRACE";
    head.own(own, has_keys, rules);
    if let Some(authorization) = endpoint.authorization()
        && has_keys
        && !has_authorization
    {
        head.line(b"Authorization", authorization.as_bytes());
    }
    if last_forwarded_for.is_none() {
        head.display(b"X-Forwarded-For", request.client());
    }
    head.forwarded(request, &kept);
    head.via(request.version(), rules);
    head.finish()
}

/// The response's head for the client, with the empty line. `location` rewrites `Location` and
/// `Content-Location`.
#[must_use]
pub fn response_head(
    response: &ResponseHead,
    framing: BodyFraming,
    persistence: Persistence,
    rules: &ForwardRules,
    location: Option<LocationRewrite<'_>>,
) -> Vec<u8> {
    let mut head = HeadWriter::new(&response.headers);
    // Writing to a `Vec` does not fail.
    let _ = write!(head.0, "HTTP/1.1 {:03} ", response.status);
    head.bytes(response.reason());
    head.bytes(b"\r\n");

    let named = Named::by_connection(&response.headers);
    let mut framed = matches!(framing, BodyFraming::Bodiless | BodyFraming::Close);
    let mut length_passed = framing != BodyFraming::Bodiless || response.status == 204;
    for header in response.headers.iter() {
        let name = header.name;
        if is(name, "Content-Length") || is(name, "Transfer-Encoding") {
            if !framed {
                framed = true;
                head.framing(framing, name);
            } else if is(name, "Content-Length") && !length_passed {
                length_passed = true;
                head.line(name, header.value);
            }
        } else if !(is_hop_by_hop(name) || named.has(name)) {
            let pieces = location
                .filter(|_| is(name, "Location") || is(name, "Content-Location"))
                .and_then(|location| location.rewrite(header.value));
            match pieces {
                None => head.line(name, header.value),
                Some(pieces) => head.pieces(name, pieces),
            }
        }
    }

    if !framed {
        head.framing(framing, b"");
    }
    for header in response.added.iter() {
        head.line(header.name, header.value);
    }
    head.via(response.version, rules);
    head.bytes(persistence.header_line().as_bytes());
    head.finish()
}

/// The headers that `Connection` names (RFC 9110 7.6.1), sorted: a head may name thousands.
struct Named<'a>(Vec<&'a [u8]>);

impl<'a> Named<'a> {
    fn by_connection(headers: &'a Headers) -> Self {
        // The usual element names a header that is removed anyway.
        let mut named: Vec<_> = headers
            .elements("Connection")
            .filter(|element| !is(element, "keep-alive"))
            .collect();
        named.sort_unstable_by(|one, other| lower_case(one).cmp(lower_case(other)));
        Self(named)
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0
            .binary_search_by(|named| lower_case(named).cmp(lower_case(name)))
            .is_ok()
    }
}

fn lower_case(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(u8::to_ascii_lowercase)
}

/// Headers that are for the next hop only, whether `Connection` names them or not.
fn is_hop_by_hop(name: &[u8]) -> bool {
    // Most names differ in length from all of these.
    match name.len() {
        2 => is(name, "TE"),
        7 => is(name, "Upgrade") || is(name, "Trailer"),
        10 => is(name, "Connection") || is(name, "Keep-Alive"),
        16 => is(name, "Proxy-Connection"),
        17 => is(name, "Transfer-Encoding"),
        18 => is(name, "Proxy-Authenticate"),
        19 => is(name, "Proxy-Authorization"),
        _ => false,
    }
}

/// Request headers that this proxy answers or writes itself.
fn is_replaced(name: &[u8], rules: &ForwardRules) -> bool {
    is(name, "Expect")
        || is(name, "X-Forwarded-Host")
        || is(name, "X-Forwarded-Proto")
        || rules.only_identity && is(name, "Accept-Encoding")
}

/// Which of these fields of the request have been kept.
struct KeptForwarded {
    host: bool,
    proto: bool,
}

impl KeptForwarded {
    /// Those that the endpoint has lines for count as kept.
    fn replaced_by(own: &HeaderLines) -> Self {
        Self {
            host: own.replace(b"X-Forwarded-Host"),
            proto: own.replace(b"X-Forwarded-Proto"),
        }
    }

    /// Whether the line is one of these, and has a value.
    fn takes(&mut self, header: Header<'_>) -> bool {
        let kept = match header.name.len() {
            16 if is(header.name, "X-Forwarded-Host") => &mut self.host,
            17 if is(header.name, "X-Forwarded-Proto") => &mut self.proto,
            _ => return false,
        };
        let has_value = !header.value.is_empty();
        *kept |= has_value;
        has_value
    }
}

/// Writes a head line by line.
struct HeadWriter(Vec<u8>);

impl HeadWriter {
    /// With room for these lines and the usual ones beside them.
    fn new(headers: &Headers) -> Self {
        Self(Vec::with_capacity(headers.text().len() + ADDED))
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn begin(&mut self, name: &[u8]) {
        self.bytes(name);
        self.bytes(b": ");
    }

    fn end(&mut self, value: impl Display) {
        // Writing to a `Vec` does not fail.
        let _ = write!(self.0, "{value}\r\n");
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.begin(name);
        self.bytes(value);
        self.bytes(b"\r\n");
    }

    fn pieces(&mut self, name: &[u8], value: [&[u8]; 4]) {
        self.begin(name);
        for piece in value {
            self.bytes(piece);
        }
        self.bytes(b"\r\n");
    }

    fn display(&mut self, name: &[u8], value: impl Display) {
        self.begin(name);
        self.end(value);
    }

    /// The line that marks the body's end, under `name` if that is the right one: it keeps
    /// its case.
    fn framing(&mut self, framing: BodyFraming, name: &[u8]) {
        match framing {
            BodyFraming::Bodiless | BodyFraming::Close => {}
            BodyFraming::Length(length) if is(name, "Content-Length") => {
                self.display(name, length);
            }
            BodyFraming::Length(length) => self.display(b"Content-Length", length),
            BodyFraming::Chunked if is(name, "Transfer-Encoding") => self.line(name, b"chunked"),
            BodyFraming::Chunked => self.line(b"Transfer-Encoding", b"chunked"),
        }
    }

    /// `X-Forwarded-Host` and `X-Forwarded-Proto` of our own, for those that have not been kept.
    fn forwarded(&mut self, request: &RequestHead, kept: &KeptForwarded) {
        if let Some(host) = request.host().filter(|_| !kept.host) {
            self.line(b"X-Forwarded-Host", host);
        }
        if !kept.proto {
            self.line(b"X-Forwarded-Proto", b"http");
        }
    }

    /// The endpoint's own lines, if they are to be sent; one of them may say which codings it is
    /// to use.
    fn own(&mut self, own: &HeaderLines, are_sent: bool, rules: &ForwardRules) {
        if rules.only_identity && !own.replace(b"Accept-Encoding") {
            self.line(b"Accept-Encoding", b"identity");
        }
        for line in own.sent().filter(|_| are_sent) {
            self.line(line.name, line.value);
        }
    }

    fn via(&mut self, received: Version, rules: &ForwardRules) {
        if let Some(entry) = &rules.via {
            self.begin(b"Via");
            self.bytes(received.number().as_bytes());
            self.bytes(b" ");
            self.bytes(entry.as_bytes());
            self.bytes(b"\r\n");
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes(b"\r\n");
        self.0
    }
}

#[cfg(test)]
mod tests;
