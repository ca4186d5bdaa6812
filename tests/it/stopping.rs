//! The end: nothing in flight is lost, and nothing idle is waited for.

use crate::common::{
    Gate,
    backend::{Act, Backend, script, send, status, wait},
    client::{Client, Closed},
    eventually,
    proxy::Proxy,
    refusing::AT_ONCE,
};
use rustix::process::Signal;
use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Waits until nothing listens any more.
fn wait_until_refusing(proxy: &Proxy) {
    eventually(
        "listener",
        || TcpStream::connect_timeout(&proxy.address, Duration::from_secs(1)).is_ok(),
        |&listening| !listening,
    );
}

#[test]
fn an_idle_proxy_stops_at_once_with_clients_connected() {
    let backend = Backend::always(status(200));
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Proxy::serial(&[&backend]).start();
        let mut idle: Vec<_> = (0..20).map(|_| proxy.client()).collect();
        for client in idle.iter_mut().take(10) {
            assert_eq!(client.get("/").status(), 200);
        }
        let begun = Instant::now();
        proxy.signal(signal);
        assert!(proxy.wait_for_exit().success());
        // Waited for, they would take the 10 s of -drain, or a minute of -idle-timeout.
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        for client in &mut idle {
            client.closed();
        }
    }
}

#[test]
fn what_is_in_flight_ends_and_nothing_new_begins() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("kept").after(&gate));
    let mut proxy = Proxy::serial(&[&backend]).start();
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.request("GET /", "");
    }
    backend.wait_for_calls(10);
    proxy.signal(Signal::TERM);
    wait_until_refusing(&proxy);
    gate.open();
    for client in &mut clients {
        let answer = client.response();
        assert_eq!(answer.body(), "kept");
        // The client is told that it is the last one.
        assert_eq!(answer.header("connection"), Some("close"));
        client.closed();
    }
    assert!(proxy.wait_for_exit().success());
}

#[test]
fn after_the_drain_time_what_has_not_ended_is_cut_off_and_named() {
    let gate = Gate::closed();
    let later = gate.clone();
    let backend = Backend::choosing(move |request| match request.target.as_str() {
        "/begun" => script([send("HTTP/1.1 200 OK\r\n\r\nbegun"), wait(&later)]),
        _ => status(200).after(&later),
    });
    let mut calls = 0;
    for mode in [Proxy::serial, Proxy::fanout, Proxy::hedged] {
        let mut proxy = mode(&[&backend]).flag("-drain", "300ms").start();
        let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.request(&format!("GET /{number}"), "");
        }
        let mut begun = proxy.client();
        begun.request("GET /begun", "");
        begun.until("begun\r\n");
        calls += 4;
        backend.wait_for_calls(calls);
        // It has no request in hand.
        let mut half = proxy.client();
        half.send("GET /half HTTP/1.1\r\n");
        proxy.signal(Signal::TERM);
        proxy.wait_for_log("requests that were cut off: 4, not ended within 300ms (-drain)");
        assert!(proxy.wait_for_exit().success());
        for (number, client) in clients.iter_mut().enumerate() {
            let line = proxy.wait_for_log(&format!("request /{number} given up after "));
            let from = client.local_address();
            let end = format!(": it was cut off (-drain) (GET /{number} of {from})");
            assert!(line.ends_with(&end), "{line}");
            assert_eq!(client.closed(), Closed::Reset);
        }
        let line = proxy.wait_for_log("request /begun served in ");
        let from = begun.local_address();
        let end = format!(" by endpoint 0, but it was cut off (-drain) (GET /begun of {from})");
        assert!(line.ends_with(&end), "{line}");
        // An end in order would be the end of this body.
        assert_eq!(begun.closed(), Closed::Reset);
        assert_eq!(proxy.log_with("/half"), [""; 0]);
        assert_eq!(backend.calls(), calls);
    }
    gate.open();
}

#[test]
fn a_client_that_has_connected_just_now_has_its_first_request_served() {
    let backend = Backend::always(status(200).body("served"));
    let mut proxy = Proxy::serial(&[&backend]).start();
    // It accepts the client and finds that it is to stop at once.
    proxy.signal(Signal::STOP);
    let mut client = proxy.client();
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    proxy.wait_for_log("stopping balancing-reverse-proxy on SIGTERM");
    let answer = client.get("/");
    assert_eq!(answer.body(), "served");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(proxy.wait_for_exit().success());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).after(&gate));
    let mut proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("stopping balancing-reverse-proxy on SIGTERM");
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("ending at once: another SIGTERM while stopping");
    assert_eq!(proxy.wait_for_exit().code(), Some(1));
    gate.open();
}

