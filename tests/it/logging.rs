//! The log: the shape of its lines, where they go, and that they never stand in the way.

use crate::common::{
    Gate,
    backend::{Backend, Endpoint, raw, script, send, status, wait},
    client::Client,
    eventually,
    process::{Lines, Process},
    proxy::{Proxy, started_on},
};
use rustix::process::Signal;
use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};
use tempfile::TempDir;
use time::{OffsetDateTime, Time};

const ENDPOINT: &str = "http://127.0.0.1:1";

/// Whether the line has the shape, in which `9` stands for a digit.
fn has_shape(line: &str, shape: &str) -> bool {
    line.len() == shape.len()
        && line.chars().zip(shape.chars()).all(|(c, wanted)| {
            if wanted == '9' {
                c.is_ascii_digit()
            } else {
                c == wanted
            }
        })
}

#[test]
fn prefix_date_time_and_message() {
    let endpoint = ENDPOINT.to_owned();
    for prefix in ["balancing-reverse-proxy", "two words", "x:", ""] {
        for date in [true, false] {
            for (time, msec) in [(true, false), (false, false), (true, true), (false, true)] {
                let mut builder = Proxy::serial(&[&endpoint])
                    .flag("-log-date", date.to_string())
                    .flag("-log-time", time.to_string())
                    .flag("-log-msec", msec.to_string());
                if prefix != "balancing-reverse-proxy" {
                    builder = builder.flag("-log-prefix", prefix);
                }
                let mut shape = Vec::new();
                if !prefix.is_empty() {
                    shape.push(prefix);
                }
                if date {
                    shape.push("9999/99/99");
                }
                match (time, msec) {
                    (_, true) => shape.push("99:99:99.999999"),
                    (true, false) => shape.push("99:99:99"),
                    (false, false) => {}
                }
                // No digits of its own but nines, so that it is its own shape.
                let message = "configuring endpoint 9: \"http://999.9.9.9:9\"";
                shape.push(message);
                let shape = shape.join(" ");

                let proxy = builder.start();
                let line = proxy.out.all()[0].clone();
                assert!(has_shape(&line, &shape), "{line:?} is no {shape:?}");
                assert!(line.ends_with(&format!("configuring endpoint 0: \"{ENDPOINT}\"")));
            }
        }
    }
}

#[test]
fn an_empty_prefix_given_as_a_word_of_its_own() {
    let endpoint = ENDPOINT.to_owned();
    let mut command = Proxy::serial(&[&endpoint]).command();
    command.args(["-log-prefix", "", "-log-date=false", "-log-time=false"]);
    let process = Process::start(command);
    process
        .out
        .wait("starting on", |line| line.starts_with("starting on: "));
    assert_eq!(
        process.out.all()[0],
        format!("configuring endpoint 0: \"{ENDPOINT}\"")
    );
}

#[test]
fn local_time_is_the_default_and_utc_a_choice() {
    let endpoint = ENDPOINT.to_owned();
    // Five hours before Greenwich, in POSIX's upside-down notation.
    for (utc, hours) in [("true", 0), ("false", -5)] {
        let before = OffsetDateTime::now_utc() + time::Duration::hours(hours);
        let proxy = Proxy::serial(&[&endpoint])
            .env("TZ", "ABC5")
            .flag("-log-utc", utc)
            .start();
        let line = proxy.out.all()[0].clone();
        let mut words = line.split(' ').skip(1);
        let (date, clock) = (words.next().unwrap(), words.next().unwrap());
        let number = |text: &str| text.parse::<u8>().unwrap();
        let time = clock.split(':').map(number).collect::<Vec<_>>();
        let time = Time::from_hms(time[0], time[1], time[2]).unwrap();
        // Past midnight the date may be the next one; the time of day goes round.
        let late = (time - before.time()).whole_seconds().rem_euclid(86_400);
        assert!(!(60..=86_397).contains(&late), "{line}, but it is {before}");
        let shown = format!(
            "{:04}/{:02}/{:02}",
            before.year(),
            u8::from(before.month()),
            before.day()
        );
        let next = before.date().next_day().unwrap();
        let turned = format!(
            "{:04}/{:02}/{:02}",
            next.year(),
            u8::from(next.month()),
            next.day()
        );
        assert!(
            date == shown || (date == turned && time.hour() == 0),
            "{line}"
        );
    }
}

