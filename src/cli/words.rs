//! Go's flag syntax: the words of a command line, rewritten into those that argh parses.
//!
//! - `-name value`, `-name=value`, the same with two dashes, and any unambiguous prefix of a
//!   name. An exact name wins over a prefix.
//! - A boolean stands alone, has `=value`, or is followed by a bare `true` or `false`.
//! - `--` ends the flags, and nothing may follow it.
//! - A flag that [asks for a text](Takes::Nothing) wins over everything, mistakes included. As
//!   the value of a flag (`-log-prefix -help`) it is just that.
//!
//! Pure. Values are not looked at, and every occurrence of a flag is passed on.

use super::errors::UsageError;
use super::table::{Flag, HELP, Program, Takes};

/// Returns `-name value` for each flag that takes a value or is a boolean, in the order of the
/// command line, or the single name of a flag that asks for a text.
pub(super) fn rewrite<T>(
    program: &'static Program<T>,
    words: &[String],
) -> Result<Vec<String>, UsageError> {
    let mut reader = Reader {
        program,
        rest: words,
        last: None,
    };
    let mut rewritten = Vec::new();
    loop {
        match reader.next() {
            Ok(Next::Value(flag, value)) => rewritten.extend([flag.name.to_owned(), value]),
            Ok(Next::Asks(name)) => return Ok(vec![name.to_owned()]),
            Ok(Next::End) => return Ok(rewritten),
            Err(error) => {
                return reader
                    .asks_later()
                    .map(|name| vec![name.to_owned()])
                    .ok_or(error);
            }
        }
    }
}

/// What stands next on a command line.
enum Next<T: 'static> {
    Value(&'static Flag<T>, String),
    /// A flag that asks for a text.
    Asks(&'static str),
    End,
}

struct Reader<'a, T: 'static> {
    program: &'static Program<T>,
    rest: &'a [String],
    /// The last flag, if a word behind it may have been meant as a value of it.
    last: Option<&'static Flag<T>>,
}

impl<T> Reader<'_, T> {
    /// Takes one flag, with its value, off the front.
    fn next(&mut self) -> Result<Next<T>, UsageError> {
        let last = self.last.take();
        let Some((word, after)) = self.rest.split_first() else {
            return Ok(Next::End);
        };
        self.rest = after;
        let stray = |word: &String, flag: Option<&Flag<T>>| UsageError::Stray {
            word: word.clone(),
            behind: flag.map(|flag| (flag.name, flag.takes)),
        };
        if word == "--" {
            self.rest = &[];
            return after
                .first()
                .map_or(Ok(Next::End), |word| Err(stray(word, None)));
        }
        if word == "-" || !word.starts_with('-') {
            return Err(stray(word, last));
        }
        let (typed, value) = split(word).ok_or_else(|| UsageError::Malformed(word.clone()))?;
        let flag = resolve(self.program, typed)?;
        if flag.takes == Takes::Nothing {
            return Ok(Next::Asks(flag.name));
        }
        let is_boolean = flag.takes == Takes::Boolean;
        if let Some(value) = value {
            self.last = Some(flag).filter(|_| !is_boolean);
            return Ok(Next::Value(flag, value.to_owned()));
        }
        match after.split_first() {
            Some((value, after)) if !is_boolean || value == "true" || value == "false" => {
                self.rest = after;
                self.last = Some(flag).filter(|_| !is_boolean);
                Ok(Next::Value(flag, value.clone()))
            }
            _ if is_boolean => {
                self.last = Some(flag);
                Ok(Next::Value(flag, "true".to_owned()))
            }
            _ => Err(UsageError::MissingValue {
                flag: flag.name,
                placeholder: flag.takes.placeholder(),
            }),
        }
    }

    /// A flag behind a mistake that asks for a text.
    fn asks_later(&self) -> Option<&'static str> {
        let mut flags = self.rest.iter().take_while(|word| *word != "--");
        flags.find_map(|word| {
            let (typed, _) = split(word)?;
            let flag = resolve(self.program, typed).ok()?;
            (flag.takes == Takes::Nothing).then_some(flag.name)
        })
    }
}

/// `-name=value` into its name, without dashes, and its value; `None` if it is not a flag at all.
fn split(word: &str) -> Option<(&str, Option<&str>)> {
    let flag = word.strip_prefix('-')?;
    let flag = flag.strip_prefix('-').unwrap_or(flag);
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    (!name.is_empty() && !name.starts_with('-')).then_some((name, value))
}

