//! The dummy server: what it answers, what it logs, when it fails and when it stops.

use crate::common::{
    client::{Client, End},
    eventually,
    process::Process,
};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

struct Dummy {
    process: Process,
    address: SocketAddr,
}

impl Dummy {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dummy-http-server"));
        command.args(["-address", "127.0.0.1:0"]).args(flags);
        let process = Process::start(command);
        let line = process
            .err
            .wait("its address", |line| line.contains("serving on \""));
        let address = line.split('"').nth(1).unwrap().parse().unwrap();
        Self { process, address }
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }
}

#[test]
fn it_greets() {
    let dummy = Dummy::start(&["-delay-responding=false", "-random-errors=false"]);
    let mut client = dummy.client();
    for uri in ["/", "/p", "/p/q?a=b%20c"] {
        let answer = client.get(uri);
        assert_eq!(answer.status(), 200);
        let expected = format!("Hello, world from {}{uri}\n", dummy.address);
        assert_eq!(answer.body(), expected);
        dummy.process.err.wait("will serve", |line| {
            line.contains(&format!("will serve {uri} after ")) && line.ends_with("error:false")
        });
    }
    let answer = client.post("/post", "some body");
    assert_eq!(answer.status(), 200);
}

#[test]
fn bytes_beyond_ascii_come_back_as_they_came_and_a_refusal_is_no_proxy_s() {
    let dummy = Dummy::start(&STEADY);
    let mut client = dummy.client();
    client.send(b"GET /\xff\xc3\xbc HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut expected = format!("Hello, world from {}/", dummy.address).into_bytes();
    expected.extend_from_slice(b"\xff\xc3\xbc\n");
    assert_eq!(client.response().bytes, expected);
    client.send("garbage\r\n\r\n");
    let refusal = client.response();
    assert_eq!(
        (refusal.status(), refusal.header("Proxy-Status")),
        (400, None)
    );
}

#[test]
fn a_greeting_without_a_pause_names_none() {
    let dummy = Dummy::start(&STEADY);
    let expected = format!("Hello, world from {}/\n", dummy.address);
    assert_eq!(dummy.client().get("/").body(), expected);
}

#[test]
fn every_connection_of_a_burst_is_answered_while_all_stay_open() {
    let dummy = Dummy::start(&["-delay-responding=false", "-random-errors=false"]);
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..64).map(|_| dummy.client()).collect();
        let begun = Instant::now();
        for client in &mut clients {
            client.request("GET /burst", "");
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
        // One that waits for another to end waits for its time-out.
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        for client in clients.iter_mut().rev() {
            assert_eq!(client.get("/").status(), 200);
        }
    }
}

#[test]
fn an_absurd_length_does_not_end_it() {
    let dummy = Dummy::start(&["-delay-responding=false", "-random-errors=false"]);
    for length in ["99999999999999", "18446744073709551615"] {
        let mut client = dummy.client();
        client.request("POST /", &format!("Content-Length: {length}\r\n"));
        assert_eq!(client.response().status(), 413);
        drop(client);
        assert_eq!(dummy.client().post("/", "some body").status(), 200);
    }
}

/// The delay that the answer tells of.
fn delay(dummy: &Dummy) -> String {
    let body = dummy.client().get("/p").body();
    let start = format!("Hello, world from {}/p after ", dummy.address);
    let delay = body.strip_prefix(&start).and_then(|b| b.strip_suffix('\n'));
    delay.unwrap_or_else(|| panic!("{body:?}")).to_owned()
}

/// In milliseconds: Go's notation for less than a second.
fn milliseconds(delay: &str) -> f64 {
    let number = delay.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &delay[number.len()..] {
        "ns" => 1e-6,
        // As the client reads bytes: "µs" in UTF-8.
        "\u{c2}\u{b5}s" => 1e-3,
        "ms" => 1.0,
        "s" if number == "1" => 1e3,
        _ => panic!("{delay} is no delay up to a second"),
    };
    number.parse::<f64>().unwrap() * factor
}

#[test]
fn it_delays_and_says_how_long() {
    let dummy = Dummy::start(&["-random-errors=false"]);
    let mut different = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        let delay = delay(&dummy);
        assert!(begun.elapsed().as_secs_f64() * 1e3 >= milliseconds(&delay));
        dummy.process.err.wait("delay", |line| {
            line.ends_with(&format!("will serve /p after {delay}, error:false"))
        });
        different.push(delay);
    }
    different.dedup();
    assert_eq!(different.len(), 3, "{different:?}");
}

#[test]
fn one_answer_in_four_is_an_error() {
    let dummy = Dummy::start(&["-delay-responding=false"]);
    let mut client = dummy.client();
    let mut errors = 0;
    for _ in 0..400 {
        match client.get("/").status() {
            200 => {}
            500 => errors += 1,
            other => panic!("{other}"),
        }
    }
    // Seven standard deviations to either side.
    assert!((40..160).contains(&errors), "{errors} of 400");
    let logged = |error: bool| {
        let end = format!("error:{error}");
        let lines = dummy.process.err.all();
        lines.iter().filter(|line| line.ends_with(&end)).count()
    };
    let expected = (errors, 400 - errors);
    eventually(
        "lines",
        || (logged(true), logged(false)),
        |&logged| logged == expected,
    );
}