#[test]
fn the_lines_of_a_request() {
    let sick = Backend::replies([status(503), status(500)]);
    let well = Backend::replies([status(200).body("ok"), status(502)]);
    let mut proxy = Proxy::serial(&[&sick, &well]).start();
    let mut client = proxy.client();
    let from = client.local_address();
    assert_eq!(client.get("/p?q=%20x").status(), 200);
    assert_eq!(client.get("/").status(), 500);
    proxy.wait_for_log("returning 500");

    let (first, second) = (sick.url(), well.url());
    let log = proxy.stop();
    let served = log
        .iter()
        .position(|line| line.starts_with("request /p?q=%20x served in "))
        .unwrap_or_else(|| panic!("{log:#?}"));
    // The attempts have their own tests.
    let span = log[served]
        .strip_prefix("request /p?q=%20x served in ")
        .and_then(|rest| rest.split_once(" by endpoint 1 (0: status 503 after "))
        .map_or_else(|| panic!("{log:#?}"), |(span, _)| span);
    // Go's way: 983.247916ms, 41.5µs, 1.2s.
    let number = span.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &span[number.len()..];
    assert!(number.parse::<f64>().is_ok(), "{span}");
    assert!(["ns", "µs", "us", "ms", "s"].contains(&unit), "{span}");

    let mut rest = log.clone();
    rest.remove(served);
    assert_eq!(
        rest[..2],
        [
            format!("configuring endpoint 0: \"{first}\""),
            format!("configuring endpoint 1: \"{second}\""),
        ]
    );
    assert!(rest[2].starts_with("starting on: \"127.0.0.1:"), "{log:#?}");
    assert_eq!(
        rest[3..],
        [
            format!("endpoint 0: {first}: status 503 (GET /p?q=%20x of {from})"),
            format!("endpoint 0: {first}: status 500 (GET / of {from})"),
            format!("endpoint 1: {second}: status 502 (GET / of {from})"),
            format!("endpoints failed to return a valid answer, returning 500 (GET / of {from})"),
        ]
    );
}

#[test]
fn the_request_line_is_written_when_the_response_has_been_relayed() {
    let gate = Gate::closed();
    let backend = Backend::replies([
        script([
            send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n"),
            wait(&gate),
            send("0\r\n\r\n"),
        ]),
        status(200),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /long", "");
    client.until("begin");
    // Another request's line comes, this one's does not yet.
    proxy.get("/short");
    proxy.wait_for_log("request /short served");
    assert!(!proxy.log().iter().any(|line| line.contains("/long")));
    gate.open();
    proxy.wait_for_log("request /long served");
}

#[test]
fn control_characters_are_escaped() {
    let backend = Backend::always(raw("\u{1b}[31mHTTP/1.1 200 \u{7}OK\r\n\r\n\u{1b}[0m"));
    let mut proxy = Proxy::serial(&[&backend])
        .flag("-per-try-timeout", "200ms")
        .start();
    assert_eq!(proxy.get("/%1b%0aline").status(), 500);
    let mut client = proxy.client();
    let _ = client.try_send("GET /\u{1b}[31m\u{7} HTTP/1.1\r\nHost: h\u{1b}\r\n\r\n");
    let _ = client.try_response_to("GET");
    proxy.wait_for_log("returning 500");
    let log = proxy.stop();
    assert!(!log.concat().contains(char::is_control), "{log:#?}");
}

fn request(address: SocketAddr) {
    assert_eq!(Client::connect(address).get("/").status(), 200);
}

fn lines_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Starts with a log file; the address is read from it.
fn start_with_file(file: &Path, backend: &Backend) -> (Process, SocketAddr) {
    let known = lines_of(file).len();
    let command = Proxy::serial(&[backend])
        .flag("-log-file", file.to_str().unwrap())
        .command();
    let process = Process::start(command);
    let lines = eventually(
        "log file",
        || lines_of(file),
        |lines| {
            lines
                .iter()
                .skip(known)
                .any(|line| line.contains("starting on: "))
        },
    );
    let line = lines.iter().rfind(|line| line.contains("starting on: "));
    (process, started_on(line.unwrap()))
}

#[test]
fn a_log_file_is_appended_to() {
    let backend = Backend::always(status(200));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("proxy.log");
    for round in 1..=2 {
        let (mut process, address) = start_with_file(&file, &backend);
        request(address);
        let served = |lines: &Vec<String>| {
            lines
                .iter()
                .filter(|line| line.contains(" served in "))
                .count()
                == round
        };
        let lines = eventually("log file", || lines_of(&file), served);
        assert!(
            lines[0].starts_with("balancing-reverse-proxy "),
            "{lines:#?}"
        );
        process.stop();
        assert_eq!(process.out.to_the_end(), [""; 0]);
        assert_eq!(process.err.to_the_end(), [""; 0]);
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644 & !umask());
}

/// This process's, which the proxy inherits.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(mask.unwrap().trim(), 8).unwrap()
}

#[test]
fn a_log_file_renamed_away_is_reopened_at_sighup_and_sigusr1() {
    let backend = Backend::always(status(200));
    let directory = TempDir::new().unwrap();
    for signal in [Signal::HUP, Signal::USR1] {
        let file = directory.path().join(format!("{signal:?}.log"));
        let rotated = directory.path().join(format!("{signal:?}.log.1"));
        let (process, address) = start_with_file(&file, &backend);
        request(address);
        let served = |lines: &Vec<String>| lines.iter().any(|line| line.contains(" served in "));
        eventually("first line", || lines_of(&file), served);

        fs::rename(&file, &rotated).unwrap();
        process.signal(signal);
        eventually("new file", || file.exists(), |&there| there);
        let before = lines_of(&rotated);
        request(address);
        eventually("line in the new file", || lines_of(&file), served);
        assert_eq!(lines_of(&rotated), before);
    }
}

#[test]
fn sigusr2_does_nothing() {
    let backend = Backend::always(status(200));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("proxy.log");
    let rotated = directory.path().join("proxy.log.1");
    let (mut process, address) = start_with_file(&file, &backend);
    fs::rename(&file, &rotated).unwrap();
    for _ in 0..3 {
        process.signal(Signal::USR2);
        request(address);
    }
    let served = |lines: &Vec<String>| {
        let served = lines.iter().filter(|line| line.contains(" served in "));
        served.count() == 3
    };
    eventually("lines in the old file", || lines_of(&rotated), served);
    assert!(!file.exists());
    assert_eq!(process.exited(), None);
}

#[test]
fn signals_without_a_log_file_harm_nothing() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).start();
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::HUP] {
        proxy.signal(signal);
        assert_eq!(proxy.get("/").status(), 200);
    }
}

