//! Command lines: Go's flag syntax on the outside, `argh` on the inside.
//!
//! A program has one [table](Program) of its flags. What is known of a flag stands in its
//! entry and nowhere else: the usage, the defaults and what `argh` parses are made of it.
//! The folder knows no program's flags but those that all have.
//!
//! The way of a word: `words` rewrites Go's spellings into those that `argh` parses, `argh`
//! finds the entry, and the entry's setter checks the value and stores it.
//!
//! `argh` is called below its derive macro. That takes a struct with a field, a default and a
//! text for each flag, which the types that use the values and the usage would have to repeat,
//! and it puts errors into words of its own. The entry point is hidden from argh's
//! documentation, hence the exact version in `Cargo.toml`.

mod completion;
mod errors;
mod manual;
mod table;
pub mod values;
mod words;

use std::cell::RefCell;
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use argh::{
    EarlyExit, ParseStructOption, ParseStructOptions, ParseStructPositionals, ParseValueSlot,
};

use log::info;

use crate::util::io_error::describe;

pub use errors::{URLS, UsageError};
pub use table::{Flag, Group, Program, Takes, put};
pub use values::Problem;

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed<T> {
    /// For a text that is to be printed: the usage, the manual, a completion script.
    Text(String),
    /// To run.
    Run(Given<T>),
}

/// What the flags of a command line say.
#[derive(Debug)]
pub struct Given<T> {
    /// Filled by the flags, by defaults where a flag was not given.
    pub options: T,
    /// The flags that were given more than once, in the order of the table. The last value
    /// counts.
    pub repeated: Vec<&'static str>,
}

/// Reads the command line of this process. Prints the usage, or what is wrong.
///
/// # Errors
/// The process is to end with this code: what had to be said has been printed.
pub fn from_env<T: Default>(program: &'static Program<T>) -> Result<Given<T>, ExitCode> {
    match parse(program, env::args_os().skip(1)) {
        Ok(Parsed::Run(given)) => Ok(given),
        Ok(Parsed::Text(text)) => Err(print(&text)),
        Err(error) => Err(program.refuse(error)),
    }
}

/// Prints a text on the standard output. Returns the exit code: a text that was cut short by a
/// full disk is a failure, one that a reader has seen enough of is not.
#[must_use]
pub fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    let printed = stdout.write_all(text.as_bytes());
    match printed.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let reason = describe(&error);
            let _ = writeln!(
                io::stderr(),
                "cannot write to the standard output: {reason}"
            );
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Logs which flags were given more than once, if any were.
pub fn log_repeated(flags: &[&str]) {
    if !flags.is_empty() {
        let flags = flags.join(", ");
        info!("given more than once, the last value counts: {flags}");
    }
}

/// Reads a command line: everything after the program's name.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse<T: Default>(
    program: &'static Program<T>,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<T>, UsageError> {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.into_string().map_err(UsageError::NotUtf8))
        .collect::<Result<_, _>>()?;
    let words = words::rewrite(program, &words)?;
    if words.first().is_some_and(|word| word == table::MANUAL) {
        return Ok(Parsed::Text(program.manual()));
    }
    let filled = RefCell::new(Filled {
        options: defaults(program)?,
        problem: None,
    });
    let mut slots: Vec<Slot<T>> = program
        .flags()
        .map(|flag| Slot::new(flag, &filled))
        .collect();
    let parsed = parse_with_argh(program, &words, &mut slots);
    let repeated = slots.iter().filter(|slot| slot.times > 1);
    let repeated = repeated.map(|slot| slot.flag.name).collect();
    let Filled { options, problem } = filled.into_inner();
    match (parsed, problem) {
        (Ok(()), _) => Ok(match completion(program, &words) {
            Some(script) => Parsed::Text(script),
            None => Parsed::Run(Given { options, repeated }),
        }),
        (Err(exit), None) if exit.status.is_ok() => Ok(Parsed::Text(exit.output)),
        (Err(_), Some(problem)) => Err(problem),
        (Err(exit), None) => Err(UsageError::Argh(exit.output)),
    }
}