#[test]
fn heads_and_bodies_that_have_begun_are_served_to_their_end() {
    let backend = Backend::always(status(200).body("kept"));
    let mut proxy = Proxy::serial(&[&backend]).start();
    let mut head = proxy.client();
    assert_eq!(head.get("/").body(), "kept");
    head.send("GET /head HTTP/1.1\r\nHost: h\r\nX-");
    let mut first_head = proxy.client();
    first_head.send("G");
    let mut body = proxy.client();
    body.request("POST /body", "Content-Length: 10\r\n");
    body.send("01234");
    let mut chunked = proxy.client();
    chunked.request("POST /chunked", "Transfer-Encoding: chunked\r\n");
    chunked.send("5\r\n01");
    for client in [&head, &first_head, &body, &chunked] {
        client.wait_until_read();
    }
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").body(), "kept");
    proxy.signal(Signal::TERM);
    // Idle ones are closed: by then the word to stop is known everywhere.
    idle.closed();
    for (client, rest) in [
        (&mut head, "A: b\r\n\r\n"),
        (&mut first_head, "ET /first HTTP/1.1\r\nHost: h\r\n\r\n"),
        (&mut body, "56789"),
        (&mut chunked, "234\r\n0\r\n\r\n"),
    ] {
        client.send(rest);
        let answer = client.response();
        assert_eq!(answer.body(), "kept");
        assert_eq!(answer.header("connection"), Some("close"));
        client.closed();
    }
    assert!(proxy.wait_for_exit().success());
}

#[test]
fn newcomers_are_refused_at_once() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("kept").after(&gate));
    let mut proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    proxy.signal(Signal::INT);
    eventually(
        "listener",
        || match TcpStream::connect_timeout(&proxy.address, Duration::from_secs(5)) {
            Ok(_) => "connected".to_owned(),
            // Refused by the kernel: a newcomer does not wait for a time-out.
            Err(error) => format!("{:?}", error.kind()),
        },
        |found| found == "ConnectionRefused",
    );
    gate.open();
    assert_eq!(client.response().body(), "kept");
    assert!(proxy.wait_for_exit().success());
}

#[test]
fn pipelined_requests_behind_the_one_in_flight_are_not_begun() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("kept").after(&gate));
    let mut proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    backend.wait_for_calls(1);
    let mut idle = proxy.client();
    proxy.signal(Signal::TERM);
    idle.closed();
    gate.open();
    let answer = client.response();
    assert_eq!(answer.body(), "kept");
    // A client that is told so knows that the second one has not been served.
    assert_eq!(answer.header("connection"), Some("close"));
    client.closed();
    assert!(proxy.wait_for_exit().success());
    assert_eq!(backend.seen(), ["GET /1"]);
}

/// What one client has seen until the proxy was gone: answers, all of them whole.
fn load(address: SocketAddr, keeps: bool) -> usize {
    let mut served = 0;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        if stream.peer_addr().is_err() {
            continue;
        }
        let mut client = Client::over(stream);
        while client.try_send(&request).is_ok() {
            match client.try_response_to("GET") {
                Ok(answer) => assert_eq!(answer.body(), "whole"),
                // Closed between two requests: this one was not accepted.
                Err(_) => break,
            }
            served += 1;
            if !keeps {
                break;
            }
            // There is always some request under way, and the machine is not full of them.
            thread::sleep(Duration::from_millis(3));
        }
    }
    served
}

#[test]
fn under_load_every_request_that_was_accepted_is_answered() {
    for (signal, flag) in [
        (Some(Signal::TERM), "0"),
        (Some(Signal::INT), "0"),
        (None, "1s"),
    ] {
        let backend = Backend::always(status(200).body("whole"));
        let mut proxy = Proxy::serial(&[&backend]).flag("-stop-after", flag).start();
        let address = proxy.address;
        let loads: Vec<_> = (0..8)
            .map(|number| thread::spawn(move || load(address, number % 2 == 0)))
            .collect();
        if let Some(signal) = signal {
            backend.wait_for_calls(100);
            proxy.signal(signal);
        }
        assert!(proxy.wait_for_exit().success());
        let served: usize = loads.into_iter().map(|load| load.join().unwrap()).sum();
        // Whatever has reached the endpoint has been answered, whole.
        assert_eq!(backend.calls(), served, "{signal:?}");
        assert!(served >= 8, "{served}");
    }
}

#[test]
fn what_has_arrived_before_the_word_to_stop_is_served_whole() {
    const CLIENTS: usize = 40;
    const SIZE: u64 = 1_500_000;
    let backend = Backend::choosing(|request| match request.target.as_str() {
        "/large" => status(200)
            .head_only()
            .header("Content-Length", &SIZE.to_string())
            .then([Act::Generate(SIZE)]),
        _ => status(200).body("small"),
    });
    let mut proxy = Proxy::serial(&[&backend]).start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/small").body(), "small");
    }
    // The proxy finds all of it at once: the requests, and that it is to stop.
    proxy.signal(Signal::STOP);
    for (number, client) in clients.iter_mut().enumerate() {
        match number % 3 {
            0 => client.request("GET /large", ""),
            1 => client.request("POST /upload", "Content-Length: 4\r\n"),
            _ => client.send("GET /half HTTP/1.1\r\nHo"),
        }
    }
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    wait_until_refusing(&proxy);
    for (number, client) in clients.iter_mut().enumerate() {
        match number % 3 {
            0 => {
                let answer = client.counted_response();
                assert_eq!(answer.status(), 200);
                assert_eq!((answer.length, answer.patterned), (SIZE, true));
                continue;
            }
            1 => client.send("body"),
            _ => client.send("st: h\r\n\r\n"),
        }
        assert_eq!(client.response().body(), "small", "client {number}");
    }
    assert!(proxy.wait_for_exit().success());
}
