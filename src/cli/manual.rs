//! The manual page, in mdoc, made of the table of flags.
//!
//! `mandoc -T lint` has nothing to say about it: a test runs that where mandoc is installed.

use super::table::{Flag, Program, SYNTAX, Takes, wrapped};

/// When what the page says has last changed.
const DATE: &str = "November 26, 2026";

/// Lines of the source are no longer than this.
const WIDTH: usize = 78;

impl<T> Program<T> {
    /// The manual page.
    pub(super) fn manual(&self) -> String {
        let name = self.name;
        let about = self.about.trim_end_matches('.');
        let about = about.strip_prefix("A ").unwrap_or(about);
        let mut page = vec![format!(
            ".Dd {DATE}\n.Dt {} 1\n.Os\n.Sh NAME\n.Nm {name}\n.Nd {}\n.Sh SYNOPSIS\n.Nm\n",
            name.to_uppercase(),
            escaped(about)
        )];
        page.extend(self.synopsis.split(' ').map(synopsis));
        page.push(format!(
            ".Sh DESCRIPTION\n{}.Pp\n{}.Sh OPTIONS\n",
            text(self.about),
            text(SYNTAX)
        ));
        for group in self.groups {
            if !group.title.is_empty() {
                page.push(format!(".Ss {}\n", group.title));
            }
            page.push(".Bl -tag -width Ds\n".to_owned());
            page.extend(group.flags.iter().map(item));
            page.push(".El\n".to_owned());
        }
        let sections = self.sections.iter();
        page.extend(
            sections.map(|(title, content)| format!(".Sh {title}\n{}", paragraphs(content))),
        );
        page.concat()
    }
}

/// A word of the synopsis.
fn synopsis(word: &str) -> String {
    let optional = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'));
    match (word.strip_prefix('-'), optional) {
        (Some(flag), _) => format!(".Fl {flag}\n"),
        (None, Some(word)) => format!(".Op Ar {word}\n"),
        (None, None) => format!(".Ar {word}\n"),
    }
}

/// A flag with its text and its default.
fn item<T>(flag: &Flag<T>) -> String {
    let name = flag.name.trim_start_matches('-');
    let head = match flag.takes {
        Takes::Nothing | Takes::Boolean => format!(".It Fl {name}\n"),
        takes => format!(".It Fl {name} Ar {}\n", takes.placeholder()),
    };
    let default = match flag.default {
        "" => String::new(),
        default => format!(" (default {default})"),
    };
    head + &text(&format!("{}{default}", flag.help))
}

/// Paragraphs, with an empty line between them. One that is indented by four blanks is shown
/// as it is.
fn paragraphs(content: &str) -> String {
    let paragraphs = content.split("\n\n").map(|paragraph| {
        if let Some(literal) = paragraph.strip_prefix("    ") {
            let lines = literal
                .lines()
                .map(|line| guarded(escaped(line.trim_start())));
            let lines: String = lines.collect();
            format!(".Bd -literal -offset indent\n{lines}.Ed\n")
        } else {
            text(paragraph)
        }
    });
    let paragraphs: Vec<String> = paragraphs.collect();
    let mut joined = String::new();
    for (index, paragraph) in paragraphs.iter().enumerate() {
        let is_first = index == 0;
        if !is_first && !paragraph.starts_with(".Bd") {
            joined += ".Pp\n";
        }
        joined += paragraph;
    }
    joined
}

/// Running text. Each sentence begins a line, as mdoc wants it.
fn text(text: &str) -> String {
    let mut lines = Vec::new();
    for sentence in text.split_inclusive(". ") {
        let words = sentence.split_whitespace().map(escaped);
        let words: Vec<String> = words.collect();
        lines.append(&mut wrapped(words.iter().map(String::as_str), WIDTH));
    }
    lines.into_iter().map(guarded).collect()
}

/// A line that is no macro.
fn guarded(line: String) -> String {
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}\n")
    } else {
        line + "\n"
    }
}

/// Backslashes as they are, and dashes that can be copied into a shell.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::super::table::Group;
    use super::*;

    static PROGRAM: Program<()> = Program {
        name: "a-program",
        about: "A program: it does something. It does more.",
        synopsis: "-must VALUE [FLAGS]",
        groups: &[Group {
            title: "First",
            flags: &[
                Flag {
                    name: "-must",
                    takes: Takes::Value("VALUE"),
                    default: "a\\b",
                    help: "needed for this or that, that being what it is for, as in -must 5",
                    set: |(), _| Ok(()),
                },
                Flag::HELP,
            ],
        }],
        sections: &[(
            "EXAMPLES",
            "Like this:\n\n    a-program -must 5\n    .x\n\nOr not.",
        )],
    };

    #[test]
    fn the_page_is_made_of_the_table() {
        let page = PROGRAM.manual();
        let (head, rest) = page.split_once(".Sh NAME\n").unwrap();
        assert_eq!(
            head.lines().skip(1).collect::<Vec<_>>(),
            [".Dt A-PROGRAM 1", ".Os"]
        );
        let (before, rest) = rest.split_once(".Pp\n").unwrap();
        assert_eq!(
            before,
            ".Nm a-program\n.Nd program: it does something. It does more\n\
             .Sh SYNOPSIS\n.Nm\n.Fl must\n.Ar VALUE\n.Op Ar FLAGS\n\
             .Sh DESCRIPTION\nA program: it does something.\nIt does more.\n"
        );
        let (_, options) = rest.split_once(".Sh OPTIONS\n").unwrap();
        assert_eq!(
            options,
            ".Ss First\n.Bl -tag -width Ds\n.It Fl must Ar VALUE\n\
             needed for this or that, that being what it is for, as in \\-must 5 (default\n\
             a\\eb)\n\
             .It Fl help\nprint this text and exit\n.El\n\
             .Sh EXAMPLES\nLike this:\n.Bd -literal -offset indent\n\
             a\\-program \\-must 5\n\\&.x\n.Ed\n.Pp\nOr not.\n"
        );
    }
}
