//! Many connections: none is left unserved, and a shortage passes.

use crate::common::{
    Gate,
    backend::{Act, Backend, status},
    client::Client,
    eventually,
    process::Process,
    proxy::{Proxy, started_on},
    settled,
};
use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// An answer in time, generously: the machine may be busy with other tests.
const PROMPT: Duration = Duration::from_secs(5);

#[test]
fn every_connection_of_a_burst_is_served_while_all_stay_open() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    for size in [16, 64, 256] {
        for _ in 0..3 {
            let mut clients: Vec<Client> = (0..size).map(|_| proxy.client()).collect();
            let begun = Instant::now();
            for client in &mut clients {
                client.request("GET /", "");
            }
            for client in &mut clients {
                assert_eq!(client.response().body(), "served");
            }
            assert!(begun.elapsed() < PROMPT, "{size}: {:?}", begun.elapsed());
        }
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

/// The proxy with so few descriptors.
fn with_descriptors(limit: usize, mut command: Command) -> (Process, SocketAddr) {
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args());
    command = limited;
    let process = Process::start(command);
    let line = process
        .out
        .wait("starting on", |line| line.contains("starting on: \""));
    let address = started_on(&line);
    (process, address)
}

fn answers(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else {
        return false;
    };
    drop(stream);
    thread::spawn(move || Client::connect(address).get("/").status() == 200)
        .join()
        .unwrap_or(false)
}

#[test]
fn a_flood_beyond_the_descriptors_passes() {
    let backend = Backend::always(status(200).body("served"));
    for limit in [48, 64, 128] {
        let command = Proxy::serial(&[&backend]).flag("-workers", "8").command();
        let (process, address) = with_descriptors(limit, command);
        assert!(answers(address));
        let flood: Vec<TcpStream> = (0..300)
            .map_while(|_| TcpStream::connect_timeout(&address, PROMPT).ok())
            .collect();
        assert!(flood.len() > limit / 2, "{limit}: {}", flood.len());
        // It has run out by now, which makes tiny_http give up accepting.
        eventually(
            "descriptors",
            || process.descriptors(),
            |&open| open + 4 > limit,
        );
        drop(flood);
        let over = Instant::now();
        eventually("service", || answers(address), |&answers| answers);
        assert!(over.elapsed() < PROMPT, "{limit}: {:?}", over.elapsed());
    }
}

#[test]
fn a_shortage_leaves_no_accept_loop_behind() {
    let backend = Backend::always(status(200).body("served"));
    let command = Proxy::serial(&[&backend]).flag("-workers", "8").command();
    let (process, address) = with_descriptors(64, command);
    assert!(answers(address));
    let loops = || process.threads_named("accept");
    assert_eq!(loops(), 1);
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.extend((0..30).map_while(|_| TcpStream::connect_timeout(&address, PROMPT).ok()));
        thread::sleep(Duration::from_millis(50));
        flood.drain(..flood.len() / 2);
    }
    drop(flood);
    eventually("service", || answers(address), |&answers| answers);
    eventually("accept loops", loops, |&loops| loops == 1);
}

#[test]
fn what_is_in_flight_survives_a_shortage() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("kept").after(&gate));
    let command = Proxy::serial(&[&backend]).flag("-workers", "8").command();
    let (process, address) = with_descriptors(64, command);
    let mut client = Client::connect(address);
    client.request("GET /", "");
    backend.wait_for_calls(1);
    let flood: Vec<TcpStream> = (0..200)
        .map_while(|_| TcpStream::connect_timeout(&address, PROMPT).ok())
        .collect();
    eventually(
        "descriptors",
        || process.descriptors(),
        |&open| open + 4 > 64,
    );
    gate.open();
    assert_eq!(client.response().body(), "kept");
    drop(flood);
}

#[test]
fn beyond_the_limit_the_newest_are_cut_and_the_others_unharmed() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "10")
        .start();
    let mut established: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut established {
        assert_eq!(client.get("/").body(), "served");
    }
    let mut crowd: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut crowd {
        client.closed();
    }
    proxy.wait_for_log("one too many (-max-connections): connection cut");
    for client in &mut established {
        assert_eq!(client.get("/").body(), "served");
    }
    // Who comes with a request gets its answer all the same.
    for _ in 0..50 {
        assert_eq!(proxy.get("/").body(), "served");
    }
}

#[test]
fn a_crowd_that_comes_again_and_again_costs_no_established_connection() {
    let backend = Backend::choosing(|request| {
        if request.target == "/large" {
            status(200)
                .head_only()
                .header("Content-Length", "1000000000")
                .then([Act::Generate(1_000_000_000)])
        } else {
            status(200).body("served")
        }
    });
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "10")
        .flag("-workers", "64")
        .start();
    let mut established: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    // One of them is receiving for as long as all this takes.
    established[0].request("GET /large", "");
    established[0].head();
    for client in &mut established[1..] {
        assert_eq!(client.get("/").body(), "served");
    }
    let mut crowd = Vec::new();
    for _ in 0..3 {
        for number in 0..20 {
            let mut client = proxy.client();
            // It may have been cut before.
            let _ = client.try_send(match number % 4 {
                0 => "GET / HTTP/1.1\r\nX-",
                1 => "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999\r\n\r\nx",
                2 => "GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
                _ => "",
            });
            crowd.push(client);
        }
        // Those that have begun a head are cut last.
        let slow_head = crowd.len() - 4;
        crowd[slow_head].rest();
        established[0].some();
        for client in &mut established[1..] {
            assert_eq!(client.get("/").body(), "served");
        }
    }
    proxy.wait_for_log("one too many (-max-connections): connection cut");
}

#[test]
fn an_idle_connection_is_closed_after_a_while() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend])
        .flag("-idle-timeout", "500ms")
        .start();
    let mut silent = proxy.client();
    let mut served = proxy.client();
    assert_eq!(served.get("/").status(), 200);
    let begun = Instant::now();
    served.closed();
    assert!(begun.elapsed() >= Duration::from_millis(400), "too early");
    silent.closed();
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
