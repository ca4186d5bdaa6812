//! Too many clients, too many requests: which connection makes room, and what is answered 503.

use crate::common::{
    Gate,
    backend::{Act, Backend, Step, status},
    client::{Client, Closed},
    eventually, is_soon, median,
    proxy::Proxy,
    refusing::{AT_ONCE, is_refusal},
    uninterrupted,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Long enough for a table to be full of clients that are known to be slow, and for a
/// newcomer to be let in. The time-outs that would end those clients are longer.
const LET_IN: Duration = Duration::from_secs(8);

/// How long that takes in the middle of some tries.
const USUALLY: Duration = Duration::from_secs(1);

fn endless() -> Step {
    status(200)
        .head_only()
        .header("Content-Length", "1000000000000")
        .then([Act::Generate(1_000_000_000_000)])
}

/// An endpoint that serves, holds its answer until the gate is open, or never ends it.
fn endpoint(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::choosing(move |request| match request.target.as_str() {
        "/held" => status(200).body("held").after(&gate),
        "/endless" => endless(),
        _ => status(200).body("served"),
    })
}

/// A newcomer is served, and soon.
#[track_caller]
fn is_let_in(proxy: &Proxy) -> Client {
    let begun = Instant::now();
    let mut client = proxy.client();
    assert_eq!(client.get("/newcomer").body(), "served");
    assert!(begun.elapsed() < LET_IN, "{:?}", begun.elapsed());
    client
}

/// Which of the clients have been closed by now, by their numbers.
fn closed(clients: &mut [Client]) -> Vec<usize> {
    let mut closed = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        if !client.hears_nothing_for(Duration::from_millis(1)) {
            closed.push(number);
        }
    }
    closed
}

/// Whether the proxy has closed this connection. What it has sent before is read.
fn is_ended(client: &mut Client) -> bool {
    let mut read = 0;
    while read < 64 << 20 {
        if client.hears_nothing_for(Duration::from_millis(50)) {
            return false;
        }
        match client.try_sip(1 << 20) {
            Ok(0) | Err(_) => return true,
            Ok(length) => read += length,
        }
    }
    false
}

#[test]
fn the_connection_that_has_waited_longest_for_a_request_makes_room() {
    let backend = endpoint(&Gate::closed());
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "5")
        .start();
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    // The order of their last requests, not of their connecting, is the order of their waiting.
    let order = [3, 0, 4, 1, 2];
    for number in order {
        assert_eq!(clients[number].get("/").body(), "served");
        // Its thread waits for the next request.
        proxy.wait_until_at_rest();
    }
    let mut gone = Vec::new();
    let mut newcomers = Vec::new();
    for number in &order[..3] {
        newcomers.push(is_let_in(&proxy));
        gone.push(*number);
        gone.sort_unstable();
        eventually("closed", || closed(&mut clients), |closed| *closed == gone);
        assert_eq!(clients[*number].closed(), Closed::Fin);
    }
    // The others are unharmed.
    for number in &order[3..] {
        assert_eq!(clients[*number].get("/").body(), "served");
    }
    for newcomer in &mut newcomers {
        assert_eq!(newcomer.get("/").body(), "served");
    }
}

#[test]
fn connections_that_have_never_said_a_word_make_room() {
    let backend = endpoint(&Gate::closed());
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "4")
        .start();
    let mut silent: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    let _newcomer = is_let_in(&proxy);
    eventually("closed", || closed(&mut silent), |closed| *closed == [0]);
}

#[test]
fn heads_that_are_not_complete_make_room_and_requests_in_flight_do_not() {
    let gate = Gate::closed();
    let backend = endpoint(&gate);
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "5")
        .start();
    let mut held = proxy.client();
    held.request("GET /held", "");
    backend.wait_for_calls(1);
    let mut heads: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut heads {
        client.send("GET / HTTP/1.1\r\nHost: h\r\nX-");
        client.wait_until_read();
    }
    let mut newcomers = Vec::new();
    for number in 0..3 {
        newcomers.push(is_let_in(&proxy));
        // The newcomers' own places are idle afterwards, but for less long.
        eventually(
            "closed",
            || closed(&mut heads),
            |closed| closed.contains(&number),
        );
    }
    gate.open();
    assert_eq!(held.response().body(), "held");
}

/// Heads of which a byte comes every few milliseconds.
#[test]
fn heads_that_drip_make_room() {
    let backend = endpoint(&Gate::closed());
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "6")
        .start();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut client = proxy.client();
                    let _ = client.try_send("GET / HTTP/1.1\r\nX: ");
                    while !over.load(Ordering::Relaxed) && client.try_send("x").is_ok() {
                        thread::sleep(Duration::from_millis(30));
                    }
                }
            });
        }
        let _over = Over(&over);
        is_soon("newcomers", USUALLY, || {
            let begun = Instant::now();
            drop(is_let_in(&proxy));
            begun.elapsed()
        });
    });
}