#[test]
fn it_stops_when_it_is_told_to() {
    let begun = Instant::now();
    let mut dummy = Dummy::start(&["-stop-after", "400ms"]);
    assert_eq!(dummy.process.wait_for_exit().code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(400));
    let expected = format!("stopping server on \"{}\" after 400ms", dummy.address);
    let mut lines = dummy.process.err.to_the_end();
    lines.extend(dummy.process.out.to_the_end());
    assert!(
        lines.iter().any(|line| line.ends_with(&expected)),
        "{lines:#?}"
    );
}

#[test]
fn several_clients_are_served_at_once() {
    let dummy = Dummy::start(&["-random-errors=false"]);
    let begun = Instant::now();
    let one_after_the_other: f64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| milliseconds(&delay(&dummy))))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    // Some ten seconds, which are not waited for.
    let took = begun.elapsed().as_secs_f64() * 1e3;
    assert!(
        took < one_after_the_other,
        "{took} ms, {one_after_the_other} ms"
    );
}

#[test]
fn a_flag_it_does_not_know_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_dummy-http-server"))
        .args(["-nonsense", "-stop-after", "1s"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("nonsense"), "{error}");
}

/// Flags that leave nothing to chance.
const STEADY: [&str; 2] = ["-pauses=0", "-codes=200"];

/// What it prints when it is told to stop.
fn counts(mut dummy: Dummy) -> String {
    dummy.process.signal(Signal::TERM);
    assert_eq!(dummy.process.wait_for_exit().code(), Some(0));
    let expected = format!("stopping server on \"{}\" on SIGTERM", dummy.address);
    dummy
        .process
        .err
        .wait("the end", |line| line.ends_with(&expected));
    let lines = dummy.process.out.to_the_end();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

#[test]
fn codes_come_as_often_as_they_are_said_to_and_are_counted() {
    let dummy = Dummy::start(&["-pauses=0", "-codes", "200:0.5,404:0.3,599:0.2"]);
    let mut client = dummy.client();
    let mut seen = BTreeMap::<u16, usize>::new();
    for _ in 0..500 {
        *seen.entry(client.get("/").status()).or_default() += 1;
    }
    for (code, expected) in [(200, 250), (404, 150), (599, 100_usize)] {
        // Seven standard deviations at most.
        assert!(seen[&code].abs_diff(expected) < 79, "{seen:?}");
    }
    dummy.process.err.wait("an odd status", |line| {
        line.ends_with("will serve / after 0s, error:true (599)")
    });
    let answers: Vec<_> = seen
        .iter()
        .map(|(code, n)| format!("{code}: {n}"))
        .collect();
    let expected = format!(
        "served 500 requests: {}, hung: 0, broken: 0",
        answers.join(", ")
    );
    assert_eq!(counts(dummy), expected);
}

#[test]
fn a_seed_makes_the_same_sequence_again() {
    let sequence = |seed: Option<&str>| {
        let mut flags = vec![
            "-pauses=0",
            "-codes=200:0.4,500:0.3,503:0.3",
            "-break-rate=0.2",
        ];
        flags.extend(seed.iter().flat_map(|seed| ["-chance-seed", seed]));
        let dummy = Dummy::start(&flags);
        let answers: Vec<_> = (0..40)
            .map(|_| dummy.client().get("/"))
            .map(|answer| (answer.status(), answer.end))
            .collect();
        let logged = dummy
            .process
            .err
            .wait("the seed", |line| line.contains("-chance-seed "));
        let seed = logged.split_once("-chance-seed ").unwrap().1;
        let seed = seed.split(' ').next().unwrap().to_owned();
        (answers, seed)
    };
    let (first, seed) = sequence(None);
    assert_eq!(sequence(Some(&seed)), (first.clone(), seed));
    let (other, _) = sequence(Some("1"));
    assert_ne!(other, first);
}

#[test]
fn pauses_are_those_that_are_said() {
    let dummy = Dummy::start(&["-codes=200", "-pauses", "20ms:0.5,40ms:0.5"]);
    let mut seen: Vec<_> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            let delay = delay(&dummy);
            assert!(begun.elapsed().as_secs_f64() * 1e3 >= milliseconds(&delay));
            delay
        })
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["20ms", "40ms"]);
}

#[test]
fn the_first_answers_are_503_and_say_when_to_try_again() {
    let dummy = Dummy::start(&[&STEADY[..], &["-ok-after=3", "-try-later=1100ms"]].concat());
    let mut client = dummy.client();
    for number in 0..6 {
        let answer = client.get("/");
        let later = (number < 3).then_some("2");
        let status = if number < 3 { 503 } else { 200 };
        assert_eq!(
            (answer.status(), answer.header("retry-after")),
            (status, later)
        );
    }
    assert_eq!(
        counts(dummy),
        "served 6 requests: 200: 3, 503: 3, hung: 0, broken: 0"
    );
}

