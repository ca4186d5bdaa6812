//! Which endpoints are worth waiting for once another one's answer has been relayed, and how
//! long.
//!
//! A loser that answers within the grace keeps its connection. Where the client has its next
//! request ready, waiting for the loser delays that request: it pays for an endpoint that
//! answers a little later than the winner, and is lost time for one that hangs or is much slower
//! than others. So the next request does not wait for attempts of an endpoint that takes more
//! than [`SLOW_FACTOR`] times as long as the quickest one on the average, or that has been asked for
//! [`MAX_SILENCE`] without one of them ending by itself. Of those attempts, one in [`PROBE_INTERVAL`] is waited for all the same:
//! an endpoint that is always a little later than the client's next request is found out that
//! way.
//!
//! How long attempts take of late is a moving average: on a busy machine all of them are slow,
//! and cancelling the slower half would make it dial that many connections as well.
//!
//! Time comes in from outside. Cost: some atomic loads for an attempt, and up to three stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::carried::carried;

/// An endpoint of which no attempt has ended for so long may hang.
const MAX_SILENCE: Duration = Duration::from_millis(50);

/// An endpoint is much slower than the quickest one if it takes more than so many times as
/// long, and this on top. (What is cancelled is not counted here: it would make equal endpoints
/// slow on a busy machine.)
const SLOW_FACTOR: u64 = 2;
const SLOW_MARGIN: Duration = Duration::from_millis(5);

/// A hanging endpoint costs the grace once in so many requests.
const PROBE_INTERVAL: u32 = 1024;

/// A new time's weight in the average is one in so many.
const WEIGHT: u64 = 8;

/// What is known of each endpoint.
#[derive(Debug)]
pub(super) struct Patience {
    begun: Instant,
    /// Shared with the list before.
    endpoints: Vec<Arc<Endpoint>>,
}

#[derive(Debug, Default)]
struct Endpoint {
    /// When the first attempt has started since one has ended by itself, in milliseconds since
    /// `begun`, and one; 0: none has started.
    asked: AtomicU64,
    /// The moving average of their times, in microseconds. Of two threads that change it at
    /// once, one may be lost.
    average: AtomicU64,
    /// The same of those that have ended with a usable answer.
    usable: AtomicU64,
    /// How many attempts have started while it was not waited for.
    unwatched: AtomicU32,
}

impl Patience {
    /// So many endpoints, of which nothing is known.
    pub(super) fn new(endpoints: usize, now: Instant) -> Self {
        Self {
            begun: now,
            endpoints: (0..endpoints).map(|_| Arc::default()).collect(),
        }
    }

    /// For a list in which the endpoints had these places before; of one without nothing is known.
    pub(super) fn renewed(&self, before: &[Option<usize>]) -> Self {
        Self {
            begun: self.begun,
            endpoints: carried(&self.endpoints, before),
        }
    }

    /// Whether the next request waits for the attempt that starts now.
    pub(super) fn is_prompt(&self, endpoint: usize, now: Instant) -> bool {
        let Some(endpoint) = self.endpoints.get(endpoint) else {
            return true;
        };
        let is_waited_for = self.is_waited_for(endpoint, now);
        if endpoint.asked.load(Ordering::Relaxed) == 0 {
            endpoint.asked.store(self.millis(now), Ordering::Relaxed);
        }
        is_waited_for
            || endpoint.unwatched.fetch_add(1, Ordering::Relaxed) % PROBE_INTERVAL
                == PROBE_INTERVAL - 1
    }

    /// An attempt has ended by itself, with a usable answer after so long or without one.
    pub(super) fn ended(&self, endpoint: usize, usable_after: Option<Duration>) {
        let Some(endpoint) = self.endpoints.get(endpoint) else {
            return;
        };
        // A failure that comes at once makes no endpoint quick.
        if let Some(after) = usable_after.map(micros) {
            for average in [&endpoint.average, &endpoint.usable] {
                match average.load(Ordering::Relaxed) {
                    0 => average.store(after, Ordering::Relaxed),
                    before => weigh_in(average, before, after),
                }
            }
        }
        endpoint.asked.store(0, Ordering::Relaxed);
    }

    /// An attempt was cancelled after so long: it takes longer than that. Left out, the average
    /// would be that of the quick ones, and the more were cancelled the lower it would be.
    pub(super) fn cancelled(&self, endpoint: usize, after: Duration) {
        if let Some(endpoint) = self.endpoints.get(endpoint) {
            let average = endpoint.average.load(Ordering::Relaxed);
            let longer = micros(after).saturating_mul(2);
            if longer > average {
                weigh_in(&endpoint.average, average, longer);
            }
        }
    }

    /// How long attempts take on the average at the slowest of the endpoints that are waited
    /// for.
    pub(super) fn average(&self, now: Instant) -> Duration {
        let waited_for = self.endpoints.iter().filter(|e| self.is_waited_for(e, now));
        let average = waited_for.map(|endpoint| endpoint.average.load(Ordering::Relaxed));
        Duration::from_micros(average.max().unwrap_or_default())
    }

