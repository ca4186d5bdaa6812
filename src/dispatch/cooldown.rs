//! Which endpoints are passed over for a while: because they have failed too often
//! (`-max-fails`), or because they have asked for it (`Retry-After`).
//!
//! After so many failures in a row, or one that asks for some time, requests pass an endpoint
//! over. Once that time is over, one request tries it, and the others go on passing it over
//! until that probe has ended: with a usable answer it is back, with a failure it is passed over
//! again. A probe that ends in neither way (a loser is cancelled, a client goes away) is as if it
//! had not been, and the next request may try.
//!
//! Always: only a usable answer makes the time shorter.
//!
//! Time comes in from outside. Cost: an atomic load for each start and end of an attempt. For an
//! endpoint that has failed of late a lock as well, held for a few instructions and never while
//! anything is waited for.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::carried::carried;
use super::policy::CooldownConfig;
use crate::util::go_duration::GoDuration;
use crate::util::lock::lock;

/// How the endpoints have done of late.
#[derive(Debug)]
pub struct Cooldown {
    /// `-max-fails` and `-cooldown`; `None`: failures do not count.
    rule: Option<CooldownConfig>,
    endpoints: Vec<Arc<Endpoint>>,
}

#[derive(Debug, Default)]
struct Endpoint {
    /// Whether there is anything in `state`.
    is_noted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// It is passed over, until then at least.
    until: Option<Instant>,
    /// It has asked for that until then.
    asked_until: Option<Instant>,
    /// For how long it is passed over.
    length: Duration,
    /// The probe that is under way.
    probe: Option<u64>,
    probes: u64,
}

impl State {
    /// Nothing is known any more, but how many probes there were.
    fn forget(&mut self) {
        *self = Self {
            probes: self.probes,
            ..Self::default()
        };
    }
}

impl Cooldown {
    /// So many endpoints, of which nothing is known. `rule` says when failures have it passed
    /// over; `None`: never.
    #[must_use]
    pub fn new(rule: Option<CooldownConfig>, endpoints: usize) -> Self {
        Self {
            rule,
            endpoints: (0..endpoints).map(|_| Arc::default()).collect(),
        }
    }

    /// For a list in which the endpoints had these places before; of one without nothing is known.
    /// What requests of the list before report is known here, too.
    #[must_use]
    pub fn renewed(&self, before: &[Option<usize>]) -> Self {
        Self {
            rule: self.rule,
            endpoints: carried(&self.endpoints, before),
        }
    }

    /// The right to ask this endpoint now; none if it is to be passed over.
    #[must_use]
    pub fn permit(&self, endpoint: usize, now: Instant) -> Option<Permit> {
        let mut permit = self.permit_regardless(endpoint)?;
        if permit.endpoint.is_noted.load(Ordering::Relaxed) {
            let mut state = lock(&permit.endpoint.state);
            if let Some(until) = state.until {
                if now < until || state.probe.is_some() {
                    return None;
                }
                state.probes += 1;
                state.probe = Some(state.probes);
                let probe = state.probe;
                drop(state);
                permit.probe = probe;
            }
        }
        Some(permit)
    }

    /// The right to ask this endpoint though it is to be passed over: all are.
    #[must_use]
    pub fn permit_regardless(&self, endpoint: usize) -> Option<Permit> {
        Some(Permit {
            rule: self.rule,
            endpoint: Arc::clone(self.endpoints.get(endpoint)?),
            probe: None,
        })
    }

    /// How long this endpoint is still passed over, if a request at this moment would pass it
    /// over; no time where only its probe is to end. Once that time is over and until a request
    /// comes to try it, it is not.
    #[must_use]
    pub fn passed_over(&self, endpoint: usize, now: Instant) -> Option<Duration> {
        let state = lock(&self.endpoints.get(endpoint)?.state);
        let left = state.until?.saturating_duration_since(now);
        (!left.is_zero() || state.probe.is_some()).then_some(left)
    }

