//! How many hedges there may be: a share of the requests, so that an outage is not doubled.
//!
//! A token bucket without a clock: each request puts its share in, each hedge takes a whole
//! token out. It holds [`BURST`] tokens at most and at first, so after any number of requests
//! there have been no more hedges than the share of them and [`BURST`]; that little is what
//! lets a proxy with few requests hedge at all. Starts that a failure causes are no hedges.
//!
//! Cost: one atomic operation for a request, one for a hedge.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Hedges that may come at once, however few requests there have been.
pub const BURST: u32 = 10;

/// A whole token, in the hundredths that are counted.
const TOKEN: u32 = 100;

/// The bucket.
#[derive(Debug)]
pub struct Budget {
    /// Per cent of the requests; 100: no limit.
    percent: u8,
    hundredths: AtomicU32,
}

impl Budget {
    /// A full bucket that gets this per cent of a token with each request. 100: no limit.
    #[must_use]
    pub fn new(percent: u8) -> Self {
        Self {
            percent,
            hundredths: AtomicU32::new(BURST * TOKEN),
        }
    }

    /// A request has come that may be hedged.
    pub fn request(&self) {
        self.put(self.percent.into());
    }

    /// Takes a token for a hedge, if there is one.
    #[must_use]
    pub fn take(&self) -> bool {
        self.percent >= 100
            || self
                .hundredths
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(TOKEN)
                })
                .is_ok()
    }

    /// The hedge has not come about.
    pub fn put_back(&self) {
        self.put(TOKEN);
    }

    fn put(&self, hundredths: u32) {
        // The function never declines, so this does not fail.
        let _ = self
            .hundredths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some((left + hundredths).min(BURST * TOKEN))
            });
    }
}

/// How often hedges that were held back are reported, at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Hedges that the budget has held back and that have not been reported.
#[derive(Debug, Default)]
pub struct HeldBack {
    number: u64,
    reported: Option<Instant>,
}

impl HeldBack {
    /// One more. How many there have been since the last report, if it is time for another one.
    pub fn add(&mut self, now: Instant) -> Option<u64> {
        self.number += 1;
        let is_due = |last| now.duration_since(last) >= REPORT_INTERVAL;
        if !self.reported.is_none_or(is_due) {
            return None;
        }
        self.reported = Some(now);
        Some(self.take())
    }

    /// How many there have been since the last report.
    pub fn take(&mut self) -> u64 {
        mem::take(&mut self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_that_were_held_back_are_reported_once_a_minute_with_how_many() {
        let (mut held_back, now) = (HeldBack::default(), Instant::now());
        assert_eq!(held_back.add(now), Some(1));
        let before = now + REPORT_INTERVAL.saturating_sub(Duration::from_nanos(1));
        assert!((0..41).all(|_| held_back.add(before).is_none()));
        assert_eq!(held_back.add(now + REPORT_INTERVAL), Some(42));
        assert_eq!(held_back.add(now + REPORT_INTERVAL), None);
        assert_eq!((held_back.take(), held_back.take()), (1, 0));
    }

    /// How many of these requests get their hedge, each of which wants one.
    fn hedges(budget: &Budget, requests: u32) -> u32 {
        let mut hedges = 0;
        for _ in 0..requests {
            budget.request();
            hedges += u32::from(budget.take());
        }
        hedges
    }

    #[test]
    fn an_outage_gets_the_share_and_the_burst_and_no_more() {
        let table = [
            (10, 0, 0),
            (10, 5, 5),
            (10, 10, 10),
            (10, 1_000, BURST - 1 + 100),
            (10, 100_000, BURST - 1 + 10_000),
            (1, 10_000, BURST - 1 + 100),
            (50, 1_000, BURST - 1 + 500),
            (99, 10_000, BURST - 1 + 9_900),
            (100, 10_000, 10_000),
        ];
        for (percent, requests, most) in table {
            let hedged = hedges(&Budget::new(percent), requests);
            assert!(
                hedged <= most + 1 && hedged + 1 >= most,
                "{hedged} of {requests} at {percent} %, not {most}"
            );
        }
    }

    #[test]
    fn a_quiet_time_saves_up_no_more_than_the_burst() {
        let budget = Budget::new(10);
        for _ in 0..100_000 {
            budget.request();
        }
        let at_once = (0..1_000).filter(|_| budget.take()).count();
        assert_eq!(at_once, BURST as usize);
    }

    #[test]
    fn what_has_not_come_about_may_be_taken_again() {
        let budget = Budget::new(1);
        while budget.take() {}
        budget.put_back();
        assert!(budget.take());
        assert!(!budget.take());
    }

    #[test]
    fn a_hundred_per_cent_is_no_limit_even_for_several_hedges_of_a_request() {
        let budget = Budget::new(100);
        budget.request();
        assert!((0..1_000).all(|_| budget.take()));
    }
}
