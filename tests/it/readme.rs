//! The README is true: what it says to type works, and its flags are those of `-h`.
//!
//! Every command in a block marked `sh` is run (by `commands`), except the lines in [`NOT_RUN`],
//! each with its reason. The binaries are the ones that cargo built for the tests,
//! no command builds them again. Endpoints named in the README are stood in for
//! by a dummy server on a free port.

use crate::figures;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROXY: &str = env!("CARGO_BIN_EXE_balancing-reverse-proxy");

/// Lines of the README's `sh` blocks that can't be run here, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo test --locked", "it is what runs this test"),
    ("scripts/check", "it runs this test"),
    ("scripts/attack", "it takes minutes, and both cores"),
    ("scripts/bench", "it takes 20 minutes, and both cores"),
    ("scripts/tail", "what it measures needs a quiet machine"),
    (
        "cargo install --locked --path .",
        "it would put a program into the user's home directory",
    ),
    (
        "scripts/build-static",
        "a release build for another target; scripts/test-static covers it in CI",
    ),
    (
        "scripts/test-static",
        "needs root and a static build; CI runs it",
    ),
    (
        "docker build --tag balancing-reverse-proxy --file scripts/Dockerfile .",
        "needs a Docker daemon",
    ),
    (
        "docker run --publish 8080:8080 --tmpfs /tmp balancing-reverse-proxy -endpoints https://one.example,https://two.example",
        "needs a Docker daemon",
    ),
    (
        "sudo install target/static/balancing-reverse-proxy /usr/local/bin/",
        "changes the system",
    ),
    (
        "sudo install -m 644 scripts/balancing-reverse-proxy.service /etc/systemd/system/",
        "changes the system",
    ),
    (
        "sudo systemctl enable --now balancing-reverse-proxy",
        "changes the system",
    ),
];

/// What the README's commands write where the user's own endpoints belong.
pub const ENDPOINTS: &str = "http://localhost:8000,http://localhost:8001";

#[test]
fn shell_snippet_ends_and_leaves_nothing_when_it_fails() {
    let readme = readme();
    let snippet = blocks(&readme, "sh")
        .find(|block| block.contains("-ready-file"))
        .expect("a snippet with -ready-file");
    // The proxy does not start; an endpoint is not there, so curl fails. Both with and without -e.
    for (endpoints, code) in [("nonsense", 1), ("http://127.0.0.1:1", 22)] {
        let script = snippet.replace(ENDPOINTS, endpoints);
        for set in ["set -eu", ""] {
            let directory = tempfile::tempdir().unwrap();
            let begin = Instant::now();
            // The proxy has the same standard output: this does not return before it has ended.
            let output = shell(&format!("{set}\n{script}"), directory.path());
            let report = report(&script, &output);
            assert_eq!(output.status.code(), Some(code), "{report}");
            // `-stop-after 1m` is what would end a proxy that is left behind.
            assert!(begin.elapsed() < Duration::from_secs(50), "{report}");
            let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
            assert!(left.is_empty(), "{left:?}\n{report}");
        }
    }
}

#[test]
fn systemd_unit_starts_the_proxy_with_flags_that_it_has() {
    let unit = fs::read_to_string(root().join("scripts/balancing-reverse-proxy.service")).unwrap();
    let (_, command) = unit.split_once("ExecStart=/usr/local/bin/").unwrap();
    let (command, _) = command.split_once("\nRestart=").unwrap();
    let command = command.replace("-address :8080", "-address 127.0.0.1:0 -stop-after 1ms");
    let output = shell(&command, &root());
    assert!(output.status.success(), "{}", report(&command, &output));
}

#[test]
fn commands_that_are_not_run_are_in_the_readme() {
    let readme = readme();
    let commands: Vec<&str> = blocks(&readme, "sh").flat_map(str::lines).collect();
    for (command, _) in NOT_RUN {
        assert!(
            commands.contains(command),
            "not in the README any more: {command}"
        );
    }
}

#[test]
fn the_first_two_commands_are_the_demo_and_the_tests() {
    let readme = readme();
    let commands: Vec<&str> = blocks(&readme, "sh").flat_map(str::lines).take(2).collect();
    assert_eq!(commands, ["scripts/demo", "cargo test --locked"]);
}

#[test]
fn every_script_is_there_can_be_run_and_is_in_the_readme() {
    let readme = readme();
    let mut present: Vec<String> = fs::read_dir(root().join("scripts"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            let metadata = entry.metadata().unwrap();
            metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
        })
        .map(|entry| format!("scripts/{}", entry.file_name().into_string().unwrap()))
        .collect();
    present.sort();

    let mut named: Vec<String> = readme
        .split(|c: char| c.is_whitespace() || "`()\"',:;".contains(c))
        .filter(|word| word.starts_with("scripts/") && word.len() > "scripts/".len())
        .filter(|word| {
            let others = [
                ".svg",
                ".png",
                ".service",
                ".socket",
                ".yaml",
                ".yml",
                ".json",
                ".bats",
                "Dockerfile",
            ];
            let word = word.trim_end_matches('.');
            !others.iter().any(|end| word.ends_with(end))
        })
        .map(|word| word.trim_end_matches('.').to_owned())
        .collect();
    named.sort();
    named.dedup();

    assert_eq!(
        present, named,
        "executable scripts, and scripts in the README"
    );
}

