//! `-rounds` and `-round-delay`: how often all endpoints are tried, and the pauses between.
//!
//! A pause is between half of its nominal length and the whole of it, evenly distributed, so that
//! clients that failed together do not come back together. The nominal length doubles each time, so
//! within `-request-timeout` the number of rounds is small, whatever `-rounds` says. A length of
//! zero is no pause: then there are as many as `-rounds` says.
//!
//! Time and randomness come in from outside. Cost: two words a request.

use std::time::Duration;

use super::policy::RoundsConfig;

/// The rounds of one request that are left.
#[derive(Debug)]
pub(super) struct Rounds {
    left: u32,
    /// Of the next pause.
    nominal: Duration,
}

impl Rounds {
    /// The first round has begun.
    pub(super) fn new(config: RoundsConfig) -> Self {
        Self {
            left: config.count.saturating_sub(1),
            nominal: config.delay,
        }
    }

    /// No further round.
    pub(super) fn is_last(&self) -> bool {
        self.left == 0
    }

    /// No further round, whatever `-rounds` says.
    pub(super) fn end(&mut self) {
        self.left = 0;
    }

    /// The pause in front of the next round, which counts as begun; none if there is no further
    /// one. `random` may be any number, each with the same probability.
    pub(super) fn next_pause(&mut self, random: u64) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let pause = with_jitter(self.nominal, random);
        self.nominal = self.nominal.saturating_mul(2);
        Some(pause)
    }
}

/// From half of `nominal` to the whole of it. What has no place in 64 bits of nanoseconds (584
/// years) is cut down to that.
fn with_jitter(nominal: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(nominal.as_nanos()).unwrap_or(u64::MAX);
    let jitter = nanos / 2;
    // Less than `jitter` + 1.
    let part = (u128::from(random) * (u128::from(jitter) + 1)) >> 64;
    let part = u64::try_from(part).unwrap_or(jitter);
    Duration::from_nanos(nanos - jitter + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn rounds(count: u32, delay: Duration) -> Rounds {
        Rounds::new(RoundsConfig { count, delay })
    }

    #[test]
    fn a_pause_is_half_to_the_whole_of_a_length_that_doubles() {
        for (random, share) in [(0, 1), (u64::MAX / 2 + 1, 2), (u64::MAX, 2)] {
            let mut rounds = rounds(4, MILLI * 200);
            for nominal in [200, 400, 800].map(|millis| MILLI * millis) {
                let pause = rounds.next_pause(random).unwrap();
                match random {
                    0 => assert_eq!(pause, nominal / 2),
                    u64::MAX => assert_eq!(pause, nominal),
                    _ => assert_eq!(pause, nominal * 3 / 4, "{share}"),
                }
            }
            assert!(rounds.is_last());
            assert_eq!(rounds.next_pause(random), None);
        }
    }

    #[test]
    fn pauses_are_evenly_distributed() {
        let mut quarters = [0; 4];
        for step in 0..1_000_u64 {
            let pause = rounds(2, MILLI * 8).next_pause(step * (u64::MAX / 1_000));
            let beyond_half = pause.unwrap().checked_sub(MILLI * 4).unwrap();
            let quarter = usize::try_from(beyond_half.as_millis()).unwrap();
            quarters[quarter.min(3)] += 1;
        }
        assert!(
            quarters.iter().all(|count| (245..=255).contains(count)),
            "{quarters:?}"
        );
    }

    #[test]
    fn one_round_has_no_pause_and_a_length_cannot_overflow() {
        for count in [0, 1] {
            let mut rounds = rounds(count, MILLI);
            assert!(rounds.is_last());
            assert_eq!(rounds.next_pause(0), None);
        }
        let mut longest = rounds(u32::MAX, Duration::MAX);
        for _ in 0..100 {
            assert!(longest.next_pause(u64::MAX).unwrap() > Duration::from_secs(u32::MAX.into()));
        }
        let mut shortest = rounds(2, Duration::from_nanos(1));
        assert_eq!(shortest.next_pause(0), Some(Duration::from_nanos(1)));
        let mut none = rounds(3, Duration::ZERO);
        for random in [0, u64::MAX] {
            assert_eq!(none.next_pause(random), Some(Duration::ZERO));
        }
        assert_eq!(none.next_pause(0), None);
    }
}
