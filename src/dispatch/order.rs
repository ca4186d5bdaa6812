//! In which order a request goes through the endpoints: `-order`.
//!
//! - *listed*: as on the command line, each time.
//! - *rotate*: the next request begins with the next endpoint.
//! - *fastest*: by the recent time to the head of a usable answer, a moving average. Those of
//!   which none is known come last, in the order of the command line; equal ones too. Now and
//!   then a request begins with an endpoint that has not been measured for long: its time
//!   may have changed, and the last one is seldom asked.
//!
//! Backups have an order of their own, behind all others.
//!
//! Time comes in from outside. Cost: nothing for *listed*, an atomic for *rotate*; for
//! *fastest* a short sort under a lock, and a vector.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::policy::Order;
use crate::util::lock::lock;

/// An endpoint that has not been measured for this long is asked first now and then.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// At most one request in so many begins with an endpoint only to measure it.
const MEASURE_INTERVAL: u32 = 10;

/// A new time's weight in the average is one in so many.
const WEIGHT: u32 = 8;

/// The order, and what it is made of.
#[derive(Debug)]
pub struct Ranking {
    order: Order,
    endpoints: Range<usize>,
    next: AtomicUsize,
    backups: Range<usize>,
    next_backup: AtomicUsize,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    endpoints: Vec<Time>,
    /// Requests since one began with an endpoint to measure it.
    requests: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Time {
    average: Option<Duration>,
    /// When it was measured, or was last asked for that purpose.
    measured: Option<Instant>,
}

impl Ranking {
    /// So many endpoints, of which nothing is known. The last `backups` of them are backups.
    #[must_use]
    pub fn new(order: Order, endpoints: usize, backups: usize) -> Self {
        let times = match order {
            Order::Fastest => endpoints,
            Order::Listed | Order::Rotate => 0,
        };
        let first_backup = endpoints.saturating_sub(backups);
        Self {
            order,
            endpoints: 0..first_backup,
            next: AtomicUsize::new(0),
            backups: first_backup..endpoints,
            next_backup: AtomicUsize::new(0),
            times: Mutex::new(Times {
                endpoints: vec![Time::default(); times],
                requests: 0,
            }),
        }
    }

    /// For a list in which the endpoints had these places before; of one without nothing is known.
    /// The last `backups` of them are backups.
    #[must_use]
    pub fn renewed(&self, before: &[Option<usize>], backups: usize) -> Self {
        let next = |number: &AtomicUsize| AtomicUsize::new(number.load(Ordering::Relaxed));
        let mut renewed = Self {
            next: next(&self.next),
            next_backup: next(&self.next_backup),
            ..Self::new(self.order, before.len(), backups)
        };
        let known = self.lock();
        let times = renewed
            .times
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        times.requests = known.requests;
        for (time, place) in times.endpoints.iter_mut().zip(before) {
            let place = place.and_then(|place| known.endpoints.get(place));
            *time = place.copied().unwrap_or_default();
        }
        drop(known);
        renewed
    }

    /// The order of those that are no backups, for a request that comes now.
    pub fn sequence(&self, now: Instant) -> Sequence {
        self.sequence_of(&self.endpoints, &self.next, now)
    }

    /// The order of the backups, for a request that needs them now.
    pub fn backups(&self, now: Instant) -> Sequence {
        self.sequence_of(&self.backups, &self.next_backup, now)
    }

    fn sequence_of(&self, endpoints: &Range<usize>, next: &AtomicUsize, now: Instant) -> Sequence {
        let (first, ranked) = match self.order {
            Order::Rotate if !endpoints.is_empty() => {
                let next = next.fetch_add(1, Ordering::Relaxed);
                (next % endpoints.len(), None)
            }
            Order::Fastest if !endpoints.is_empty() => {
                (0, Some(self.lock().ranked(endpoints.clone(), now)))
            }
            Order::Listed | Order::Rotate | Order::Fastest => (0, None),
        };
        Sequence {
            lowest: endpoints.start,
            first,
            taken: 0,
            endpoints: endpoints.len(),
            ranked,
        }
    }

    /// A usable head has come after so long.
    pub fn record(&self, endpoint: usize, now: Instant, after: Duration) {
        self.update(endpoint, now, |average| {
            Some(average.map_or(after, |average| {
                average.saturating_sub(average / WEIGHT) + after / WEIGHT
            }))
        });
    }

    /// An attempt was given up after so long: it would have taken longer.
    pub fn record_censored(&self, endpoint: usize, now: Instant, after: Duration) {
        self.update(endpoint, now, |average| {
            let average = average?;
            let longer = after.saturating_sub(average);
            Some(average + longer / WEIGHT)
        });
    }

    /// An attempt failed: what was known does not count any more.
    pub fn failed(&self, endpoint: usize, now: Instant) {
        self.update(endpoint, now, |_| None);
    }

    fn update(
        &self,
        endpoint: usize,
        now: Instant,
        average: impl FnOnce(Option<Duration>) -> Option<Duration>,
    ) {
        if self.order != Order::Fastest {
            return;
        }
        if let Some(time) = self.lock().endpoints.get_mut(endpoint) {
            time.average = average(time.average);
            time.measured = Some(now);
        }
    }

