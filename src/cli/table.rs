//! The table of a program's flags, and the usage that is made of it.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use super::values::Problem;

/// The flag that asks for the usage. `-h` stands for it, whatever else begins with an h.
pub(super) const HELP: &str = "-help";

/// The flag that asks for the manual.
pub(super) const MANUAL: &str = "-manual";

/// The flag that asks for a completion script.
pub(super) const COMPLETION: &str = "-completion";

/// The usage is this wide, in columns.
const WIDTH: usize = 80;

/// How flags are written, at the end of the usage and in the manual.
pub(super) const SYNTAX: &str = "Flags are written -name value or -name=value, with one dash or two, and cut \
                      short as long as they stay unambiguous. The last one of several counts. A \
                      boolean stands alone or has =true or =false. Durations: 5s, 300ms, 1m30s, \
                      1.5h.";

/// A program and its flags, which fill a `T`.
#[derive(Debug)]
pub struct Program<T: 'static> {
    /// The name of the binary.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// What a command line has, after the name.
    pub synopsis: &'static str,
    /// Its flags, in the order of the usage.
    pub groups: &'static [Group<T>],
    /// What the manual has behind the flags: titles and texts. Paragraphs have an empty line
    /// between them; one that is indented by four blanks is shown as it is.
    pub sections: &'static [(&'static str, &'static str)],
}

/// Flags that belong together.
#[derive(Debug)]
pub struct Group<T: 'static> {
    /// Their heading in the usage; empty: none.
    pub title: &'static str,
    /// The flags, in the order of the usage.
    pub flags: &'static [Flag<T>],
}

/// One flag: all that is known of it.
#[derive(Debug)]
pub struct Flag<T> {
    /// The name, with one dash.
    pub name: &'static str,
    /// What follows the name.
    pub takes: Takes,
    /// The default as a user would type it; empty: none. `set` is called with it first.
    pub default: &'static str,
    /// What it does, in one sentence without a full stop.
    pub help: &'static str,
    /// Checks a value and stores it. What it says of a bad one names what would be right.
    pub set: Set<T>,
}

/// What checks the text of a value and stores it.
pub type Set<T> = fn(&mut T, &str) -> Result<(), Problem>;

/// What follows the name of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it asks for a text to be printed, and wins over all other flags.
    Nothing,
    /// Nothing, or `true` or `false`.
    Boolean,
    /// A value, of this kind.
    Value(&'static str),
    /// Values with commas between them, of this kind.
    List(&'static str),
    /// A value of this kind, which is one of a few: that is checked before it is set.
    OneOf(&'static str, &'static [&'static str]),
}

/// Stores a checked value: what most setters do.
pub fn put<V>(place: &mut V, value: Result<V, Problem>) -> Result<(), Problem> {
    *place = value?;
    Ok(())
}

impl Takes {
    /// The kind of value, as the usage shows it; empty where there is none to be shown.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Nothing | Self::Boolean => "",
            Self::Value(kind) | Self::List(kind) | Self::OneOf(kind, _) => kind,
        }
    }
}

impl<T> Flag<T> {
    /// The flag that every program has.
    pub const HELP: Self = Self {
        name: HELP,
        takes: Takes::Nothing,
        default: "",
        help: "print this text and exit",
        set: |_, _| Ok(()),
    };

    /// The flag that asks for the manual.
    pub const MANUAL: Self = Self {
        name: MANUAL,
        takes: Takes::Nothing,
        default: "",
        help: "print the manual page (mdoc) and exit",
        set: |_, _| Ok(()),
    };

    /// The flag that asks for a completion script.
    pub const COMPLETION: Self = Self {
        name: COMPLETION,
        takes: Takes::OneOf("SHELL", &["bash", "zsh", "fish"]),
        default: "",
        help: "print a completion script for bash, zsh or fish and exit",
        set: |_, _| Ok(()),
    };

    /// The flag that every server has: where to listen.
    #[must_use]
    pub const fn address(default: &'static str, set: Set<T>) -> Self {
        Self {
            name: "-address",
            takes: Takes::Value("ADDRESS"),
            default,
            help: "where to listen: :PORT (every interface, IPv4 and IPv6), HOST:PORT or \
                   [::1]:PORT; port 0 takes a free one",
            set,
        }
    }

    /// The flag that every server has: when to stop.
    #[must_use]
    pub const fn stop_after(set: Set<T>) -> Self {
        Self {
            name: "-stop-after",
            takes: Takes::Value("DURATION"),
            default: "0",
            help: "stop after this long; zero or negative: never",
            set,
        }
    }

    /// The name and the kind of value, as the usage shows them.
    fn head(&self) -> String {
        match self.takes.placeholder() {
            "" => format!("  {}", self.name),
            placeholder => format!("  {} {placeholder}", self.name),
        }
    }
}

impl<T> Program<T> {
    /// All flags, in the order of the usage.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag<T>> {
        self.groups.iter().flat_map(|group| group.flags)
    }

    /// What `-help` prints: a few lines, then all flags with their defaults, but for a boolean's
    /// `false`, 80 columns wide.
    #[must_use]
    pub fn usage(&self) -> String {
        let mut lines = wrapped(self.about.split(' '), WIDTH);
        lines.push(String::new());
        lines.push(format!("Usage: {} {}", self.name, self.synopsis));
        let heads = self.flags().map(|flag| flag.head().len());
        let column = heads.max().unwrap_or(0) + 2;
        for group in self.groups {
            lines.push(String::new());
            if !group.title.is_empty() {
                lines.push(format!("{}:", group.title));
            }
            for flag in group.flags {
                let default = match (flag.takes, flag.default) {
                    (_, "") | (Takes::Boolean, "false") => None,
                    (_, default) => Some(format!("(default {default})")),
                };
                let words = flag.help.split(' ').chain(default.as_deref());
                let mut left = flag.head();
                for line in wrapped(words, WIDTH - column) {
                    lines.push(format!("{left:column$}{line}"));
                    left.clear();
                }
            }
        }
        lines.push(String::new());
        lines.append(&mut wrapped(SYNTAX.split(' '), WIDTH));
        lines.push(String::new());
        lines.join("\n")
    }

    /// Says on the standard error what is wrong with a command line, in one line, and in
    /// another one how to get the usage. The exit code tells it from a failure at run time.
    #[must_use]
    pub fn refuse(&self, error: impl Display) -> ExitCode {
        let name = self.name;
        let _ = writeln!(io::stderr(), "{error}\nrun '{name} {HELP}' for the usage");
        ExitCode::from(2)
    }
}

/// Fills lines of at most `width` characters with these words.
pub(super) fn wrapped<'a>(words: impl Iterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
