//! Shows how the proxy runs: a status page, metrics for Prometheus, health checks.
//!
//! [`Monitor`] answers on a listener of its own, with a table of connections, limits and threads of
//! its own, so it answers also while clients hold every worker, and goes on while the proxy stops.
//! It asks no endpoint. What its clients do is neither logged nor counted.
//!
//! Always: GET and HEAD only; no path, query or key of an endpoint's URL is shown; where it listens
//! on a loopback address, only requests for such an address, `localhost` or the machine's own name
//! are answered, so that no web page can read it through a name that it has pointed there (DNS
//! rebinding).
//!
//! Cost: what is counted is read when it is asked for, without holding up what counts; a thread that
//! wakes every five seconds (see `history`).

mod history;
mod host;
mod json;
mod page;
mod plot;
mod process;
mod prometheus;
mod snapshot;
mod text;
mod view;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use self::history::History;
use self::host::is_local;
use self::snapshot::Snapshot;
pub use self::snapshot::Sources;
use crate::downstream::limits::Limits;
use crate::downstream::{ClientRequest, Handler, Responder};
use crate::http::local_reply::{PLAIN_TEXT, Reply};
use crate::http::request::{Rejection, RequestHead};
use crate::util::lock::lock;
use crate::util::random;

/// What the monitor's own clients may take: scrapers, probes, a few browsers.
pub const LIMITS: Limits = Limits {
    max_connections: 32,
    workers: 32,
    max_header: 16 << 10,
    max_body: 4 << 10,
    idle_timeout: Duration::from_secs(75),
    header_timeout: Duration::from_secs(1),
    client_timeout: Duration::from_secs(5),
    half_close: true,
    quiet: true,
    is_origin: true,
};

/// In the head of every answer.
const COMMON: &str = "Cache-Control: no-store\r\n\
                      X-Content-Type-Options: nosniff\r\n\
                      Referrer-Policy: no-referrer\r\n";

/// For answers that are no page: nothing may be loaded.
const NO_CONTENT: &str = "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n";

/// Answers requests about the proxy.
pub struct Monitor {
    sources: Sources,
    /// The address that it listens on.
    address: IpAddr,
    /// The host as the user has typed it, and the machine's name.
    names: [String; 2],
    stopping: AtomicBool,
    history: Mutex<History>,
}

impl Monitor {
    /// For a listener on `address`, which the user has typed as `host`. Starts a thread that keeps
    /// the last five minutes.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(sources: Sources, address: IpAddr, host: String) -> io::Result<Arc<Self>> {
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_string_lossy().into_owned();
        let monitor = Arc::new(Self {
            sources,
            address,
            names: [host, machine],
            stopping: AtomicBool::new(false),
            history: Mutex::default(),
        });
        let recording = Arc::clone(&monitor);
        let record = move || {
            loop {
                thread::sleep(history::INTERVAL);
                recording.sources.record(&mut lock(&recording.history));
            }
        };
        let thread = thread::Builder::new().name("monitor".to_owned());
        thread.spawn(record)?;
        Ok(monitor)
    }

    /// From now on the proxy is not ready.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn answer(&self, request: &RequestHead) -> Answer {
        if !matches!(request.method(), "GET" | "HEAD") {
            return Answer {
                extra: "Allow: GET, HEAD\r\n",
                ..Answer::text(405, "GET and HEAD only\n")
            };
        }
        let is_meant = |host| !self.address.is_loopback() || is_local(host, &self.names);
        if !request.host().is_none_or(is_meant) {
            return Answer::text(
                421,
                "this is not the host that was asked for (see -monitor)\n",
            );
        }
        let target = request.target();
        let question_mark = target.iter().position(|byte| *byte == b'?');
        let (path, query) = target
            .split_at_checked(question_mark.unwrap_or(target.len()))
            .unwrap_or((target, &[]));
        match path {
            b"/metrics" => Answer {
                content_type: prometheus::CONTENT_TYPE,
                ..Answer::text(200, prometheus::page(&self.snapshot()))
            },
            b"/status.json" => self.status(query),
            b"/" => self.page(request),
            b"/livez" | b"/healthz" => Answer::text(200, "ok\n"),
            b"/readyz" => self.readiness(query),
            _ => Answer::text(
                404,
                "there are / and /status.json, /metrics, /livez, /readyz, /healthz\n",
            ),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let is_stopping = self.stopping.load(Ordering::Relaxed);
        self.sources.read(&lock(&self.history), is_stopping)
    }

    /// `?page`: with what the page shows where.
    fn status(&self, query: &[u8]) -> Answer {
        let snapshot = self.snapshot();
        let shown = has(query, b"page").then(|| view::view(&snapshot));
        Answer {
            content_type: json::CONTENT_TYPE,
            ..Answer::text(200, json::document(&snapshot, shown.as_ref()))
        }
    }

    /// For browsers a document, for others text.
    fn page(&self, request: &RequestHead) -> Answer {
        let snapshot = self.snapshot();
        let view = view::view(&snapshot);
        let mut accepted = request.headers().elements("Accept");
        if !accepted.any(takes_html) {
            return Answer::text(200, text::page(&snapshot, &view));
        }
        let nonce = nonce();
        Answer {
            content_type: "text/html; charset=utf-8",
            policy: page::policy(&nonce),
            ..Answer::text(200, page::page(&snapshot, &view, &nonce))
        }
    }

    fn readiness(&self, query: &[u8]) -> Answer {
        if self.stopping.load(Ordering::Relaxed) {
            Answer::text(503, "stopping\n")
        } else if has(query, b"endpoints") && self.sources.all_passed_over() {
            Answer::text(503, "every endpoint is passed over\n")
        } else {
            Answer::text(200, "ok\n")
        }
    }
}

impl Handler for Monitor {
    fn handle(self: Arc<Self>, request: ClientRequest, mut responder: Responder) {
        let answer = self.answer(&request.head);
        let persistence = responder.persistence();
        let reply = Reply {
            status: answer.status,
            content_type: answer.content_type,
            content: &answer.content,
            persistence,
            is_head: request.head.is_head(),
            extra: &[COMMON, &answer.policy, answer.extra].concat(),
        };
        responder.send(&reply.to_bytes(SystemTime::now()), persistence);
    }

    fn refused(&self, _: &Rejection, _: SocketAddr, _: Instant, _: u64) {}
}

struct Answer {
    status: u16,
    content_type: &'static str,
    content: Vec<u8>,
    /// `Content-Security-Policy`
    policy: String,
    /// Further header lines.
    extra: &'static str,
}

impl Answer {
    fn text(status: u16, content: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type: PLAIN_TEXT,
            content: content.into(),
            policy: NO_CONTENT.to_owned(),
            extra: "",
        }
    }
}

/// Whether an element of `Accept` asks for HTML (RFC 9110 12.5.1).
fn takes_html(element: &[u8]) -> bool {
    let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_html = |kind: &[u8]| kind.eq_ignore_ascii_case(b"text/html");
    let is_zero = |weight: &[u8]| weight.iter().all(|byte| b"0.".contains(byte));
    parts.next().is_some_and(is_html)
        && !parts.any(|part| matches!(part, [b'q' | b'Q', b'=', weight @ ..] if is_zero(weight)))
}

/// Whether a query has this word among its parts.
fn has(query: &[u8], word: &[u8]) -> bool {
    let mut parts = query.split(|byte| matches!(byte, b'?' | b'&'));
    parts.any(|part| part == word)
}

/// A word that no page can know before.
fn nonce() -> String {
    format!("{:016x}{:016x}", random::number(), random::number())
}
