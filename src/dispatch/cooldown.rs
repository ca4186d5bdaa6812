//! Which endpoints are passed over for a while, because they have failed too often.
//!
//! After so many failures in a row an endpoint is cooling: requests pass it over. Once the
//! cool-down is over, one request tries it, and the others go on passing it over until that
//! trial has ended: with a usable answer it is back, with a failure it cools again. A trial
//! that ends in neither way (a loser is cancelled, a client goes away) is as if it had not
//! been, and the next request may try.
//!
//! Time comes in from outside. Cost: a lock for each start and end of an attempt, held for a
//! few instructions and never while anything is waited for.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::util::lock::lock;

/// How the endpoints have done of late.
#[derive(Debug)]
pub struct Cooldown {
    /// `-max-fails`
    max_fails: NonZeroU32,
    /// `-cooldown`
    length: Duration,
    endpoints: Vec<Arc<Mutex<State>>>,
}

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// It is cooling, until then at least.
    until: Option<Instant>,
    /// The trial that is under way.
    trial: Option<u64>,
    trials: u64,
}

impl Cooldown {
    /// So many endpoints, of which nothing is known.
    #[must_use]
    pub fn new(max_fails: NonZeroU32, length: Duration, endpoints: usize) -> Self {
        Self {
            max_fails,
            length,
            endpoints: (0..endpoints).map(|_| Arc::default()).collect(),
        }
    }

    /// The right to ask this endpoint now; none if it is to be passed over.
    #[must_use]
    pub fn claim(&self, endpoint: usize, now: Instant) -> Option<Claim> {
        let mut claim = self.claim_regardless(endpoint)?;
        let mut trial = None;
        let mut state = lock(&claim.state);
        if let Some(until) = state.until {
            if now < until || state.trial.is_some() {
                return None;
            }
            state.trials += 1;
            state.trial = Some(state.trials);
            trial = state.trial;
        }
        drop(state);
        claim.trial = trial;
        Some(claim)
    }

    /// The right to ask this endpoint though it is cooling: all are.
    #[must_use]
    pub fn claim_regardless(&self, endpoint: usize) -> Option<Claim> {
        Some(Claim {
            max_fails: self.max_fails,
            length: self.length,
            state: Arc::clone(self.endpoints.get(endpoint)?),
            trial: None,
        })
    }

    /// How long this endpoint is still passed over, if a request at this moment would pass it
    /// over; no time where only its trial is to end. Once the cool-down is over and until a request
    /// comes to try it, it is not.
    #[must_use]
    pub fn passed_over(&self, endpoint: usize, now: Instant) -> Option<Duration> {
        let state = lock(self.endpoints.get(endpoint)?);
        let left = state.until?.saturating_duration_since(now);
        (!left.is_zero() || state.trial.is_some()).then_some(left)
    }

    /// How long a cool-down is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }
}

/// The right to ask an endpoint, and the duty to report the outcome. Dropped without a report
/// it is as if the endpoint had not been asked.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct Claim {
    max_fails: NonZeroU32,
    length: Duration,
    state: Arc<Mutex<State>>,
    trial: Option<u64>,
}

impl Claim {
    /// It gave a usable answer. True if it was cooling until now.
    #[must_use]
    pub fn succeeded(self) -> bool {
        let mut state = lock(&self.state);
        state.failures = 0;
        state.trial = None;
        state.until.take().is_some()
    }

    /// Its trial has been given up for another endpoint's answer, though it had had the time
    /// that answers usually take: it goes on cooling. It is no failure all the same.
    pub fn overtaken(self, now: Instant) {
        let mut state = lock(&self.state);
        if self.trial.is_some() && state.trial == self.trial && state.until.is_some() {
            state.until = Some(now + self.length);
        }
    }

