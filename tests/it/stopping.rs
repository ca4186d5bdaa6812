//! The end: nothing in flight is lost, and nothing idle is waited for.

use crate::common::{
    Gate,
    backend::{Backend, status},
    eventually,
    proxy::Proxy,
};
use rustix::process::Signal;
use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

#[test]
fn an_idle_proxy_is_gone_at_once_whoever_is_connected() {
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
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
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
    eventually(
        "listener",
        || TcpStream::connect_timeout(&proxy.address, Duration::from_secs(1)).is_ok(),
        |&listening| !listening,
    );
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
fn after_the_drain_time_it_ends_all_the_same() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).after(&gate));
    let mut proxy = Proxy::serial(&[&backend]).flag("-drain", "300ms").start();
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("some requests have not ended within 300ms (-drain)");
    assert!(proxy.wait_for_exit().success());
    gate.open();
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
    assert_eq!(proxy.wait_for_exit().code(), Some(1));
    gate.open();
}

#[test]
fn under_load_no_answer_is_broken() {
    let backend = Backend::always(status(200).body("whole"));
    let mut proxy = Proxy::serial(&[&backend]).start();
    let address = proxy.address;
    let loads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = crate::common::client::Client::connect(address);
                let mut served = 0;
                loop {
                    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
                    if client.try_send(request).is_err() {
                        return served;
                    }
                    match client.try_response_to("GET") {
                        Ok(answer) => assert_eq!(answer.body(), "whole"),
                        // Closed between two requests: this one was not accepted.
                        Err(_) => return served,
                    }
                    served += 1;
                }
            })
        })
        .collect();
    backend.wait_for_calls(200);
    proxy.signal(Signal::TERM);
    for load in loads {
        assert!(load.join().unwrap() > 0);
    }
    assert!(proxy.wait_for_exit().success());
}
