//! Chance: what is drawn for each request, and how a distribution is written.
//!
//! The draws of a request follow from the seed and its number alone, so that the same seed makes
//! the same sequence again, in the order in which requests arrive, on any number of threads. No
//! draw depends on how many others were made: a flag more does not change what the others do.
//! Probabilities are whole billionths: those that add up to 1 on paper do so here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use balancing_reverse_proxy::util::go_duration::GoDuration;

/// A probability of 1.
const ONE: u64 = 1_000_000_000;

/// The decimals of [`ONE`].
const DECIMALS: usize = 9;

/// The number of draws that each request has.
const DRAWS: u64 = 4;

/// The draws of one request.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    seed: u64,
    request: u64,
}

/// What a draw is for.
#[derive(Clone, Copy, Debug)]
pub enum Draw {
    /// How long the answer takes.
    Pause = 0,
    /// Its status.
    Code = 1,
    /// Whether there is one.
    Hang = 2,
    /// Whether it is whole.
    Break = 3,
}

impl Dice {
    /// The draws of the request with this number.
    pub fn new(seed: u64, request: u64) -> Self {
        Self { seed, request }
    }

    /// A number below `bound`.
    pub fn below(self, bound: u64, draw: Draw) -> u64 {
        let index = self
            .request
            .wrapping_mul(DRAWS)
            .wrapping_add(draw as u64 + 1);
        let bits = mix(self
            .seed
            .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let scaled = (u128::from(bits) * u128::from(bound)) >> 64;
        u64::try_from(scaled).unwrap_or_default()
    }

    /// Whether what has this probability happens.
    pub fn happens(self, probability: Probability, draw: Draw) -> bool {
        self.below(ONE, draw) < probability.0
    }
}

/// The output function of `SplitMix64`.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A probability, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probability(u64);

/// Why a text is not a probability.
#[derive(Debug, PartialEq, Eq)]
pub struct NoProbability;

impl fmt::Display for NoProbability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "is not a probability (write 0.05: from 0 to 1, with at most {DECIMALS} decimals)"
        )
    }
}

impl FromStr for Probability {
    type Err = NoProbability;

    fn from_str(text: &str) -> Result<Self, NoProbability> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_empty = whole.is_empty() && decimals.is_empty();
        if is_empty || !digits(whole) || !digits(decimals) || decimals.len() > DECIMALS {
            return Err(NoProbability);
        }
        format!("{whole}{decimals:0<DECIMALS$}")
            .parse()
            .ok()
            .filter(|billionths| *billionths <= ONE)
            .map(Self)
            .ok_or(NoProbability)
    }
}

/// Billionths, as a decimal number.
struct Decimal(u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:0DECIMALS$}", self.0 / ONE, self.0 % ONE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Values with their probabilities, which add up to 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices<V>(Vec<(V, Probability)>);

impl<V: Value> Choices<V> {
    /// The value that a draw comes to.
    pub fn pick(&self, dice: Dice, draw: Draw) -> V {
        let mut left = dice.below(ONE, draw);
        for (value, Probability(share)) in &self.0 {
            match left.checked_sub(*share) {
                Some(rest) => left = rest,
                None => return *value,
            }
        }
        V::default()
    }
}

/// What can be chosen.
pub trait Value: Copy + Default {
    /// How a distribution is written.
    const EXAMPLE: &'static str;

    /// Reads one value.
    ///
    /// # Errors
    /// The end of a sentence that begins with the text.
    fn read(text: &str) -> Result<Self, String>;
}

/// A final status code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code(pub u16);

impl Value for Code {
    const EXAMPLE: &'static str = "200:0.9,503:0.1";

    fn read(text: &str) -> Result<Self, String> {
        let code = text
            .parse()
            .ok()
            .filter(|code| (200..=599).contains(code) && text.len() == 3);
        code.map(Self)
            .ok_or_else(|| "is not a status code from 200 to 599".to_owned())
    }
}

impl Value for Duration {
    const EXAMPLE: &'static str = "10ms:0.98,1s:0.02";

    fn read(text: &str) -> Result<Self, String> {
        let span: GoDuration = text.parse().map_err(|error| format!("{error}"))?;
        match span.positive() {
            Some(span) => Ok(span),
            None if span == GoDuration::from_nanos(0) => Ok(Self::ZERO),
            None => Err("is less than zero".to_owned()),
        }
    }
}

impl<V: Value> FromStr for Choices<V> {
    /// A whole sentence.
    type Err = String;

