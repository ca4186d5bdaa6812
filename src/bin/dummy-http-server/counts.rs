//! Counts of what has been served.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use balancing_reverse_proxy::util::lock::lock;

/// The counts so far; prints as one line.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    requests: u64,
    answers: BTreeMap<u16, u64>,
    hung: u64,
    broken: u64,
}

impl Counts {
    /// Counts a request that has arrived. Returns its number, from 0 upwards.
    pub fn arrived(&self) -> u64 {
        let mut numbers = lock(&self.0);
        numbers.requests += 1;
        numbers.requests - 1
    }

    /// Counts a whole answer with this status.
    pub fn answered(&self, code: u16) {
        *lock(&self.0).answers.entry(code).or_default() += 1;
    }

    /// Counts a request that is not answered.
    pub fn hung(&self) {
        lock(&self.0).hung += 1;
    }

    /// Counts an answer that has been broken off.
    pub fn broken(&self) {
        lock(&self.0).broken += 1;
    }
}

impl fmt::Display for Counts {
    /// Requests that are waiting for their answer are only in the first number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = lock(&self.0);
        write!(f, "served {} requests:", numbers.requests)?;
        for (code, count) in &numbers.answers {
            write!(f, " {code}: {count},")?;
        }
        write!(f, " hung: {}, broken: {}", numbers.hung, numbers.broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_one_line_in_the_order_of_the_codes() {
        let counts = Counts::default();
        assert_eq!(counts.to_string(), "served 0 requests: hung: 0, broken: 0");
        assert_eq!([(); 5].map(|()| counts.arrived()), [0, 1, 2, 3, 4]);
        for code in [503, 200, 200] {
            counts.answered(code);
        }
        counts.hung();
        counts.broken();
        let line = "served 5 requests: 200: 2, 503: 1, hung: 1, broken: 1";
        assert_eq!(counts.to_string(), line);
    }
}
