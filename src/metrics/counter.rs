//! Numbers that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have been counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The lowest and the highest status code that an HTTP/1 head can hold (RFC 9110 15, RFC 9112 4).
const LOWEST: u16 = 100;
const HIGHEST: u16 = 999;
const STATUSES: usize = (HIGHEST - LOWEST + 1) as usize;

/// A counter for each status code: 7 KiB.
#[derive(Debug)]
pub struct StatusCounts([Counter; STATUSES]);

impl Default for StatusCounts {
    fn default() -> Self {
        Self([const { Counter(AtomicU64::new(0)) }; STATUSES])
    }
}

impl StatusCounts {
    /// Counts one. A number that is no status code is counted as 999.
    pub fn add(&self, status: u16) {
        let place = status.checked_sub(LOWEST).map(usize::from);
        let place = place.unwrap_or(STATUSES).min(STATUSES - 1);
        if let Some(counter) = self.0.get(place) {
            counter.add();
        }
    }

    /// The status codes that have been counted, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = (LOWEST..=HIGHEST).zip(&self.0);
        let counts = counts.map(|(status, counter)| (status, counter.get()));
        counts.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place() {
        let counts = StatusCounts::default();
        for status in [100, 200, 200, 999, 0, 99, 1000, u16::MAX] {
            counts.add(status);
        }
        let counted: Vec<_> = counts.iter().collect();
        assert_eq!(counted, [(100, 1), (200, 2), (999, 5)]);
    }
}
