//! One request: dispatch, then relay or local reply, then the log line.

use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::relay::{Broken, relay};
use super::{local, proxy_status};
use crate::dispatch::attempt_log::AttemptLog;
use crate::dispatch::{Dispatched, Dispatcher, Request, Winner};
use crate::downstream::limits::{TOO_FEW_THREADS, TOO_MANY};
use crate::downstream::{ClientRequest, Handler, Responder, log_refusal};
use crate::http::endpoint_url::EndpointUrl;
use crate::http::forward::{ForwardRules, response_head};
use crate::http::local_reply::{Exhausted, PROXY_STATUS, rejected};
use crate::http::location::LocationRewrite;
use crate::http::max_forwards;
use crate::http::request::{Persistence, Rejection};
use crate::http::response::BodyFraming;
use crate::http::via::loop_rejection;
use crate::logging::{NO_ATTEMPTS, RequestReport, Target};
use crate::metrics::{CLIENT_GONE, Metrics, Refusal};
use crate::upstream::control::RequestCancellation;
use crate::upstream::failure::Failure;
use crate::util::go_duration::GoDuration;
use crate::util::io_error::describe;

/// Stands behind every report of a client that went away: it may only have closed its
/// sending side.
const HALF_CLOSE_HINT: &str = " (see -half-close)";

/// Of a request whose answer panics.
const INTERNAL_ERROR: &str = "internal error";

/// What scripts look for.
const NO_USABLE_ANSWER: &str = "endpoints failed to return a valid answer";

/// Puts requests to the endpoints and answers them.
#[derive(Debug)]
pub struct Proxy {
    /// Puts requests to the endpoints.
    pub dispatcher: Arc<Dispatcher>,
    /// Every answer gets a `Proxy-Status`, with details.
    pub proxy_status: bool,
    /// Clients that have closed their sending side are answered.
    pub half_close: bool,
    /// What is changed in heads: the same for each endpoint.
    pub rules: Arc<ForwardRules>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

impl Handler for Proxy {
    fn handle(self: Arc<Self>, request: ClientRequest, responder: Responder) {
        // In front of the search for loops: it serves to find them.
        if max_forwards::of(&request.head) == Some(0) {
            let (client, received_at) = (request.client, request.received_at);
            local::answer_finally(&request.head, client, received_at, responder);
            let after = received_at.elapsed();
            return self.metrics.request(request.head.method(), 200, after);
        }
        let asterisk = || {
            let is_asterisk = request.head.target() == b"*";
            is_asterisk.then(|| Rejection::bad("OPTIONS * can't be forwarded").of(&request.head))
        };
        let looped = loop_rejection(&request.head, self.rules.via.as_ref());
        if let Some(rejection) = looped.or_else(asterisk) {
            let answer = rejected(&rejection, SystemTime::now(), false);
            let sent = responder.send(&answer, Persistence::Close);
            return self.refused(&rejection, request.client, request.received_at, sent);
        }
        let cancellation = RequestCancellation::new(request.watch);
        let started = request.received_at;
        let request = Arc::new(Request {
            head: request.head,
            body: request.body,
            client: request.client,
            session: request.session,
        });
        let exchange = Exchange {
            proxy: Arc::clone(&self),
            request: Arc::clone(&request),
            cancellation: Arc::clone(&cancellation),
            started,
            has_ended: Cell::new(false),
        };
        // Called while the losers end, perhaps on another thread.
        let answer = move |dispatched: Dispatched| {
            let attempt_log = dispatched.attempt_log;
            match dispatched.answer {
                Some(winner) => exchange.relay(winner, &attempt_log, responder),
                None if exchange.cancellation.is_cancelled() => {
                    exchange.give_up(&attempt_log, responder);
                }
                None => exchange.exhausted(&attempt_log, dispatched.retry_after, responder),
            }
        };
        self.dispatcher.dispatch(&request, &cancellation, answer);
    }

