//! Which statuses are usable: a set, as `-terminal-responses` writes it (classes and ranges) or as
//! `-not-terminal` does (statuses and ranges).

use std::fmt;
use std::str::FromStr;

use crate::http::endpoint_url::masked;

/// A set of numbers from 100 to 599.
#[derive(Clone, PartialEq, Eq)]
pub struct StatusSet([bool; 500]);

/// Without any status.
impl Default for StatusSet {
    fn default() -> Self {
        Self([false; 500])
    }
}

impl StatusSet {
    /// Whether this status belongs to it. One array access.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        let index = usize::from(status).checked_sub(100);
        index
            .and_then(|index| self.0.get(index))
            .copied()
            .unwrap_or(false)
    }

    /// Reads statuses and ranges: `429,500-599`. Unlike in a set of classes, 500 is only 500.
    ///
    /// # Errors
    /// A part that is neither.
    pub fn of_statuses(text: &str) -> Result<Self, String> {
        Self::of_parts(text, Syntax::Statuses)
    }

    fn of_parts(text: &str, syntax: Syntax) -> Result<Self, String> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim) {
            let named = |reason| format!("part {:?} of {:?} {reason}", masked(part), masked(text));
            let (first, last) = syntax.read(part).map_err(named)?;
            set.add(first, last);
        }
        Ok(set)
    }

    /// Takes the members of another set out.
    pub fn remove(&mut self, other: &Self) {
        for (member, taken) in self.0.iter_mut().zip(other.0) {
            *member &= !taken;
        }
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }

    /// Both ends belong to it and are within 100 to 599.
    fn add(&mut self, first: u16, last: u16) {
        for status in first..=last {
            if let Some(member) = self.0.get_mut(usize::from(status - 100)) {
                *member = true;
            }
        }
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = (100..600).filter(|&status| self.contains(status));
        f.debug_set().entries(members).finish()
    }
}

/// What a number alone means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    /// A class: a round hundred.
    Classes,
    /// A status.
    Statuses,
}

impl FromStr for StatusSet {
    /// Which part is wrong, and what would be right.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of_parts(text, Syntax::Classes)
    }
}

impl Syntax {
    /// The first and the last status of one part, both within 100 to 599; or what is wrong with it.
    fn read(self, part: &str) -> Result<(u16, u16), String> {
        if part.is_empty() {
            return Err(match self {
                Self::Classes => "is empty (write 200 for a class, 404-404 for a range)".to_owned(),
                Self::Statuses => {
                    "is empty (write 429 for a status, 500-599 for a range)".to_owned()
                }
            });
        }
        if let Some((first, last)) = part.split_once('-') {
            let (first, last) = number(first)
                .zip(number(last))
                .ok_or("is not a range of two numbers (a range is written 200-299)")?;
            if !(100..600).contains(&first) || !(100..600).contains(&last) {
                return Err("is not within 100-599".to_owned());
            }
            if last < first {
                return Err("ends before it begins (a range is written 200-299)".to_owned());
            }
            return Ok((first, last));
        }
        match (self, number(part)) {
            (Self::Statuses, Some(status @ 100..600)) => Ok((status, status)),
            (Self::Statuses, Some(_)) => Err("is not within 100-599".to_owned()),
            (Self::Statuses, None) => {
                Err("is not a status (write 429 for a status, 500-599 for a range)".to_owned())
            }
            (Self::Classes, Some(class @ (100 | 200 | 300 | 400 | 500))) => Ok((class, class + 99)),
            (Self::Classes, Some(100..600)) => Err(format!(
                "is not a round hundred (a range is written {part}-{part})"
            )),
            (Self::Classes, Some(_)) => Err("is not one of 100, 200, 300, 400, 500".to_owned()),
            (Self::Classes, None) => Err("is not a number".to_owned()),
        }
    }
}