    fn is_waited_for(&self, endpoint: &Endpoint, now: Instant) -> bool {
        let asked = endpoint.asked.load(Ordering::Relaxed);
        let silence = u64::try_from(MAX_SILENCE.as_millis()).unwrap_or(u64::MAX);
        (asked == 0 || self.millis(now) < asked.saturating_add(silence)) && !self.is_slow(endpoint)
    }

    fn is_slow(&self, endpoint: &Endpoint) -> bool {
        let usable = |endpoint: &Endpoint| endpoint.usable.load(Ordering::Relaxed);
        let averages = self.endpoints.iter().map(|endpoint| usable(endpoint));
        let quickest = averages.filter(|average| *average > 0).min();
        usable(endpoint) > quickest.unwrap_or_default() * SLOW_FACTOR + micros(SLOW_MARGIN)
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begun).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

fn weigh_in(average: &AtomicU64, before: u64, time: u64) {
    let after = (before - before / WEIGHT).saturating_add(time / WEIGHT);
    average.store(after, Ordering::Relaxed);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_silent_endpoint_is_waited_for_once_in_a_while() {
        let begun = Instant::now();
        let patience = Patience::new(2, begun);
        for now in [begun, begun + MAX_SILENCE / 2] {
            assert!((0..PROBE_INTERVAL).all(|_| patience.is_prompt(0, now)));
        }
        let now = begun + MAX_SILENCE;
        let waited = (0..PROBE_INTERVAL * 10).filter(|_| patience.is_prompt(0, now));
        assert_eq!(waited.count(), 10);
        assert!(patience.is_prompt(1, now));
    }

    #[test]
    fn an_endpoint_that_ends_its_attempts_is_waited_for() {
        let begun = Instant::now();
        let patience = Patience::new(1, begun);
        for round in 1..10 {
            let now = begun + MAX_SILENCE * 3 * round;
            // Nothing has been asked of it meanwhile.
            assert!(patience.is_prompt(0, now));
            assert!(!patience.is_prompt(0, now + MAX_SILENCE));
            patience.ended(0, Some(MILLI));
            assert!(patience.is_prompt(0, now + MAX_SILENCE));
            patience.ended(0, Some(MILLI));
        }
    }

    #[test]
    fn an_endpoint_that_is_much_slower_than_the_quickest_one_is_not_waited_for() {
        let begun = Instant::now();
        let patience = Patience::new(4, begun);
        // 3 has failed, and nothing is known of it.
        for (endpoint, answer) in [(0, Some(5)), (1, Some(15)), (2, Some(16)), (3, None)] {
            patience.ended(endpoint, answer.map(Duration::from_millis));
        }
        let prompt = [0, 1, 2, 3].map(|endpoint| patience.is_prompt(endpoint, begun));
        assert_eq!(prompt, [true, true, false, true]);
        assert_eq!(patience.average(begun), MILLI * 15);
        // It becomes quicker.
        for _ in 0..10 {
            patience.ended(2, Some(MILLI * 5));
        }
        assert!(patience.is_prompt(2, begun));
    }

    #[test]
    fn the_average_is_that_of_the_slowest_endpoint_that_is_waited_for() {
        let begun = Instant::now();
        let patience = Patience::new(3, begun);
        assert_eq!(patience.average(begun), Duration::ZERO);
        patience.ended(0, Some(MILLI * 6));
        patience.ended(1, Some(MILLI));
        patience.ended(2, Some(MILLI * 2));
        assert_eq!(patience.average(begun), MILLI * 6);
        assert!(patience.is_prompt(0, begun));
        let later = begun + MAX_SILENCE;
        assert_eq!(patience.average(later), MILLI * 2);
        for _ in 0..100 {
            patience.ended(1, Some(MILLI * 8));
        }
        let average = patience.average(later);
        assert!(MILLI * 7 < average && average <= MILLI * 8, "{average:?}");
    }

    #[test]
    fn what_is_known_goes_with_an_endpoint_to_its_new_place() {
        let begun = Instant::now();
        let patience = Patience::new(2, begun);
        patience.ended(0, Some(MILLI * 5));
        patience.ended(1, Some(MILLI * 100));
        let renewed = patience.renewed(&[Some(1), None, Some(0)]);
        let prompt = [0, 1, 2].map(|endpoint| renewed.is_prompt(endpoint, begun));
        assert_eq!(prompt, [false, true, true]);
        // What an earlier request reports later is known, too.
        patience.ended(0, Some(MILLI * 500));
        assert_eq!([0, 2].map(|n| renewed.is_prompt(n, begun)), [true, true]);
    }

    #[test]
    fn attempts_that_are_cancelled_make_the_average_longer_and_never_shorter() {
        let begun = Instant::now();
        let patience = Patience::new(1, begun);
        patience.ended(0, Some(MILLI * 10));
        patience.cancelled(0, MILLI * 5);
        assert_eq!(patience.average(begun), MILLI * 10);
        for _ in 0..100 {
            patience.cancelled(0, MILLI * 10);
        }
        let average = patience.average(begun);
        assert!(MILLI * 19 < average && average <= MILLI * 20, "{average:?}");
    }
}
