//! Which endpoint is asked when, and which answer is taken.
//!
//! All modes are one loop, `pursue`: start the next attempt or wait for one to end. They
//! differ in when the next one is due (fan-out: all at once; serial: when the last one has
//! failed; hedged: also when it takes too long) and in where attempts run: on the caller's
//! thread where there is only one at a time (`serial`), else on pooled threads, too (`race`).
//!
//! It ends by calling the caller's `relay` exactly once, with the winner or without, on the
//! thread that has it first. That happens while the losers end, so that no client waits for
//! them.
//!
//! What outlives a request (budget, times, failures) is in modules of its own, which do not
//! look at the clock: time is handed to them.

pub mod budget;
pub mod cooldown;
pub mod latency;
pub mod order;
mod patience;
mod progress;
mod race;
mod run;
mod serial;
pub mod trail;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::info;

use self::budget::Budget;
use self::cooldown::Cooldown;
use self::latency::Latency;
use self::order::Ranking;
use self::patience::Patience;
use self::progress::Progress;
use self::run::{Attempt, Ended, Run};
use self::serial::Serial;
use self::trail::Trail;
use crate::config::{CooldownConfig, HedgeAfter, Mode, OnExhausted, Order, TerminalSet};
use crate::http::request::RequestHead;
use crate::logging::escaped;
use crate::upstream::control::RequestCancellation;
use crate::upstream::endpoint::{Answer, Endpoint};
use crate::upstream::failure::{Failure, Timeout};
use crate::util::body::Body;
use crate::util::client_session::ClientSession;
use crate::util::lock::lock;
use crate::util::thread_pool::ThreadPool;

/// How requests are put to endpoints.
#[derive(Debug)]
pub struct Policy {
    /// Serial, fan-out or hedged.
    pub mode: Mode,
    /// Which status codes make an answer usable.
    pub terminal: TerminalSet,
    /// One attempt until its answer's head, or the whole of a short answer.
    pub per_try_timeout: Duration,
    /// All attempts of a request until then.
    pub request_timeout: Duration,
    /// In which order.
    pub order: Order,
    /// When an endpoint is passed over.
    pub cooldown: Option<CooldownConfig>,
    /// What must not be sent twice is put to another endpoint only if nothing was sent.
    pub idempotent_only: bool,
    /// Answers of known length up to this, in bytes, are read whole before they are taken.
    pub commit_after: u64,
    /// Whether an answer that is not usable may be wanted in the end.
    pub on_exhausted: OnExhausted,
}

/// Puts requests to endpoints.
#[derive(Debug)]
pub struct Dispatcher {
    endpoints: Vec<Arc<Endpoint>>,
    policy: Policy,
    ranking: Ranking,
    patience: Patience,
    cooldown: Option<Cooldown>,
    budget: Budget,
    /// Where hedging depends on it.
    latency: Option<Mutex<Latency>>,
    /// Where attempts run that overlap.
    threads: Arc<ThreadPool>,
}

/// A request as its client has sent it. Attempts share it.
#[derive(Debug)]
pub struct Request {
    /// Request line and headers.
    pub head: RequestHead,
    /// The body, whole.
    pub body: Body,
    /// What is kept for the client's connection.
    pub session: Arc<ClientSession>,
}

/// What a request has come to.
pub struct Dispatched {
    /// The winner; if there is none, perhaps the best of the answers that are not usable.
    pub answer: Option<Winner>,
    /// What became of the other attempts.
    pub trail: Trail,
}

/// The answer that is relayed, and its endpoint.
pub struct Winner {
    /// Who gave it.
    pub endpoint: Arc<Endpoint>,
    /// The answer.
    pub answer: Answer,
    /// The attempt was a hedge.
    pub hedged: bool,
    /// Its status is terminal.
    pub usable: bool,
}

