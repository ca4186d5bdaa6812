//! Many connections: each is served at once, and none leaves anything behind.

use crate::common::{
    backend::{Act, Backend, never, status},
    client::{Client, Closed},
    eventually, is_soon,
    proxy::Proxy,
    settled,
};
use std::time::{Duration, Instant};

/// How soon all first answers have come, in the middle of some tries of a debug build.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

#[test]
fn every_connection_of_a_burst_is_answered_at_once_while_all_stay_open() {
    let backend = Backend::always(status(200).body("served"));
    // One that had to wait for another to end would wait longer than the client does.
    let proxy = Proxy::serial(&[&backend])
        .flag("-idle-timeout", "1h")
        .start();
    for size in [16, 160] {
        is_soon(&format!("{size} answers"), FIRST_ANSWERS, || {
            let mut clients: Vec<Client> = (0..size).map(|_| proxy.client()).collect();
            let begun = Instant::now();
            for client in &mut clients {
                client.request("GET /", "");
            }
            for client in &mut clients {
                let answer = client.response();
                assert_eq!((answer.status(), answer.header("connection")), (200, None));
            }
            let took = begun.elapsed();
            // And again, in the other order, on the same connections.
            for client in clients.iter_mut().rev() {
                assert_eq!(client.get("/").body(), "served");
            }
            took
        });
    }
}

#[test]
fn a_connection_that_says_nothing_at_first_is_served_when_it_does() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut silent: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    assert_eq!(proxy.get("/").body(), "served");
    for client in &mut silent {
        assert_eq!(client.get("/").body(), "served");
    }
}

#[test]
fn persistence_goes_by_whole_elements_of_connection() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    for (version, connection, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "connection: X-A, close\r\n", false),
        ("1.1", "Connection: X-A\r\nConnection:close\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: enclosed\r\n", true),
        ("1.1", "Connection: close-not\r\n", true),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
        (
            "1.1",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
            true,
        ),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: not-keep-alive\r\n", false),
        ("1.0", "Connection: close\r\n", false),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let mut client = proxy.client();
        let request = format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
        client.send(&request);
        assert_eq!(client.response().body(), "served", "{request:?}");
        if stays {
            client.send(&request);
            assert_eq!(client.response().body(), "served", "{request:?}");
        } else {
            assert_eq!(client.closed(), Closed::Fin, "{request:?}");
        }
    }
}

#[test]
fn connections_leave_nothing_behind() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/").status(), 200);
    let before = settled(|| proxy.descriptors());
    for _ in 0..5 {
        let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.request("GET /", "");
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
    }
    // A few connections to the endpoint stay open for the next time.
    eventually(
        "descriptors",
        || proxy.descriptors(),
        |&open| open <= before + 50,
    );
}

#[test]
fn floods_of_resets_leave_nothing_behind_and_little_in_the_log() {
    const MANY: usize = 1000;
    let backend = Backend::choosing(|request| {
        if request.target == "/never" {
            never()
        } else {
            // Not kept for the next request: what is open is a client's, or a leak.
            let close = status(200).header("Connection", "close").body("served");
            close.then([Act::Close])
        }
    });
    let mut proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/").body(), "served");
    let threads = settled(|| proxy.threads());
    let descriptors = settled(|| proxy.descriptors());
    let lines = proxy.log().len();

    for _ in 0..MANY {
        proxy.client().reset();
    }
    assert_eq!(proxy.get_and_settle("/bare").body(), "served");
    let told = proxy.log().len() - lines;
    assert!(told < 10, "{told} lines for connections without a request");

    // The whole request and the reset at once, with an answer under way and without one.
    for target in ["/", "/never"] {
        for _ in 0..MANY / 2 {
            let mut client = proxy.client();
            client.request(&format!("GET {target}"), "");
            client.reset();
        }
    }
    // Halves of requests.
    for beginning in [
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
    ] {
        for _ in 0..MANY / 4 {
            let mut client = proxy.client();
            client.send(beginning);
            client.reset();
        }
    }
    assert_eq!(proxy.get_and_settle("/after").body(), "served");
    eventually(
        "descriptors",
        || proxy.descriptors(),
        |&open| open <= descriptors + 4,
    );
    // Idle threads end after some seconds; the pool keeps a few.
    eventually("threads", || proxy.threads(), |&now| now <= threads + 4);
    let log = proxy.stop();
    assert!(log.len() - lines < 2 * MANY, "{} lines", log.len() - lines);
    let bytes: usize = log.iter().map(String::len).sum();
    assert!(bytes < MANY * 500, "{bytes} bytes");
}

#[test]
fn nothing_runs_while_nothing_happens() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients[..10] {
        assert_eq!(client.get("/").body(), "served");
    }
    // What the requests have left to do is done first.
    let quiet = eventually(
        "wake-ups of its threads within half a second",
        || {
            let before = proxy.wakeups();
            std::thread::sleep(Duration::from_millis(500));
            proxy.wakeups().saturating_sub(before)
        },
        |&wakeups| wakeups <= 2,
    );
    assert!(quiet <= 2);
    // And it is still there.
    for client in &mut clients {
        assert_eq!(client.get("/").body(), "served");
    }
}
