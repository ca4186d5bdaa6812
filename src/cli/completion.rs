//! Completion scripts for bash, zsh and fish, made of the table of flags.
//!
//! Each completes names with one dash (bash: with two as well), files where a flag takes one,
//! and the words of a flag that takes one of a few, behind a blank and behind `=`. None needs
//! more than the shell itself.

use super::table::{Flag, Program, Takes};

impl<T> Program<T> {
    /// The completion script for this shell.
    pub(super) fn completion(&self, shell: &str) -> String {
        match shell {
            "bash" => self.bash(),
            "zsh" => self.zsh(),
            _ => self.fish(),
        }
    }

    /// The name of the function that completes.
    fn function(&self) -> String {
        format!("_{}", self.name.replace('-', "_"))
    }

    /// The names of some flags, with this between them.
    fn names(&self, between: &str, wanted: impl Fn(&Flag<T>) -> bool) -> String {
        let names = self.flags().filter(|flag| wanted(flag));
        names
            .map(|flag| flag.name)
            .collect::<Vec<_>>()
            .join(between)
    }

    fn bash(&self) -> String {
        let (name, function) = (self.name, self.function());
        let mut cases = String::new();
        for flag in self.flags() {
            if let Takes::OneOf(_, choices) = flag.takes {
                let choices = choices.join(" ");
                cases += &case(flag.name, &format!("words='{choices}'"));
            }
        }
        let files = self.names(" | ", |flag| takes_file(flag.takes));
        if !files.is_empty() {
            cases += &case(
                &files,
                "compopt -o filenames 2>/dev/null\n            mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n            return",
            );
        }
        let others = self.names(" | ", |flag| {
            matches!(flag.takes, Takes::Value(_) | Takes::List(_)) && !takes_file(flag.takes)
        });
        if !others.is_empty() {
            cases += &case(&others, "return");
        }
        let booleans = self.names(" | ", |flag| flag.takes == Takes::Boolean);
        if !booleans.is_empty() {
            cases += &case(&booleans, "((assigned)) && words='true false'");
        }
        let flags = self.names(" ", |_| true);
        format!(
            r#"# bash completion for {name}
{function}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev='' words='' assigned=0
    ((COMP_CWORD > 0)) && prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    # A "=" is a word of its own.
    if [[ $cur == = ]]; then
        cur='' assigned=1
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}} assigned=1
    fi
    COMPREPLY=()
    case ${{prev/#--/-}} in
{cases}    esac
    if [[ -z $words ]] && ! ((assigned)); then
        words='{flags}'
        [[ $cur == --* ]] && words="-${{words// / -}}"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}
complete -F {function} {name}
"#
        )
    }

    fn zsh(&self) -> String {
        // Installed as a file, it is loaded as the function with that file's name: `_` and the
        // program's. Dashes may stand in it.
        let (name, function) = (self.name, format!("_{}", self.name));
        let specs: Vec<String> = self.flags().map(zsh_spec).collect();
        let specs = specs.join(" \\\n        ");
        format!(
            "#compdef {name}\n\
             {function}() {{\n    _arguments -S \\\n        {specs}\n}}\n\
             if [ \"$funcstack[1]\" = {function} ]; then\n    {function} \"$@\"\n\
             else\n    compdef {function} {name}\nfi\n"
        )
    }

    fn fish(&self) -> String {
        let name = self.name;
        let mut lines = vec![
            format!("# fish completion for {name}"),
            format!("complete -c {name} -f"),
        ];
        for flag in self.flags() {
            let option = flag.name.trim_start_matches('-');
            let takes = match flag.takes {
                Takes::OneOf(_, choices) => format!(" -x -a '{}'", choices.join(" ")),
                kind if takes_file(kind) => " -r -F".to_owned(),
                Takes::Value(_) | Takes::List(_) => " -x".to_owned(),
                Takes::Boolean | Takes::Nothing => String::new(),
            };
            let text = short(flag.help).replace('\\', "\\\\").replace('\'', "\\'");
            lines.push(format!("complete -c {name} -o {option}{takes} -d '{text}'"));
        }
        lines.join("\n") + "\n"
    }
}

