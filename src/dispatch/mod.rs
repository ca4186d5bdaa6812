//! Which endpoint is asked when, and which answer is taken.
//!
//! All modes are one loop, `driver::run_attempts`: start the next attempt or wait for one to
//! end. They differ in when the next one is due (fan-out: all at once; serial: when the last one has
//! failed; hedged: also when it takes too long) and in where attempts run: on the caller's
//! thread where there is only one at a time (`serial`), else on pooled threads, too (`race`).
//!
//! It ends by calling the caller's `relay` exactly once, with the winner or without, on the
//! thread that has it first. That happens while the losers end, so that no client waits for
//! them.
//!
//! With `-rounds` the loop starts all over when everything has failed, after a pause in which only
//! the client is monitored (`rounds`).
//!
//! What outlives a request (budget, times, failures) is in modules of its own, which do not
//! look at the clock: time is handed to them.

mod attempt;
pub mod attempt_log;
pub mod budget;
mod carried;
pub mod cooldown;
mod dispatcher;
mod driver;
mod endpoint_list;
pub mod latency;
pub mod order;
mod outcome;
mod patience;
pub mod policy;
mod progress;
mod queue;
mod race;
mod rounds;
mod run;
mod serial;
pub mod status_set;
pub mod unusable_body;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::driver::run_attempts;
use self::policy::Mode;
use self::progress::Progress;
use self::queue::Tries;
use self::run::RequestRun;
use self::serial::Serial;
use crate::upstream::control::RequestCancellation;

pub use self::dispatcher::Dispatcher;
pub use self::endpoint_list::{EndpointList, EndpointState, Renewed};
pub use self::outcome::{Dispatched, Winner};
pub use self::policy::Policy;
pub use self::run::Request;

impl Dispatcher {
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
        let list = self.list();
        let backups = list.backups();
        let endpoints = list.count().saturating_sub(backups);
        let run = RequestRun {
            dispatcher: Arc::clone(self),
            list,
            request: Arc::clone(request),
            once,
            tries: Tries::new(self.policy.max_tries),
            cancellation: Arc::clone(cancellation),
            deadline: now + self.policy.request_timeout,
            all_at_once: !once && endpoints.max(backups) > 1 && self.policy.mode == Mode::Fanout,
            // A backup is no hedge.
            hedge_after: self.hedge_after(now).filter(|_| !once && endpoints > 1),
        };
        if run.hedge_after.is_some() {
            self.budget.request();
        }
        if run.all_at_once || run.hedge_after.is_some() {
            race::dispatch(run, relay);
        } else {
            let progress = Mutex::new(Progress::new(&run));
            if let Some(dispatched) = run_attempts(&run, &progress, &Serial::new(&run)) {
                relay(dispatched);
            }
        }
    }
}

/// RFC 9110 9.2.2. Of a method that is not known it must not be assumed.
fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method)
}

#[cfg(test)]
mod tests;