#[test]
fn stdout_and_stderr_are_names_of_the_log_file() {
    let backend = Backend::always(status(200));
    for (name, to_stdout) in [("stdout", true), ("", true), ("stderr", false)] {
        let command = Proxy::serial(&[&backend]).flag("-log-file", name).command();
        let mut process = Process::start(command);
        let choose = |process: &Process| -> (Lines, Lines) {
            let (out, err) = (process.out.clone(), process.err.clone());
            if to_stdout { (out, err) } else { (err, out) }
        };
        let (log, other) = choose(&process);
        let line = log.wait("starting on", |line| line.contains("starting on: "));
        request(started_on(&line));
        log.wait("served", |line| line.contains(" served in "));
        process.stop();
        assert_eq!(other.to_the_end(), [""; 0], "{name:?}");
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_is_fatal() {
    let backend = Backend::untouched();
    let command = Proxy::serial(&[&backend])
        .flag("-log-file", "/nonexistent/proxy.log")
        .command();
    let mut process = Process::start(command);
    assert_eq!(process.wait_for_exit().code(), Some(1));
    let error = process.err.to_the_end().join("\n");
    assert!(error.contains("/nonexistent/proxy.log"), "{error}");
}

/// Starts with a stdout of which only the beginning is read, by this function.
fn start_unread(backend: &Backend) -> (Process, SocketAddr, BufReader<std::process::ChildStdout>) {
    let mut command = Proxy::serial(&[backend]).command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("starting on: ") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0);
    }
    (Process::adopt(child), started_on(line.trim_end()), out)
}

#[test]
fn a_reader_that_has_had_enough_does_not_kill_the_proxy() {
    // As with `| head -1`.
    let backend = Backend::always(status(200));
    let (mut process, address, out) = start_unread(&backend);
    drop(out);
    for _ in 0..50 {
        request(address);
    }
    assert_eq!(process.exited(), None);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_for_exit().code(), Some(0));
}

#[test]
fn a_pipe_that_is_not_read_does_not_block_a_request() {
    let backend = Backend::always(status(200));
    let (mut process, address, out) = start_unread(&backend);
    // Ten times what a pipe holds.
    let target = format!("/{}", "x".repeat(4000));
    let mut client = Client::connect(address);
    for _ in 0..160 {
        assert_eq!(client.get(&target).status(), 200);
    }
    assert_eq!(process.exited(), None);

    // When the pipe is read again, the log goes on, in whole lines.
    let lines = Lines::collect(out);
    eventually(
        "new lines",
        || {
            assert_eq!(client.get("/later").status(), 200);
            lines.all()
        },
        |lines| {
            lines
                .iter()
                .any(|line| line.contains("request /later served in "))
        },
    );
    for line in lines.all() {
        assert!(line.starts_with("balancing-reverse-proxy "), "{line}");
        assert_eq!(line.matches("balancing-reverse-proxy").count(), 1, "{line}");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_for_exit().code(), Some(0));
}

#[test]
fn a_full_pipe_does_not_keep_it_from_stopping_in_time() {
    let (_unread, mut pipe) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&pipe, true).unwrap();
    while pipe.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    let backend = Backend::untouched();
    for log_file in ["stdout", "stderr"] {
        let mut command = Proxy::serial(&[&backend])
            .flag("-stop-after", "100ms")
            .flag("-log-file", log_file)
            .command();
        command
            .stdin(Stdio::null())
            .stdout(pipe.try_clone().unwrap())
            .stderr(Stdio::piped());
        let mut process = Process::adopt(command.spawn().unwrap());
        assert_eq!(process.wait_for_exit().code(), Some(0), "{log_file}");
    }
}

#[test]
fn a_full_pipe_does_not_keep_it_from_stopping() {
    let backend = Backend::always(status(200));
    let (mut process, address, _out) = start_unread(&backend);
    let target = format!("/{}", "x".repeat(4000));
    let mut client = Client::connect(address);
    for _ in 0..40 {
        assert_eq!(client.get(&target).status(), 200);
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_for_exit().code(), Some(0));
}