    /// How long it is until the first endpoint may be asked again, if all are passed over now
    /// and at least one of them has asked for it.
    #[must_use]
    pub fn shortest_wait(&self, now: Instant) -> Option<Duration> {
        let mut has_asked = false;
        let mut shortest = None;
        for endpoint in &self.endpoints {
            let state = lock(&endpoint.state);
            let until = state.until.filter(|until| now < *until)?;
            has_asked |= state.asked_until.is_some_and(|until| now < until);
            let wait = until.duration_since(now);
            shortest = Some(shortest.map_or(wait, |other: Duration| other.min(wait)));
        }
        shortest.filter(|_| has_asked)
    }
}

/// The right to ask an endpoint, and the duty to report the outcome. Dropped without a report
/// it is as if the endpoint had not been asked.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct Permit {
    rule: Option<CooldownConfig>,
    endpoint: Arc<Endpoint>,
    probe: Option<u64>,
}

/// Why an endpoint is passed over from now on, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedOver {
    /// It has failed so many times in a row.
    Failed(u32, Duration),
    /// It has asked for it.
    Asked(Duration),
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(_, length) | Self::Asked(length)) = *self;
        write!(f, "passed over for {}", GoDuration::from(length))?;
        match self {
            Self::Failed(1, _) => f.write_str(" after a failure"),
            Self::Failed(failures, _) => write!(f, " after {failures} failures in a row"),
            Self::Asked(_) => f.write_str(" (Retry-After)"),
        }
    }
}

impl Permit {
    /// It gave a usable answer. True if it was passed over until now.
    #[must_use]
    pub fn succeeded(self) -> bool {
        if !self.endpoint.is_noted.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = lock(&self.endpoint.state);
        let was_passed_over = state.until.is_some();
        state.forget();
        self.endpoint.is_noted.store(false, Ordering::Relaxed);
        was_passed_over
    }

    /// Its probe has been given up for another endpoint's answer, though it had had the time
    /// that answers usually take: it goes on being passed over, but no longer than after a failure
    /// (a second where failures do not count), whatever it had asked for. It is no failure all the
    /// same.
    pub fn superseded(self, now: Instant) {
        const WITHOUT_A_RULE: Duration = Duration::from_secs(1);
        let most = self.rule.map_or(WITHOUT_A_RULE, |rule| rule.length);
        let mut state = lock(&self.endpoint.state);
        if self.is_probe_of(&state) && state.until.is_some() {
            state.until = Some(now + state.length.min(most));
        }
    }

    /// It gave none, and asked to be left alone for `retry_after`; zero: it did not ask. Whether
    /// it is passed over from now on.
    #[must_use]
    pub fn failed(self, now: Instant, retry_after: Duration) -> Option<PassedOver> {
        if self.rule.is_none() && retry_after.is_zero() && self.probe.is_none() {
            return None;
        }
        let mut state = lock(&self.endpoint.state);
        self.endpoint.is_noted.store(true, Ordering::Relaxed);
        state.failures = state.failures.saturating_add(1);
        let is_probe = self.is_probe_of(&state);
        let may_cool = is_probe || state.until.is_none();
        let cooldown = self
            .rule
            .filter(|rule| may_cool && state.failures >= rule.max_fails.get());
        let cooldown = cooldown.map_or(Duration::ZERO, |rule| rule.length);
        let length = cooldown.max(retry_after);
        if length.is_zero() {
            if is_probe {
                // Nothing says for how long.
                state.until = None;
                state.probe = None;
            }
            return None;
        }
        if !retry_after.is_zero() {
            state.asked_until = state.asked_until.max(Some(now + retry_after));
        }
        let was_passed_over = state.until.is_some_and(|until| now < until);
        if state.until < Some(now + length) {
            state.until = Some(now + length);
            state.length = length;
        }
        if was_passed_over && cooldown.is_zero() {
            None
        } else if retry_after >= cooldown {
            Some(PassedOver::Asked(length))
        } else {
            Some(PassedOver::Failed(state.failures, length))
        }
    }

