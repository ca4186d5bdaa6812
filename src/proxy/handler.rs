//! One request: dispatch, then relay or local reply, then the log line.

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::info;

use super::relay::{self, Relayed};
use super::{local, proxy_status};
use crate::dispatch::policy::OnExhausted;
use crate::dispatch::trail::Trail;
use crate::dispatch::{Dispatched, Dispatcher, Request, Winner};
use crate::downstream::limits::TOO_MANY;
use crate::downstream::{ClientRequest, Handler, Responder};
use crate::http::endpoint_url::EndpointUrl;
use crate::http::forward::{ForwardRules, response_head};
use crate::http::local_reply::{Exhausted, PROXY_STATUS};
use crate::http::location::LocationRewrite;
use crate::http::max_forwards;
use crate::http::request::{Persistence, Rejection};
use crate::http::response::BodyFraming;
use crate::http::via::loop_rejection;
use crate::logging::Target;
use crate::metrics::{CLIENT_GONE, Metrics, Refusal};
use crate::upstream::control::RequestCancellation;
use crate::upstream::failure::Failure;
use crate::util::go_duration::GoDuration;
use crate::util::io_error::describe;

/// Stands behind every report of a client that went away: it may only have closed its
/// sending side.
const HALF_CLOSE_HINT: &str = " (see -half-close)";

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
    fn handle(&self, request: ClientRequest, responder: Responder) {
        // In front of the search for loops: it serves to find them.
        if max_forwards::of(&request.head) == Some(0) {
            local::answer_finally(&request.head, responder);
            let after = request.received_at.elapsed();
            return self.metrics.request(request.head.method(), 200, after);
        }
        if let Some(rejection) = loop_rejection(&request.head, self.rules.via.as_ref()) {
            self.refused(&rejection);
            return local::reject(&rejection, request.client, responder);
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
            on_exhausted: self.dispatcher.policy().on_exhausted,
            proxy_status: self.proxy_status,
            half_close: self.half_close,
            rules: Arc::clone(&self.rules),
            request: Arc::clone(&request),
            cancellation: Arc::clone(&cancellation),
            started,
            metrics: Arc::clone(&self.metrics),
            status: Cell::new(500),
        };
        // Called while the losers end, perhaps on another thread.
        let answer = move |dispatched: Dispatched| {
            let trail = dispatched.trail;
            match dispatched.answer {
                Some(winner) => exchange.relay(winner, &trail, responder),
                None if exchange.cancellation.is_cancelled() => exchange.give_up(responder),
                None => exchange.exhausted(&trail, dispatched.retry_after, responder),
            }
        };
        self.dispatcher.dispatch(&request, &cancellation, answer);
    }

    fn refused(&self, rejection: &Rejection) {
        self.metrics.refuse(refusal(rejection));
    }
}

/// As what a rejection is counted.
fn refusal(rejection: &Rejection) -> Refusal {
    match rejection.status {
        405 => Refusal::Method,
        408 => Refusal::Timeout,
        413 => Refusal::Body,
        417 => Refusal::Expectation,
        431 => Refusal::Head,
        503 if rejection.reason == TOO_MANY => Refusal::Connections,
        503 => Refusal::Workers,
        505 => Refusal::Version,
        508 => Refusal::Loop,
        400..500 => Refusal::Malformed,
        _ => Refusal::Internal,
    }
}

/// A request that is being served.
struct Exchange {
    on_exhausted: OnExhausted,
    proxy_status: bool,
    half_close: bool,
    rules: Arc<ForwardRules>,
    request: Arc<Request>,
    cancellation: Arc<RequestCancellation>,
    started: Instant,
    metrics: Arc<Metrics>,
    /// Under which status code the request is counted.
    status: Cell<u16>,
}

/// Counts the request, also one whose answer panics, which is a 500.
impl Drop for Exchange {
    fn drop(&mut self) {
        let method = self.request.head.method();
        let after = self.started.elapsed();
        self.metrics.request(method, self.status.get(), after);
    }
}

impl Exchange {
    fn relay(&self, winner: Winner, trail: &Trail, mut responder: Responder) {
        let Winner {
            endpoint,
            mut answer,
            hedged,
            usable,
            ..
        } = winner;
        let status = answer.head.status;
        if self.proxy_status {
            let proxy_status = proxy_status::relayed(&endpoint, hedged, trail);
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
            &self.rules,
            self.location_rewrite(&endpoint.url),
        );
        let relayed = relay::relay(&mut responder, answer, head, framing);
        self.status.set(status);
        if !usable {
            self.metrics.exhausted.add();
        }
        match relayed {
            Relayed::Whole => responder.finish(persistence),
            // The end of the connection would pass for the end of the body.
            Relayed::Truncated(_) if framing == BodyFraming::Close => responder.reset(),
            Relayed::Truncated(_) | Relayed::ClientGone(_) => responder.abort(),
        }
        let note = match relayed {
            Relayed::Whole => String::new(),
            Relayed::Truncated(Failure::Cancelled) => {
                self.metrics.clients_gone.add();
                format!(", but the client went away{}", self.hint())
            }
            Relayed::Truncated(failure) => format!(", but the answer broke off: {failure}"),
            Relayed::ClientGone(error) => {
                self.metrics.clients_gone.add();
                match error.kind() {
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                        format!(", but the client went away{}", self.hint())
                    }
                    _ => format!(", but the client {}", describe(&error)),
                }
            }
        };
        let request = self.request.name();
        if !usable {
            let index = endpoint.index;
            return request.log(format_args!(
                "endpoints failed to return a valid answer, returning {status} of endpoint {index}{note}"
            ));
        }
        let by = trail.winner(endpoint.index, hedged);
        let (target, span) = (Target(request.target), self.span());
        if note.is_empty() {
            info!("request {target} served in {span} by {by}");
        } else {
            request.log(format_args!(
                "request {target} served in {span} by {by}{note}"
            ));
        }
    }

    fn location_rewrite<'a>(&'a self, endpoint: &'a EndpointUrl) -> Option<LocationRewrite<'a>> {
        let rules = &self.rules;
        let request = &self.request.head;
        rules
            .rewrite_location
            .then(|| LocationRewrite::new(request, endpoint, rules.keep_forwarded))
    }

    /// The client has gone away before there was an answer.
    fn give_up(&self, responder: Responder) {
        responder.abort();
        self.status.set(CLIENT_GONE);
        self.metrics.clients_gone.add();
        let request = self.request.name();
        request.log(format_args!(
            "request {} given up after {}: the client went away{}",
            Target(request.target),
            self.span(),
            self.hint()
        ));
    }

    fn exhausted(&self, trail: &Trail, retry_after: Option<Duration>, mut responder: Responder) {
        let status = match self.on_exhausted {
            OnExhausted::Status500 => 500,
            OnExhausted::Gateway | OnExhausted::Best => trail.gateway_status(),
        };
        let persistence = responder.persistence();
        let reply = Exhausted {
            status,
            persistence,
            is_head: self.request.head.is_head(),
            proxy_status: &proxy_status::exhausted(trail, self.proxy_status),
            retry_after,
        };
        responder.send(&reply.to_bytes(SystemTime::now()), persistence);
        self.status.set(status);
        self.metrics.exhausted.add();
        self.request.name().log(format_args!(
            "endpoints failed to return a valid answer, returning {status}"
        ));
    }

    /// How long the request has taken.
    fn span(&self) -> GoDuration {
        GoDuration::from(self.started.elapsed())
    }

    fn hint(&self) -> &'static str {
        if self.half_close { "" } else { HALF_CLOSE_HINT }
    }
}
