//! Completions in real shells, and the manual page as mandoc sees it.
//!
//! bash is on every machine that runs these tests. zsh, fish and mandoc may be missing; with
//! `REQUIRE_TOOLS` set, as CI has it, what is missing is a failure.

use std::env;
use std::io::Write;
use std::process::{Command, Output, Stdio};

const PROXY: &str = env!("CARGO_BIN_EXE_balancing-reverse-proxy");
const DUMMY: &str = env!("CARGO_BIN_EXE_dummy-http-server");

/// What a command prints; `None` if it is not installed and need not be.
fn run(command: &mut Command) -> Option<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) => Some(text(&name, &output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(env::var_os("REQUIRE_TOOLS").is_none(), "{name} is missing");
            eprintln!("{name} is not installed: not tried");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn text(what: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}: {out}\n{err}");
    out
}

/// What a program prints for this flag.
fn printed(program: &str, flags: &[&str]) -> String {
    let output = Command::new(program).args(flags).output().unwrap();
    assert!(output.stderr.is_empty());
    text(program, &output)
}

/// A word that is being typed, by a program's name and what is offered for it.
const CASES: [(&str, &str, &[&str]); 8] = [
    (PROXY, "-ord", &["-order"]),
    (PROXY, "-log-f", &["-log-file"]),
    (PROXY, "-order ", &["fastest", "listed", "rotate"]),
    (PROXY, "-on-exhausted b", &["best"]),
    (PROXY, "-fanout -hedge-b", &["-hedge-budget"]),
    (PROXY, "-completion z", &["zsh"]),
    (DUMMY, "-hang", &["-hang-rate"]),
    (DUMMY, "-completion ", &["bash", "fish", "zsh"]),
];

fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap()
}

#[test]
fn bash_completes() {
    let more: [(&str, &str, &[&str]); 6] = [
        (PROXY, "-order = ro", &["rotate"]),
        (PROXY, "-order =", &["fastest", "listed", "rotate"]),
        (PROXY, "-fanout = t", &["true"]),
        (PROXY, "--ord", &["--order"]),
        (PROXY, "--order f", &["fastest"]),
        (PROXY, "-ca-file Cargo.t", &["Cargo.toml"]),
    ];
    for (program, typed, offered) in CASES.into_iter().chain(more) {
        let script = r#"
            name=${1##*/}
            eval "$("$1" -completion bash)"
            [[ $(complete -p "$name") == "complete -F _${name//-/_} $name" ]] || exit 1
            IFS=' ' read -ra COMP_WORDS <<<"$name $2"
            [[ $2 == *' ' ]] && COMP_WORDS+=('')
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            "_${name//-/_}"
            printf '%s\n' "${COMPREPLY[@]}" | sort"#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", script, "bash", program, typed]);
        bash.current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = run(&mut bash).expect("bash");
        assert_eq!(output.lines().collect::<Vec<_>>(), offered, "{typed}");
    }
}

#[test]
fn fish_completes() {
    for (program, typed, offered) in CASES {
        let name = name(program);
        let script = format!("{program} -completion fish | source; complete -C '{name} {typed}'");
        let home = tempfile::tempdir().unwrap();
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &script])
            .env("HOME", home.path());
        let Some(output) = run(&mut fish) else {
            return;
        };
        let words = output.lines().map(|line| line.split('\t').next().unwrap());
        let mut words: Vec<_> = words.collect();
        words.sort_unstable();
        assert_eq!(words, offered, "{typed}");
    }
}

/// In a terminal of zsh's own; a function in place of `compadd` says what would be offered.
const ZSH: &str = r#"
zmodload zsh/zpty || exit 1
zpty shell zsh -f -i
send() { zpty -w shell "$1"; }
send 'PROMPT="" PS2="" RPROMPT="" ; stty -echo'
send "$2; autoload -U compinit; compinit -u -D; $3"
send 'compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits; builtin compadd -O hits "$@"
    for hit in $hits; do print -r -- "OFFERED $hit"; done
}'
send 'bindkey "^I" complete-word; complete-and-end() { zle complete-word; print -r -- "END OF OFFERS"; BUFFER=""; }; zle -N complete-and-end; bindkey "^I" complete-and-end; print READY-$((1 + 1))'
zpty -r -m shell line '*READY-2*' || exit 1
zpty -n -w shell "$1"$'\t'
zpty -r -m shell line '*END OF OFFERS*' || exit 1
print -r -- $line
"#;

/// What zsh offers for a line, after a command in front of compinit and one behind it; `None` where
/// there is no zsh.
fn zsh(line: &str, before: &str, after: &str) -> Option<Vec<String>> {
    let home = tempfile::tempdir().unwrap();
    let mut zsh = Command::new("zsh");
    zsh.args(["-f", "-c", ZSH, "zsh", line, before, after]);
    zsh.env("HOME", home.path()).env("TERM", "dumb");
    let output = run(&mut zsh)?;
    let lines = output.lines().map(|line| line.trim_end_matches('\r'));
    let mut words: Vec<_> = lines
        .filter_map(|line| Some(line.split_once("OFFERED ")?.1))
        .map(|word| word.trim_end_matches('=').to_owned())
        .collect();
    words.sort_unstable();
    words.dedup();
    Some(words)
}

#[test]
fn zsh_completes() {
    for (program, typed, offered) in CASES {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        let completion = printed(program, &["-completion", "zsh"]);
        std::fs::write(&script, completion).unwrap();
        let line = format!("{} {typed}", name(program));
        let source = format!("source {}", script.display());
        let Some(words) = zsh(&line, "true", &source) else {
            return;
        };
        assert_eq!(words, offered, "{typed}");
    }
}

#[test]
fn zsh_completes_the_first_time_where_the_script_is_installed() {
    for program in [PROXY, DUMMY] {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join(format!("_{}", name(program)));
        let completion = printed(program, &["-completion", "zsh"]);
        std::fs::write(&script, completion).unwrap();
        let line = format!("{} -completion ", name(program));
        let path = format!("fpath=({} $fpath)", directory.path().display());
        let Some(words) = zsh(&line, &path, "true") else {
            return;
        };
        assert_eq!(words, ["bash", "fish", "zsh"], "{}", name(program));
    }
}

#[test]
fn mandoc_has_nothing_to_say_about_the_manual() {
    for program in [PROXY, DUMMY] {
        let page = printed(program, &["-manual"]);
        let lint = |arguments: &[&str]| {
            let mut mandoc = Command::new("mandoc")
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .ok()?;
            let mut input = mandoc.stdin.take().unwrap();
            input.write_all(page.as_bytes()).unwrap();
            drop(input);
            Some(mandoc.wait_with_output().unwrap())
        };
        let Some(output) = lint(&["-T", "lint", "-W", "style"]) else {
            assert!(env::var_os("REQUIRE_TOOLS").is_none(), "mandoc is missing");
            eprintln!("mandoc is not installed: not tried");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        let shown = lint(&["-T", "ascii", "-O", "width=200"]).unwrap();
        // Bold is a letter over itself.
        let shown = String::from_utf8(shown.stdout).unwrap();
        let mut plain = String::new();
        for letter in shown.chars() {
            match letter {
                '\u{8}' => drop(plain.pop()),
                letter => plain.push(letter),
            }
        }
        for flag in printed(program, &["-help"]).lines() {
            if let Some(flag) = flag.strip_prefix("  -") {
                let name = flag.split(' ').next().unwrap();
                assert!(plain.contains(&format!("     -{name}")), "{name}\n{plain}");
            }
        }
    }
}
