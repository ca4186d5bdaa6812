//! `-monitor`: its addresses, its answers, and that it goes on whatever clients and endpoints do.

use crate::common::{
    Gate,
    backend::{Backend, never, status},
    client::{Client, Response},
    eventually, is_soon,
    process::Process,
    proxy::Proxy,
    scrape::{Scrape, ask, monitor_of},
};
use rustix::process::Signal;
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The answer to a request with this `Host`.
fn with_host(monitor: SocketAddr, host: &str) -> Response {
    let mut client = Client::connect(monitor);
    client.send(format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.response()
}

#[test]
fn a_port_alone_is_this_machine_only_and_stands_in_the_log_and_the_ready_file() {
    let backend = Backend::untouched();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ready");
    let proxy = Proxy::serial(&[&backend])
        .flag("-monitor", ":0")
        .flag("-ready-file", file.to_str().unwrap())
        .start();
    let monitor = monitor_of(&proxy);
    assert_eq!(monitor.ip().to_string(), "127.0.0.1");
    let other = SocketAddr::from(([127, 0, 0, 2], monitor.port()));
    assert!(std::net::TcpStream::connect(other).is_err());
    let text = eventually(
        "ready file",
        || fs::read_to_string(&file).ok(),
        Option::is_some,
    );
    let lines = format!("{}\n{monitor}\n", proxy.address);
    assert_eq!(text.unwrap(), lines);
}

#[test]
fn probes_and_metrics_are_answered_and_nothing_else() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    for target in [
        "/livez",
        "/readyz",
        "/healthz",
        "/livez?x",
        "/readyz?endpoints",
    ] {
        let answer = ask(&proxy, target);
        assert_eq!(
            (answer.status(), &*answer.body()),
            (200, "ok\n"),
            "{target}"
        );
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
    let metrics = ask(&proxy, "/metrics");
    let kind = metrics.header("Content-Type").unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    for target in ["/metrics/", "//metrics", "/livez/..", "/x", "/%6Divez"] {
        assert_eq!(ask(&proxy, target).status(), 404, "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"] {
        let mut client = Client::connect(monitor_of(&proxy));
        client.request(&format!("{method} /livez"), "");
        let answer = client.response();
        assert_eq!(answer.status(), 405, "{method}");
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"));
    }
    // The connection is kept.
    let mut client = Client::connect(monitor_of(&proxy));
    client.request("HEAD /livez", "");
    let head = client.response_to("HEAD");
    assert_eq!(head.header("Content-Length"), Some("3"));
    assert_eq!(client.get("/livez").body(), "ok\n");
}

#[test]
fn what_is_asked_of_it_is_neither_logged_nor_counted() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    for target in ["/metrics", "/livez", "/x"] {
        ask(&proxy, target);
    }
    for (request, code) in [
        ("\u{16}\u{3}\u{1}", 400),
        ("CONNECT h:1 HTTP/1.1\r\n\r\n", 405),
        ("GET /livez HTTP/1.1\r\n\r\n", 400),
        (
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n",
            413,
        ),
    ] {
        let mut client = Client::connect(monitor_of(&proxy));
        client.send(request);
        assert_eq!(client.response().status(), code);
        // Nothing is left to be logged.
        client.closed();
    }
    let waiting: Vec<_> = (0..40)
        .map(|_| Client::connect(monitor_of(&proxy)))
        .collect();
    assert_eq!(ask(&proxy, "/livez").status(), 200);
    drop(waiting);
    proxy.get_and_settle("/one");
    let wanted = [
        ("brp_http_request_duration_seconds_count", 1.0),
        ("brp_connections_active", 0.0),
        ("brp_http_requests_in_flight", 0.0),
    ];
    let scrape = Scrape::with(&proxy, &wanted);
    assert_eq!(scrape.sum("brp_http_requests_total", ""), 1.0);
    assert_eq!(scrape.sum("brp_refused_requests_total", ""), 0.0);
    let log = proxy.log();
    let words = ["configuring", "starting on", "monitor on", "request /one"];
    assert_eq!(log.len(), words.len(), "{log:#?}");
    for (line, words) in log.iter().zip(words) {
        assert!(line.starts_with(words), "{line}");
    }
}

#[test]
fn on_loopback_only_names_of_this_machine_are_answered() {
    let backend = Backend::untouched();
    let local = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    let monitor = monitor_of(&local);
    let port = monitor.port();
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_str().unwrap();
    for host in [
        "localhost",
        "127.0.0.1:1",
        "[::1]:80",
        "127.0.0.2",
        &format!("LOCALHOST:{port}"),
        &format!("{machine}:{port}"),
        &machine.to_uppercase(),
    ] {
        assert_eq!(with_host(monitor, host).status(), 200, "{host}");
    }
    for host in [
        "rebound.example",
        &format!("rebound.example:{port}"),
        &format!("{machine}.rebound.example"),
        "192.0.2.1",
    ] {
        assert_eq!(with_host(monitor, host).status(), 421, "{host}");
    }
    // A listener on every interface has names that are not known here.
    let public = Proxy::serial(&[&backend])
        .flag("-monitor", "0.0.0.0:0")
        .start();
    let monitor = SocketAddr::from(([127, 0, 0, 1], monitor_of(&public).port()));
    assert_eq!(with_host(monitor, "proxy.example").status(), 200);
}

#[test]
fn the_host_that_was_typed_is_answered_and_a_mapped_loopback_address_is_one() {
    let backend = Backend::untouched();
    // As a name it is no other than typed; the system reads it as 127.0.0.1.
    let typed = Proxy::serial(&[&backend])
        .flag("-monitor", "127.1:0")
        .start();
    let monitor = monitor_of(&typed);
    assert!(monitor.ip().is_loopback());
    for (host, status) in [("127.1", 200), ("127.1:80", 200), ("127.2", 421)] {
        assert_eq!(with_host(monitor, host).status(), status, "{host}");
    }
    let untyped = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    assert_eq!(with_host(monitor_of(&untyped), "127.1").status(), 421);

    let address = "[::ffff:127.0.0.7]:0";
    if TcpListener::bind(address).is_err() {
        return;
    }
    let mapped = Proxy::serial(&[&backend]).flag("-monitor", address).start();
    let port = monitor_of(&mapped).port();
    let monitor = SocketAddr::from(([127, 0, 0, 7], port));
    for (host, status) in [
        ("127.0.0.7", 200),
        ("[::ffff:127.0.0.7]:80", 200),
        ("rebound.example", 421),
        ("127.0.0.8", 200),
    ] {
        assert_eq!(with_host(monitor, host).status(), status, "{host}");
    }
}

#[test]
fn an_address_that_is_bad_or_taken_is_fatal_and_names_the_flag() {
    let backend = Backend::untouched();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (value, code, words) in [
        (
            &*address,
            1,
            format!("cannot bind to -monitor address: {address}: "),
        ),
        ("9000", 2, "-monitor: \"9000\" has no port".to_owned()),
        (
            ":x",
            2,
            "-monitor: \":x\" has a port that is not a number".to_owned(),
        ),
    ] {
        let command = Proxy::serial(&[&backend]).flag("-monitor", value).command();
        let mut process = Process::start(command);
        assert_eq!(process.wait_for_exit().code(), Some(code), "{value}");
        let errors = process.err.to_the_end();
        assert!(errors[0].contains(&words), "{errors:#?}");
        let log = process.out.to_the_end();
        assert!(
            !log.iter().any(|line| line.contains("starting on")),
            "{log:#?}"
        );
    }
}

#[test]
fn it_answers_while_slow_clients_hold_every_worker_and_connection() {
    let backend = Backend::always(never());
    let proxy = Proxy::serial(&[&backend])
        .flag("-monitor", ":0")
        .flag("-max-connections", "60")
        .flag("-workers", "40")
        .start();
    let mut clients: Vec<_> = (0..60).map(|_| proxy.client()).collect();
    for client in clients.iter_mut().take(40) {
        client.request("GET /held", "");
    }
    for client in clients.iter_mut().skip(40) {
        client.send("GET /slow HTTP/1.1\r\nHost:");
    }
    backend.wait_for_calls(40);
    let wanted = [
        ("brp_http_requests_in_flight", 40.0),
        ("brp_connections_active", 60.0),
    ];
    Scrape::with(&proxy, &wanted);
    is_soon("/livez", Duration::from_millis(50), || {
        let begun = Instant::now();
        assert_eq!(ask(&proxy, "/livez").body(), "ok\n");
        begun.elapsed()
    });
}

#[test]
fn its_own_clients_cannot_hold_it_up() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    let monitor = monitor_of(&proxy);
    let held: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::connect(monitor);
            // Some are closed to make room.
            let _ = client.try_send("GET /livez HTTP/1.1\r\nX-Slow:");
            client
        })
        .collect();
    assert_eq!(ask(&proxy, "/livez").body(), "ok\n");
    drop(held);
}

