//! The command line as a user meets it: Go's spelling, one line for a mistake, the usage.

use crate::common::{
    backend::{Backend, Endpoint, status},
    process::Process,
    proxy::{Proxy, command, started_on},
};

struct Output {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs it to its end. Should it start to serve after all, it is not waited for for ever.
fn run(arguments: &[&str]) -> Output {
    let mut command = command();
    command.args(arguments);
    let mut process = Process::start(command);
    Output {
        code: process.wait_for_exit().code(),
        stdout: process.out.to_the_end().join("\n"),
        stderr: process.err.to_the_end().join("\n"),
    }
}

/// Exits with 2; the first line on stderr has all these words, one more leads to the usage,
/// stdout is empty.
fn mistaken(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let error = output.stderr;
    let (first, second) = error.split_once('\n').unwrap_or((&error, ""));
    assert_eq!(output.code, Some(2), "{arguments:?}: {error}");
    for word in words {
        assert!(
            first.contains(word),
            "{arguments:?}: no {word:?} in {first:?}"
        );
    }
    assert_eq!(
        second, "run 'balancing-reverse-proxy -help' for the usage",
        "{arguments:?}: {error}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

/// A mistake in the value of a flag, beside an endpoint that is fine.
fn mistaken_value(flag: &str, value: &str, words: &[&str]) {
    let mut all = vec![flag, value];
    all.extend(words);
    let base = ["-endpoints=http://127.0.0.1:1", "-address=127.0.0.1:0"];
    let given = format!("{flag}={value}");
    mistaken(&[base[0], base[1], &given], &all);
}

#[test]
fn help_goes_to_stdout() {
    for help in ["-h", "-help", "--help", "--h"] {
        let output = run(&[help]);
        assert_eq!(output.code, Some(0), "{help}");
        let usage = output.stdout;
        for flag in [
            "endpoints",
            "address",
            "terminal-responses",
            "fanout",
            "log-prefix",
            "log-file",
            "log-date",
            "log-time",
            "log-msec",
            "log-utc",
            "stop-after",
            "connect-timeout",
            "per-try-timeout",
            "request-timeout",
            "renew-after",
            "ca-file",
            "client-cert",
            "client-key",
            "keep-host",
            "keep-forwarded",
            "no-via",
            "rewrite-location",
            "max-body",
            "workers",
            "version",
            "ready-file",
        ] {
            assert!(usage.contains(&format!("-{flag}")), "{flag} in {usage}");
        }
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn version_is_told() {
    let output = run(&["-version"]);
    assert_eq!(output.code, Some(0));
    let version = output.stdout;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn no_endpoints_are_a_mistake() {
    mistaken(&["-fanout"], &["endpoints"]);
}

#[test]
fn what_is_no_flag_is_a_mistake() {
    let endpoints = "-endpoints=http://127.0.0.1:1";
    mistaken(&[endpoints, "stray"], &["stray"]);
    mistaken(&[endpoints, "-nonsense"], &["nonsense"]);
    mistaken(&[endpoints, "-nonsense=1"], &["nonsense"]);
    mistaken(&[endpoints, "-address"], &["address"]);
    mistaken(&[endpoints, "-"], &["-"]);
}

#[test]
fn an_ambiguous_prefix_names_the_candidates() {
    mistaken(
        &["-endpoints=http://127.0.0.1:1", "-log", "x"],
        &[
            "-log",
            "log-prefix",
            "log-file",
            "log-date",
            "log-time",
            "log-msec",
            "log-utc",
        ],
    );
}

#[test]
fn every_spelling_starts_it() {
    let backend = Backend::always(status(200));
    let url = backend.url();
    let e = |spelling: &str| spelling.replace("URL", &url);
    let spellings: [&[&str]; 6] = [
        &["-endpoints", "URL", "-address", "127.0.0.1:0", "-fanout"],
        &["--endpoints", "URL", "--address", "127.0.0.1:0", "--fanout"],
        &[
            "-endpoints=URL",
            "-address=127.0.0.1:0",
            "-fanout=true",
            "-terminal-responses=200",
        ],
        &["--endpoints=URL", "--address=127.0.0.1:0", "--fanout=T"],
        &[
            "-e",
            "URL",
            "-a",
            "127.0.0.1:0",
            "-f",
            "true",
            "-t",
            "200",
            "-s",
            "1m30s",
        ],
        &[
            "-e=URL",
            "-a=127.0.0.1:0",
            "-f=0",
            "-log-p=x",
            "-log-f=stdout",
            "-log-d=f",
            "-log-t=FALSE",
            "-log-m=False",
            "-log-u=1",
            "--s=0",
        ],
    ];
    for spelling in spellings {
        let mut command = command();
        command.args(spelling.iter().map(|word| e(word)));
        let mut process = Process::start(command);
        let line = process
            .out
            .wait("starting on", |line| line.contains("starting on: "));
        let mut client = crate::common::client::Client::connect(started_on(&line));
        client.request("GET /", "");
        let answer = client.try_response_to("GET");
        assert_eq!(
            answer.map(|answer| answer.status()),
            Ok(200),
            "{spelling:?}: exited {:?}, log {:?}, stderr {:?}",
            process.exited(),
            process.out.all(),
            process.err.all()
        );
    }
}

#[test]
fn terminal_responses_are_checked() {
    let base = "-terminal-responses";
    mistaken_value(base, "200,x", &["part \"x\" of \"200,x\" is not a number"]);
    mistaken_value(
        base,
        "201",
        &["part \"201\" of \"201\" is not a round hundred", "201-201"],
    );
    for bad in [
        "", "200,", ",200", "200,,300", "0", "600", "-100", "200-", "299-200", "2oo",
    ] {
        mistaken_value(base, bad, &[]);
    }
}

#[test]
fn endpoints_are_checked() {
    for bad in [
        "",
        ",",
        "http://127.0.0.1:1,",
        "127.0.0.1:1",
        "//127.0.0.1:1",
        "http://",
        "http:///path",
        "ftp://127.0.0.1:1",
        "http://127.0.0.1:1#fragment",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
    ] {
        mistaken(
            &["-address=127.0.0.1:0", &format!("-endpoints={bad}")],
            &["-endpoints"],
        );
    }
}

#[test]
fn a_password_is_masked_in_a_complaint_too() {
    let output = run(&["-endpoints=http://user:sesame@127.0.0.1:1#fragment"]);
    let error = output.stderr;
    assert_eq!(output.code, Some(2));
    assert!(!error.contains("sesame"), "{error}");
}

#[test]
fn white_space_around_an_endpoint_is_ignored() {
    let backend = Backend::always(status(200));
    let url = format!(" {} , {}/second ", backend.url(), backend.url());
    let proxy = Proxy::serial(&[&url]).start();
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(
        proxy.log()[..2],
        [
            format!("configuring endpoint 0: \"{}\"", backend.url()),
            format!("configuring endpoint 1: \"{}/…\"", backend.url()),
        ]
    );
}

#[test]
fn values_are_checked() {
    for flag in ["-fanout", "-log-date", "-log-time", "-log-msec", "-log-utc"] {
        mistaken_value(flag, "yes", &["true"]);
    }
    for flag in [
        "-stop-after",
        "-connect-timeout",
        "-per-try-timeout",
        "-request-timeout",
        "-renew-after",
    ] {
        for bad in ["5", "s", "5 s", "five", "5x", ""] {
            mistaken_value(flag, bad, &[]);
        }
    }
    for bad in ["", "x", "5kb", "-1"] {
        mistaken_value("-max-body", bad, &[]);
    }
    for bad in ["0", "-1", "x", "1.5"] {
        mistaken_value("-workers", bad, &[]);
    }
    for bad in ["8080", "127.0.0.1", ":x", ":70000", "::1:80"] {
        mistaken_value("-address", bad, &[]);
    }
}