/// One entry of a `case` in bash.
fn case(names: &str, commands: &str) -> String {
    format!("        {names})\n            {commands}\n            ;;\n")
}

fn takes_file(takes: Takes) -> bool {
    takes.placeholder() == "FILE"
}

/// A flag as `_arguments` wants it.
fn zsh_spec<T>(flag: &Flag<T>) -> String {
    let text = short(flag.help);
    let text = text.replace('[', "\\[").replace(']', "\\]");
    let name = flag.name;
    let spec = match flag.takes {
        Takes::Nothing => format!("{name}[{text}]"),
        Takes::Boolean => format!("{name}=-[{text}]::true or false:(true false)"),
        Takes::OneOf(kind, choices) => {
            format!("{name}=[{text}]:{kind}:({})", choices.join(" "))
        }
        Takes::Value(kind) | Takes::List(kind) => {
            let action = if takes_file(flag.takes) { "_files" } else { "" };
            format!("{name}=[{text}]:{}:{action}", kind.replace(':', "\\:"))
        }
    };
    format!("'{}'", spec.replace('\'', "'\\''"))
}

/// The first part of a flag's text.
fn short(help: &str) -> &str {
    let end = help.find([';', ':', '(']).unwrap_or(help.len());
    help.get(..end).unwrap_or_default().trim_end()
}

#[cfg(test)]
mod tests {
    use super::super::table::Group;
    use super::*;

    static PROGRAM: Program<()> = Program {
        name: "a-program",
        about: "",
        synopsis: "",
        groups: &[Group {
            title: "",
            flags: &[
                flag("-on", Takes::Boolean, "it's on [or off]; or not"),
                flag(
                    "-order",
                    Takes::OneOf("ORDER", &["up", "down"]),
                    "which way",
                ),
                flag("-log-file", Takes::Value("FILE"), "where to"),
                flag("-pairs", Takes::List("A:B"), "pairs: of two"),
                Flag::HELP,
            ],
        }],
        sections: &[],
    };

    const fn flag(name: &'static str, takes: Takes, help: &'static str) -> Flag<()> {
        Flag {
            name,
            takes,
            default: "",
            help,
            set: |(), _| Ok(()),
        }
    }

    #[test]
    fn bash_knows_what_each_flag_takes() {
        let script = PROGRAM.completion("bash");
        for line in [
            "        -order)\n            words='up down'\n",
            "        -log-file)\n            compopt",
            "        -pairs)\n            return\n",
            "        -on)\n            ((assigned)) && words='true false'\n",
            "        words='-on -order -log-file -pairs -help'\n",
            "\ncomplete -F _a_program a-program\n",
        ] {
            assert!(script.contains(line), "{line}\n{script}");
        }
    }

    #[test]
    fn zsh_has_one_argument_for_each_flag() {
        let script = PROGRAM.completion("zsh");
        assert!(script.starts_with("#compdef a-program\n_a-program() {\n"));
        for spec in [
            r"'-on=-[it'\''s on \[or off\]]::true or false:(true false)'",
            "'-order=[which way]:ORDER:(up down)'",
            "'-log-file=[where to]:FILE:_files'",
            r"'-pairs=[pairs]:A\:B:'",
            "'-help[print this text and exit]'",
        ] {
            assert!(script.contains(spec), "{spec}\n{script}");
        }
    }

    #[test]
    fn fish_has_one_line_for_each_flag() {
        let expected = r"# fish completion for a-program
complete -c a-program -f
complete -c a-program -o on -d 'it\'s on [or off]'
complete -c a-program -o order -x -a 'up down' -d 'which way'
complete -c a-program -o log-file -r -F -d 'where to'
complete -c a-program -o pairs -x -d 'pairs'
complete -c a-program -o help -d 'print this text and exit'
";
        assert_eq!(PROGRAM.completion("fish"), expected);
    }
}