#[test]
fn the_example_in_bats_passes() {
    let bats = Command::new("bats").arg("--version").output();
    if bats.is_err() && env::var_os("REQUIRE_TOOLS").is_none() {
        eprintln!("bats is not installed: not tried");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "bats scripts/flaky.bats";
    let output = shell(script, directory.path());
    assert!(output.status.success(), "{}", report(script, &output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("1..4\n"), "{stdout}");
}

#[test]
fn the_picture_is_that_of_the_table() {
    let readme = readme();
    let picture = fs::read_to_string(root().join("scripts/tail.svg")).unwrap();
    let table = blocks(&readme, "text").find(|block| block.contains("extra calls"));
    let hedged = table.expect("a table of what hedging does").lines().skip(2);
    let mut rows = 0;
    for row in hedged {
        let (name, _) = row.split_once("  ").unwrap();
        let extra = row.rsplit("  ").next().unwrap().trim();
        let label = format!(">{name}: {extra} more calls<");
        assert!(picture.contains(&label), "no {label} in the picture");
        rows += 1;
    }
    assert_eq!(rows, 2);
}

#[test]
fn the_flags_are_what_help_prints() {
    let readme = readme();
    let (_, flags) = readme.split_once("\n## Flags\n").expect("a section Flags");
    let documented = blocks(flags, "text").next().expect("a block of flags");

    let help = Command::new(PROXY).arg("-h").output().unwrap();

    assert!(help.status.success());
    assert_eq!(
        documented,
        String::from_utf8(help.stdout).unwrap(),
        "the block under Flags is to be what -h prints"
    );
}

/// What more than exit 0 the scripts promise.
pub fn check_output(script: &str, output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    match script.trim_start_matches("set -eu\n") {
        "scripts/demo" => {
            let readme = readme();
            let sample = blocks(&readme, "text").next().unwrap();
            // Ports, times and the endpoint that failed differ each time, the sentences don't.
            for line in sample.lines().filter(|line| line.ends_with(['.', ':'])) {
                assert!(stdout.contains(line), "{line}\n{}", report(script, output));
            }
            assert!(stdout.contains("answer 200"), "{}", report(script, output));
            assert!(stdout.contains("served in"), "{}", report(script, output));
            figures::check_demo(&stdout);
        }
        "scripts/bench --quick --only tiny memory" => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let can_run = ["wrk", "nginx"]
                .iter()
                .all(|tool| !stderr.contains(&format!("{tool} is not installed")));
            // Twice in `tiny`, once in `memory`.
            let rows = stdout
                .lines()
                .filter(|line| line.contains("this serial") && !line.starts_with("added p50"));
            let expected = if can_run { 3 } else { 0 };
            assert_eq!(rows.count(), expected, "{}", report(script, output));
            if can_run {
                figures::check_bench(&stdout, |name| {
                    stderr.contains(&format!("{name} is not installed"))
                });
            }
        }
        "scripts/tail --small" => {
            figures::check_tail(&stdout);
            let rows = stdout.lines().filter(|line| line.ends_with(" %"));
            assert_eq!(rows.count(), 3, "{}", report(script, output));
            let last = stdout.lines().last().unwrap_or_default();
            let picture = fs::read_to_string(last.trim_start_matches("picture: "));
            let picture = picture.unwrap_or_else(|_| panic!("{}", report(script, output)));
            assert_eq!(picture.matches("<path class=\"curve").count(), 6);
            assert!(picture.ends_with("</svg>\n"));
        }
        "scripts/multi-test.sh" => {
            let log = stdout.lines().last().unwrap().strip_prefix("log: ");
            // The directory of the run is gone with the run, hence the name only.
            assert!(
                log.is_some_and(|path| path.contains("multi-test")),
                "{}",
                report(script, output)
            );
        }
        _ => {}
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The text of the fenced blocks that are marked with `language`.
pub fn blocks<'a>(markdown: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    // Split at the fences, every second part is inside one.
    markdown
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(move |block| block.strip_prefix(language)?.strip_prefix('\n'))
}

pub fn is_not_run(line: &str) -> bool {
    NOT_RUN.iter().any(|(command, _)| line == *command)
}

/// Runs `script` as a user would that has the programs in the path: in the project's directory where
/// it needs a file of that, else in `directory`, which gets temporary files, too.
pub fn shell(script: &str, directory: &Path) -> Output {
    let bin_dir = Path::new(PROXY).parent().unwrap();
    let root = root();
    let current = if script.contains("scripts/") {
        &root
    } else {
        directory
    };
    let mut path = vec![bin_dir.to_owned()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap()));
    Command::new("sh")
        .args(["-c", script])
        .current_dir(current)
        .env("PATH", env::join_paths(path).unwrap())
        .env("BIN_DIR", bin_dir)
        .env("TMPDIR", directory)
        .env_remove("http_proxy")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn report(script: &str, output: &Output) -> String {
    format!(
        "{script}\n{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
