//! Random numbers, without a crate for them.

use std::hash::{BuildHasher, RandomState};

/// A number that nothing else follows from: a hash with keys of its own. Those of std's hash maps
/// begin, in each thread, with random ones of the system's, and go on from there; so this is good
/// for names, for the nonce of a page and for spreading what should not happen at one time. No key may be
/// made of it.
#[must_use]
pub fn number() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_another_one() {
        let mut numbers: Vec<_> = (0..1_000).map(|_| number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1_000);
    }
}
