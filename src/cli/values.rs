//! What values of flags mean: booleans, durations, sizes, numbers, names.
//!
//! A function here takes the text of a value. What it says of a bad one ends a sentence that
//! begins with the flag and the value: `-workers: "0"` `is not a number from 1 to 65536`.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::util::go_duration::{DurationError, GoDuration};

/// What is wrong with the value of a flag, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Ends a sentence that begins with the value.
    Whole(String),
    /// A sentence that names what of the value is wrong. Passwords are masked in it.
    Part(String),
}

impl Problem {
    /// A sentence that begins with the value ends like this.
    pub fn whole(reason: impl Display) -> Self {
        Self::Whole(reason.to_string())
    }

    /// A sentence that names what of the value is wrong, with passwords masked.
    pub fn part(reason: impl Display) -> Self {
        Self::Part(reason.to_string())
    }
}

/// How a size is written.
const SIZE: &str = "(write a whole number of bytes, or one with KiB, MiB or GiB)";

/// Go's booleans.
pub fn boolean(text: &str) -> Result<bool, Problem> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Problem::whole("is not a boolean (write true or false)")),
    }
}

/// How a duration is written.
const DURATION: &str = "(write 5s, 300ms, 1m30s, 1.5h, 100us)";

/// A duration as Go writes it, of either sign. `remedy` says how one is written.
fn duration(text: &str, remedy: &str) -> Result<GoDuration, Problem> {
    let duration = text.parse();
    duration.map_err(|error: DurationError| Problem::whole(format!("{error} {remedy}")))
}

/// A duration; `None` if it is zero or negative.
pub fn positive_duration(text: &str) -> Result<Option<Duration>, Problem> {
    Ok(duration(text, DURATION)?.positive())
}

/// A limit on time: more than zero.
pub fn timeout(text: &str) -> Result<Duration, Problem> {
    positive_duration(text)?
        .ok_or_else(|| Problem::whole("is not more than zero (write 5s, 300ms, 1m30s)"))
}

/// A duration from zero upwards. `remedy` says how one is written and what zero means.
pub fn duration_or_zero(text: &str, remedy: &str) -> Result<Duration, Problem> {
    let span = duration(text, remedy)?;
    match span.positive() {
        Some(span) => Ok(span),
        None if span == GoDuration::from_nanos(0) => Ok(Duration::ZERO),
        None => Err(Problem::whole(format!("is less than zero {remedy}"))),
    }
}

/// What has a syntax of its own; its errors name what of the value is wrong.
pub fn parsed<V: FromStr<Err: Display>>(text: &str) -> Result<V, Problem> {
    text.parse().map_err(Problem::part)
}

/// A size in bytes.
pub fn size(text: &str) -> Result<u64, Problem> {
    let (digits, unit) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]
        .into_iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .unwrap_or((text, 1_u64));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::whole(format!("is not a size {SIZE}")));
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| Problem::whole(format!("is too large for a size {SIZE}")))
}

/// A whole number that is not less than `least`. `remedy` may say more of what is right.
pub fn number_from<N>(text: &str, least: N, remedy: &str) -> Result<N, Problem>
where
    N: Copy + FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| Problem::whole(format!("is not a number from {least} upwards{remedy}")))
}

/// A whole number between two others, both included. `remedy` may say more of what is right.
pub fn number_between<N>(text: &str, least: N, most: N, remedy: &str) -> Result<N, Problem>
where
    N: Copy + FromStr + PartialOrd + Display,
{
    let number = text.parse().ok();
    let number = number.filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| Problem::whole(format!("is not a number from {least} to {most}{remedy}")))
}

/// A file; none if the text is empty.
pub fn optional_path(text: &str) -> Result<Option<PathBuf>, Problem> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// Checks that a text is one of several names, which are at least two. `kind` is what they name.
pub(super) fn check_one_of(text: &str, kind: &str, names: &[&str]) -> Result<(), Problem> {
    if names.contains(&text) {
        return Ok(());
    }
    let kind = kind.to_lowercase();
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    let (last, first) = names.split_last().unwrap_or((&"", &[]));
    let names = format!("{} or {last}", first.join(", "));
    Err(Problem::whole(format!(
        "is not {article} {kind} (write {names})"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(reason: &str) -> Problem {
        Problem::whole(reason)
    }

    #[test]
    fn booleans_are_those_of_go() {
        for yes in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(yes), Ok(true));
        }
        for no in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(no), Ok(false));
        }
        for text in ["", "yes", "tRUE", " true"] {
            let expected = whole("is not a boolean (write true or false)");
            assert_eq!(boolean(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn durations_have_a_sign_and_a_unit() {
        let second = Duration::from_secs(1);
        assert_eq!(positive_duration("1s"), Ok(Some(second)));
        assert_eq!(timeout("1s"), Ok(second));
        assert_eq!(duration_or_zero("1s", ""), Ok(second));
        for text in ["0", "0s"] {
            let expected = whole("is not more than zero (write 5s, 300ms, 1m30s)");
            assert_eq!(positive_duration(text), Ok(None));
            assert_eq!(timeout(text), Err(expected));
            assert_eq!(duration_or_zero(text, ""), Ok(Duration::ZERO));
        }
        let expected = whole("is not more than zero (write 5s, 300ms, 1m30s)");
        assert_eq!(positive_duration("-1s"), Ok(None));
        assert_eq!(timeout("-1s"), Err(expected));
        let expected = whole("is less than zero (write 1s)");
        assert_eq!(duration_or_zero("-1s", "(write 1s)"), Err(expected));
        let expected = "is a duration without a unit (write 5s, 300ms, 1m30s, 1.5h, 100us)";
        assert_eq!(positive_duration("5"), Err(whole(expected)));
        assert_eq!(timeout("5"), Err(whole(expected)));
        let expected = "is a duration without a unit (write 1s)";
        assert_eq!(duration_or_zero("5", "(write 1s)"), Err(whole(expected)));
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("007", Some(7)),
            ("64KiB", Some(65_536)),
            ("100MiB", Some(104_857_600)),
            ("1GiB", Some(1_073_741_824)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184GiB", None),
            ("", None),
            ("KiB", None),
            ("+1", None),
            ("-1", None),
            ("1.5GiB", None),
            ("1 MiB", None),
            ("1mib", None),
            ("1TiB", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        for (text, from, between) in [
            ("0", false, false),
            ("1", true, true),
            ("9", true, true),
            ("10", true, false),
            ("255", true, false),
            ("256", false, false),
            ("-1", false, false),
            ("1.5", false, false),
            ("", false, false),
        ] {
            assert_eq!(number_from::<u8>(text, 1, "").is_ok(), from, "{text}");
            let result = number_between::<u8>(text, 1, 9, "");
            assert_eq!(result.is_ok(), between, "{text}");
        }
        let expected = whole("is not a number from 1 upwards (x)");
        assert_eq!(number_from(" 2", 1_u8, " (x)"), Err(expected));
        let expected = whole("is not a number from 1 to 9 (x)");
        assert_eq!(number_between("10", 1_u8, 9, " (x)"), Err(expected));
    }

    #[test]
    fn names_are_listed_where_there_is_no_such() {
        let names = ["a", "b", "c"];
        assert_eq!(check_one_of("b", "LETTER", &names), Ok(()));
        let expected = whole("is not a letter (write a, b or c)");
        assert_eq!(check_one_of("B", "LETTER", &names), Err(expected));
        let expected = whole("is not an order (write up or down)");
        assert_eq!(check_one_of("", "ORDER", &["up", "down"]), Err(expected));
    }
}
