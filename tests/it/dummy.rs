//! The dummy server: what it answers, what it logs, when it fails and when it stops.

use crate::common::{client::Client, eventually, process::Process};
use std::{
    net::{SocketAddr, TcpListener},
    process::Command,
    time::{Duration, Instant},
};

/// A port that was free a moment ago: the dummy says its address as it was told.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

struct Dummy {
    process: Process,
    address: SocketAddr,
}

impl Dummy {
    fn start(flags: &[&str]) -> Self {
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dummy-http-server"));
        command.args(["-address", &address.to_string()]).args(flags);
        let mut process = Process::start(command);
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert_eq!(process.exited(), None, "{:#?}", process.err.all());
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
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
            begun.elapsed() < Duration::from_secs(5),
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
    // Some ten seconds, which nobody waits for.
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
