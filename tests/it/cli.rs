//! The command lines of both programs, from outside: exact messages, streams, exit codes.
//!
//! Where a proxy really starts, it listens on a free port and stops after a moment.

// The helpers of a test may fail as the test may.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use balancing_reverse_proxy::config::PROXY;

const PROXY_BINARY: &str = env!("CARGO_BIN_EXE_balancing-reverse-proxy");
const DUMMY_BINARY: &str = env!("CARGO_BIN_EXE_dummy-http-server");

fn run(binary: &str, words: impl IntoIterator<Item: AsRef<OsStr>>) -> Output {
    Command::new(binary)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A proxy with one endpoint that starts, stops after a moment, and does what `words` say.
fn moment(words: &[&str]) -> Output {
    let start = ["-e=http://localhost:9/x", "-a=127.0.0.1:0", "-s=10ms"];
    run(PROXY_BINARY, start.iter().chain(words))
}

#[test]
fn a_bad_command_line_is_one_line_on_stderr_and_one_that_leads_to_the_usage() {
    for (words, line) in [
        (
            &["-fanout"][..],
            "-endpoints is missing (write -endpoints http://one.example,http://two.example)",
        ),
        (
            &["-a", ":0", "stray"],
            "stray argument \"stray\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
        ),
        (
            &["-endpoints", "http://a", "http://b"],
            "stray argument \"http://b\" (the URLS of -endpoints are separated by commas, \
                 without blanks)",
        ),
        (
            &["-endpoints", "http://a, http://b", "-fanout", "yes"],
            "stray argument \"yes\" (-fanout stands alone: write -fanout=true or -fanout=false)",
        ),
        (
            &["-endpoints", "localhost:8000"],
            "-endpoints: \"localhost:8000\" has no scheme (write \"http://localhost:8000\")",
        ),
        (
            &["-e", "http://a", "--", "x"],
            "stray argument \"x\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
        ),
        (
            &["-f", "-a=:0", ""],
            "stray argument \"\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
        ),
        (
            &["-log=x"],
            "-log is ambiguous, it may be any of -log-prefix, -log-file, -log-date, -log-time, \
             -log-msec, -log-utc, -log-json, -log-requests",
        ),
        (
            &["-endpoints"],
            "-endpoints: the value is missing (write -endpoints URLS)",
        ),
        (
            &["-e=http://a", "-stop-after", "5"],
            "-stop-after: \"5\" is a duration without a unit \
             (write 5s, 300ms, 1m30s, 1.5h, 100us)",
        ),
        (
            &["-e=http://a", "-fanout=yes"],
            "-fanout: \"yes\" is not a boolean (write true or false)",
        ),
        (
            &["-e=http://a", "-connect-timeout=0"],
            "-connect-timeout: \"0\" is not more than zero (write 5s, 300ms, 1m30s)",
        ),
        (
            &["-e=http://a", "-max-body=1MB"],
            "-max-body: \"1MB\" is not a size \
             (write a whole number of bytes, or one with KiB, MiB or GiB)",
        ),
        (
            &["-e=http://a", "-workers=0"],
            "-workers: \"0\" is not a number from 1 to 65536",
        ),
        (
            &["-e=http://a", "-t=200,x"],
            "-terminal-responses: part \"x\" of \"200,x\" is not a number",
        ),
        (
            &["-e=http://a", "-t", "201"],
            "-terminal-responses: part \"201\" of \"201\" is not a round hundred \
             (a range is written 201-201)",
        ),
        (
            &["-e=http://a,,http://b"],
            "-endpoints: part 2 is empty (write http://host:port)",
        ),
        (
            &["-e=ftp://me:secret@a"],
            "-endpoints: \"ftp://***@a\" has the scheme \"ftp\" (http or https)",
        ),
        (
            &["-e=http://a", "-a=8080"],
            "-address: \"8080\" has no port (write :8080, localhost:8080 or [::1]:8080)",
        ),
        (
            &["-e=https://a", "-client-cert=tests/data/client.pem"],
            "-client-key is missing (-client-cert needs it; the file may be the same)",
        ),
        (
            &["-e=https://a", "-ca-file=/no/such/file"],
            "-ca-file: \"/no/such/file\" cannot be read: no such file or directory",
        ),
    ] {
        refused(words, line);
    }
}

#[test]
fn an_unknown_flag_is_named_with_those_that_may_have_been_meant() {
    for (words, line) in [
        (
            &["-fan-out"][..],
            "unknown flag -fan-out (similar: -fanout)",
        ),
        (&["-bogus"], "unknown flag -bogus"),
        (
            &["-e=http://a", "-timeout", "5s"],
            "unknown flag -timeout (similar: -per-try-timeout, -request-timeout, \
             -connect-timeout, -idle-timeout, -header-timeout, -client-timeout)",
        ),
        (&["-bo\ngus"], "unknown flag -bo\\ngus"),
    ] {
        refused(words, line);
    }
}

/// That the proxy says this and how to get its usage on stderr, and nothing else.
#[track_caller]
fn refused(words: &[&str], line: &str) {
    let output = run(PROXY_BINARY, words);
    let expected = format!("{line}\nrun 'balancing-reverse-proxy -help' for the usage\n");
    assert_eq!(text(&output.stderr), expected, "{words:?}");
    assert_eq!(text(&output.stdout), "", "{words:?}");
    assert_eq!(output.status.code(), Some(2), "{words:?}");
}

#[test]
fn a_host_name_that_is_none_is_a_bad_command_line() {
    refused(
        &["-e=http://a,https://a-.b"],
        "-endpoints: part 2 (\"https://a-.b\") has a host name that no certificate can \
         have (253 characters at most, 63 of them between two dots, and no hyphen before or after \
         a dot)",
    );
}

#[test]
fn a_complaint_about_any_word_hides_passwords() {
    for (words, line) in [
        (
            &["-e=http://me:sec,ret@a/"][..],
            "-endpoints: \"http://***@a\" has a comma in its user information \
             (a comma inside a URL is written %2C)",
        ),
        (
            &["http://me:secret@a"],
            "stray argument \"http://***@a\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
        ),
        (
            &["-e", "http://a", "http://me:sec", "ret@a"],
            "stray argument \"http://me:***\" (the URLS of -endpoints are separated by commas, \
                 without blanks)",
        ),
        (
            &["-e", "http://a", "http://b/api?key=sec", "ret"],
            "stray argument \"http://b/…\" (the URLS of -endpoints are separated by commas, \
                 without blanks)",
        ),
        (
            &["-e", "http://a/?key=sec", "ret"],
            "stray argument behind -endpoints (the URLS of -endpoints are separated by commas, \
                 without blanks)",
        ),
        (
            &["-e=http://a/secret,http://b/secret#x"],
            "-endpoints: part 2 (\"http://b/…\") has a fragment, which is never sent (a # inside \
             a URL is written %23)",
        ),
        (
            &["-e=http://a/sec,ret"],
            "-endpoints: part 2 has no scheme (write \"http://host:port\"; a comma inside a URL is \
             written %2C)",
        ),
        (
            &["-fanout=http://me:secret@a"],
            "-fanout: \"http://***@a\" is not a boolean (write true or false)",
        ),
        (
            &["-=http://me:secret@a"],
            "\"-=http://***@a\" is not a flag (write -NAME VALUE or -NAME=VALUE)",
        ),
        (&["-xhttp://me:secret@a"], "unknown flag -xhttp://***@a"),
        (
            &["-e=http://a", "-a=http://me:secret@a"],
            "-address: \"http://***@a\" has neither a host name nor an address \
             (write :8080, localhost:8080 or [::1]:8080)",
        ),
        (
            &["-e=http://a", "-t=http://me:secret@a"],
            "-terminal-responses: part \"http://***@a\" of \"http://***@a\" is not a number",
        ),
        (
            &["-e=https://a", "-ca-file=http://me:secret@a"],
            "-ca-file: \"http://***@a\" cannot be read: no such file or directory",
        ),
    ] {
        refused(words, line);
    }
    let output = run(PROXY_BINARY, [OsStr::from_bytes(b"http://me:secret\xff@a")]);
    assert!(
        text(&output.stderr).starts_with("argument \"http://***@a\" is not valid UTF-8\n"),
        "{output:?}"
    );
}

#[test]
fn a_word_that_is_not_utf8_is_refused() {
    let output = run(PROXY_BINARY, [OsStr::from_bytes(b"-e=http://\xff")]);
    assert!(
        text(&output.stderr).starts_with("argument \"-e=http://\\xFF\" is not valid UTF-8\n"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn no_arguments_at_all_are_answered_by_the_usage_on_stderr() {
    let output = run(PROXY_BINARY, [""; 0]);
    assert_eq!(text(&output.stderr), PROXY.usage());
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_last_value_of_a_flag_counts_and_the_log_names_the_repeated_flags() {
    let output = run(
        PROXY_BINARY,
        [
            "-e=http://localhost:9/first",
            "-a=127.0.0.1:0",
            "-s=10ms",
            "--endpoints",
            "http://localhost:9/second",
            "-f=false",
            "-e=http://localhost:9/last",
            "-fanout",
            "-log-prefix=",
            "-log-date=false",
            "-log-time=false",
        ],
    );
    let expected = "given more than once, the last value counts: -endpoints, -fanout\n\
                    configuring endpoint 0: \"http://localhost:9/…\"\n\
                    starting on: ";
    assert!(text(&output.stdout).starts_with(expected), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
    // Checked although it does not count.
    refused(
        &["-e=http://a", "-workers=0", "-workers=1"],
        "-workers: \"0\" is not a number from 1 to 65536",
    );
}

#[test]
fn help_is_the_usage_on_stdout() {
    for words in [
        &["-h"][..],
        &["-help"],
        &["--help"],
        &["-e=http://a", "-f", "-h"],
        &["-bogus", "-h"],
    ] {
        let output = run(PROXY_BINARY, words);
        assert_eq!(text(&output.stdout), PROXY.usage(), "{words:?}");
        assert_eq!(text(&output.stderr), "", "{words:?}");
        assert_eq!(output.status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn version_is_printed_whatever_else_is_given() {
    for words in [
        &["-version"][..],
        &["-v"],
        &["-version", "-t=nonsense"],
        &["-bogus", "--version"],
    ] {
        let output = run(PROXY_BINARY, words);
        assert_eq!(text(&output.stdout), "balancing-reverse-proxy 0.1.0\n");
        assert_eq!(text(&output.stderr), "", "{words:?}");
        assert_eq!(output.status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn the_log_begins_with_the_endpoints_and_hides_passwords() {
    let output = run(
        PROXY_BINARY,
        [
            "-e=http://localhost:9, https://me:secret@two.example/api?k=v",
            "-a=127.0.0.1:0",
            "-s=10ms",
            "-log-prefix=",
            "-log-date=false",
            "-log-time=false",
        ],
    );
    let expected = "configuring endpoint 0: \"http://localhost:9\"\n\
                    configuring endpoint 1: \"https://two.example/…\"\n";
    assert!(text(&output.stdout).starts_with(expected), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_log_line_has_prefix_date_and_time() {
    let nine = |c: char| if c.is_ascii_digit() { '9' } else { c };
    for (words, start) in [
        (&[][..], "balancing-reverse-proxy 9999/99/99 99:99:99 conf"),
        (
            &["-log-prefix=x", "-log-msec", "-log-utc"],
            "x 9999/99/99 99:99:99.999999 conf",
        ),
        (
            &["-log-p=", "-log-d=false", "-log-t=false", "-log-m"],
            "99:99:99.999999 conf",
        ),
        (&["-log-prefix", ""], "9999/99/99 99:99:99 conf"),
        (&["-log-d=0", "-log-t=0"], "balancing-reverse-proxy conf"),
    ] {
        let output = moment(words);
        let log: String = text(&output.stdout).chars().map(nine).collect();
        assert!(log.starts_with(start), "{words:?}: {log}");
    }
}

#[test]
fn the_log_goes_where_it_is_told() {
    let line = "configuring endpoint 0: \"http://localhost:9/…\"\n";
    let to_stderr = moment(&["-log-file=stderr"]);
    assert!(text(&to_stderr.stderr).contains(line), "{to_stderr:?}");
    assert!(!text(&to_stderr.stdout).contains(line), "{to_stderr:?}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.log");
    let flag = format!("-log-file={}", path.display());
    for times in 1..=2 {
        let to_file = moment(&[&flag]);
        assert_eq!(to_file.status.code(), Some(0), "{to_file:?}");
        let log = std::fs::read_to_string(&path).unwrap();
        assert_eq!(log.matches(line).count(), times, "{log}");
    }
    // The mode is 0644, less what the umask of this test takes away.
    let mode = path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o644, 0, "{mode:o}");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_fatal() {
    let output = moment(&["-log-file=/no/such/directory/x.log"]);
    assert_eq!(
        text(&output.stderr),
        "cannot open log file \"/no/such/directory/x.log\": no such file or directory\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_folder_for_bodies_that_cannot_be_written_to_is_named_at_start() {
    let start = |binary, words: &[&str], folder: &str| {
        Command::new(binary)
            .args(words)
            .args(["-a=127.0.0.1:0", "-s=10ms"])
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let expected = |folder: &str| {
        format!(
            "cannot write to {folder:?}, the folder for request bodies above 1 MiB: no such file \
             or directory: they will be refused (TMPDIR names another folder)\n"
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path().to_str().unwrap();
    let missing = directory.path().join("missing");
    let missing = missing.to_str().unwrap();
    for (binary, words) in [
        (
            PROXY_BINARY,
            &["-e=http://localhost:9", "-log-f=stderr"][..],
        ),
        (DUMMY_BINARY, &[]),
    ] {
        let output = start(binary, words, missing);
        assert!(
            text(&output.stderr).contains(&expected(missing)),
            "{output:?}"
        );
        assert_eq!(output.status.code(), Some(0));
        let output = start(binary, words, there);
        assert!(!text(&output.stderr).contains("cannot write"), "{output:?}");
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_closed_stdout_is_survived() {
    for words in [
        &["-e=http://a", "-a=127.0.0.1:0", "-s=10ms"][..],
        &["-h"],
        &["-version"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = Command::new(PROXY_BINARY)
            .args(words)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "", "{words:?}");
        assert_eq!(output.status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn the_dummy_server_has_the_same_command_line() {
    for (words, line) in [
        (
            &["-delay-response"][..],
            "unknown flag -delay-response (similar: -delay-responding)",
        ),
        (
            &["-d", "yes"],
            "stray argument \"yes\" (-delay-responding stands alone: write \
          -delay-responding=true or -delay-responding=false)",
        ),
        (
            &["-d=maybe"],
            "-delay-responding: \"maybe\" is not a boolean (write true or false)",
        ),
        (
            &["-a", "x"],
            "-address: \"x\" has no port (write :8080, localhost:8080 or [::1]:8080)",
        ),
    ] {
        let output = run(DUMMY_BINARY, words);
        let expected = format!("{line}\nrun 'dummy-http-server -help' for the usage\n");
        assert_eq!(text(&output.stderr), expected, "{words:?}");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    let help = run(DUMMY_BINARY, ["-h"]);
    assert!(text(&help.stdout).contains("\nUsage: dummy-http-server [FLAGS]\n"));
    assert_eq!(help.status.code(), Some(0));
}

#[test]
fn a_text_that_a_full_disk_cuts_short_is_a_failure() {
    for (binary, flag) in [
        (PROXY_BINARY, "-manual"),
        (PROXY_BINARY, "-completion=bash"),
        (PROXY_BINARY, "-help"),
        (PROXY_BINARY, "-version"),
        (DUMMY_BINARY, "-manual"),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(binary);
        let output = command.arg(flag).stdout(full).output().unwrap();
        let expected = "cannot write to the standard output: no space left on device\n";
        assert_eq!(text(&output.stderr), expected, "{flag}");
        assert_eq!(output.status.code(), Some(1), "{flag}");
    }
}

/// A dummy server on a free port, its log, and the address in its first line.
fn dummy(words: &[&str]) -> (Child, BufReader<ChildStderr>, String) {
    let mut server = Command::new(DUMMY_BINARY)
        .arg("-a=127.0.0.1:0")
        .args(words)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap());
    let mut first = String::new();
    log.read_line(&mut first).unwrap();
    assert!(first.contains(" serving on \"127.0.0.1:"), "{first}");
    let address = first.split('"').nth(1).unwrap().to_owned();
    (server, log, address)
}

#[test]
fn the_dummy_server_answers() {
    let (mut server, mut log, address) = dummy(&["-d=false", "-r=false"]);

    // The port is taken now.
    let second = run(DUMMY_BINARY, ["-a", &address]);
    assert_eq!(
        text(&second.stderr),
        format!("cannot bind to address: {address}: address already in use\n")
    );
    assert_eq!(second.status.code(), Some(1));

    let mut client = TcpStream::connect(&address).unwrap();
    client
        .write_all(b"POST /foo?x=1 HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let body = format!("\r\n\r\nHello, world from {address}/foo?x=1\n");
    assert!(answer.ends_with(&body), "{answer}");

    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let expected = " will serve /foo?x=1 after 0s, error:false\n";
    assert!(line.ends_with(expected), "{line}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn the_dummy_server_says_how_long_it_waited() {
    let (mut server, mut log, address) = dummy(&["-r=false"]);
    let mut client = TcpStream::connect(&address).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let body = format!("\r\n\r\nHello, world from {address}/ after ");
    let (_, delay) = answer.split_once(&body).unwrap();
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let expected = format!(" will serve / after {}, error:false\n", delay.trim_end());
    assert!(line.ends_with(&expected), "{line}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn the_dummy_server_stops() {
    let (mut server, mut log, address) = dummy(&["-s=100ms"]);
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    let stopping = format!(" stopping server on \"{address}\" after 100ms\n");
    assert!(rest.ends_with(&stopping), "{rest}");
    assert_eq!(rest.lines().count(), 1, "{rest}");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
