//! Which endpoint is asked when, and which answer is taken.
//!
//! Every mode ends by calling the caller's `relay` exactly once: with the winner, or
//! with nothing when the endpoints are exhausted. That happens **inside** the mode, so
//! that in fan-out the winner is on its way to the client while the losers end.

pub mod budget;
pub mod cooldown;
mod fanout;
pub mod latency;
pub mod order;
mod serial;

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::info;

use crate::config::{Mode, TerminalSet};
use crate::control::{Attempts, Control, Limit};
use crate::endpoint::{Answer, Endpoint, Outcome, Outgoing};
use crate::failure::{Failure, Timeout};
use crate::logging::escaped;

/// How requests are put to endpoints.
#[derive(Debug)]
pub struct Policy {
    /// Serial or fan-out.
    pub mode: Mode,
    /// Which status codes make an answer usable.
    pub terminal: TerminalSet,
    /// One attempt until its answer's head.
    pub per_try_timeout: Duration,
    /// All attempts of a request until the head.
    pub request_timeout: Duration,
}

/// The first usable answer, and who gave it.
pub struct Winner<'a> {
    /// The endpoint that was first.
    pub endpoint: &'a Endpoint,
    /// Its answer.
    pub answer: Answer,
}

/// Puts the request to the endpoints and hands the winner to `relay`, if there is one.
/// A cancel of `attempts` ends it without one.
pub fn dispatch<R>(
    policy: &Policy,
    endpoints: &[Endpoint],
    request: Outgoing<'_>,
    attempts: &Attempts,
    relay: impl FnOnce(Option<Winner<'_>>) -> R,
) -> R {
    let run = Run {
        policy,
        request,
        attempts,
        deadline: Instant::now() + policy.request_timeout,
    };
    match policy.mode {
        Mode::Serial => serial::dispatch(&run, endpoints, relay),
        Mode::Fanout => fanout::dispatch(&run, endpoints, relay),
    }
}

/// One request on its way through a mode.
struct Run<'a> {
    policy: &'a Policy,
    request: Outgoing<'a>,
    attempts: &'a Attempts,
    deadline: Instant,
}

impl Run<'_> {
    /// The reins of an attempt that starts now.
    fn control(&self) -> Arc<Control> {
        let per_try = self.policy.per_try_timeout;
        let limit = Limit::Until(Instant::now() + per_try, Timeout::Head(per_try));
        let request_timeout = Timeout::Request(self.policy.request_timeout);
        let limit = limit.or_before(self.deadline, request_timeout);
        let control = Arc::new(Control::new(limit));
        self.attempts.add(&control);
        control
    }

    fn is_usable(&self, outcome: &Outcome) -> bool {
        matches!(outcome, Ok(answer) if self.policy.terminal.contains(answer.head.status))
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
