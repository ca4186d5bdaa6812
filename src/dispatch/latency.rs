//! How long answers have taken of late: a percentile of the times to the response head.
//!
//! The times of the last two minutes are kept, as counts in buckets: a bucket is at most 3 %
//! wide, so memory is bounded whatever comes (50 KiB), and the percentile is as exact as that.
//!
//! **What a cancelled attempt says.** Once slow attempts are hedged, most of them never end:
//! the hedge wins and they are cancelled. Leaving them out would leave only the quick ones, the
//! percentile would fall, more attempts would be hedged, and so on down. Counting them as if
//! they had ended when they were cancelled is wrong as well, where a hedge is cancelled that
//! had hardly begun. All that is known is that such an attempt takes *longer* than it has
//! waited. For such data there is the product-limit estimate (Kaplan and Meier, 1958): an
//! attempt counts among those that have not ended for as long as it was seen not to have, and
//! no longer. Where more attempts hang than the percentile leaves over, the estimate does not
//! get there: then it is the longest time after which a head has come. (The longest time
//! after which one was given up would be its own hedge's, and grow with each estimate.)
//! Time-outs are of that kind too. Failures and statuses that are not terminal say
//! nothing about how long an answer takes.
//!
//! Time comes in from outside. Cost: a count for a record; the estimate itself, some ten
//! microseconds, is made at most ten times a second.

use std::time::{Duration, Instant};

/// Fewer heads than this say nothing.
pub const MIN_HEADS: u64 = 100;

/// No percentile is shorter: below this, what is measured is this machine.
pub const MIN_PERCENTILE: Duration = Duration::from_millis(1);

/// Buckets per doubling of the time.
const STEPS: u32 = 32;

/// Everything from 2^36 microseconds (19 hours) on is the same.
const MAX_MICROS: u64 = (1 << 36) - 1;

/// [`bucket`] of [`MAX_MICROS`], and one.
const BUCKETS: usize = 1024;

/// What is forgotten at once.
const SLICE: Duration = Duration::from_secs(20);
const SLICES: usize = 6;

/// How long an estimate is good for.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The times of the last two minutes.
#[derive(Debug)]
pub struct Latency {
    /// Per cent of the answers that are to be quicker than the estimate.
    percent: u8,
    slices: Vec<Slice>,
    /// The slice that is being written, and when it began.
    current: usize,
    since: Instant,
    estimate: Option<Duration>,
    /// When the estimate was made.
    estimated: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Slice {
    /// Heads that came after so long.
    ended: Vec<u32>,
    /// Attempts that had no head for so long, and were given up.
    censored: Vec<u32>,
}

impl Slice {
    fn new() -> Self {
        Self {
            ended: vec![0; BUCKETS],
            censored: vec![0; BUCKETS],
        }
    }
}

impl Latency {
    /// Nothing is known yet. `percent`: 1 to 99.
    #[must_use]
    pub fn new(percent: u8, now: Instant) -> Self {
        Self {
            percent,
            slices: vec![Slice::new(); SLICES],
            current: 0,
            since: now,
            estimate: None,
            estimated: None,
        }
    }

    /// A usable head has come after so long.
    pub fn record(&mut self, now: Instant, after: Duration) {
        self.forget(now);
        if let Some(slice) = self.slices.get_mut(self.current) {
            count(&mut slice.ended, after);
        }
    }

    /// An attempt without a head was given up after so long.
    pub fn record_censored(&mut self, now: Instant, after: Duration) {
        self.forget(now);
        if let Some(slice) = self.slices.get_mut(self.current) {
            count(&mut slice.censored, after);
        }
    }

    /// The percentile; nothing where too little is known.
    pub fn percentile(&mut self, now: Instant) -> Option<Duration> {
        let good = |made: Instant| now.saturating_duration_since(made) < GOOD_FOR;
        if !self.estimated.is_some_and(good) {
            self.forget(now);
            self.estimate = self.estimate();
            self.estimated = Some(now);
        }
        self.estimate
    }