/// The flag that a name or a prefix of one, without dashes, stands for.
fn resolve<T>(program: &Program<T>, typed: &str) -> Result<&'static Flag<T>, UsageError> {
    let name = |flag: &Flag<T>| flag.name.trim_start_matches('-');
    let exact = |flag: &&Flag<T>| name(flag) == typed || typed == "h" && flag.name == HELP;
    if let Some(flag) = program.flags().find(exact) {
        return Ok(flag);
    }
    let candidates: Vec<&Flag<T>> = program
        .flags()
        .filter(|flag| name(flag).starts_with(typed))
        .collect();
    match candidates.as_slice() {
        [flag] => Ok(flag),
        [] => Err(UsageError::Unknown {
            typed: format!("-{typed}"),
            similar: similar(program, typed),
        }),
        several => Err(UsageError::Ambiguous {
            typed: format!("-{typed}"),
            candidates: several.iter().map(|flag| flag.name).collect(),
        }),
    }
}

/// The name that a typing error has most likely made `typed` of, else those that contain it.
fn similar<T>(program: &Program<T>, typed: &str) -> Vec<&'static str> {
    // One letter in three may be wrong.
    let most = typed.len() / 3;
    let names = || program.flags().map(|flag| flag.name);
    let closest = names()
        .map(|name| (distance(name.trim_start_matches('-'), typed), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance);
    match closest {
        Some((_, name)) => vec![name],
        None if most == 0 => Vec::new(),
        None => names().filter(|name| name.contains(typed)).collect(),
    }
}