/// Ends the attackers of a scope, which else would wait for them where a check has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Fills the table with clients of a kind, beside one normal upload and one normal download
/// that go on all the time, and lets newcomers in.
fn crawlers_make_room(crawl: impl Fn(&mut Client)) {
    let gate = Gate::closed();
    let backend = endpoint(&gate);
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "6")
        .start();
    let over = AtomicBool::new(false);
    let mut upload = proxy.client();
    upload.request("POST /upload", "Content-Length: 10000000\r\n");
    let mut download = proxy.client();
    download.request("GET /endless", "");
    download.until("\r\n\r\n");
    thread::scope(|scope| {
        let normal = scope.spawn(|| {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                upload.send([b'x'; 2000]);
                sent += 2000;
                assert!(download.sip(1 << 20) > 0);
                thread::sleep(Duration::from_millis(20));
            }
            upload.send(vec![b'x'; 10_000_000 - sent]);
            assert_eq!(upload.response().body(), "served");
        });
        let mut crawlers: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
        for client in &mut crawlers {
            crawl(client);
        }
        let mut newcomers = Vec::new();
        for _ in 0..3 {
            let mut newcomer = is_let_in(&proxy);
            // In flight from now on: the next one can't have this place.
            newcomer.request("GET /held", "");
            newcomers.push(newcomer);
        }
        gate.open();
        for newcomer in &mut newcomers {
            assert_eq!(newcomer.response().body(), "held");
        }
        over.store(true, Ordering::Relaxed);
        normal.join().unwrap();
        let ended = crawlers
            .iter_mut()
            .filter_map(|crawler| is_ended(crawler).then_some(()));
        assert_eq!(ended.count(), 3);
    });
}

#[test]
fn bodies_that_crawl_make_room() {
    crawlers_make_room(|client| {
        client.request("POST /", "Content-Length: 50000\r\n");
        client.send("x");
    });
    crawlers_make_room(|client| {
        client.request("POST /", "Transfer-Encoding: chunked\r\n");
        client.send("1000\r\nx");
    });
}

#[test]
fn readers_that_crawl_make_room() {
    crawlers_make_room(|client| {
        client.request("GET /endless", "");
        client.head();
    });
}

#[test]
fn newcomer_is_told_so_where_everything_is_in_flight() {
    let gate = Gate::closed();
    let backend = endpoint(&gate);
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "4")
        .start();
    let mut held: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut held {
        client.request("GET /held", "");
    }
    backend.wait_for_calls(4);
    for says_something in [true, false, true] {
        let arrived = Instant::now();
        let mut newcomer = proxy.client();
        let begun = Instant::now();
        if says_something {
            newcomer.request("GET /newcomer", "");
        }
        let answer = newcomer.response();
        assert!(begun.elapsed() < LET_IN, "{:?}", begun.elapsed());
        // Each has its own half second, in which a place may become free.
        let waited = arrived.elapsed();
        assert!(waited >= Duration::from_millis(500), "{waited:?}");
        is_refusal(&answer, 503, "one too many");
        let line = proxy.wait_for_refusal(newcomer.local_address());
        assert!(
            line.contains("too many connections (-max-connections) (503)"),
            "{line}"
        );
        newcomer.closed();
    }
    gate.open();
    for client in &mut held {
        assert_eq!(client.response().body(), "held");
    }
    assert_eq!(proxy.get("/after").body(), "served");
    assert!(!backend.seen().contains(&"GET /newcomer".to_owned()));
}

#[test]
fn answers_that_end_while_a_newcomer_waits_end_their_connections() {
    // For half a second the newcomer waits; the machine may be too busy to see it: again then.
    for _ in 0..20 {
        let gate = Gate::closed();
        let backend = endpoint(&gate);
        let proxy = Proxy::serial(&[&backend])
            .flag("-max-connections", "3")
            .start();
        let mut held: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
        for client in &mut held {
            client.request("GET /held", "");
        }
        backend.wait_for_calls(3);
        let mut newcomer = proxy.client();
        newcomer.request("GET /newcomer", "");
        assert!(newcomer.hears_nothing_for(Duration::from_millis(150)));
        gate.open();
        let mut ended = 0;
        for client in &mut held {
            let answer = client.response();
            assert_eq!(answer.body(), "held");
            if answer.header("connection") == Some("close") {
                ended += 1;
                assert_eq!(client.closed(), Closed::Fin);
            }
        }
        if newcomer.response().status() == 200 && ended > 0 {
            return;
        }
    }
    panic!("no answer ended its connection for a newcomer");
}

