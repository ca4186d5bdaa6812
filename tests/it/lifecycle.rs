//! From the bind to the end: addresses, the ready file, and stopping.

use crate::common::{
    Gate,
    backend::{Backend, status},
    client::Client,
    eventually,
    process::Process,
    proxy::{Proxy, started_on},
};
use rustix::process::Signal;
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;

#[test]
fn port_0_takes_a_free_port_and_says_which() {
    let backend = Backend::always(status(200));
    let mut seen = Vec::new();
    for address in ["127.0.0.1:0", "localhost:0", "[::1]:0", ":0"] {
        let proxy = Proxy::serial(&[&backend]).flag("-address", address).start();
        assert_ne!(proxy.address.port(), 0);
        assert!(!seen.contains(&proxy.address));
        assert_eq!(proxy.get("/").status(), 200, "{address}");
        seen.push(proxy.address);
    }
}

#[test]
fn a_port_alone_is_every_interface_in_both_families() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).flag("-address", ":0").start();
    let port = proxy.address.port();
    for ip in ["127.0.0.1", "127.0.0.2", "::1"] {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        assert_eq!(Client::connect(address).get("/").status(), 200, "{ip}");
    }
}

#[test]
fn an_address_is_only_that_address() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    let other = SocketAddr::from(([127, 0, 0, 2], proxy.address.port()));
    assert!(TcpStream::connect(other).is_err());
}

#[test]
fn the_endpoints_come_before_the_start_in_the_log() {
    let endpoints = [
        "http://127.0.0.1:1".to_owned(),
        "http://127.0.0.1:2/api?k=v".to_owned(),
    ];
    let proxy = Proxy::serial(&[&endpoints[0], &endpoints[1]]).start();
    assert_eq!(
        proxy.log(),
        [
            "configuring endpoint 0: \"http://127.0.0.1:1\"".to_owned(),
            "configuring endpoint 1: \"http://127.0.0.1:2/…\"".to_owned(),
            format!("starting on: \"{}\"", proxy.address),
        ]
    );
}

#[test]
fn an_address_that_is_taken_is_fatal() {
    let backend = Backend::untouched();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("proxy.log");
    for to_file in [false, true] {
        let mut builder = Proxy::serial(&[&backend]).flag("-address", &address);
        if to_file {
            builder = builder.flag("-log-file", file.to_str().unwrap());
        }
        let mut process = Process::start(builder.command());
        assert_eq!(process.wait_for_exit().code(), Some(1));
        let error = process.err.to_the_end().join("\n");
        assert!(error.contains("cannot bind to address: "), "{error}");
        if to_file {
            let log = fs::read_to_string(&file).unwrap();
            assert!(log.contains("cannot bind to address: "), "{log}");
            assert!(!log.contains("starting on"), "{log}");
        } else {
            let out = process.out.to_the_end().join("\n");
            assert!(!out.contains("starting on"), "{out}");
        }
    }
}

#[test]
fn a_dual_stack_port_that_is_taken_is_fatal() {
    let backend = Backend::untouched();
    let first = Proxy::serial(&[&backend]).flag("-address", ":0").start();
    let address = format!(":{}", first.address.port());
    let second = Proxy::serial(&[&backend]).flag("-address", &address);
    let mut process = Process::start(second.command());
    assert_eq!(process.wait_for_exit().code(), Some(1));
    let error = process.err.to_the_end().join("\n");
    assert!(error.contains("cannot bind to address: "), "{error}");
}

/// Starts with a ready file and returns what it held when it was there.
fn start_with_ready_file(file: &Path, stop_after: &str) -> (Process, SocketAddr) {
    let backend = "http://127.0.0.1:1".to_owned();
    let command = Proxy::serial(&[&backend])
        .flag("-ready-file", file.to_str().unwrap())
        .flag("-stop-after", stop_after)
        .command();
    let process = Process::start(command);
    let text = eventually(
        "ready file",
        || fs::read_to_string(file).ok(),
        Option::is_some,
    );
    // Never half of it: it is written beside and renamed.
    let text = text.unwrap();
    let address: SocketAddr = text
        .trim_end()
        .parse()
        .unwrap_or_else(|_| panic!("{text:?}"));
    (process, address)
}