/// How many letters have to be added, removed or replaced to turn one text into the other.
fn distance(one: &str, other: &str) -> usize {
    // From the letters of `one` so far to each beginning of `other`.
    let mut row: Vec<usize> = (1..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let (mut diagonal, mut left) = (index, index + 1);
        for (above, other_letter) in row.iter_mut().zip(other.bytes()) {
            let replaced = diagonal + usize::from(letter != other_letter);
            diagonal = *above;
            left = replaced.min(diagonal + 1).min(left + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::super::table::Group;
    use super::*;

    const fn flag(name: &'static str, takes: Takes) -> Flag<()> {
        Flag {
            name,
            takes,
            default: "",
            help: "",
            set: |(), _| Ok(()),
        }
    }

    static PROGRAM: Program<()> = Program {
        name: "program",
        about: "",
        synopsis: "",
        groups: &[
            Group {
                title: "",
                flags: &[
                    flag("-endpoints", Takes::List("URLS")),
                    flag("-address", Takes::Value("ADDRESS")),
                    flag("-fanout", Takes::Boolean),
                    flag("-half-close", Takes::Boolean),
                    flag("-stop-after", Takes::Value("DURATION")),
                ],
            },
            Group {
                title: "",
                flags: &[
                    flag("-log-file", Takes::Value("FILE")),
                    flag("-log", Takes::Value("X")),
                    flag("-log-prefix", Takes::Value("TEXT")),
                    flag("-logger", Takes::Value("X")),
                    flag("-version", Takes::Nothing),
                    Flag::HELP,
                ],
            },
        ],
        sections: &[],
    };

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn go_style_words_become_names_and_values() {
        for (line, expected) in [
            ("", ""),
            ("-endpoints x", "-endpoints x"),
            ("--endpoints x", "-endpoints x"),
            ("-endpoints=x", "-endpoints x"),
            ("--endpoints=x", "-endpoints x"),
            ("-e x", "-endpoints x"),
            ("--e=x", "-endpoints x"),
            ("-end x", "-endpoints x"),
            ("-e=http://h/?a=b", "-endpoints http://h/?a=b"),
            ("-log-f x -log-p y", "-log-file x -log-prefix y"),
            ("-log x", "-log x"),
            ("-logg x", "-logger x"),
            ("-fanout", "-fanout true"),
            ("-fanout -e x", "-fanout true -endpoints x"),
            ("-fanout=false", "-fanout false"),
            ("-f=T", "-fanout T"),
            ("-f=maybe", "-fanout maybe"),
            ("-fanout true -e x", "-fanout true -endpoints x"),
            ("-fanout false -e x", "-fanout false -endpoints x"),
            ("-stop-after -5s", "-stop-after -5s"),
            ("-stop-after=-5s", "-stop-after -5s"),
            ("-log-prefix -h", "-log-prefix -h"),
            ("-log-prefix --", "-log-prefix --"),
            ("-log-prefix -fanout", "-log-prefix -fanout"),
            ("-log-prefix help", "-log-prefix help"),
            (
                "-a :1 -e x --address=:2",
                "-address :1 -endpoints x -address :2",
            ),
            ("-fanout -fanout=false", "-fanout true -fanout false"),
            ("-e x --", "-endpoints x"),
            ("--", ""),
        ] {
            let rewritten = rewrite(&PROGRAM, &words(line));
            assert_eq!(rewritten, Ok(words(expected)), "{line}");
        }
        let empty = rewrite(&PROGRAM, &["-log-prefix=".to_owned()]);
        assert_eq!(empty, Ok(vec!["-log-prefix".to_owned(), String::new()]));
    }

    #[test]
    fn a_flag_that_asks_for_a_text_wins() {
        for (line, flag) in [
            ("-h", "-help"),
            ("-help", "-help"),
            ("--h", "-help"),
            ("--help", "-help"),
            ("-hel", "-help"),
            ("-h=false", "-help"),
            ("-e x -h", "-help"),
            ("-fanout -h", "-help"),
            ("-h -e x", "-help"),
            ("-h --", "-help"),
            ("-bogus -h", "-help"),
            ("stray -help", "-help"),
            ("-log- x --help", "-help"),
            ("-=x -h", "-help"),
            ("-h -bogus", "-help"),
            ("-version", "-version"),
            ("-v", "-version"),
            ("-a x -version -bogus", "-version"),
            ("stray --version", "-version"),
        ] {
            let rewritten = rewrite(&PROGRAM, &words(line));
            assert_eq!(rewritten, Ok(vec![flag.to_owned()]), "{line}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        const ALL: &str = "(everything is a flag here: -NAME VALUE or -NAME=VALUE)";
        for (line, message) in [
            ("x", format!("stray argument \"x\" {ALL}")),
            ("-", format!("stray argument \"-\" {ALL}")),
            ("-- -h", format!("stray argument \"-h\" {ALL}")),
            ("-- x -h", format!("stray argument \"x\" {ALL}")),
            ("-e x -- y", format!("stray argument \"y\" {ALL}")),
            ("-a x y", format!("stray argument \"y\" {ALL}")),
            ("-fanout=1 y", format!("stray argument \"y\" {ALL}")),
            ("-fanout true y", format!("stray argument \"y\" {ALL}")),
            (
                "-fanout 1",
                "stray argument \"1\" (-fanout stands alone: write -fanout=true or -fanout=false)"
                    .to_owned(),
            ),
        ] {
            let error = rewrite(&PROGRAM, &words(line)).unwrap_err();
            assert_eq!(error.to_string(), message, "{line}");
        }
        for (line, message) in [
            (
                "-e=http://a http://b",
                "stray argument \"http://b\" (the URLS of -endpoints are separated by commas, \
                 without blanks)",
            ),
            (
                "-endpoints http://a, http://b",
                "stray argument \"http://b\" (the URLS of -endpoints are separated by commas, \
                 without blanks)",
            ),
            (
                "-=x",
                "\"-=x\" is not a flag (write -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "---e x",
                "\"---e\" is not a flag (write -NAME VALUE or -NAME=VALUE)",
            ),
            ("-bogus", "unknown flag -bogus"),
            ("--bogus=1", "unknown flag -bogus"),
            ("-E x", "unknown flag -E"),
            (
                "-endpointsx",
                "unknown flag -endpointsx (similar: -endpoints)",
            ),
            ("-fan-out", "unknown flag -fan-out (similar: -fanout)"),
            (
                "--log_file=x",
                "unknown flag -log_file (similar: -log-file)",
            ),
            (
                "-log- x",
                "-log- is ambiguous, it may be any of -log-file, -log-prefix",
            ),
            (
                "-address",
                "-address: the value is missing (write -address ADDRESS)",
            ),
            (
                "-fanout -e",
                "-endpoints: the value is missing (write -endpoints URLS)",
            ),
        ] {
            let error = rewrite(&PROGRAM, &words(line)).unwrap_err();
            assert_eq!(error.to_string(), message, "{line}");
        }
    }

    #[test]
    fn a_distance_counts_letters() {
        for (one, other, letters) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "axc", 1),
            ("abc", "ac", 1),
            ("abc", "xabcy", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
    }
}