    fn estimate(&self) -> Option<Duration> {
        let mut left = 0;
        let mut heads = 0;
        for slice in &self.slices {
            let ended: u64 = slice.ended.iter().copied().map(u64::from).sum();
            let censored: u64 = slice.censored.iter().copied().map(u64::from).sum();
            heads += ended;
            left += ended + censored;
        }
        if heads < MIN_HEADS {
            return None;
        }
        // The share of the attempts that takes longer than what has been looked at.
        let wanted = f64::from(100 - self.percent) / 100.0;
        let mut longer = 1.0;
        let mut last = 0;
        for bucket in 0..BUCKETS {
            let sum = |counts: fn(&Slice) -> &Vec<u32>| -> u64 {
                let of = |slice| counts(slice).get(bucket).copied().unwrap_or_default();
                self.slices.iter().map(of).map(u64::from).sum()
            };
            let ended = sum(|slice| &slice.ended);
            let censored = sum(|slice| &slice.censored);
            if ended > 0 {
                last = bucket;
                longer *= 1.0 - ratio(ended, left);
            }
            left -= ended + censored;
            // 1 - 0.95 is not quite 0.05.
            if longer <= wanted + 1e-9 {
                break;
            }
        }
        Some(end_of(last).max(MIN_PERCENTILE))
    }