    /// It gave none. The number of failures in a row, if it is cooling from now on.
    #[must_use]
    pub fn failed(self, now: Instant) -> Option<u32> {
        let mut state = lock(&self.state);
        state.failures = state.failures.saturating_add(1);
        let begins = match state.until {
            None => state.failures >= self.max_fails.get(),
            Some(_) => self.trial.is_some() && state.trial == self.trial,
        };
        if !begins {
            return None;
        }
        state.until = Some(now + self.length);
        Some(state.failures)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.trial.is_some() {
            let mut state = lock(&self.state);
            if state.trial == self.trial {
                state.trial = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(5);

    fn cooldown(max_fails: u32) -> Cooldown {
        Cooldown::new(max_fails.try_into().unwrap(), COOLDOWN, 2)
    }

    fn fail(cooldown: &Cooldown, now: Instant) -> Option<u32> {
        cooldown.claim(0, now).unwrap().failed(now)
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let (cooldown, now) = (cooldown(3), Instant::now());
        for _ in 0..10 {
            assert_eq!(fail(&cooldown, now), None);
            assert_eq!(fail(&cooldown, now), None);
            assert!(!cooldown.claim(0, now).unwrap().succeeded());
        }
        assert_eq!(fail(&cooldown, now), None);
        // A cancelled loser is neither a failure nor a success.
        drop(cooldown.claim(0, now));
        assert_eq!(fail(&cooldown, now), None);
        drop(cooldown.claim(0, now));
        assert_eq!(fail(&cooldown, now), Some(3));
        assert!(cooldown.claim(0, now).is_none());
        // The other one has nothing to do with it.
        assert!(cooldown.claim(1, now).is_some());
    }

    #[test]
    fn after_the_cool_down_one_request_tries() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let just_before = COOLDOWN.saturating_sub(Duration::from_nanos(1));
        assert!(cooldown.claim(0, begin + just_before).is_none());
        let now = begin + COOLDOWN;
        let trial = cooldown.claim(0, now).unwrap();
        for later in [Duration::ZERO, COOLDOWN, COOLDOWN * 100] {
            assert!(cooldown.claim(0, now + later).is_none());
        }
        // It fails, later on: the cool-down begins then.
        let later = now + COOLDOWN;
        assert_eq!(trial.failed(later), Some(2));
        assert!(cooldown.claim(0, later + COOLDOWN / 2).is_none());
        let trial = cooldown.claim(0, later + COOLDOWN).unwrap();
        assert!(trial.succeeded());
        assert!(cooldown.claim(0, now).is_some());
        assert!(cooldown.claim(0, now).is_some());
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
        let trial = cooldown.claim(0, now).unwrap();
        assert_eq!(cooldown.passed_over(0, now), Some(Duration::ZERO));
        drop(trial);
        assert_eq!(cooldown.passed_over(0, now), None);
        assert_eq!(cooldown.passed_over(2, now), None);
    }

    #[test]
    fn a_trial_that_is_cancelled_gives_way_to_the_next() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let now = begin + COOLDOWN;
        let trial = cooldown.claim(0, now).unwrap();
        assert!(cooldown.claim(0, now).is_none());
        drop(trial);
        let next = cooldown.claim(0, now).unwrap();
        assert!(cooldown.claim(0, now).is_none());
        assert!(next.succeeded());
    }

    #[test]
    fn a_trial_that_a_hedge_has_overtaken_prolongs_the_cool_down() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let now = begin + COOLDOWN;
        cooldown.claim(0, now).unwrap().overtaken(now);
        assert!(cooldown.claim(0, now + COOLDOWN / 2).is_none());
        let trial = cooldown.claim(0, now + COOLDOWN).unwrap();
        assert!(trial.succeeded());
        // It is nothing to an endpoint that is not cooling.
        cooldown.claim(0, now).unwrap().overtaken(now);
        assert!(cooldown.claim(0, now).is_some());
    }

    #[test]
    fn asking_regardless_neither_prolongs_the_cool_down_nor_ends_a_trial() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let late = begin + COOLDOWN / 2;
        let regardless = cooldown.claim_regardless(0).unwrap();
        assert_eq!(regardless.failed(late), None);
        let now = begin + COOLDOWN;
        let trial = cooldown.claim(0, now).unwrap();
        assert_eq!(cooldown.claim_regardless(0).unwrap().failed(now), None);
        assert!(cooldown.claim(0, now).is_none());
        assert_eq!(trial.failed(now), Some(4));
        // But a usable answer is one.
        assert!(cooldown.claim_regardless(0).unwrap().succeeded());
        assert!(cooldown.claim(0, now).is_some());
    }

    #[test]
    fn a_trial_that_was_overtaken_by_a_usable_answer_is_one_failure_like_any_other() {
        let (cooldown, begin) = (cooldown(2), Instant::now());
        assert_eq!(fail(&cooldown, begin), None);
        assert_eq!(fail(&cooldown, begin), Some(2));
        let now = begin + COOLDOWN;
        let trial = cooldown.claim(0, now).unwrap();
        assert!(cooldown.claim_regardless(0).unwrap().succeeded());
        assert_eq!(trial.failed(now), None);
        assert_eq!(fail(&cooldown, now), Some(2));
    }

    #[test]
    fn of_many_threads_one_gets_the_trial() {
        let (cooldown, begin) = (cooldown(1), Instant::now());
        assert_eq!(fail(&cooldown, begin), Some(1));
        let now = begin + COOLDOWN;
        let claims: Vec<_> = std::thread::scope(|scope| {
            let claim = || cooldown.claim(0, now);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().flatten().count(), 1);
    }
}