    /// `VALUE:PROBABILITY,…`; a single value may stand alone.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains([':', ',']) {
            let value = V::read(text)
                .map_err(|problem| format!("{text:?} {problem} (write {})", V::EXAMPLE))?;
            return Ok(Self(vec![(value, Probability(ONE))]));
        }
        let mut choices = Vec::new();
        let mut sum = 0_u64;
        for part in text.split(',') {
            let part = part.trim();
            let of = format!("of {text:?}");
            let Some((value, share)) = part.rsplit_once(':') else {
                return Err(format!(
                    "part {part:?} {of} has no probability (write {})",
                    V::EXAMPLE
                ));
            };
            let value = V::read(value).map_err(|problem| format!("{value:?} {of} {problem}"))?;
            let share: Probability = share
                .parse()
                .map_err(|problem| format!("{share:?} {of} {problem}"))?;
            sum = sum.saturating_add(share.0);
            choices.push((value, share));
        }
        let (off, word) = (sum.abs_diff(ONE), if sum > ONE { "much" } else { "little" });
        if off > 0 {
            return Err(format!(
                "the probabilities of {text:?} add up to {}, {} too {word}",
                Decimal(sum),
                Decimal(off)
            ));
        }
        Ok(Self(choices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_decimals_from_0_to_1() {
        for (text, billionths) in [
            ("0", Some(0)),
            ("1", Some(ONE)),
            ("1.0", Some(ONE)),
            ("0.02", Some(20_000_000)),
            (".5", Some(500_000_000)),
            ("1.", Some(ONE)),
            ("0.000000001", Some(1)),
            ("0.0000000001", None),
            ("1.000000001", None),
            ("2", None),
            ("-0.1", None),
            ("+0.1", None),
            ("1e-3", None),
            ("10%", None),
            (".", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            let parsed = text.parse().ok().map(|Probability(parsed)| parsed);
            assert_eq!(parsed, billionths, "{text:?}");
        }
    }

    #[test]
    fn a_distribution_must_add_up_to_1_and_says_how_far_off_it_is() {
        let good: Choices<Code> = "200:0.9, 503:0.1".parse().unwrap();
        let share = Probability;
        let parts = vec![
            (Code(200), share(900_000_000)),
            (Code(503), share(100_000_000)),
        ];
        assert_eq!(good, Choices(parts));
        let alone: Choices<Duration> = "10ms".parse().unwrap();
        assert_eq!(
            alone,
            Choices(vec![(Duration::from_millis(10), share(ONE))])
        );
        for (text, problem) in [
            (
                "200:0.9,503:0.2",
                "the probabilities of \"200:0.9,503:0.2\" add up to 1.1, 0.1 too much",
            ),
            (
                "200:0.333,503:0.333,500:0.333",
                "the probabilities of \"200:0.333,503:0.333,500:0.333\" add up to 0.999, 0.001 too little",
            ),
            (
                "200:0.5,503",
                "part \"503\" of \"200:0.5,503\" has no probability (write 200:0.9,503:0.1)",
            ),
            (
                "",
                "\"\" is not a status code from 200 to 599 (write 200:0.9,503:0.1)",
            ),
            (
                "200:0.5,100:0.5",
                "\"100\" of \"200:0.5,100:0.5\" is not a status code from 200 to 599",
            ),
            (
                "200:half",
                "\"half\" of \"200:half\" is not a probability (write 0.05: from 0 to 1, with at most 9 decimals)",
            ),
        ] {
            assert_eq!(text.parse::<Choices<Code>>().unwrap_err(), problem);
        }
        for (text, problem) in [
            ("10:1", "\"10\" of \"10:1\" is a duration without a unit"),
            ("-1s:1", "\"-1s\" of \"-1s:1\" is less than zero"),
        ] {
            assert_eq!(text.parse::<Choices<Duration>>().unwrap_err(), problem);
        }
    }

    #[test]
    fn a_seed_makes_the_same_draws_and_another_one_others() {
        let draws = |seed| {
            let of = |request| Dice::new(seed, request).below(1_000_000, Draw::Pause);
            (0..100).map(of).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        // The draws of one request have nothing to do with each other, nor with the next one's.
        let dice = Dice::new(0, 0);
        let all = [Draw::Pause, Draw::Code, Draw::Hang, Draw::Break];
        let mut all: Vec<_> = all.map(|draw| dice.below(u64::MAX, draw)).into();
        all.push(Dice::new(0, 1).below(u64::MAX, Draw::Pause));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn each_value_comes_as_often_as_its_probability_says() {
        let codes: Choices<Code> = "200:0.7,500:0.2,503:0.1".parse().unwrap();
        for (code, expected) in [(200, 7000), (500, 2000), (503, 1000_usize)] {
            let drawn = |request: &u64| codes.pick(Dice::new(7, *request), Draw::Code).0 == code;
            let count = (0..10_000).filter(drawn).count();
            // Seven standard deviations at most.
            assert!(count.abs_diff(expected) < 320, "{code}: {count}");
        }
        let (never, always) = (Probability(0), Probability(ONE));
        for request in 0..1000 {
            let dice = Dice::new(7, request);
            assert!(dice.happens(always, Draw::Hang) && !dice.happens(never, Draw::Hang));
        }
    }
}