#[test]
fn the_ready_file_is_there_while_it_serves_and_gone_afterwards() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ready");
    for signal in [Signal::TERM, Signal::INT] {
        let (mut process, address) = start_with_ready_file(&file, "0");
        assert_eq!(Client::connect(address).get("/").status(), 500);
        process.signal(signal);
        assert_eq!(process.wait_for_exit().code(), Some(0), "{signal:?}");
        // Nor is anything left beside it.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    let (mut process, _) = start_with_ready_file(&file, "300ms");
    assert_eq!(process.wait_for_exit().code(), Some(0));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_ready_file_left_over_is_not_taken_for_readiness_for_long() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ready");
    fs::write(&file, "127.0.0.1:1\n").unwrap();
    let backend = "http://127.0.0.1:1".to_owned();
    let proxy = Proxy::serial(&[&backend])
        .flag("-ready-file", file.to_str().unwrap())
        .start();
    let address = proxy.address.to_string();
    eventually(
        "ready file",
        || fs::read_to_string(&file).unwrap_or_default(),
        |text| text.trim_end() == address,
    );
}

#[test]
fn a_ready_file_left_over_goes_also_where_the_address_is_taken() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ready");
    fs::write(&file, "127.0.0.1:1\n").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = "http://127.0.0.1:1".to_owned();
    let command = Proxy::serial(&[&backend])
        .flag("-ready-file", file.to_str().unwrap())
        .flag("-address", taken.local_addr().unwrap().to_string())
        .command();
    let mut process = Process::start(command);
    assert_eq!(process.wait_for_exit().code(), Some(1));
    assert!(!file.exists());
}

#[test]
fn it_stops_after_a_while_and_says_so() {
    let backend = "http://127.0.0.1:1".to_owned();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("proxy.log");
    for to_file in [false, true] {
        let mut builder = Proxy::serial(&[&backend]).flag("-stop-after", "300ms");
        if to_file {
            builder = builder.flag("-log-file", file.to_str().unwrap());
        }
        let begun = Instant::now();
        let mut process = Process::start(builder.command());
        assert_eq!(process.wait_for_exit().code(), Some(0));
        assert!(begun.elapsed() >= Duration::from_millis(300));
        let out = process.out.to_the_end();
        let last = "stopping balancing-reverse-proxy after 300ms";
        assert_eq!(out.last().map(String::as_str), Some(last), "{out:#?}");
        if to_file {
            assert_eq!(out.len(), 1, "{out:#?}");
            let log = fs::read_to_string(&file).unwrap();
            let line = log.lines().last().unwrap();
            assert!(line.ends_with(last) && line != last, "{log}");
        }
    }
}

#[test]
fn a_stop_after_that_is_not_positive_is_never() {
    let backend = Backend::always(status(200));
    for never in ["0", "0s", "-1s", "-1h"] {
        let mut proxy = Proxy::serial(&[&backend])
            .flag("-stop-after", never)
            .start();
        assert_eq!(proxy.get("/").status(), 200, "{never}");
        assert!(!proxy.stop().iter().any(|line| line.contains("stopping")));
    }
}

#[test]
fn sigterm_and_sigint_end_it_with_0() {
    let backend = Backend::always(status(200));
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Proxy::serial(&[&backend]).start();
        // An idle connection is no reason to stay.
        let mut idle = proxy.client();
        assert_eq!(idle.get("/").status(), 200);
        proxy.signal(signal);
        assert_eq!(proxy.wait_for_exit().code(), Some(0), "{signal:?}");
        // The port is free again.
        assert!(TcpStream::connect(proxy.address).is_err());
    }
}

#[test]
fn the_end_while_requests_are_waiting_is_an_end() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).after(&gate));
    let mut proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    proxy.signal(Signal::TERM);
    gate.open();
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn an_address_without_a_host_reads_well_in_the_log() {
    let backend = "http://127.0.0.1:1".to_owned();
    let proxy = Proxy::serial(&[&backend]).flag("-address", ":0").start();
    let line = proxy.wait_for_log("starting on");
    assert_eq!(started_on(&line).port(), proxy.address.port());
}