    fn refused(&self, rejection: &Rejection, client: SocketAddr, received_at: Instant, sent: u64) {
        self.metrics.refuse(counted_as(rejection));
        log_refusal(rejection, client, received_at, sent);
    }
}

/// As what a rejection is counted.
fn counted_as(rejection: &Rejection) -> Refusal {
    match rejection.status {
        405 => Refusal::Method,
        408 => Refusal::Timeout,
        413 => Refusal::Body,
        417 => Refusal::Expectation,
        431 => Refusal::Head,
        503 if [TOO_MANY, TOO_FEW_THREADS].contains(&&*rejection.reason) => Refusal::Connections,
        503 => Refusal::Workers,
        505 => Refusal::Version,
        508 => Refusal::Loop,
        400..500 => Refusal::Malformed,
        _ => Refusal::Internal,
    }
}

/// A request that is being served.
struct Exchange {
    proxy: Arc<Proxy>,
    request: Arc<Request>,
    cancellation: Arc<RequestCancellation>,
    started: Instant,
    /// It has been counted, and is logged.
    has_ended: Cell<bool>,
}

/// One whose answer panics is a 500. Where that was, the hook logs.
impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.has_ended.get() {
            let reason = Some(&INTERNAL_ERROR as &dyn Display);
            self.end(Some(500), 0, &NO_ATTEMPTS, reason)
                .log(format_args!("{INTERNAL_ERROR}, returning 500"));
        }
    }
}

/// How a relay broke off.
enum BreakOff {
    /// With the hint.
    ClientGone(&'static str),
    /// The process ends.
    CutOff,
    /// The client takes nothing, in the words of `downstream`.
    Client(io::Error),
    Endpoint(Failure),
}

impl Display for BreakOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientGone(hint) => write!(f, "the client went away{hint}"),
            Self::CutOff => f.write_str("it was cut off (-drain)"),
            Self::Client(error) => write!(f, "the client {}", describe(error)),
            Self::Endpoint(failure) => write!(f, "the answer broke off: {failure}"),
        }
    }
}

impl Exchange {
    fn relay(&self, winner: Winner, attempt_log: &AttemptLog, mut responder: Responder) {
        let Winner {
            endpoint,
            mut answer,
            hedged,
            usable,
            ..
        } = winner;
        let status = answer.head.status;
        if self.proxy.proxy_status {
            let proxy_status = proxy_status::relayed(&endpoint, hedged, attempt_log);
            let added = &mut answer.head.added;
            added.push(PROXY_STATUS.as_bytes(), proxy_status.as_bytes());
        }
        let framing = BodyFraming::of(answer.length, self.request.head.version());
        let persistence = match framing {
            BodyFraming::Close => Persistence::Close,
            _ => responder.persistence(),
        };
        let head = response_head(
            &answer.head,
            framing,
            persistence,
            &self.proxy.rules,
            self.location_rewrite(&endpoint.url),
        );
        let relayed = relay(&mut responder, answer, head, framing);
        if !usable {
            self.proxy.metrics.exhausted.add();
        }
        let (bytes, is_cut_off) = (responder.sent(), responder.is_cut_off());
        match &relayed {
            Ok(()) => responder.finish(persistence),
            // The end of the connection would pass for the end of the body.
            Err(Broken::Endpoint(_)) if framing == BodyFraming::Close => responder.reset(),
            Err(_) => responder.abort(),
        }
        let broken = relayed.err();
        let broken = broken.map(|broken| self.break_off(broken, is_cut_off));
        if let Some(BreakOff::Endpoint(failure)) = &broken {
            endpoint.counters.failure(failure.error_type());
        }
        let reason = match &broken {
            Some(broken) => Some(broken as &dyn Display),
            None => (!usable).then_some(&NO_USABLE_ANSWER as &dyn Display),
        };
        let (index, attempts) = (endpoint.index, attempt_log.in_json());
        let report = RequestReport {
            endpoint: Some(index),
            hedged,
            ..self.end(Some(status), bytes, &attempts, reason)
        };
        let target = Target(report.request.target);
        let span = GoDuration::from(report.duration);
        let by = attempt_log.winner(index, hedged);
        match (usable, &broken) {
            (true, None) => {
                report.log_served(format_args!("request {target} served in {span} by {by}"));
            }
            (true, Some(broken)) => report.log(format_args!(
                "request {target} served in {span} by {by}, but {broken}"
            )),
            (false, None) => report.log(format_args!(
                "{NO_USABLE_ANSWER}, returning {status} of endpoint {index}"
            )),
            (false, Some(broken)) => report.log(format_args!(
                "{NO_USABLE_ANSWER}, returning {status} of endpoint {index}, but {broken}"
            )),
        }
    }

