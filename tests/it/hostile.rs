//! Input that is made to hurt.

use crate::common::{
    backend::{Backend, status},
    client::Client,
    eventually,
    proxy::Proxy,
    refusing::is_refusal,
    settled, text,
};
use std::time::Duration;

#[test]
fn lengths_that_no_machine_has_cost_nothing() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/").body(), "served");
    let before = settled(|| proxy.descriptors());
    let threads = settled(|| proxy.threads());
    for round in 0..300_u64 {
        let length = [99_999_999_999_999, u64::MAX, 1 << 62][usize::try_from(round % 3).unwrap()];
        let mut client = proxy.client();
        client.request("POST /", &format!("Content-Length: {length}\r\n"));
        assert_eq!(client.response().status(), 413);
    }
    eventually(
        "descriptors",
        || proxy.descriptors(),
        |&open| open <= before + 4,
    );
    // Idle threads end after some seconds; the pool keeps a few.
    eventually("threads", || proxy.threads(), |&now| now <= threads + 4);
    for _ in 0..100 {
        assert_eq!(proxy.get("/").body(), "served");
    }
    // Debug build, and the proxy's usual threads.
    assert!(proxy.peak_memory_kib() < 100 << 10);
}

#[test]
fn a_large_body_that_is_refused_leaves_no_thread_behind() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/").body(), "served");
    let before = settled(|| proxy.threads());
    for _ in 0..20 {
        let mut client = proxy.client();
        client.request("POST /", &format!("Content-Length: {}\r\n", 1_u64 << 30));
        assert_eq!(client.response().status(), 413);
    }
    // Idle threads end after some seconds; the pool keeps a few.
    eventually(
        "threads",
        || proxy.threads(),
        |&threads| threads <= before + 4,
    );
}

#[test]
fn an_endless_header_line_does_not_fill_the_memory() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
        let piece = vec![b'x'; 64 << 10];
        // Were it all taken, this would be a gigabyte.
        let taken = client.send_until_stuck(&piece, 1 << 30, Duration::from_secs(3));
        assert!(taken.is_err(), "{taken:?} bytes were taken");
    }
    assert!(proxy.peak_memory_kib() < 60 << 10);
    eventually(
        "refusals in the log",
        || proxy.log_with("(431)").len(),
        |&refusals| refusals == 4,
    );
}

#[test]
fn ten_thousand_headers_and_two_megabytes_of_target_are_too_much() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    let many = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "X-Header: value\r\n".repeat(10_000)
    );
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(2 << 20));
    for request in [many, long] {
        let mut client = proxy.client();
        // It may be refused before it has been sent whole.
        let _ = client.try_send(&request);
        if let Ok(answer) = client.try_response_to("GET") {
            is_refusal(&answer, 431, "too much");
        }
    }
}

#[test]
fn a_request_means_the_same_wherever_it_is_split() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let request =
        "POST /t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for at in 1..request.len() {
        let (head, tail) = request.split_at(at);
        let mut client = proxy.client();
        client.send(head);
        client.wait_until_read();
        client.send(tail);
        assert_eq!(client.response().body(), "served", "{at}");
    }
    for request in backend.requests() {
        assert_eq!(
            (request.target.as_str(), request.body.as_slice()),
            ("/t", &b"abc"[..])
        );
    }
}

/// A small generator of the same numbers every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

/// A request with a few things done to it.
fn mutated(dice: &mut Dice) -> Vec<u8> {
    const SEEDS: [&str; 5] = [
        "GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-A: b\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET http://h/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: X, close\r\nX: y\r\n\r\n",
    ];
    const SPICE: [&[u8]; 16] = [
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b"\xff",
        b"\r\n",
        b"\r\n\r\n",
        b";",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: i\r\n",
        b"+",
        b"0",
    ];
    let mut request = SEEDS[dice.roll(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(request.len());
        match dice.roll(4) {
            0 => {
                request.remove(at);
            }
            1 => request[at] = u8::try_from(dice.roll(256)).unwrap(),
            2 => {
                let spice = SPICE[dice.roll(SPICE.len())];
                request.splice(at..at, spice.iter().copied());
            }
            _ => {
                let end = (at + dice.roll(20)).min(request.len());
                let again = request[at..end].to_vec();
                request.splice(at..at, again);
            }
        }
    }
    // What follows must never be taken for a part of it, nor be served after a bad one
    // in a way that an endpoint could tell from a request of its own.
    request.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: h\r\nX-Last: 1\r\n\r\n");
    request
}

#[test]
fn whatever_comes_an_endpoint_sees_sound_requests_only() {
    let backend = Backend::always(status(200).body("ok"));
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "300ms")
        .flag("-client-timeout", "1s")
        .flag("-half-close", "true")
        .start();
    std::thread::scope(|scope| {
        for seed in 1..=8_u64 {
            let address = proxy.address;
            scope.spawn(move || {
                let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ (seed << 7));
                for _ in 0..150 {
                    let mut client = Client::connect(address);
                    // It may be refused before it has been sent whole.
                    let _ = client.try_send(mutated(&mut dice));
                    client.finish_sending();
                    let told = client.rest();
                    assert!(!told.contains("tiny"), "{told}");
                }
            });
        }
    });
    // Enough of them are sound.
    let served = backend.calls();
    assert!(served > 100, "{served}");
    for request in backend.requests() {
        let head = text(&request.raw_head);
        assert_eq!(request.all("host").len(), 1, "{head}");
        assert!(request.all("transfer-encoding").is_empty(), "{head}");
        let lengths = request.all("content-length");
        assert!(lengths.len() <= 1, "{head}");
        let length = lengths.first().map_or(0, |length| length.parse().unwrap());
        assert_eq!(request.body.len(), length, "{head}");
        for line in head.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
            let (name, _) = line.split_once(':').unwrap();
            assert!(!name.is_empty() && !name.contains([' ', '\t']), "{head}");
            assert!(!line.contains(['\r', '\n', '\0']), "{head}");
        }
    }
    assert_eq!(proxy.get("/after").body(), "ok");
}
