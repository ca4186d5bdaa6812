//! The shells that there are completion scripts for.

use super::values::{self, Problem};

/// A shell that there is a completion script for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Their names.
pub(super) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

impl Shell {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let choices = [
            ("bash", Self::Bash),
            ("zsh", Self::Zsh),
            ("fish", Self::Fish),
        ];
        values::one_of(text, "a shell", &choices)
    }
}