    fn break_off(&self, broken: Broken, is_cut_off: bool) -> BreakOff {
        let reason = match broken {
            _ if is_cut_off => BreakOff::CutOff,
            Broken::Endpoint(Failure::Cancelled) => BreakOff::ClientGone(self.hint()),
            Broken::Endpoint(failure) => return BreakOff::Endpoint(failure),
            Broken::Client(error) => match error.kind() {
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                    BreakOff::ClientGone(self.hint())
                }
                _ => BreakOff::Client(error),
            },
        };
        self.proxy.metrics.clients_gone.add();
        reason
    }

    /// Counts the request, which has ended. Returns what it has come to: no endpoint has answered
    /// it.
    fn end<'a>(
        &'a self,
        status: Option<u16>,
        bytes: u64,
        attempts: &'a dyn Display,
        reason: Option<&'a dyn Display>,
    ) -> RequestReport<'a> {
        self.has_ended.set(true);
        let (request, duration) = (self.request.name(), self.started.elapsed());
        let counted_as = status.unwrap_or(CLIENT_GONE);
        self.proxy
            .metrics
            .request(request.method, counted_as, duration);
        RequestReport {
            attempts,
            reason,
            ..RequestReport::without_endpoint(request, status, bytes, duration)
        }
    }

    fn location_rewrite<'a>(&'a self, endpoint: &'a EndpointUrl) -> Option<LocationRewrite<'a>> {
        let rules = &self.proxy.rules;
        let request = &self.request.head;
        rules
            .rewrite_location
            .then(|| LocationRewrite::new(request, endpoint, rules.keep_forwarded))
    }

    /// The client has gone away before there was an answer.
    fn give_up(&self, attempt_log: &AttemptLog, responder: Responder) {
        let reason = if responder.is_cut_off() {
            BreakOff::CutOff
        } else {
            BreakOff::ClientGone(self.hint())
        };
        responder.abort();
        self.proxy.metrics.clients_gone.add();
        self.proxy.metrics.gone_unanswered.add();
        let attempts = attempt_log.in_json();
        let report = self.end(None, 0, &attempts, Some(&reason));
        report.log(format_args!(
            "request {} given up after {}: {reason}",
            Target(report.request.target),
            GoDuration::from(report.duration),
        ));
    }

    fn exhausted(
        &self,
        attempt_log: &AttemptLog,
        retry_after: Option<Duration>,
        mut responder: Responder,
    ) {
        let status = attempt_log.exhausted_status(self.proxy.dispatcher.policy().on_exhausted);
        let persistence = responder.persistence();
        let reply = Exhausted {
            status,
            persistence,
            is_head: self.request.head.is_head(),
            proxy_status: &proxy_status::exhausted(attempt_log, self.proxy.proxy_status),
            retry_after,
        };
        let bytes = responder.send(&reply.to_bytes(SystemTime::now()), persistence);
        self.proxy.metrics.exhausted.add();
        let reason = Some(&NO_USABLE_ANSWER as &dyn Display);
        self.end(Some(status), bytes, &attempt_log.in_json(), reason)
            .log(format_args!("{NO_USABLE_ANSWER}, returning {status}"));
    }

    fn hint(&self) -> &'static str {
        if self.proxy.half_close {
            ""
        } else {
            HALF_CLOSE_HINT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Policy;
    use crate::http::header::Headers;
    use crate::http::request::{RequestHead, Version};
    use crate::util::body::BodyWriter;
    use crate::util::client_watch::ClientWatch;
    use crate::util::thread_pool::ThreadPool;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_request_whose_answer_panics_is_counted_as_a_500_and_any_other_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = listener.local_addr().unwrap();
        let socket = Arc::new(TcpStream::connect(client).unwrap());
        let head = RequestHead::new(
            "GET",
            b"/p",
            Version::Http11,
            None,
            Headers::new(),
            client.ip(),
        );
        let metrics: Arc<Metrics> = Arc::default();
        let threads = ThreadPool::new("attempt", 1, Duration::ZERO);
        let policy = Policy::default();
        let proxy = Arc::new(Proxy {
            dispatcher: Arc::new(Dispatcher::new(
                Vec::new(),
                0,
                policy,
                threads,
                Arc::clone(&metrics),
            )),
            proxy_status: false,
            half_close: false,
            rules: Arc::default(),
            metrics: Arc::clone(&metrics),
        });
        let exchange = || Exchange {
            proxy: Arc::clone(&proxy),
            request: Arc::new(Request {
                head: head.clone(),
                body: BodyWriter::default().finish(),
                client,
                session: Arc::default(),
            }),
            cancellation: RequestCancellation::new(ClientWatch::new(
                Arc::clone(&socket),
                false,
                Arc::default(),
            )),
            started: Instant::now(),
            has_ended: Cell::new(false),
        };
        drop(exchange());
        let _ = exchange().end(Some(200), 0, &NO_ATTEMPTS, None);
        let _ = exchange().end(None, 0, &NO_ATTEMPTS, None);
        let counted: Vec<_> = metrics.requests().collect();
        let wanted = [("GET", 200, 1), ("GET", CLIENT_GONE, 1), ("GET", 500, 1)];
        assert_eq!(counted, wanted);
    }
}