/// Digits only; what is too large for the type is too large for a status as well.
fn number(digits: &str) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_terminal_sets() {
        for (text, members, others) in [
            (
                "100,200,300,400",
                vec![100, 199, 200, 404, 499],
                vec![99, 500, 599, 600, 0, u16::MAX],
            ),
            ("500", vec![500, 599], vec![499, 600]),
            ("404-404", vec![404], vec![403, 405]),
            (
                "200-299, 404-405 ,500",
                vec![200, 299, 404, 405, 503],
                vec![199, 300, 403, 406],
            ),
            ("100-599", vec![100, 599], vec![99, 600]),
            ("200,200,204-204", vec![200, 204, 299], vec![300]),
        ] {
            let set: StatusSet = text.parse().unwrap();
            for status in members {
                assert!(set.contains(status), "{status} in {text}");
            }
            for status in others {
                assert!(!set.contains(status), "{status} not in {text}");
            }
        }
    }

    #[test]
    fn refuses_what_is_not_a_terminal_set() {
        for (text, expected) in [
            ("200,x", "part \"x\" of \"200,x\" is not a number"),
            (
                "201",
                "part \"201\" of \"201\" is not a round hundred (a range is written 201-201)",
            ),
            (
                "200,201",
                "part \"201\" of \"200,201\" is not a round hundred (a range is written 201-201)",
            ),
            (
                "",
                "part \"\" of \"\" is empty (write 200 for a class, 404-404 for a range)",
            ),
            (
                "200,",
                "part \"\" of \"200,\" is empty (write 200 for a class, 404-404 for a range)",
            ),
            (
                "600",
                "part \"600\" of \"600\" is not one of 100, 200, 300, 400, 500",
            ),
            (
                "0",
                "part \"0\" of \"0\" is not one of 100, 200, 300, 400, 500",
            ),
            (
                "99",
                "part \"99\" of \"99\" is not one of 100, 200, 300, 400, 500",
            ),
            (
                "65736",
                "part \"65736\" of \"65736\" is not one of 100, 200, 300, 400, 500",
            ),
            ("+200", "part \"+200\" of \"+200\" is not a number"),
            ("2xx", "part \"2xx\" of \"2xx\" is not a number"),
            (
                "-200",
                "part \"-200\" of \"-200\" is not a range of two numbers (a range is written 200-299)",
            ),
            (
                "200-",
                "part \"200-\" of \"200-\" is not a range of two numbers (a range is written 200-299)",
            ),
            (
                "200-x",
                "part \"200-x\" of \"200-x\" is not a range of two numbers (a range is written 200-299)",
            ),
            (
                "200-299-300",
                "part \"200-299-300\" of \"200-299-300\" is not a range of two numbers (a range is written 200-299)",
            ),
            (
                "299-200",
                "part \"299-200\" of \"299-200\" ends before it begins (a range is written 200-299)",
            ),
            (
                "99-200",
                "part \"99-200\" of \"99-200\" is not within 100-599",
            ),
            (
                "500-600",
                "part \"500-600\" of \"500-600\" is not within 100-599",
            ),
        ] {
            assert_eq!(text.parse::<StatusSet>().unwrap_err(), expected);
        }
    }

    #[test]
    fn a_status_alone_is_only_that_one() {
        let set = StatusSet::of_statuses("429, 500,403-405").unwrap();
        for (status, wanted) in [
            (428, false),
            (429, true),
            (430, false),
            (500, true),
            (501, false),
            (402, false),
            (403, true),
            (405, true),
            (406, false),
        ] {
            assert_eq!(set.contains(status), wanted, "{status}");
        }
        let mut terminal: StatusSet = "400,500".parse().unwrap();
        terminal.remove(&set);
        for status in 100..600 {
            let wanted = status >= 400 && !set.contains(status);
            assert_eq!(terminal.contains(status), wanted, "{status}");
        }
        assert!(!terminal.is_empty() && StatusSet::default().is_empty());
    }

    #[test]
    fn refuses_what_is_not_a_set_of_statuses() {
        for (text, expected) in [
            (
                "429,x",
                "part \"x\" of \"429,x\" is not a status (write 429 for a status, 500-599 for a range)",
            ),
            (
                "4xx",
                "part \"4xx\" of \"4xx\" is not a status (write 429 for a status, 500-599 for a range)",
            ),
            (
                "429,",
                "part \"\" of \"429,\" is empty (write 429 for a status, 500-599 for a range)",
            ),
            ("99", "part \"99\" of \"99\" is not within 100-599"),
            ("600", "part \"600\" of \"600\" is not within 100-599"),
            (
                "500-",
                "part \"500-\" of \"500-\" is not a range of two numbers (a range is written 200-299)",
            ),
            (
                "500-499",
                "part \"500-499\" of \"500-499\" ends before it begins (a range is written 200-299)",
            ),
        ] {
            let error = StatusSet::of_statuses(text).unwrap_err();
            assert_eq!(error, expected);
        }
    }
}