/// Where attempts run. Called with [`Progress`] locked, but for `wait`.
trait Attempts {
    /// Starts an attempt; one that cannot be started has ended.
    fn start(&self, attempt: Attempt) -> Result<(), Box<Ended>>;
    /// Waits for an attempt to end. Called on the thread that dispatches.
    fn wait(&self) -> Event;
}

/// What has happened.
#[allow(clippy::large_enum_variant)] // It is moved once.
enum Event {
    Ended(Ended),
    /// [`Progress`] has changed meanwhile.
    Progress,
    /// And nothing will: no attempt is under way.
    Nothing,
}

impl Dispatcher {
    /// Of these endpoints nothing is known yet. Attempts that overlap run on `threads`.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, policy: Policy, threads: Arc<ThreadPool>) -> Self {
        let hedging = match policy.mode {
            Mode::Hedged(hedging) => Some(hedging),
            Mode::Serial | Mode::Fanout => None,
        };
        let latency = match hedging.map(|hedging| hedging.after) {
            Some(HedgeAfter::Percentile(percent)) => Some(Latency::new(percent, Instant::now())),
            _ => None,
        };
        Self {
            ranking: Ranking::new(policy.order, endpoints.len()),
            cooldown: policy.cooldown.map(|CooldownConfig { max_fails, length }| {
                Cooldown::new(max_fails, length, endpoints.len())
            }),
            budget: Budget::new(hedging.map_or(0, |hedging| hedging.budget)),
            patience: Patience::new(endpoints.len(), Instant::now()),
            latency: latency.map(Mutex::new),
            endpoints: endpoints.into_iter().map(Arc::new).collect(),
            policy,
            threads,
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Puts the request to the endpoints and hands what came of it to `relay`, on this thread or
    /// on one for attempts. `cancellation` ends it without an answer. No attempt is left, and
    /// `relay` has ended, when this returns.
    pub fn dispatch(
        self: &Arc<Self>,
        request: &Arc<Request>,
        cancellation: &Arc<RequestCancellation>,
        relay: impl FnOnce(Dispatched) + Send + 'static,
    ) {
        let now = Instant::now();
        let once = self.policy.idempotent_only && !is_idempotent(request.head.method());
        let overlaps = !once && self.endpoints.len() > 1;
        let run = Run {
            dispatcher: Arc::clone(self),
            request: Arc::clone(request),
            once,
            cancellation: Arc::clone(cancellation),
            deadline: now + self.policy.request_timeout,
            all_at_once: overlaps && self.policy.mode == Mode::Fanout,
            hedge_after: self.hedge_after(now).filter(|_| overlaps),
        };
        if run.hedge_after.is_some() {
            self.budget.request();
        }
        if run.all_at_once || run.hedge_after.is_some() {
            race::dispatch(run, relay);
        } else {
            let progress = Mutex::new(Progress::new(&run));
            if let Some(dispatched) = pursue(&run, &progress, &Serial::new(&run)) {
                relay(dispatched);
            }
        }
    }

    /// How long the last attempt may take before it is hedged, if it may be at all.
    fn hedge_after(&self, now: Instant) -> Option<Duration> {
        let Mode::Hedged(hedging) = self.policy.mode else {
            return None;
        };
        match hedging.after {
            HedgeAfter::Never => None,
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::Percentile(_) => lock(self.latency.as_ref()?).percentile(now),
        }
    }

    /// Takes down how long the head of an answer has taken, or how long none has come.
    fn measure(&self, endpoint: usize, failure: Option<&Failure>, now: Instant, after: Duration) {
        let latency = || self.latency.as_ref().map(lock);
        match failure {
            None => {
                self.ranking.ended(endpoint, now, after);
                if let Some(mut latency) = latency() {
                    latency.ended(now, after);
                }
            }
            Some(Failure::Cancelled) => {
                self.ranking.given_up(endpoint, now, after);
                if let Some(mut latency) = latency() {
                    latency.given_up(now, after);
                }
            }
            Some(Failure::Timeout(Timeout::Head(_) | Timeout::Request(_))) => {
                self.ranking.failed(endpoint, now);
                if let Some(mut latency) = latency() {
                    latency.given_up(now, after);
                }
            }
            Some(Failure::Internal(_)) => {}
            Some(_) => self.ranking.failed(endpoint, now),
        }
    }
}

/// The loop of all modes: starts what is due, and waits for something to happen. None if
/// another thread has taken what the request has come to.
fn pursue(run: &Run, progress: &Mutex<Progress>, attempts: &impl Attempts) -> Option<Dispatched> {
    lock(progress).begin(run, attempts);
    while !lock(progress).is_over() {
        match attempts.wait() {
            Event::Ended(ended) => lock(progress).ended(run, ended, attempts),
            Event::Progress => {}
            Event::Nothing => break,
        }
    }
    lock(progress).dispatched(run)
}

impl Winner {
    /// Of two answers that are not usable: the one of the lower status class.
    fn is_better_than(&self, other: &Self) -> bool {
        self.answer.head.status / 100 < other.answer.head.status / 100
    }
}

/// Writes down why an attempt gave no usable answer. A cancel is not the endpoint's
/// failure.
fn log_failure(endpoint: &Endpoint, failure: &Failure) {
    if *failure == Failure::Cancelled {
        return;
    }
    info!(
        "endpoint {}: {}: {}",
        endpoint.index,
        endpoint.url,
        escaped(&failure.to_string())
    );
}

/// RFC 9110 9.2.2. Of a method that is not known it must not be assumed.
fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Hedging;
    use crate::upstream::failure::ConnectFault;