/// A client that attacks: it connects again as soon as it has been closed.
fn attack(address: SocketAddr, kind: usize, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
            continue;
        };
        let first: &[u8] = match kind {
            0 => b"",
            1 => b"GET / HTTP/1.1\r\nHost: h\r\nX-",
            2 => b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\nx",
            3 => b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nx",
            _ => b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n",
        };
        let _ = stream.write_all(first);
        let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
        while !over.load(Ordering::Relaxed) {
            let ended = if kind == 4 {
                // Reading would be a normal client's way. An error that is pending is the end.
                thread::sleep(Duration::from_millis(50));
                !matches!(stream.take_error(), Ok(None))
            } else {
                let read = uninterrupted(|| stream.read(&mut [0; 512]));
                match read {
                    Ok(length) => length == 0,
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                }
            };
            if ended {
                break;
            }
        }
    }
}

/// While more clients of these kinds than may be connected hold the table and come again at
/// once, normal clients are served, mostly within a second.
fn normal_clients_are_served_under_attack(kinds: &[usize]) {
    const ATTACKERS: usize = 60;
    const PROBES: usize = 10;
    let backend = endpoint(&Gate::closed());
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "40")
        .start();
    let over = AtomicBool::new(false);
    let address = proxy.address;
    thread::scope(|scope| {
        let over = &over;
        let _over = Over(over);
        for number in 0..ATTACKERS {
            let kind = kinds[number % kinds.len()];
            scope.spawn(move || attack(address, kind, over));
        }
        // When the table is full of them.
        thread::sleep(Duration::from_millis(800));
        let probe = || {
            let begun = Instant::now();
            let status = scope
                .spawn(move || {
                    let mut client = Client::connect(address);
                    let request = format!("GET /probe HTTP/1.1\r\nHost: {address}\r\n\r\n");
                    let _ = client.try_send(request);
                    client.try_response_to("GET").map(|answer| answer.status())
                })
                .join()
                .unwrap();
            let took = begun.elapsed();
            thread::sleep(Duration::from_millis(100).saturating_sub(took));
            (status, took)
        };
        let seen: Vec<_> = (0..PROBES).map(|_| probe()).collect();
        let served = seen.iter().filter(|(status, _)| *status == Ok(200));
        let took: Vec<_> = served.map(|(_, took)| *took).collect();
        assert!(took.len() + 1 >= PROBES, "{seen:?}");
        assert!(median(took) < USUALLY, "{seen:?}");
    });
}

#[test]
fn normal_clients_are_served_while_idle_clients_hold_the_table() {
    normal_clients_are_served_under_attack(&[0]);
}

#[test]
fn normal_clients_are_served_while_slow_heads_hold_the_table() {
    normal_clients_are_served_under_attack(&[1]);
}

#[test]
fn normal_clients_are_served_while_slow_bodies_hold_the_table() {
    normal_clients_are_served_under_attack(&[2, 3]);
}

#[test]
fn normal_clients_are_served_while_slow_readers_hold_the_table() {
    normal_clients_are_served_under_attack(&[4]);
}

#[test]
fn normal_clients_are_served_while_all_kinds_hold_the_table() {
    normal_clients_are_served_under_attack(&[0, 1, 2, 3, 4]);
}

#[test]
fn more_requests_than_workers_are_told_so_at_once() {
    let gate = Gate::closed();
    let backend = endpoint(&gate);
    let proxy = Proxy::serial(&[&backend]).flag("-workers", "2").start();
    let mut held: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for (client, calls) in held.iter_mut().zip(1..) {
        // Each reaches the endpoint although none is answered.
        client.request("GET /held", "");
        backend.wait_for_calls(calls);
    }
    // Connections, heads and bodies that have not come whole are no requests yet.
    let _idle: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    let mut upload = proxy.client();
    upload.request("POST /upload", "Content-Length: 10\r\n");
    upload.send("01234");
    for (method, body) in [("GET", ""), ("HEAD", ""), ("POST", "body")] {
        let mut client = proxy.client();
        let begun = Instant::now();
        let length = format!("Content-Length: {}\r\n", body.len());
        client.request(&format!("{method} /more"), &length);
        client.send(body);
        let answer = client.response_to(method);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        is_refusal(&answer, 503, method);
        assert_eq!(answer.length == 0, method == "HEAD");
        assert_eq!(client.closed(), Closed::Fin);
        let line = proxy.wait_for_refusal(client.local_address());
        assert!(
            line.contains("too many requests are being worked on (-workers) (503)"),
            "{line}"
        );
    }
    assert_eq!(backend.calls(), 2);
    gate.open();
    for client in &mut held {
        assert_eq!(client.response().body(), "held");
    }
    upload.send("56789");
    assert_eq!(upload.response().body(), "served");
    assert_eq!(proxy.get("/after").body(), "served");
}

#[test]
fn the_workers_are_as_many_as_connections_by_default() {
    const MANY: usize = 300;
    let gate = Gate::closed();
    let backend = endpoint(&gate);
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "300")
        .start();
    let mut clients: Vec<Client> = (0..MANY).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.request("GET /held", "");
    }
    // All of them are in flight at the same time.
    backend.wait_for_calls(MANY);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().body(), "held");
    }
}
