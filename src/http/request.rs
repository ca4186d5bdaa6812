//! A client's request: its head as endpoints get to see it, what it says about its body and its
//! connection, and why a request is rejected.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use super::header::{Headers, Span};

/// Minor version of HTTP/1, as far as it makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and every later HTTP/1 (RFC 9110 2.5).
    Http11,
}

impl Version {
    /// As in `Via` (RFC 9110 7.6.3).
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
        }
    }
}

/// How the end of a request's body is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: no body.
    None,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// Whether the client's connection persists after the response (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1's default: it does, and nothing needs to be said.
    Stays,
    /// It does, and the response has to say so: the client speaks HTTP/1.0.
    KeepAlive,
    /// It is closed.
    Close,
}

impl Persistence {
    /// The header line that tells the client, with its CRLF; empty where nothing needs to be
    /// said.
    #[must_use]
    pub fn header_line(self) -> &'static str {
        match self {
            Self::Stays => "",
            Self::KeepAlive => "Connection: keep-alive\r\n",
            Self::Close => "Connection: close\r\n",
        }
    }
}

/// A client's request as far as an endpoint gets to see it.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) host: Option<Span>,
    pub(super) version: Version,
    /// Their text holds the whole head, so that the ranges above are ranges of it.
    pub(super) headers: Headers,
    pub(super) client: IpAddr,
}

impl RequestHead {
    /// A head from its parts: a token, a target in origin form, the host that the client asked for.
    #[must_use]
    pub fn new(
        method: &str,
        target: &[u8],
        version: Version,
        host: Option<&[u8]>,
        mut headers: Headers,
        client: IpAddr,
    ) -> Self {
        Self {
            method: headers.append(method.as_bytes()).unwrap_or_default(),
            target: headers.append(target).unwrap_or_default(),
            host: host.and_then(|host| headers.append(host)),
            version,
            headers,
            client,
        }
    }

    /// A token (RFC 9110 9.1) in its case.
    #[must_use]
    pub fn method(&self) -> &str {
        std::str::from_utf8(self.method.in_text(self.headers.text())).unwrap_or_default()
    }

    /// The target in origin form (RFC 9112 3.2.1), byte for byte as the client wrote it; `*` of an
    /// OPTIONS. It may hold bytes beyond ASCII.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.target.in_text(self.headers.text())
    }

    /// The host that the client asked for: of an absolute-form target, else `Host`.
    #[must_use]
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|host| host.in_text(self.headers.text()))
    }

    /// The client's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// All header lines.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The client's address.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Whether the response has a head only (RFC 9110 9.3.2).
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }
}

/// A request whose head is sound.
#[derive(Clone, Debug)]
pub struct ValidatedRequest {
    /// What is forwarded.
    pub head: RequestHead,
    /// How the end of its body is found.
    pub framing: Framing,
    /// Whether the client wants its connection kept.
    pub persistence: Persistence,
    /// The client waits for `100 Continue` before it sends its body. Never without a body
    /// and never for HTTP/1.0 (RFC 9110 10.1.1).
    pub expects_continue: bool,
}

/// How large requests may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// `-max-header`: from the request line to the empty line, both included.
    pub head: u64,
    /// `-max-body`
    pub body: u64,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status code for the client.
    pub status: u16,
    /// The reason, for the client and for the log. Without control characters.
    pub reason: Cow<'static, str>,
    /// The method is known to be HEAD: the answer has no body.
    pub is_head: bool,
    /// What is known of the request line, for the log.
    pub request_line: Option<Box<RequestLine>>,
}

/// What was understood of the request line of a request that is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// A token (RFC 9110 9.1).
    pub method: String,
    /// The target in origin form, of a `CONNECT` as it was; empty if it was not understood.
    pub target: Vec<u8>,
}

impl Rejection {
    /// A rejection with this status code, of a request that is not known to be a HEAD.
    #[must_use]
    pub fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            reason: reason.into(),
            is_head: false,
            request_line: None,
        }
    }

    /// A 400.
    #[must_use]
    pub fn bad(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, reason)
    }

    /// The rejection of a body beyond the limit, in bytes.
    #[must_use]
    pub fn body_too_large(max_body: u64) -> Self {
        let reason = format!("request body larger than {max_body} bytes (-max-body)");
        Self::new(413, reason)
    }

    /// The rejection of a body that ends after that many bytes, before its end.
    #[must_use]
    pub fn broken_off(after: u64) -> Self {
        Self::bad(format!("request body broken off after {after} bytes"))
    }

    /// The same, of a request whose head is known.
    #[must_use]
    pub fn of(self, head: &RequestHead) -> Self {
        self.of_line(head.method(), head.target())
    }

    /// The same, of a request whose method is known, and perhaps its target.
    pub(super) fn of_line(self, method: &str, target: &[u8]) -> Self {
        Self {
            is_head: method == "HEAD",
            request_line: Some(Box::new(RequestLine {
                method: method.to_owned(),
                target: target.to_owned(),
            })),
            ..self
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.status)
    }
}

impl std::error::Error for Rejection {}