#[test]
fn a_request_that_hangs_waits_until_its_client_goes() {
    let dummy = Dummy::start(&[&STEADY[..], &["-hang-rate=1"]].concat());
    let mut client = dummy.client();
    client.request("GET /silent", "");
    dummy.process.err.wait("the request", |line| {
        line.ends_with("will serve /silent after 0s, error:false (hangs)")
    });
    let before = dummy.process.descriptors();
    drop(client);
    eventually(
        "descriptors",
        || dummy.process.descriptors(),
        |&now| now < before,
    );
    assert_eq!(counts(dummy), "served 1 requests: hung: 1, broken: 0");
}

#[test]
fn an_answer_breaks_off_in_the_middle_of_its_body() {
    let flags = ["-break-rate=1", "-body=0123456789", "-body-size=100KiB"];
    let dummy = Dummy::start(&[&STEADY[..], &flags].concat());
    let answer = dummy.client().get("/");
    assert_eq!(answer.header("content-length"), Some("102400"));
    assert_eq!((answer.length, answer.end), (51_200, End::Truncated));
    assert_eq!(counts(dummy), "served 1 requests: hung: 0, broken: 1");
}

#[test]
fn the_body_is_the_text_and_as_long_as_it_is_said_to_be() {
    let text = "{\"error\": 1}";
    let dummy = Dummy::start(&[&STEADY[..], &["-body", text]].concat());
    assert_eq!(dummy.client().get("/").body(), text);
    let dummy = Dummy::start(&[&STEADY[..], &["-body=ab", "-body-size=3MiB"]].concat());
    let answer = dummy.client().get("/");
    assert_eq!((answer.length, answer.end), (3 << 20, End::Complete));
    // Larger than its memory: it is made as it is sent.
    let dummy = Dummy::start(&[&STEADY[..], &["-body-size=1GiB"]].concat());
    let mut client = dummy.client();
    client.request("GET /", "");
    assert_eq!(client.head().header("content-length"), Some("1073741824"));
    drop(client);
    assert!(dummy.process.peak_memory_kib() < 100 << 10);
}

#[test]
fn counts_are_printed_on_a_signal_as_well() {
    let dummy = Dummy::start(&STEADY);
    for number in 1..=2 {
        assert_eq!(dummy.client().get("/").status(), 200);
        dummy.process.signal(Signal::USR1);
        let expected = format!("served {number} requests: 200: {number}, hung: 0, broken: 0");
        dummy.process.out.wait("counts", |line| line == expected);
    }
}

#[test]
fn few_descriptors_are_told_without_a_flag_that_it_does_not_have() {
    let program = env!("CARGO_BIN_EXE_dummy-http-server");
    let mut command = Command::new("sh");
    let script = format!("ulimit -n 64; exec {program} -address 127.0.0.1:0 -pauses 0 -codes 200");
    command.args(["-c", &script]);
    let process = Process::start(command);
    let line = process
        .err
        .wait("a start", |line| line.contains("serving on"));
    let address: SocketAddr = line.split('"').nth(1).unwrap().parse().unwrap();
    assert_eq!(Client::connect(address).get("/").status(), 200);
    let lines = process.err.all();
    let warnings = lines.iter().filter(|line| line.contains("descriptors"));
    let warnings: Vec<_> = warnings.collect();
    assert_eq!(warnings.len(), 1, "{lines:#?}");
    assert!(
        warnings[0].ends_with("clients only (ulimit -n)"),
        "{warnings:?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("-max-connections")),
        "{lines:#?}"
    );
}

#[test]
fn a_seed_is_logged_where_faults_are_asked_for() {
    for (flags, is_logged) in [
        (&[][..], false),
        (&["-codes=200"], true),
        (&["-break-rate=0.5"], true),
    ] {
        let dummy = Dummy::start(flags);
        dummy.process.signal(Signal::TERM);
        let lines = dummy.process.err.to_the_end();
        let logged = lines.iter().any(|line| line.contains("-chance-seed "));
        assert_eq!(logged, is_logged, "{flags:?}: {lines:#?}");
    }
}

#[test]
fn old_abbreviations_stay() {
    let mut dummy = Dummy::start(&["-d=false", "-r=false", "-s", "300ms"]);
    assert_eq!(dummy.process.wait_for_exit().code(), Some(0));
}

#[test]
fn a_distribution_that_is_wrong_is_refused_with_how_far_off_it_is() {
    for (flags, line) in [
        (
            ["-codes", "200:0.9,503:0.2"],
            "-codes: the probabilities of \"200:0.9,503:0.2\" add up to 1.1, 0.1 too much",
        ),
        (
            ["-pauses", "10ms:0.98,1s:0.01"],
            "-pauses: the probabilities of \"10ms:0.98,1s:0.01\" add up to 0.99, 0.01 too little",
        ),
        (
            ["-hang-rate", "2"],
            "-hang-rate: \"2\" is not a probability (write 0.05: from 0 to 1, with at most 9 decimals)",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_dummy-http-server"))
            .args(flags)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().next(), Some(line));
    }
}
