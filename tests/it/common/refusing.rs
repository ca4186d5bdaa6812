//! Requests that must be refused: the shape of the answer, the log line, and that neither
//! the request nor what stands behind it reaches an endpoint.

use super::{
    backend::{Backend, status},
    client::{Closed, Response},
    eventually, median,
    proxy::{Builder, Proxy},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A whole request that stands behind a refused one.
pub const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// What needs nothing but the proxy's own doing comes at once. Less than any time-out of the
/// proxy, which a test prolongs where it is shorter, and enough for a busy machine.
pub const AT_ONCE: Duration = Duration::from_secs(8);

/// As soon as that at least in the middle of many.
const USUALLY: Duration = Duration::from_secs(1);

/// A proxy in front of an endpoint that answers everything.
///
/// Every request given to it is sent on a connection that the client keeps open.
pub struct Refusing {
    pub proxy: Proxy,
    backend: Backend,
    /// Clients that have been refused, with the status.
    refused: Vec<(SocketAddr, u16)>,
    took: Vec<Duration>,
    served: usize,
}

impl Refusing {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(flags: impl FnOnce(Builder) -> Builder) -> Self {
        let backend = Backend::always(status(200).body("served"));
        // Time-outs are no way out: a refusal must not wait for them.
        let builder = Proxy::serial(&[&backend])
            .flag("-header-timeout", "30s")
            .flag("-client-timeout", "30s");
        Self {
            proxy: flags(builder).start(),
            backend,
            refused: Vec::new(),
            took: Vec::new(),
            served: 0,
        }
    }

    /// The bytes are refused, whatever follows them.
    #[track_caller]
    pub fn refuses(&mut self, status: u16, request: impl AsRef<[u8]>) {
        let request = request.as_ref();
        for follow_up in [&b""[..], SMUGGLED, &SMUGGLED.repeat(3)] {
            self.refuses_once(status, &[request, follow_up].concat());
        }
    }

    /// The bytes are refused, with these behind them and no others. Returns the answer.
    #[track_caller]
    pub fn refuses_once(&mut self, status: u16, request: &[u8]) -> Response {
        let shown = super::text(&request[..request.len().min(200)]);
        let mut client = self.proxy.client();
        let begun = Instant::now();
        // It may be refused before it has been sent whole.
        let _ = client.try_send(request);
        let method = if request.starts_with(b"HEAD ") {
            "HEAD"
        } else {
            "GET"
        };
        let answer = client
            .try_response_to(method)
            .unwrap_or_else(|closed| panic!("{closed:?} without an answer to {shown:?}"));
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "{shown:?} was refused only after {took:?}");
        self.took.push(took);
        is_refusal(&answer, status, &shown);
        assert_eq!(client.closed(), Closed::Fin, "after {shown:?}");
        self.refused.push((client.local_address(), status));
        answer
    }

    /// The bytes are served, and nothing else comes back.
    #[track_caller]
    pub fn serves(&mut self, request: impl AsRef<[u8]>) -> Response {
        let mut client = self.proxy.client();
        client.send(request.as_ref());
        let answer = client.response();
        let shown = super::text(request.as_ref());
        assert_eq!(answer.status(), 200, "{shown:?}: {}", answer.body());
        assert_eq!(answer.body(), "served", "{shown:?}");
        self.served += 1;
        assert_eq!(self.backend.calls(), self.served, "{shown:?}");
        answer
    }

    /// The endpoint, after a check that it has seen nothing but what was served.
    pub fn endpoint(&self) -> &Backend {
        assert_eq!(
            self.backend.calls(),
            self.served,
            "seen: {:?}",
            self.backend.seen()
        );
        &self.backend
    }

    /// Checks the log and the endpoint's side: one line for each refusal, no call.
    #[track_caller]
    pub fn finish(mut self) {
        assert_eq!(self.proxy.get("/after").body(), "served");
        self.served += 1;
        self.endpoint();
        let number = self.refused.len();
        if number > 0 {
            let took = median(self.took.clone());
            assert!(took < USUALLY, "{took:?} in the middle of {number}");
        }
        eventually(
            "lines about refusals",
            || self.proxy.log_with("refused a request of ").len(),
            |&lines| lines >= number,
        );
        let lines = self.proxy.log_with("refused a request of ");
        assert_eq!(lines.len(), number, "{lines:#?}");
        for (client, status) in &self.refused {
            let (start, end) = (
                format!("refused a request of {client}: "),
                format!("({status})"),
            );
            let good = |line: &String| line.starts_with(&start) && line.contains(&end);
            assert!(lines.iter().any(good), "{start}…{end} in {lines:#?}");
        }
        let log = self.proxy.stop().concat();
        assert!(!log.contains(char::is_control), "{log}");
    }
}

/// Checks that this is an answer of the proxy's own: its words, its headers, its end.
#[track_caller]
pub fn is_refusal(answer: &Response, status: u16, what: &str) {
    let head = &answer.head;
    assert_eq!(head.status, status, "for {what:?}: {}", answer.body());
    assert_eq!(head.version, "HTTP/1.1", "for {what:?}");
    assert!(!head.reason.is_empty(), "for {what:?}: {head:?}");
    assert_eq!(answer.interim, [0; 0], "for {what:?}");
    assert_eq!(head.header("connection"), Some("close"), "for {what:?}");
    assert_eq!(head.header("server"), None, "for {what:?}");
    assert_eq!(head.header("transfer-encoding"), None, "for {what:?}");
    let kind = head.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "for {what:?}: {head:?}");
    let date = head.header("date").unwrap_or_default();
    assert!(httpdate::parse_http_date(date).is_ok(), "{head:?}");
    let why = head.header("proxy-status").unwrap_or_default();
    assert!(
        why.starts_with("balancing-reverse-proxy; error="),
        "for {what:?}: {head:?}"
    );
    let length = head.header("content-length").unwrap_or_default();
    let length: u64 = length.parse().unwrap_or_default();
    assert!(length > 1, "for {what:?}: {head:?}");
    // A HEAD gets the length without the body.
    assert!(
        answer.length == length || answer.length == 0,
        "for {what:?}: {answer:?}"
    );
    match status {
        405 => assert!(head.header("allow").is_some(), "{head:?}"),
        503 => {
            let seconds = head.header("retry-after").unwrap_or_default();
            assert!(seconds.parse::<u32>().is_ok(), "{head:?}");
        }
        _ => {}
    }
}