#[test]
fn while_the_proxy_stops_it_lives_and_is_not_ready() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("late").after(&gate));
    let mut proxy = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    assert_eq!(ask(&proxy, "/readyz").status(), 200);
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    proxy.signal(Signal::TERM);
    eventually(
        "readiness",
        || ask(&proxy, "/readyz").status(),
        |status| *status == 503,
    );
    assert_eq!(ask(&proxy, "/readyz").body(), "stopping\n");
    assert_eq!(ask(&proxy, "/livez").status(), 200);
    assert_eq!(Scrape::of(&proxy).get("brp_http_requests_in_flight"), 1.0);
    gate.open();
    assert_eq!(client.response().body(), "late");
    assert!(proxy.wait_for_exit().success());
}

#[test]
fn readiness_can_depend_on_the_endpoints() {
    let sick = Backend::always(status(503));
    let well = Backend::choosing({
        let calls = std::sync::atomic::AtomicUsize::new(0);
        move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => status(200),
            _ => status(503),
        }
    });
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-monitor", ":0")
        .flag("-max-fails", "1")
        .flag("-cooldown", "1h")
        .start();
    assert_eq!(proxy.get_and_settle("/one").status(), 200);
    assert_eq!(ask(&proxy, "/readyz?endpoints").status(), 200);
    let healthy = [
        ("brp_upstream_healthy{endpoint=\"0\"}", 0.0),
        ("brp_upstream_healthy{endpoint=\"1\"}", 1.0),
        ("brp_upstream_ejections_total{endpoint=\"0\"}", 1.0),
    ];
    Scrape::with(&proxy, &healthy);
    assert_eq!(proxy.get("/two").status(), 500);
    proxy.wait_for_log("endpoint 1: ");
    eventually(
        "readiness",
        || ask(&proxy, "/readyz?endpoints").body(),
        |body| body == "every endpoint is passed over\n",
    );
    assert_eq!(ask(&proxy, "/readyz?verbose&endpoints").status(), 503);
    assert_eq!(ask(&proxy, "/readyz").status(), 200);
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let backend = Backend::always(status(200));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ready");
    let command = Proxy::serial(&[&backend])
        .flag("-log-file", "/dev/full")
        .flag("-monitor", ":0")
        .flag("-ready-file", file.to_str().unwrap())
        .command();
    let _process = Process::start(command);
    let addresses = || -> Option<Vec<SocketAddr>> {
        let lines = fs::read_to_string(&file).ok()?;
        Some(lines.lines().map(|line| line.parse().unwrap()).collect())
    };
    let addresses = eventually("addresses", addresses, Option::is_some).unwrap();
    assert_eq!(Client::connect(addresses[0]).get("/").status(), 200);
    let lost = || {
        let page = Client::connect(addresses[1]).get("/metrics").body();
        Scrape::parse(&page).get("brp_log_lines_dropped_total")
    };
    // Three of the start and one of the request.
    eventually("lost lines", lost, |lost| *lost == 4.0);
}