    /// A lock that another thread poisoned is still usable.
    fn lock(&self) -> MutexGuard<'_, Times> {
        lock(&self.times)
    }
}

impl Times {
    fn ranked(&mut self, endpoints: Range<usize>, now: Instant) -> Vec<usize> {
        let mut ranked: Vec<(usize, Time)> = self.times_of(endpoints.clone()).collect();
        // A stable sort: what is equal stays in the order of the command line.
        ranked.sort_by_key(|(_, time)| time.average.unwrap_or(Duration::MAX));
        let mut ranked: Vec<usize> = ranked.into_iter().map(|(endpoint, _)| endpoint).collect();
        self.requests = self.requests.saturating_add(1);
        if self.requests > MEASURE_INTERVAL
            && let Some(unmeasured) = self.unmeasured(endpoints, now)
        {
            self.requests = 0;
            if let Some(time) = self.endpoints.get_mut(unmeasured) {
                time.measured = Some(now);
            }
            ranked.retain(|endpoint| *endpoint != unmeasured);
            ranked.insert(0, unmeasured);
        }
        ranked
    }

    /// The one that has not been measured for the longest time, if that is long.
    fn unmeasured(&self, endpoints: Range<usize>, now: Instant) -> Option<usize> {
        let times = self.times_of(endpoints);
        let (endpoint, time) = times.min_by_key(|(_, time)| time.measured)?;
        let long_ago = |measured| now.saturating_duration_since(measured) >= STALE_AFTER;
        time.measured.is_none_or(long_ago).then_some(endpoint)
    }

    fn times_of(&self, endpoints: Range<usize>) -> impl Iterator<Item = (usize, Time)> {
        let times = self.endpoints.iter().copied().enumerate();
        times.skip(endpoints.start).take(endpoints.len())
    }
}

/// The endpoints of one request, in its order.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The lowest number.
    lowest: usize,
    /// How far behind that it begins.
    first: usize,
    taken: usize,
    endpoints: usize,
    ranked: Option<Vec<usize>>,
}

impl Sequence {
    /// From now on the same endpoints again, in the same order.
    pub(super) fn restart(&mut self) {
        self.taken = 0;
    }

    /// There are no more.
    pub(super) fn is_used_up(&self) -> bool {
        self.taken >= self.endpoints
    }
}

impl Iterator for Sequence {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.is_used_up() {
            return None;
        }
        let place = (self.first + self.taken) % self.endpoints;
        self.taken += 1;
        match &self.ranked {
            None => Some(self.lowest + place),
            Some(ranked) => ranked.get(place).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn order(ranking: &Ranking, now: Instant) -> Vec<usize> {
        ranking.sequence(now).collect()
    }

    #[test]
    fn listed_is_always_the_same_and_rotate_is_not() {
        let now = Instant::now();
        let (listed, rotate) = (
            Ranking::new(Order::Listed, 3, 0),
            Ranking::new(Order::Rotate, 3, 0),
        );
        for rotated in [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]] {
            assert_eq!(order(&listed, now), [0, 1, 2]);
            assert_eq!(order(&rotate, now), rotated);
        }
        assert_eq!(order(&Ranking::new(Order::Rotate, 1, 0), now), [0]);
    }

    #[test]
    fn fastest_is_by_time_and_the_unmeasured_and_the_equal_are_as_listed() {
        // What is known of four endpoints, in milliseconds.
        let table = [
            ([None, None, None, None], [0, 1, 2, 3]),
            ([Some(9), None, Some(3), None], [2, 0, 1, 3]),
            ([Some(5), Some(5), Some(4), Some(5)], [2, 0, 1, 3]),
            ([None, Some(1_000), None, Some(1)], [3, 1, 0, 2]),
        ];
        for (times, wanted) in table {
            let now = Instant::now();
            let ranking = Ranking::new(Order::Fastest, 4, 0);
            for (endpoint, time) in times.into_iter().enumerate() {
                if let Some(time) = time {
                    ranking.record(endpoint, now, MILLI * time);
                }
            }
            assert_eq!(order(&ranking, now), wanted, "{times:?}");
        }
    }

    #[test]
    fn backups_have_an_order_of_their_own() {
        let now = Instant::now();
        let orders = |ranking: &Ranking| {
            (
                order(ranking, now),
                ranking.backups(now).collect::<Vec<_>>(),
            )
        };
        let listed = Ranking::new(Order::Listed, 4, 2);
        assert_eq!(orders(&listed), (vec![0, 1], vec![2, 3]));
        let rotate = Ranking::new(Order::Rotate, 5, 3);
        assert_eq!(order(&rotate, now), [0, 1]);
        assert_eq!(orders(&rotate), (vec![1, 0], vec![2, 3, 4]));
        assert_eq!(orders(&rotate), (vec![0, 1], vec![3, 4, 2]));
        let fastest = Ranking::new(Order::Fastest, 4, 2);
        for (endpoint, time) in [(0, 9), (1, 8), (2, 2), (3, 1)] {
            fastest.record(endpoint, now, MILLI * time);
        }
        assert_eq!(orders(&fastest), (vec![1, 0], vec![3, 2]));
        let none = Ranking::new(Order::Fastest, 2, 0);
        assert_eq!(orders(&none), (vec![0, 1], vec![]));
    }