    fn forget(&mut self, now: Instant) {
        let mut slices = 0;
        while now.saturating_duration_since(self.since) >= SLICE {
            self.since += SLICE;
            slices += 1;
            if slices > SLICES {
                // All is forgotten.
                self.since = now;
            }
            self.current = (self.current + 1) % SLICES;
            if let Some(slice) = self.slices.get_mut(self.current) {
                slice.ended.fill(0);
                slice.censored.fill(0);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)] // Counts are far below 2^52.
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn count(counts: &mut [u32], after: Duration) {
    if let Some(count) = counts.get_mut(bucket(after)) {
        *count = count.saturating_add(1);
    }
}

/// The first [`STEPS`] buckets are a microsecond wide, the next ones too, and from then on
/// they are twice as wide after each [`STEPS`].
fn bucket(after: Duration) -> usize {
    let micros =
        u64::try_from(after.as_micros()).map_or(MAX_MICROS, |micros| micros.min(MAX_MICROS));
    let doublings = (micros | 1).ilog2().saturating_sub(STEPS.ilog2());
    let step = (micros >> doublings) + u64::from(doublings * STEPS);
    usize::try_from(step).unwrap_or(BUCKETS - 1)
}

/// The first time that is in no bucket up to this one.
fn end_of(bucket: usize) -> Duration {
    let bucket = u64::try_from(bucket).unwrap_or(MAX_MICROS) + 1;
    let steps = u64::from(STEPS);
    let doublings = (bucket / steps).saturating_sub(1);
    Duration::from_micros((bucket - doublings * steps) << doublings.min(36))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn close(found: Option<Duration>, wanted: Duration) -> bool {
        found.is_some_and(|found| found >= wanted && found <= wanted.mul_f64(1.04) + MILLI / 100)
    }

    #[test]
    fn a_bucket_ends_where_the_next_one_begins() {
        for index in 0..BUCKETS - 1 {
            let end = end_of(index);
            assert_eq!(bucket(end), index + 1);
            let last = end.saturating_sub(Duration::from_nanos(1));
            assert_eq!(bucket(last), index, "{end:?}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert!(end_of(BUCKETS - 1) > Duration::from_secs(60 * 60 * 19));
    }

    #[test]
    fn the_percentile_is_that_of_the_times_within_a_bucket() {
        for (percent, wanted) in [(50, 50), (90, 90), (95, 95), (99, 99), (1, 1)] {
            let now = Instant::now();
            let mut latency = Latency::new(percent, now);
            for time in (1..=100).rev() {
                latency.record(now, MILLI * time);
            }
            let found = latency.percentile(now);
            assert!(close(found, MILLI * wanted), "p{percent}: {found:?}");
        }
    }

    #[test]
    fn ninety_nine_heads_tell_nothing_and_given_up_attempts_are_no_heads() {
        let now = Instant::now();
        let mut latency = Latency::new(95, now);
        for _ in 0..99 {
            latency.record(now, MILLI);
            latency.record_censored(now, MILLI);
        }
        assert_eq!(latency.percentile(now), None);
        latency.record(now, MILLI);
        let later = now + GOOD_FOR;
        assert!(latency.percentile(later).is_some());
    }

    #[test]
    fn it_is_never_less_than_a_millisecond() {
        let now = Instant::now();
        let mut latency = Latency::new(50, now);
        for _ in 0..100 {
            latency.record(now, Duration::from_micros(50));
        }
        assert_eq!(latency.percentile(now), Some(MIN_PERCENTILE));
    }

    #[test]
    fn what_was_two_minutes_ago_is_forgotten() {
        let begin = Instant::now();
        let mut latency = Latency::new(95, begin);
        for _ in 0..1_000 {
            latency.record(begin, MILLI * 500);
        }
        let mut now = begin;
        // One slice after the other: still there, until the last one.
        for _ in 1..SLICES {
            now += SLICE;
            assert!(close(latency.percentile(now), MILLI * 500), "{now:?}");
        }
        now += SLICE;
        assert_eq!(latency.percentile(now), None);
        for _ in 0..100 {
            latency.record(now, MILLI * 10);
        }
        assert!(close(latency.percentile(now + GOOD_FOR), MILLI * 10));
        // A night without a request.
        now += Duration::from_secs(60 * 60 * 10);
        assert_eq!(latency.percentile(now), None);
        latency.record(now, MILLI);
    }

    #[test]
    fn an_attempt_that_was_given_up_counts_for_as_long_as_it_was_seen() {
        // (heads, given up, percentile): each a number of attempts and their time.
        type Row<'a> = (&'a [(u32, u32)], &'a [(u32, u32)], u8, u32);
        let table: [Row<'_>; 6] = [
            // Those that were given up at once say nothing.
            (&[(95, 10), (5, 100)], &[(1_000, 1)], 95, 10),
            // One in ten is slower than 30 ms, however slow: p95 can't be known. Whatever comes
            // at all comes within 10 ms.
            (&[(900, 10)], &[(100, 30)], 95, 10),
            (&[(900, 10)], &[(100, 30)], 90, 10),
            (&[(900, 10), (1, 40)], &[(100, 30)], 95, 40),
            // Half of what lasts longer than 10 ms was given up at 20: it is shared out
            // among the rest.
            (&[(900, 10), (50, 40), (50, 80)], &[(100, 20)], 95, 80),
            (&[(900, 10), (100, 40)], &[(1, 5)], 89, 10),
        ];
        for (heads, censored, percent, wanted) in table {
            let now = Instant::now();
            let mut latency = Latency::new(percent, now);
            for &(number, time) in heads {
                (0..number).for_each(|_| latency.record(now, MILLI * time));
            }
            for &(number, time) in censored {
                (0..number).for_each(|_| latency.record_censored(now, MILLI * time));
            }
            let found = latency.percentile(now);
            assert!(
                close(found, MILLI * wanted),
                "p{percent} of {heads:?} {censored:?}: {found:?}"
            );
        }
    }

    /// A number from 0 to 1 that is as good as any (xorshift).
    fn random(state: &mut u64) -> f64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        ratio(*state >> 11, 1 << 53)
    }

    #[test]
    fn hanging_attempts_do_not_put_hedges_off_further_and_further() {
        // One in ten attempts hangs, and is cancelled when its hedge has won: ten
        // milliseconds after the time at which it is hedged.
        let mut now = Instant::now();
        let mut latency = Latency::new(95, now);
        for request in 0..10_000 {
            now += MILLI * 30;
            latency.record(now, MILLI * 10);
            if request % 10 == 0 {
                let hedge_after = latency.percentile(now).unwrap_or(MILLI * 1_000);
                latency.record_censored(now, hedge_after + MILLI * 10);
            }
        }
        assert!(close(latency.percentile(now + GOOD_FOR), MILLI * 10));
    }

    #[test]
    fn hedging_does_not_make_itself_more_frequent() {
        // Most attempts take 10 to 20 ms, one in twenty takes longer than 200 ms, and nearly
        // all of these lose to their hedge and are cancelled. Minutes later it is still one
        // in twenty that is hedged.
        let mut state = 0x2545_f491_4f6c_dd1d;
        let mut now = Instant::now();
        let mut latency = Latency::new(95, now);
        let mut time = || (MILLI * 10).div_f64(random(&mut state).max(0.001));
        let (mut requests, mut hedged) = (0_u32, 0_u32);
        for request in 0..20_000 {
            now += MILLI * 30;
            let (first, second) = (time(), time());
            let hedge_after = latency.percentile(now).unwrap_or(Duration::MAX);
            if first <= hedge_after {
                latency.record(now, first);
            } else if hedge_after + second < first {
                latency.record(now, second);
                latency.record_censored(now, hedge_after + second);
                hedged += u32::from(request >= 10_000);
            } else {
                latency.record(now, first);
                latency.record_censored(now, first.saturating_sub(hedge_after));
                hedged += u32::from(request >= 10_000);
            }
            requests += u32::from(request >= 10_000);
        }
        let share = f64::from(hedged) / f64::from(requests);
        assert!((0.04..0.06).contains(&share), "{share}");
        let found = latency.percentile(now + GOOD_FOR).unwrap();
        assert!((MILLI * 170..MILLI * 240).contains(&found), "{found:?}");
    }
}
