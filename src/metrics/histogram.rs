//! How long something takes: how often each span has come, in buckets that are at most 2.5 % wide.
//!
//! One histogram serves both readers. A percentile is exact to 1.3 %: good enough for p99.9 on a
//! page. And all round times (1, 2.5 or 5 times a power of ten, 30 s) are ends of buckets, so the
//! counts of the coarse buckets that Prometheus wants are exact, too. A bucket includes its end.
//!
//! The buckets are a microsecond wide up to 100 µs. Beyond that each power of ten has 160: 50 up to
//! twice the power, 60 up to five times, 50 up to ten times. What takes longer than 100 s is in
//! the last one.
//!
//! Cost: two additions for each span; 8.3 KiB.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of a microsecond each.
const NARROW: u64 = 100;

/// Buckets of each power of ten beyond those.
const STEPS: u64 = 160;

/// From 100 µs to 100 s.
const POWERS: u64 = 6;

/// The last one has no end.
#[allow(clippy::cast_possible_truncation)] // 1,061
const BUCKETS: usize = (NARROW + POWERS * STEPS + 1) as usize;

/// Spans, counted.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// In microseconds: enough for 584,000 years.
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts a span.
    pub fn record(&self, span: Duration) {
        if let Some(bucket) = self.buckets.get(bucket(span)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// What has been counted.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let counts = self.buckets.iter();
        Distribution {
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_micros(self.sum.load(Ordering::Relaxed)),
        }
    }
}

/// The bucket that a span is in. A bucket includes its end, so spans are rounded up.
fn bucket(span: Duration) -> usize {
    let micros = span.as_nanos().div_ceil(1000);
    let before = u64::try_from(micros).unwrap_or(u64::MAX).saturating_sub(1);
    if before < NARROW {
        return usize::try_from(before).unwrap_or(0);
    }
    let power = before.ilog10() - 2;
    if u64::from(power) >= POWERS {
        return BUCKETS - 1;
    }
    // Three digits.
    let step = match before / 10_u64.pow(power) {
        digits @ 0..200 => (digits - 100) / 2,
        digits @ 200..500 => 50 + (digits - 200) / 5,
        digits => 110 + (digits - 500) / 10,
    };
    usize::try_from(NARROW + u64::from(power) * STEPS + step).unwrap_or(BUCKETS - 1)
}

/// The end of a bucket in microseconds; the first number beyond it is in the next one.
fn end(bucket: usize) -> u64 {
    let next = u64::try_from(bucket).unwrap_or(u64::MAX).saturating_add(1);
    let Some(beyond) = next.checked_sub(NARROW) else {
        return next;
    };
    let power = beyond / STEPS;
    let digits = match beyond % STEPS {
        step @ 0..50 => 100 + step * 2,
        step @ 50..110 => 200 + (step - 50) * 5,
        step => 500 + (step - 110) * 10,
    };
    u32::try_from(power).map_or(u64::MAX, |power| {
        digits.saturating_mul(10_u64.saturating_pow(power))
    })
}

/// What a histogram has counted until now. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<u64>,
    /// Of all spans.
    pub sum: Duration,
}

impl Distribution {
    /// How many spans there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them took at most so long. Exact where that is the end of a bucket.
    #[must_use]
    pub fn at_most(&self, span: Duration) -> u64 {
        let last = bucket(span);
        self.counts.iter().take(last + 1).sum()
    }

    /// How long at most that many of 1,000 took: 500 for the median, 999 for p99.9. `None` where
    /// there were none.
    #[must_use]
    pub fn quantile(&self, of_thousand: u64) -> Option<Duration> {
        // As many as can be, and at least one.
        let rank = self.count().checked_mul(of_thousand)?.div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let begin = bucket.checked_sub(1).map_or(0, end);
                return Some(Duration::from_nanos((begin + end(bucket)) * 500));
            }
        }
        None
    }

    /// What has come since `earlier`, of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.counts.iter();
        let counts = self.counts.iter().map(|now| {
            let then = before.next().copied().unwrap_or_default();
            now.saturating_sub(then)
        });
        Self {
            counts: counts.collect(),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    fn distribution(spans: impl IntoIterator<Item = Duration>) -> Distribution {
        let histogram = Histogram::default();
        for span in spans {
            histogram.record(span);
        }
        histogram.read()
    }

    #[test]
    fn buckets_follow_on_each_other_and_are_narrow() {
        let mut begin = 0;
        for number in 0..BUCKETS - 1 {
            let end = end(number);
            assert!(end > begin, "{number}");
            assert!(
                begin < NARROW || (end - begin) * 40 <= begin,
                "{begin} {end}"
            );
            assert_eq!(bucket(MICRO * u32::try_from(begin + 1).unwrap()), number);
            assert_eq!(bucket(MICRO * u32::try_from(end).unwrap()), number);
            begin = end;
        }
        assert_eq!(begin, 100_000_000);
        for long in [Duration::from_nanos(100_000_000_001), Duration::MAX] {
            assert_eq!(bucket(long), BUCKETS - 1);
        }
        assert_eq!(bucket(Duration::ZERO), 0);
    }

    #[test]
    fn round_times_are_exact_and_include_themselves() {
        let millis = [
            5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000,
        ];
        let nano = Duration::from_nanos(1);
        for end in millis.map(Duration::from_millis) {
            let seen = distribution([end.saturating_sub(nano), end, end + nano, end + MICRO]);
            assert_eq!(seen.at_most(end), 2, "{end:?}");
        }
    }

    #[test]
    fn quantiles_are_exact_to_some_per_cent() {
        let seen = distribution((1..=10_000).map(|n| MICRO * n));
        for (of_thousand, micros) in [(500, 5_000), (900, 9_000), (990, 9_900), (999, 9_990)] {
            let found = seen.quantile(of_thousand).unwrap().as_micros();
            assert!(
                found.abs_diff(micros) * 100 <= micros * 2,
                "{of_thousand}: {found}"
            );
        }
        assert_eq!(distribution([]).quantile(500), None);
        let one = distribution([Duration::from_millis(30)])
            .quantile(1)
            .unwrap();
        assert!(one.as_micros().abs_diff(30_000) < 400, "{one:?}");
    }

    #[test]
    fn what_has_come_since_is_the_difference() {
        let histogram = Histogram::default();
        histogram.record(MICRO * 7);
        let earlier = histogram.read();
        histogram.record(MICRO * 30);
        histogram.record(MICRO * 40);
        let since = histogram.read().since(&earlier);
        assert_eq!(since, distribution([MICRO * 30, MICRO * 40]));
        let all = histogram.read();
        assert_eq!(all.since(&Distribution::default()), all);
        assert_eq!((all.count(), all.sum), (3, MICRO * 77));
    }
}
