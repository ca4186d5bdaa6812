//! What is wrong with a command line: one line that names the flag, the value and what would be
//! right.
//!
//! Any word may be an endpoint's URL that has gone astray, or a piece of one. Keys are masked in
//! every word that is printed.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;

use super::table::Takes;
use super::values::Problem;
use crate::http::endpoint_url::masked;

/// What a flag takes whose values hold keys. A word behind them may be half of one.
pub const URLS: &str = "URLS";

/// Why a command line could not be read; prints as one line.
#[derive(Clone, PartialEq, Eq)]
pub enum UsageError {
    /// A word that belongs to no flag.
    Stray {
        /// As typed.
        word: String,
        /// The flag that it stands behind.
        behind: Option<(&'static str, Takes)>,
    },
    /// A word such as `-=x` or `---x`.
    Malformed(String),
    /// A flag that does not exist.
    Unknown {
        /// As typed, with one dash.
        typed: String,
        /// Flags that may have been meant.
        similar: Vec<&'static str>,
    },
    /// The prefix of several flags.
    Ambiguous {
        /// As typed, with one dash.
        typed: String,
        /// The names that it may stand for.
        candidates: Vec<&'static str>,
    },
    /// The last word is a flag that needs a value.
    MissingValue {
        /// The flag's full name.
        flag: &'static str,
        /// What kind of value, as the usage shows it.
        placeholder: &'static str,
    },
    /// A value that its flag does not take.
    BadValue {
        /// The flag's full name.
        flag: &'static str,
        /// The value as typed.
        value: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A word that is not UTF-8.
    NotUtf8(OsString),
    /// argh refuses words that are right; no command line is known that leads here.
    Argh(String),
}

#[allow(clippy::unnecessary_debug_formatting)] // The bytes that are not UTF-8 must show.
impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stray { word, behind } => {
                f.write_str("stray argument ")?;
                match behind {
                    Some((flag, Takes::List(URLS))) if !word.contains("://") => {
                        write!(f, "behind {flag} ")?;
                    }
                    _ => write!(f, "{:?} ", masked(word))?,
                }
                write_remedy(f, *behind)
            }
            Self::Malformed(word) => write!(
                f,
                "{:?} is not a flag (write -NAME VALUE or -NAME=VALUE)",
                masked(word)
            ),
            Self::Unknown { typed, similar } => {
                write!(f, "unknown flag {}", masked(typed).escape_debug())?;
                match similar.as_slice() {
                    [] => Ok(()),
                    names => write!(f, " (similar: {})", names.join(", ")),
                }
            }
            Self::Ambiguous { typed, candidates } => write!(
                f,
                "{typed} is ambiguous, it may be any of {}",
                candidates.join(", ")
            ),
            Self::MissingValue { flag, placeholder } => {
                write!(
                    f,
                    "{flag}: the value is missing (write {flag} {placeholder})"
                )
            }
            Self::BadValue {
                flag,
                value,
                problem: Problem::Whole(reason),
            } => write!(f, "{flag}: {:?} {reason}", masked(value)),
            Self::BadValue {
                flag,
                problem: Problem::Part(reason),
                ..
            } => write!(f, "{flag}: {reason}"),
            Self::NotUtf8(word) => {
                let text = word.to_string_lossy();
                let masked = masked(&text);
                if masked == text {
                    write!(f, "argument {word:?} is not valid UTF-8")
                } else {
                    write!(f, "argument {masked:?} is not valid UTF-8")
                }
            }
            Self::Argh(text) => write!(f, "{}", text.trim().escape_debug()),
        }
    }
}

impl Error for UsageError {}

/// As [`Display`](fmt::Display): a derived form would show keys.
impl fmt::Debug for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UsageError({self})")
    }
}

/// How to write what was probably meant by a word behind this flag.
fn write_remedy(f: &mut fmt::Formatter<'_>, behind: Option<(&str, Takes)>) -> fmt::Result {
    match behind {
        Some((flag, Takes::List(kind))) => write!(
            f,
            "(the {kind} of {flag} are separated by commas, without blanks)"
        ),
        Some((flag, Takes::Boolean)) => {
            write!(
                f,
                "({flag} stands alone: write {flag}=true or {flag}=false)"
            )
        }
        _ => f.write_str("(everything is a flag here: -NAME VALUE or -NAME=VALUE)"),
    }
}