    #[test]
    fn which_one_is_measured_again_is_decided_among_equals() {
        let mut now = Instant::now();
        let ranking = Ranking::new(Order::Fastest, 4, 2);
        let mut firsts = [0; 4];
        for _ in 0..200 {
            now += STALE_AFTER / 10;
            let mut first_of = |mut sequence: Sequence| {
                let first = sequence.next().unwrap();
                firsts[first] += 1;
                ranking.record(first, now, MILLI * [10, 20, 10, 20][first]);
            };
            first_of(ranking.sequence(now));
            first_of(ranking.backups(now));
        }
        assert_eq!((firsts[0] + firsts[1], firsts[2] + firsts[3]), (200, 200));
        assert!(firsts[1] >= 5 && firsts[3] >= 5, "{firsts:?}");
    }

    #[test]
    fn fastest_follows_the_times() {
        let now = Instant::now();
        let ranking = Ranking::new(Order::Fastest, 2, 0);
        ranking.record(0, now, MILLI * 10);
        ranking.record(1, now, MILLI * 20);
        // One slow answer is no reason yet, a few are.
        ranking.record(0, now, MILLI * 50);
        assert_eq!(order(&ranking, now), [0, 1]);
        for _ in 0..3 {
            ranking.record(0, now, MILLI * 50);
        }
        assert_eq!(order(&ranking, now), [1, 0]);
        for _ in 0..20 {
            ranking.record(0, now, MILLI * 10);
        }
        assert_eq!(order(&ranking, now), [0, 1]);
        // An endpoint that fails comes last until it is measured again.
        ranking.failed(0, now);
        assert_eq!(order(&ranking, now), [1, 0]);
        ranking.record(0, now, MILLI);
        assert_eq!(order(&ranking, now), [0, 1]);
    }

    #[test]
    fn what_is_known_goes_with_an_endpoint_to_its_new_place() {
        let now = Instant::now();
        let ranking = Ranking::new(Order::Fastest, 3, 0);
        for (endpoint, time) in [(0, 30), (1, 20), (2, 10)] {
            ranking.record(endpoint, now, MILLI * time);
        }
        // 1 is gone, a new one comes first.
        let renewed = ranking.renewed(&[None, Some(0), Some(2)], 0);
        assert_eq!(order(&renewed, now), [2, 1, 0]);
        let rotate = Ranking::new(Order::Rotate, 2, 0);
        assert_eq!(order(&rotate, now), [0, 1]);
        assert_eq!(
            order(&rotate.renewed(&[Some(1), Some(0), None], 1), now),
            [1, 0]
        );
    }

    #[test]
    fn a_cancelled_attempt_can_only_make_an_endpoint_look_slower() {
        let now = Instant::now();
        let ranking = Ranking::new(Order::Fastest, 2, 0);
        ranking.record(0, now, MILLI * 10);
        ranking.record(1, now, MILLI * 20);
        for _ in 0..100 {
            ranking.record_censored(1, now, MILLI);
        }
        assert_eq!(order(&ranking, now), [0, 1]);
        for _ in 0..100 {
            ranking.record_censored(0, now, MILLI * 30);
        }
        assert_eq!(order(&ranking, now), [1, 0]);
        // Of one that was never measured nothing is known.
        let ranking = Ranking::new(Order::Fastest, 2, 0);
        ranking.record_censored(0, now, MILLI);
        ranking.record(1, now, MILLI * 20);
        assert_eq!(order(&ranking, now), [1, 0]);
    }

    #[test]
    fn each_is_measured_again_now_and_then() {
        let mut now = Instant::now();
        let ranking = Ranking::new(Order::Fastest, 3, 0);
        // How many of a thousand requests, one every 100 ms, begin with which endpoint.
        let mut firsts = [0; 3];
        for _ in 0..1_000 {
            now += STALE_AFTER / 100;
            let first = order(&ranking, now)[0];
            firsts[first] += 1;
            let time = [10, 20, 30][first];
            ranking.record(first, now, MILLI * time);
        }
        assert!(firsts[0] > 970, "{firsts:?}");
        assert!(firsts[1] >= 8 && firsts[2] >= 8, "{firsts:?}");
    }

    #[test]
    fn few_requests_are_not_spent_on_measuring() {
        let mut now = Instant::now();
        let ranking = Ranking::new(Order::Fastest, 2, 0);
        let mut firsts = [0; 2];
        for _ in 0..110 {
            now += STALE_AFTER * 10;
            let first = order(&ranking, now)[0];
            firsts[first] += 1;
            ranking.record(first, now, MILLI * [10, 20][first]);
        }
        assert!((9..=11).contains(&firsts[1]), "{firsts:?}");
    }
}