    fn is_probe_of(&self, state: &State) -> bool {
        self.probe.is_some() && state.probe == self.probe
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe.is_some() {
            let mut state = lock(&self.endpoint.state);
            if state.probe == self.probe {
                state.probe = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(5);

    const SECOND: Duration = Duration::from_secs(1);

    fn cooldown(max_fails: u32) -> Cooldown {
        let rule = CooldownConfig {
            max_fails: max_fails.try_into().unwrap(),
            length: COOLDOWN,
        };
        Cooldown::new(Some(rule), 2)
    }

    fn without_a_rule() -> Cooldown {
        Cooldown::new(None, 2)
    }

    fn fail(cooldown: &Cooldown, now: Instant) -> Option<u32> {
        failed(cooldown.permit(0, now).unwrap(), now)
    }

    /// The failures in a row after which it is passed over from now on.
    fn failed(permit: Permit, now: Instant) -> Option<u32> {
        match permit.failed(now, Duration::ZERO)? {
            PassedOver::Failed(failures, COOLDOWN) => Some(failures),
            other => panic!("{other:?}"),
        }
    }

    /// It asks for so long; whether that is news.
    fn ask(cooldown: &Cooldown, endpoint: usize, now: Instant, span: Duration) -> bool {
        let permit = cooldown.permit_regardless(endpoint).unwrap();
        match permit.failed(now, span) {
            None => false,
            Some(PassedOver::Asked(length)) => length == span,
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let (cooldown, now) = (cooldown(3), Instant::now());
        for _ in 0..10 {
            assert_eq!(fail(&cooldown, now), None);
            assert_eq!(fail(&cooldown, now), None);
            assert!(!cooldown.permit(0, now).unwrap().succeeded());
        }
        assert_eq!(fail(&cooldown, now), None);
        // A cancelled loser is neither a failure nor a success.
        drop(cooldown.permit(0, now));
        assert_eq!(fail(&cooldown, now), None);
        drop(cooldown.permit(0, now));
        assert_eq!(fail(&cooldown, now), Some(3));
        assert!(cooldown.permit(0, now).is_none());
        // The other one has nothing to do with it.
        assert!(cooldown.permit(1, now).is_some());
    }

    #[test]
    fn after_the_cooldown_one_request_tries() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let just_before = COOLDOWN.saturating_sub(Duration::from_nanos(1));
        assert!(cooldown.permit(0, begin + just_before).is_none());
        let now = begin + COOLDOWN;
        let probe = cooldown.permit(0, now).unwrap();
        for later in [Duration::ZERO, COOLDOWN, COOLDOWN * 100] {
            assert!(cooldown.permit(0, now + later).is_none());
        }
        // It fails, later on: the cooldown begins then.
        let later = now + COOLDOWN;
        assert_eq!(failed(probe, later), Some(2));
        assert!(cooldown.permit(0, later + COOLDOWN / 2).is_none());
        let probe = cooldown.permit(0, later + COOLDOWN).unwrap();
        assert!(probe.succeeded());
        assert!(cooldown.permit(0, now).is_some());
        assert!(cooldown.permit(0, now).is_some());
    }

    #[test]
    fn an_endpoint_is_passed_over_until_a_request_may_try_it() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(cooldown.passed_over(0, begin), None);
        assert_eq!(fail(&cooldown, begin), Some(1));
        let half = COOLDOWN / 2;
        assert_eq!(cooldown.passed_over(0, begin + half), Some(half));
        assert_eq!(cooldown.passed_over(1, begin + half), None);
        let now = begin + COOLDOWN;
        assert_eq!(cooldown.passed_over(0, now), None);
        let probe = cooldown.permit(0, now).unwrap();
        assert_eq!(cooldown.passed_over(0, now), Some(Duration::ZERO));
        drop(probe);
        assert_eq!(cooldown.passed_over(0, now), None);
        assert_eq!(cooldown.passed_over(2, now), None);
    }

    #[test]
    fn a_probe_that_is_cancelled_gives_way_to_the_next() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let now = begin + COOLDOWN;
        let probe = cooldown.permit(0, now).unwrap();
        assert!(cooldown.permit(0, now).is_none());
        drop(probe);
        let next = cooldown.permit(0, now).unwrap();
        assert!(cooldown.permit(0, now).is_none());
        assert!(next.succeeded());
    }

    #[test]
    fn a_probe_that_a_hedge_has_superseded_prolongs_the_cooldown() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let now = begin + COOLDOWN;
        cooldown.permit(0, now).unwrap().superseded(now);
        assert!(cooldown.permit(0, now + COOLDOWN / 2).is_none());
        let probe = cooldown.permit(0, now + COOLDOWN).unwrap();
        assert!(probe.succeeded());
        // It is nothing to an endpoint that is not passed over.
        cooldown.permit(0, now).unwrap().superseded(now);
        assert!(cooldown.permit(0, now).is_some());
    }

