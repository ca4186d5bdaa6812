//! Every command of the README works: see `readme`.
//!
//! In a file of its own because tests begin in the order of their names, and these scripts take
//! longer than any other test: at the end of the run they would be waited for.

use crate::readme::{ENDPOINTS, blocks, check_output, is_not_run, readme, report, shell};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

const DUMMY: &str = env!("CARGO_BIN_EXE_dummy-http-server");

/// A port of the user's choice; here it may be taken.
const ADDRESS: &str = "-address :8080";

#[test]
fn every_command_works() {
    // The recipes are tried out by `recipes`.
    let (before, recipes) = readme()
        .split_once("\n## Recipes\n")
        .map(|(before, recipes)| (before.to_owned(), recipes.to_owned()))
        .unwrap();
    let readme = before + recipes.split_once("\n## ").unwrap().1;
    let dummy = Dummy::start();
    let endpoints = format!("{0},{0}", dummy.url);

    thread::scope(|scope| {
        for block in blocks(&readme, "sh") {
            let script: Vec<&str> = block.lines().filter(|line| !is_not_run(line)).collect();
            if script.is_empty() {
                continue;
            }
            let script = format!("set -eu\n{}", script.join("\n"))
                .replace(ENDPOINTS, &endpoints)
                .replace(ADDRESS, "-address 127.0.0.1:0");
            scope.spawn(move || {
                let directory = tempfile::tempdir().unwrap();
                let output = shell(&script, directory.path());
                assert!(output.status.success(), "{}", report(&script, &output));
                check_output(&script, &output);
            });
        }
    });
}

/// A dummy server that answers at once and never fails.
struct Dummy {
    child: Child,
    url: String,
}

impl Dummy {
    fn start() -> Self {
        let mut child = Command::new(DUMMY)
            .args(["-address", "127.0.0.1:0", "-stop-after", "2m"])
            .args(["-delay-responding=false", "-random-errors=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                Some(
                    line.split_once("serving on \"")?
                        .1
                        .strip_suffix('"')?
                        .into(),
                )
            })
            .unwrap_or_else(|| String::from("no address"));
        // What it logs later must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            url: format!("http://{address}"),
        }
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
