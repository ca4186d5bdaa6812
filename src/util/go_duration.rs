//! Durations as Go writes and reads them: `1m30s`, `300ms`, `983.247916ms`.
//!
//! The flags and the log lines of the program keep the form that its users know from
//! its Go ancestor, so both directions follow Go's `time.ParseDuration` and
//! `Duration.String()`: signed, 64 bits of nanoseconds, about 292 years either way.
//! One thing differs: fractions are computed exactly, not through a float.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A signed span of time, in nanoseconds, that reads and prints as Go's does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

impl GoDuration {
    /// A span of this many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// The span as a [`Duration`], or `None` if it is zero or negative.
    #[must_use]
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0)
            .ok()
            .filter(|&nanoseconds| nanoseconds > 0)
            .map(Duration::from_nanos)
    }
}

impl From<Duration> for GoDuration {
    /// Spans beyond 292 years become the longest one there is.
    fn from(span: Duration) -> Self {
        Self(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Why a text is not a duration; prints as the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// It is not made of numbers and units.
    Malformed,
    /// A number stands without a unit.
    NoUnit,
    /// It does not fit into 64 bits of nanoseconds.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "is not a duration",
            Self::NoUnit => "is a duration without a unit",
            Self::TooLong => "is more than 292 years",
        })
    }
}

impl std::error::Error for DurationError {}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(DurationError::Malformed);
        }
        // Summed up without the sign, in a type that no single part can overflow.
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (whole, after) = split_digits(rest);
            let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
            if whole.is_empty() && fraction.is_empty() {
                return Err(DurationError::Malformed);
            }
            let end = after
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let nanoseconds: u128 = match unit {
                "" => return Err(DurationError::NoUnit),
                "ns" => 1,
                // The micro sign, and the Greek letter that looks the same.
                "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60 * 1_000_000_000,
                "h" => 3600 * 1_000_000_000,
                _ => return Err(DurationError::Malformed),
            };
            total += number(whole).ok_or(DurationError::TooLong)? * nanoseconds;
            total += part_of(fraction, nanoseconds);
            if total > 1 << 63 {
                return Err(DurationError::TooLong);
            }
            rest = after;
        }
        let total = i128::try_from(total).map_err(|_| DurationError::TooLong)?;
        let signed = if negative { -total } else { total };
        i64::try_from(signed)
            .map(Self)
            .map_err(|_| DurationError::TooLong)
    }
}

/// Leading ASCII digits, and what follows them.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The number that these digits write (none: zero), if it fits into 64 bits.
fn number(digits: &str) -> Option<u128> {
    match digits {
        "" => Some(0),
        _ => digits.parse::<u64>().ok().map(u128::from),
    }
}

/// `0.digits` of a unit, rounded down. Digits after the 18th are far below a nanosecond.
fn part_of(digits: &str, unit: u128) -> u128 {
    let mut worth = unit * 10_u128.pow(18);
    let mut sum = 0;
    for digit in digits.bytes().take(18) {
        worth /= 10;
        sum += worth * u128::from(digit - b'0');
    }
    sum / 10_u128.pow(18)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.0.unsigned_abs();
        let text = match span {
            0 => "0s".to_owned(),
            1..1_000 => format!("{span}ns"),
            1_000..1_000_000 => decimal(span, 1_000, 3) + "\u{b5}s",
            1_000_000..1_000_000_000 => decimal(span, 1_000_000, 6) + "ms",
            _ => {
                const SECOND: u64 = 1_000_000_000;
                let (minutes, rest) = (span / (60 * SECOND), span % (60 * SECOND));
                let seconds = decimal(rest, SECOND, 9) + "s";
                match (minutes / 60, minutes % 60) {
                    (0, 0) => seconds,
                    (0, minutes) => format!("{minutes}m{seconds}"),
                    (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
                }
            }
        };
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad(&format!("{sign}{text}"))
    }
}

/// `value / unit` with as many of the `digits` decimals as are not trailing zeros.
fn decimal(value: u64, unit: u64, digits: usize) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:0digits$}")
        .trim_end_matches('0')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("+0", 0),
            ("0s", 0),
            ("5s", 5 * SECOND),
            ("+5s", 5 * SECOND),
            ("-5s", -5 * SECOND),
            ("300ms", 300_000_000),
            ("1m30s", 90 * SECOND),
            ("1.5h", 5400 * SECOND),
            ("100us", 100_000),
            ("100\u{b5}s", 100_000),
            ("100\u{3bc}s", 100_000),
            ("100ns", 100),
            (".5s", SECOND / 2),
            ("1.s", SECOND),
            ("1.000000001s", SECOND + 1),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("1h1m1s1ms1us1ns", 3661 * SECOND + 1_001_001),
            ("1s1h", 3601 * SECOND),
            ("-1m30.5s", -90 * SECOND - SECOND / 2),
            ("0.1ns", 0),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.100000000000000000000000000000s", SECOND / 10),
        ] {
            assert_eq!(text.parse(), Ok(GoDuration(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        use DurationError::{Malformed, NoUnit, TooLong};
        for (text, error) in [
            ("", Malformed),
            ("5", NoUnit),
            ("1.5", NoUnit),
            ("1m30", NoUnit),
            ("-", Malformed),
            ("+", Malformed),
            ("+-5s", Malformed),
            ("s", Malformed),
            (".", Malformed),
            (".s", Malformed),
            ("-.s", Malformed),
            ("5x", Malformed),
            ("5 s", Malformed),
            (" 5s", Malformed),
            ("5s ", Malformed),
            ("5S", Malformed),
            ("1d", Malformed),
            ("1h-5s", Malformed),
            ("1e3s", Malformed),
            ("\u{665}s", Malformed),
            ("never", Malformed),
            ("9223372036854775808ns", TooLong),
            ("-9223372036854775809ns", TooLong),
            ("2562048h", TooLong),
            ("2562047h60m", TooLong),
            ("99999999999999999999999s", TooLong),
            ("18446744073709551615h", TooLong),
        ] {
            assert_eq!(text.parse::<GoDuration>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn prints_what_go_prints() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_000, "1\u{b5}s"),
            (1_100, "1.1\u{b5}s"),
            (100_000, "100\u{b5}s"),
            (2_200_000, "2.2ms"),
            (983_247_916, "983.247916ms"),
            (300_000_000, "300ms"),
            (SECOND, "1s"),
            (5 * SECOND, "5s"),
            (3_300_000_000, "3.3s"),
            (SECOND + 1, "1.000000001s"),
            (60 * SECOND, "1m0s"),
            (90 * SECOND, "1m30s"),
            (245 * SECOND + 1_000_000, "4m5.001s"),
            (3600 * SECOND, "1h0m0s"),
            (18_367 * SECOND + 1_000_000, "5h6m7.001s"),
            (-5 * SECOND, "-5s"),
            (-100, "-100ns"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration(nanoseconds).to_string(), text);
            assert_eq!(text.parse(), Ok(GoDuration(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn converts_to_and_from_std() {
        assert_eq!(GoDuration(0).positive(), None);
        assert_eq!(GoDuration(-1).positive(), None);
        assert_eq!(GoDuration(7).positive(), Some(Duration::from_nanos(7)));
        assert_eq!(
            GoDuration::from(Duration::from_millis(1500)).to_string(),
            "1.5s"
        );
        assert_eq!(GoDuration::from(Duration::MAX), GoDuration(i64::MAX));
    }
}
