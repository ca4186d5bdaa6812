//! What outlives a request: the list of endpoints in force, the budget of hedges, the times of
//! all answers.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::info;

use super::budget::{Budget, HeldBack};
use super::endpoint_list::{EndpointList, Renewed};
use super::latency::Latency;
use super::policy::{HedgeAfter, Mode, Policy};
use crate::metrics::Metrics;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::failure::{Failure, Timeout};
use crate::util::lock::lock;
use crate::util::thread_pool::ThreadPool;

/// Puts requests to endpoints.
#[derive(Debug)]
pub struct Dispatcher {
    /// The list in force. Locked for a clone only.
    list: Mutex<Arc<EndpointList>>,
    pub(super) policy: Policy,
    pub(super) budget: Budget,
    held_back: Mutex<HeldBack>,
    /// Gets something whenever an endpoint begins or ceases to be passed over.
    changed: (Sender<()>, Receiver<()>),
    /// Where hedging depends on it.
    latency: Option<Mutex<Latency>>,
    /// Where attempts run that overlap.
    pub(super) threads: Arc<ThreadPool>,
    pub(super) metrics: Arc<Metrics>,
}

impl Dispatcher {
    /// Of these endpoints nothing is known yet. The last `backups` of them are asked only when
    /// no other one has a usable answer. Attempts that overlap run on `threads`. What becomes of
    /// them is counted in `metrics`.
    #[must_use]
    pub fn new(
        endpoints: Vec<Endpoint>,
        backups: usize,
        policy: Policy,
        threads: Arc<ThreadPool>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let hedging = match policy.mode {
            Mode::Hedged(hedging) => Some(hedging),
            Mode::Serial | Mode::Fanout => None,
        };
        let now = Instant::now();
        let latency = match hedging.map(|hedging| hedging.after) {
            Some(HedgeAfter::Percentile(percent)) => Some(Latency::new(percent, now)),
            _ => None,
        };
        Self {
            list: Mutex::new(Arc::new(EndpointList::new(
                endpoints, backups, &policy, now,
            ))),
            budget: Budget::new(hedging.map_or(0, |hedging| hedging.budget)),
            held_back: Mutex::default(),
            changed: bounded(1),
            latency: latency.map(Mutex::new),
            policy,
            threads,
            metrics,
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The endpoints in force.
    #[must_use]
    pub fn list(&self) -> Arc<EndpointList> {
        Arc::clone(&lock(&self.list))
    }

    /// Puts another list in force, of which the last `backups` are backups. Requests under way keep
    /// the list that they began with. To be called by one thread only.
    pub fn renew(&self, endpoints: Vec<Renewed>, backups: usize) {
        let renewed = Arc::new(self.list().renewed(endpoints, backups));
        let before = mem::replace(&mut *lock(&self.list), renewed);
        // Perhaps the last one that has it: connections are closed then.
        drop(before);
        self.note_change();
    }

    /// From which something is received once an endpoint has begun or ceased to be passed over
    /// since the last time. Where only time has to pass for that, nothing is.
    #[must_use]
    pub fn changed(&self) -> &Receiver<()> {
        &self.changed.1
    }

    pub(super) fn note_change(&self) {
        // Full: there is one that has not been taken out.
        let _ = self.changed.0.try_send(());
    }

    /// The budget has held a hedge back.
    pub(super) fn hold_back(&self) {
        self.metrics.hedges_held_back.add();
        let number = lock(&self.held_back).add(Instant::now());
        report_held_back(number.unwrap_or_default());
    }

    /// Logs what is logged once in a while, for the last time.
    pub fn stopping(&self) {
        report_held_back(lock(&self.held_back).take());
    }

    /// How long the last attempt may take before it is hedged, if it may be at all.
    #[must_use]
    pub fn hedge_after(&self, now: Instant) -> Option<Duration> {
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
    pub(super) fn record_latency(
        &self,
        list: &EndpointList,
        endpoint: usize,
        failure: Option<&Failure>,
        now: Instant,
        after: Duration,
    ) {
        let latency = || self.latency.as_ref().map(lock);
        match failure {
            None => {
                list.ranking.record(endpoint, now, after);
                if let Some(mut latency) = latency() {
                    latency.record(now, after);
                }
            }
            Some(Failure::Cancelled) => {
                list.ranking.record_censored(endpoint, now, after);
                if let Some(mut latency) = latency() {
                    latency.record_censored(now, after);
                }
            }
            Some(Failure::Timeout(Timeout::Head(_) | Timeout::Request(_))) => {
                list.ranking.failed(endpoint, now);
                if let Some(mut latency) = latency() {
                    latency.record_censored(now, after);
                }
            }
            Some(Failure::Internal(_)) => {}
            Some(_) => list.ranking.failed(endpoint, now),
        }
    }
}

fn report_held_back(number: u64) {
    if number > 0 {
        info!(
            "hedges held back since the last such line: {number}, the budget is used up \
             (-hedge-budget)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::policy::Hedging;
    use crate::upstream::failure::ConnectFault;

    fn dispatcher(after: HedgeAfter) -> Dispatcher {
        let policy = Policy {
            mode: Mode::Hedged(Hedging { after, budget: 10 }),
            terminal: "200".parse().unwrap(),
            per_try_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            ..Policy::default()
        };
        let threads = ThreadPool::new("attempt", 8, Duration::from_secs(1));
        Dispatcher::new(Vec::new(), 0, policy, threads, Arc::default())
    }

    #[test]
    fn a_percentile_is_of_heads_and_of_what_waited_for_one_and_got_none() {
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
            (Some(Failure::UnusableBody), false),
            (Some(internal), false),
        ];
        for (failure, counts) in table {
            let now = Instant::now();
            let dispatcher = dispatcher(HedgeAfter::Percentile(95));
            assert_eq!(dispatcher.hedge_after(now), None);
            let later = now + Duration::from_secs(1);
            let list = dispatcher.list();
            for _ in 0..100 {
                dispatcher.record_latency(&list, 0, None, later, milli * 2);
            }
            for _ in 0..10 {
                dispatcher.record_latency(&list, 0, failure.as_ref(), later, milli * 50);
            }
            for _ in 0..4 {
                dispatcher.record_latency(&list, 0, None, later, milli * 100);
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
}