    fn dispatcher(after: HedgeAfter) -> Dispatcher {
        let policy = Policy {
            mode: Mode::Hedged(Hedging { after, budget: 10 }),
            terminal: "200".parse().unwrap(),
            per_try_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            order: Order::Listed,
            cooldown: None,
            idempotent_only: false,
            commit_after: 0,
            on_exhausted: OnExhausted::Status500,
        };
        let threads = ThreadPool::new("attempt", 8, Duration::from_secs(1));
        Dispatcher::new(Vec::new(), policy, threads)
    }

    #[test]
    fn a_percentile_is_of_heads_and_of_what_waited_for_one_in_vain() {
        let milli = Duration::from_millis(1);
        let head = Failure::Timeout(Timeout::Head(milli));
        let connect = Failure::Timeout(Timeout::Connect(milli));
        let refused = Failure::Connect(ConnectFault::NoAddress);
        let internal = Failure::Internal("no thread".to_owned());
        // Of 114 attempts ten have come to this, after 50 ms: does p95 know of it?
        let table = [
            (None, true),
            (Some(Failure::Cancelled), true),
            (Some(head), true),
            (Some(connect), false),
            (Some(refused), false),
            (Some(Failure::Status(503)), false),
            (Some(internal), false),
        ];
        for (failure, counts) in table {
            let now = Instant::now();
            let dispatcher = dispatcher(HedgeAfter::Percentile(95));
            assert_eq!(dispatcher.hedge_after(now), None);
            let later = now + Duration::from_secs(1);
            for _ in 0..100 {
                dispatcher.measure(0, None, later, milli * 2);
            }
            for _ in 0..10 {
                dispatcher.measure(0, failure.as_ref(), later, milli * 50);
            }
            for _ in 0..4 {
                dispatcher.measure(0, None, later, milli * 100);
            }
            let after = dispatcher.hedge_after(later).unwrap();
            assert_eq!(after >= milli * 50, counts, "{failure:?}: {after:?}");
        }
    }

    #[test]
    fn a_fixed_time_needs_nothing_to_be_known() {
        let after = Duration::from_millis(50);
        let dispatcher = dispatcher(HedgeAfter::Fixed(after));
        assert_eq!(dispatcher.hedge_after(Instant::now()), Some(after));
    }

    #[test]
    fn methods_are_idempotent_as_rfc_9110_has_it() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "PROPFIND", "get", ""] {
            assert!(!is_idempotent(method), "{method}");
        }
    }
}