    #[test]
    fn a_superseded_probe_after_a_long_retry_after_costs_a_cooldown_or_a_second() {
        for (cooldown, wanted) in [(without_a_rule(), SECOND), (cooldown(9), COOLDOWN)] {
            let begin = Instant::now();
            assert!(ask(&cooldown, 0, begin, 60 * SECOND));
            let now = begin + 60 * SECOND;
            cooldown.permit(0, now).unwrap().superseded(now);
            assert!(cooldown.permit(0, now + wanted / 2).is_none());
            assert!(cooldown.permit(0, now + wanted).is_some());
        }
    }

    #[test]
    fn asking_regardless_neither_prolongs_the_cooldown_nor_ends_a_probe() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let late = begin + COOLDOWN / 2;
        let regardless = cooldown.permit_regardless(0).unwrap();
        assert_eq!(failed(regardless, late), None);
        let now = begin + COOLDOWN;
        let probe = cooldown.permit(0, now).unwrap();
        assert_eq!(failed(cooldown.permit_regardless(0).unwrap(), now), None);
        assert!(cooldown.permit(0, now).is_none());
        assert_eq!(failed(probe, now), Some(4));
        // But a usable answer is one.
        assert!(cooldown.permit_regardless(0).unwrap().succeeded());
        assert!(cooldown.permit(0, now).is_some());
    }

    #[test]
    fn a_probe_that_was_superseded_by_a_usable_answer_is_one_failure_like_any_other() {
        let (cooldown, begin) = (cooldown(2), Instant::now());
        assert_eq!(fail(&cooldown, begin), None);
        assert_eq!(fail(&cooldown, begin), Some(2));
        let now = begin + COOLDOWN;
        let probe = cooldown.permit(0, now).unwrap();
        assert!(cooldown.permit_regardless(0).unwrap().succeeded());
        assert_eq!(failed(probe, now), None);
        assert_eq!(fail(&cooldown, now), Some(2));
    }

    #[test]
    fn an_endpoint_that_asks_for_some_time_gets_it_and_one_request_tries_then() {
        for cooldown in [without_a_rule(), cooldown(9)] {
            let now = Instant::now();
            assert!(ask(&cooldown, 0, now, 2 * SECOND));
            assert!(cooldown.permit(0, now + SECOND).is_none());
            assert!(cooldown.permit(1, now).is_some());
            let later = now + 2 * SECOND;
            let probe = cooldown.permit(0, later).unwrap();
            assert!(cooldown.permit(0, later).is_none());
            assert_eq!(probe.failed(later, SECOND), Some(PassedOver::Asked(SECOND)));
            assert!(cooldown.permit(0, later).is_none());
            assert!(cooldown.permit(0, later + SECOND).unwrap().succeeded());
            // It is as if nothing had been.
            assert!(!cooldown.permit(0, later).unwrap().succeeded());
            let permits = [0, 0].map(|endpoint| cooldown.permit(endpoint, later));
            assert!(permits.iter().all(Option::is_some));
        }
    }

    #[test]
    fn the_time_is_the_longest_that_was_asked_for_and_is_news_once() {
        let (cooldown, now) = (without_a_rule(), Instant::now());
        assert!(ask(&cooldown, 0, now, 3 * SECOND));
        assert!(!ask(&cooldown, 0, now + SECOND, SECOND));
        let just_before = 3 * SECOND.saturating_sub(Duration::from_nanos(1));
        assert!(cooldown.permit(0, now + just_before).is_none());
        assert!(!ask(&cooldown, 0, now + just_before, 3 * SECOND));
        assert!(cooldown.permit(0, now + 5 * SECOND).is_none());
        assert!(cooldown.permit(0, now + 6 * SECOND).is_some());
    }

    #[test]
    fn the_longer_one_of_cooldown_and_retry_after_counts() {
        for (retry_after, wanted) in [
            (SECOND, PassedOver::Failed(1, COOLDOWN)),
            (COOLDOWN * 2, PassedOver::Asked(COOLDOWN * 2)),
        ] {
            let (cooldown, now) = (cooldown(1), Instant::now());
            let permit = cooldown.permit(0, now).unwrap();
            assert_eq!(permit.failed(now, retry_after), Some(wanted));
        }
        // What it has earned by failures is not made shorter.
        let (cooldown, now) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, now), Some(1));
        assert!(!ask(&cooldown, 0, now, SECOND));
        assert!(cooldown.permit(0, now + COOLDOWN / 2).is_none());
        assert!(cooldown.permit(0, now + COOLDOWN).is_some());
    }

    #[test]
    fn what_was_asked_for_is_one_failure_of_those_in_a_row() {
        let (cooldown, now) = (cooldown(3), Instant::now());
        assert!(ask(&cooldown, 0, now, SECOND));
        let now = now + SECOND;
        let probe = cooldown.permit(0, now).unwrap();
        assert_eq!(failed(probe, now), None);
        let permits = [0, 0].map(|endpoint| cooldown.permit(endpoint, now));
        assert!(permits.iter().all(Option::is_some));
        assert_eq!(fail(&cooldown, now), Some(3));
    }

    #[test]
    fn without_a_rule_failures_do_not_count_and_a_failed_probe_ends_it() {
        let (cooldown, now) = (without_a_rule(), Instant::now());
        for _ in 0..100 {
            assert_eq!(fail(&cooldown, now), None);
        }
        assert!(ask(&cooldown, 0, now, SECOND));
        let probe = cooldown.permit(0, now + SECOND).unwrap();
        assert_eq!(failed(probe, now + SECOND), None);
        let permits = [0, 0].map(|endpoint| cooldown.permit(endpoint, now + SECOND));
        assert!(permits.iter().all(Option::is_some));
    }

    #[test]
    fn the_shortest_wait_is_known_while_all_are_passed_over_and_one_has_asked() {
        let (asked, now) = (without_a_rule(), Instant::now());
        assert!(ask(&asked, 0, now, 3 * SECOND));
        assert_eq!(asked.shortest_wait(now), None);
        assert!(ask(&asked, 1, now, 2 * SECOND));
        assert_eq!(asked.shortest_wait(now), Some(2 * SECOND));
        assert_eq!(asked.shortest_wait(now + SECOND), Some(SECOND));
        assert_eq!(asked.shortest_wait(now + 2 * SECOND), None);
        assert!(asked.permit_regardless(0).unwrap().succeeded());
        assert_eq!(asked.shortest_wait(now), None);
        // One has asked, the other one has failed.
        let mixed = cooldown(1);
        assert_eq!(fail(&mixed, now), Some(1));
        assert_eq!(mixed.shortest_wait(now), None);
        assert!(ask(&mixed, 1, now, 9 * SECOND));
        assert_eq!(mixed.shortest_wait(now), Some(COOLDOWN));
        // Neither has asked.
        let failed = cooldown(1);
        for endpoint in [0, 1] {
            let permit = failed.permit(endpoint, now).unwrap();
            assert!(permit.failed(now, Duration::ZERO).is_some());
        }
        assert_eq!(failed.shortest_wait(now), None);
    }

    #[test]
    fn of_many_threads_one_gets_the_probe() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let now = begin + COOLDOWN;
        let permits: Vec<_> = std::thread::scope(|scope| {
            let permit = || cooldown.permit(0, now);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(permit)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(permits.iter().flatten().count(), 1);
    }
}