/// The completion script that these words, `-name value` each, ask for.
fn completion<T>(program: &Program<T>, words: &[String]) -> Option<String> {
    let mut shells = words.chunks_exact(2).filter_map(|pair| match pair {
        [name, shell] if name == table::COMPLETION => Some(shell),
        _ => None,
    });
    shells.next_back().map(|shell| program.completion(shell))
}

/// What no flag at all means.
///
/// # Errors
/// A default that its flag does not take: a mistake in the table.
fn defaults<T: Default>(program: &'static Program<T>) -> Result<T, UsageError> {
    let mut options = T::default();
    for flag in program.flags().filter(|flag| !flag.default.is_empty()) {
        apply(flag, &mut options, flag.default)?;
    }
    Ok(options)
}

/// Checks a value and stores it.
fn apply<T>(flag: &Flag<T>, options: &mut T, value: &str) -> Result<(), UsageError> {
    let checked = match flag.takes {
        Takes::OneOf(kind, names) => values::check_one_of(value, kind, names),
        _ => Ok(()),
    };
    let stored = checked.and_then(|()| (flag.set)(options, value));
    stored.map_err(|problem| UsageError::BadValue {
        flag: flag.name,
        value: value.to_owned(),
        problem,
    })
}

fn parse_with_argh<T>(
    program: &'static Program<T>,
    words: &[String],
    slots: &mut [Slot<T>],
) -> Result<(), EarlyExit> {
    let names = program.flags().map(|flag| flag.name);
    // argh wants it to live as long as the process, which parses one command line.
    let places: &'static [(&str, usize)] = names.zip(0..).collect::<Vec<_>>().leak();
    let mut options: Vec<ParseStructOption> = slots
        .iter_mut()
        .map(|slot| match slot.flag.takes {
            Takes::Nothing => ParseStructOption::Flag(slot),
            _ => ParseStructOption::Value(slot),
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    argh::parse_struct_args(
        &[program.name],
        &words,
        ParseStructOptions {
            arg_to_slot: places,
            slots: &mut options,
            help_triggers: &[table::HELP],
        },
        ParseStructPositionals {
            positionals: &mut [],
            last_is_repeating: false,
            last_is_greedy: false,
        },
        None,
        &|| program.usage(),
    )
}

/// What all slots write to.
struct Filled<T> {
    options: T,
    /// What is wrong with the value that argh has stopped at.
    problem: Option<UsageError>,
}

/// Where argh puts the values of a flag.
struct Slot<'a, T: 'static> {
    flag: &'static Flag<T>,
    filled: &'a RefCell<Filled<T>>,
    times: usize,
}

impl<'a, T> Slot<'a, T> {
    fn new(flag: &'static Flag<T>, filled: &'a RefCell<Filled<T>>) -> Self {
        Self {
            flag,
            filled,
            times: 0,
        }
    }
}

impl<T> ParseValueSlot for Slot<'_, T> {
    /// The error's text is argh's own affair: what is wrong is kept in `filled`.
    fn fill_slot(&mut self, _: &str, value: &str) -> Result<(), String> {
        self.times += 1;
        let mut filled = self.filled.borrow_mut();
        apply(self.flag, &mut filled.options, value).map_err(|problem| {
            filled.problem = Some(problem);
            String::new()
        })
    }
}

impl<T> argh::ParseFlag for Slot<'_, T> {
    fn set_flag(&mut self, name: &str) {
        let _ = self.fill_slot(name, "true");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Options {
        number: u8,
        is_on: bool,
        name: Option<String>,
        asked: bool,
    }

    static PROGRAM: Program<Options> = Program {
        name: "program",
        about: "A program.",
        synopsis: "[FLAGS]",
        groups: &[
            Group {
                title: "First",
                flags: &[
                    Flag {
                        name: "-number",
                        takes: Takes::Value("NUMBER"),
                        default: "3",
                        help: "how many of them there are to be, which is said in so \
                               many words",
                        set: |options, text| {
                            put(&mut options.number, values::number_from(text, 1, ""))
                        },
                    },
                    Flag {
                        name: "-on",
                        takes: Takes::Boolean,
                        default: "true",
                        help: "it is on",
                        set: |options, text| put(&mut options.is_on, values::boolean(text)),
                    },
                ],
            },
            Group {
                title: "Second",
                flags: &[
                    Flag {
                        name: "-name",
                        takes: Takes::Value("NAME"),
                        default: "",
                        help: "what it is called",
                        set: |options, text| put(&mut options.name, Ok(Some(text.to_owned()))),
                    },
                    Flag {
                        name: "-ask",
                        takes: Takes::Nothing,
                        default: "",
                        help: "ask",
                        set: |options, _| put(&mut options.asked, Ok(true)),
                    },
                    Flag::MANUAL,
                    Flag::COMPLETION,
                    Flag::HELP,
                ],
            },
        ],
        sections: &[],
    };

    fn given(line: &str) -> Result<Given<Options>, UsageError> {
        match parse(&PROGRAM, line.split_whitespace().map(OsString::from))? {
            Parsed::Run(given) => Ok(given),
            Parsed::Text(_) => panic!("{line}: help"),
        }
    }

    #[test]
    fn flags_that_are_not_given_have_their_defaults() {
        let defaults = || Options {
            number: 3,
            is_on: true,
            ..Options::default()
        };
        assert_eq!(given("").unwrap().options, defaults());
        let named = Options {
            name: Some("x".to_owned()),
            is_on: false,
            ..defaults()
        };
        assert_eq!(given("-on=false -name x").unwrap().options, named);
        let asked = Options {
            asked: true,
            ..defaults()
        };
        assert_eq!(given("-name x -ask -bogus").unwrap().options, asked);
    }

    #[test]
    fn the_last_value_counts_and_repeated_flags_are_named() {
        let several = given("-on -num 4 -name a -num=5 -on=false --number 6").unwrap();
        assert_eq!(several.options.number, 6);
        assert!(!several.options.is_on);
        assert_eq!(several.repeated, ["-number", "-on"]);
        assert!(given("-num 4 -on").unwrap().repeated.is_empty());
    }

    #[test]
    fn the_first_bad_value_is_named_though_a_later_one_is_right() {
        for line in ["-number=0 -on", "-on -number 0 -number 1 -on=maybe"] {
            assert_eq!(
                given(line).unwrap_err().to_string(),
                "-number: \"0\" is not a number from 1 upwards"
            );
        }
        let newline = parse(&PROGRAM, ["-num=a\nb".into()]).unwrap_err();
        assert_eq!(
            newline.to_string(),
            "-number: \"a\\nb\" is not a number from 1 upwards"
        );
    }

    #[test]
    fn a_word_that_is_not_utf8_is_shown_with_its_bytes() {
        let word = OsString::from_vec(b"-name=\xff".to_vec());
        assert_eq!(
            parse(&PROGRAM, [word]).unwrap_err().to_string(),
            r#"argument "-name=\xFF" is not valid UTF-8"#
        );
    }

    #[test]
    fn a_manual_wins_over_everything_and_a_completion_script_over_what_is_right() {
        let text = |words: &[&str]| match parse(&PROGRAM, words.iter().map(OsString::from)) {
            Ok(Parsed::Text(text)) => text,
            other => panic!("{words:?}: {other:?}"),
        };
        assert!(text(&["-bogus", "-man"]).contains("\n.Nm program\n"));
        assert!(text(&["-on", "-completion", "bash"]).starts_with("# bash completion for program"));
        assert!(text(&["-comp=bash", "-comp=fish"]).starts_with("# fish completion for program"));
        let named = given("-name -completion").unwrap();
        assert_eq!(named.options.name.as_deref(), Some("-completion"));
        let error = given("-completion tcsh").unwrap_err();
        assert_eq!(
            error.to_string(),
            "-completion: \"tcsh\" is not a shell (write bash, zsh or fish)"
        );
    }

    #[test]
    fn the_usage_is_made_of_the_table() {
        let Ok(Parsed::Text(usage)) = parse(&PROGRAM, ["-bogus".into(), "-h".into()]) else {
            panic!("no usage");
        };
        let expected = "\
A program.

Usage: program [FLAGS]

First:
  -number NUMBER     how many of them there are to be, which is said in so many
                     words (default 3)
  -on                it is on (default true)

Second:
  -name NAME         what it is called
  -ask               ask
  -manual            print the manual page (mdoc) and exit
  -completion SHELL  print a completion script for bash, zsh or fish and exit
  -help              print this text and exit

Flags are written";
        assert!(usage.starts_with(expected), "{usage}");
    }
}
