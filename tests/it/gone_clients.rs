//! Clients that go away while their request is under way: by a FIN, by closing, by a reset.
//!
//! A FIN counts as going away (without `-half-close`, see `half_close`). How soon is measured
//! at the endpoint, whose connection the proxy closes.

use crate::common::{
    DEADLINE, Gate, Pattern,
    backend::{Act, Backend, Endpoint, Unroutable, never, script, send, status, wait},
    client::{Client, Closed},
    eventually, is_soon,
    proxy::{Builder, Proxy},
    refusing::AT_ONCE,
};
use std::{
    fs,
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const HINT: &str = "the client went away (see -half-close)";

/// How soon attempts are cancelled, in the middle of some tries.
const SOON: Duration = Duration::from_millis(50);

type Mode = fn(&[&dyn Endpoint]) -> Builder;
const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The sending side is closed, the client still reads.
    Fin,
    /// Both sides are closed, which is a FIN on the wire as well.
    Close,
    Reset,
}

const WAYS: [Way; 3] = [Way::Fin, Way::Close, Way::Reset];

/// The client goes. One that still reads is returned.
fn go(mut client: Client, way: Way) -> Option<Client> {
    match way {
        Way::Fin => {
            client.finish_sending();
            Some(client)
        }
        Way::Close => None,
        Way::Reset => {
            client.reset();
            None
        }
    }
}

/// Waits for the line about this request, and checks it.
#[track_caller]
fn given_up(proxy: &Proxy, target: &str, way: Way) {
    let line = proxy.wait_for_log(&format!("request {target} given up after "));
    if way == Way::Reset {
        assert!(line.contains(": the client went away"), "{line}");
    } else {
        assert!(line.contains(&format!(": {HINT}")), "{line}");
    }
}

#[test]
fn attempts_are_cancelled_within_50_ms_in_every_mode() {
    for mode in MODES {
        let is_serial = proxy_is_serial(mode);
        let (a, b) = (Backend::always(never()), Backend::always(never()));
        let proxy = mode(&[&a, &b]).start();
        let mut calls = 0;
        for way in WAYS {
            is_soon(&format!("{way:?}"), SOON, || {
                calls += 1;
                let target = format!("/{calls}");
                let mut client = proxy.client();
                client.request(&format!("GET {target}"), "");
                a.wait_for_calls(calls);
                if !is_serial {
                    b.wait_for_calls(calls);
                }
                let begun = Instant::now();
                let reads = go(client, way);
                let mut left = a.left_at();
                if !is_serial {
                    left = left.max(b.left_at());
                }
                if let Some(mut client) = reads {
                    assert_eq!(client.closed(), Closed::Fin);
                }
                given_up(&proxy, &target, way);
                left.saturating_duration_since(begun)
            });
        }
        // Serial asks the first one alone; the second is not called afterwards.
        assert_eq!(b.calls(), if is_serial { 0 } else { calls });
    }
}

fn proxy_is_serial(mode: Mode) -> bool {
    std::ptr::fn_addr_eq(mode, MODES[0])
}

#[test]
fn no_further_endpoint_is_called() {
    for way in WAYS {
        let first = Backend::always(never());
        let others = [Backend::untouched(), Backend::untouched()];
        let proxy = Proxy::serial(&[&first, &others[0], &others[1]]).start();
        for target in ["/1", "/2", "/3"] {
            let mut client = proxy.client();
            client.request(&format!("GET {target}"), "");
            first.wait_for_calls(target[1..].parse().unwrap());
            let _reads = go(client, way);
            given_up(&proxy, target, way);
        }
        assert_eq!(first.calls(), 3);
    }
}

#[test]
fn a_fin_right_behind_the_last_byte_counts_for_every_kind_of_request() {
    let requests = [
        "GET /p HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /p HTTP/1.0\r\n\r\n",
        "GET /p HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST /p HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTT",
        "GET /p HTTP/1.1\r\nHost: h\r\n\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab",
    ];
    for request in requests {
        // At once, and when the endpoint has been asked.
        for waits in [false, true] {
            let first = Backend::choosing(|_| never());
            let second = Backend::untouched();
            let proxy = Proxy::serial(&[&first, &second]).start();
            let mut client = proxy.client();
            client.send(request);
            if waits {
                first.wait_for_calls(1);
            }
            let begun = Instant::now();
            client.finish_sending();
            // Nothing more is sent.
            assert_eq!(client.closed(), Closed::Fin, "{request:?}");
            assert!(
                begun.elapsed() < AT_ONCE,
                "{request:?}: {:?}",
                begun.elapsed()
            );
            given_up(&proxy, "/p", Way::Fin);
            assert!(!first.seen().iter().any(|seen| seen.ends_with("/2")));
            if first.connections() > 0 {
                first.wait_until_left();
            }
        }
    }
}

#[test]
fn more_bytes_or_a_half_request_are_no_reason_to_give_up() {
    for more in [
        "\r\n",
        "G",
        "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
        "\x16\x03\x01",
    ] {
        let gate = Gate::closed();
        let backend = Backend::always(status(200).body("served").after(&gate));
        let proxy = Proxy::serial(&[&backend]).start();
        let mut client = proxy.client();
        client.request("GET /p", "");
        backend.wait_for_calls(1);
        client.send(more);
        assert!(client.hears_nothing_for(Duration::from_millis(200)));
        gate.open();
        assert_eq!(client.response().body(), "served", "{more:?}");
    }
}

#[test]
fn a_client_that_goes_while_others_wait_frees_its_worker() {
    let first = Backend::choosing(|request| {
        if request.target == "/slow" {
            never()
        } else {
            status(200).body("next")
        }
    });
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-workers", "1")
        .start();
    for (way, calls) in WAYS.into_iter().zip([1, 3, 5]) {
        let mut client = proxy.client();
        client.request("GET /slow", "");
        first.wait_for_calls(calls);
        let _reads = go(client, way);
        proxy.wait_for_log("request /slow given up after");
        let begun = Instant::now();
        // Its line may be in the log a moment before its place is free.
        while proxy.get("/next").status() != 200 {
            assert!(begun.elapsed() < AT_ONCE, "{way:?}");
        }
        // Only served requests count as calls.
        assert_eq!(first.calls(), calls + 1);
    }
}

/// The endpoint has begun its answer: this much of it has come, and this is how it goes on.
fn relays() -> Vec<(&'static str, Vec<Act>)> {
    vec![
        ("silent", vec![send("begun"), Act::Hang]),
        (
            "trickling",
            vec![
                send("begun"),
                Act::Trickle(b"more", Duration::from_millis(5)),
            ],
        ),
        ("flooding", vec![send("begun"), Act::Generate(1 << 40)]),
    ]
}

#[test]
fn going_away_in_the_middle_of_an_answer_ends_its_relay() {
    for way in WAYS {
        for (name, acts) in relays() {
            let backend = Backend::always(status(200).head_only().then(acts.clone()));
            let second = Backend::untouched();
            let proxy = Proxy::serial(&[&backend, &second]).start();
            let mut tries = 0;
            is_soon(&format!("{way:?} {name}"), SOON, || {
                tries += 1;
                let mut client = proxy.client();
                client.request(&format!("GET /{tries}"), "");
                client.until("begun");
                let begun = Instant::now();
                let reads = go(client, way);
                let left = backend.left_at();
                let line = proxy.wait_for_log(&format!("request /{tries} served in "));
                assert!(
                    line.contains(" by endpoint 0, but the client went away"),
                    "{line}"
                );
                if way == Way::Fin {
                    assert!(line.contains("(see -half-close"), "{line}");
                }
                if let Some(mut client) = reads {
                    client.rest();
                }
                left.saturating_duration_since(begun)
            });
        }
    }
}

#[test]
fn a_short_answer_that_has_not_come_whole_is_given_up() {
    // It is read whole first (-commit-after): the client has got nothing yet.
    let half = status(200).body("0123456789").cut(5, Act::Hang);
    for way in WAYS {
        let backend = Backend::always(half.clone());
        let second = Backend::untouched();
        let proxy = Proxy::serial(&[&backend, &second]).start();
        let mut client = proxy.client();
        client.request("GET /p", "");
        backend.wait_for_calls(1);
        if let Some(mut client) = go(client, way) {
            assert_eq!(client.closed(), Closed::Fin);
        }
        backend.wait_until_left();
        given_up(&proxy, "/p", way);
    }
}

#[test]
fn going_away_ends_a_flood_of_interim_answers() {
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5000).leak();
    for mode in MODES {
        let flood = script([Act::Trickle(flood.as_bytes(), Duration::ZERO)]);
        let backends = [Backend::always(flood), Backend::always(never())];
        let proxy = mode(&[&backends[0], &backends[1]]).start();
        let mut client = proxy.client();
        client.request("GET /p", "");
        backends[0].wait_for_calls(1);
        if !proxy_is_serial(mode) {
            // A hedge, too, starts while the flood goes on.
            backends[1].wait_for_calls(1);
        }
        client.finish_sending();
        assert_eq!(client.closed(), Closed::Fin);
        backends[0].wait_until_left();
        given_up(&proxy, "/p", Way::Fin);
    }
}

#[test]
fn going_away_ends_the_dialling_of_an_endpoint() {
    for mode in MODES {
        let unroutable = Unroutable::new();
        let second = Backend::always(never());
        let proxy = mode(&[&unroutable, &second])
            .flag("-connect-timeout", "30s")
            .start();
        let mut client = proxy.client();
        client.request("GET /p", "");
        if proxy_is_serial(mode) {
            // It is dialling once the request has been read.
            client.wait_until_read();
        } else {
            second.wait_for_calls(1);
        }
        let begun = Instant::now();
        client.finish_sending();
        assert_eq!(client.closed(), Closed::Fin);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        given_up(&proxy, "/p", Way::Fin);
        if proxy_is_serial(mode) {
            assert_eq!(second.calls(), 0);
        }
    }
}

#[test]
fn going_away_ends_the_upload_to_an_endpoint_that_does_not_read() {
    let over = Gate::closed();
    let backend = Backend::always(script([wait(&over)]).early());
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&backend, &second]).start();
    for way in WAYS {
        let mut client = proxy.client();
        let calls = backend.calls();
        client.send_body("POST", "/p", &Pattern::bytes(16 << 20));
        eventually("a call", || backend.calls(), |&now| now > calls);
        let begun = Instant::now();
        if let Some(mut client) = go(client, way) {
            assert_eq!(client.closed(), Closed::Fin);
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        }
        given_up(&proxy, "/p", way);
    }
    over.open();
}

/// A name server that never answers, on an address of its own. `None`: not allowed here.
fn silent_name_server() -> Option<(UdpSocket, String)> {
    (1..250).find_map(|last| {
        let address = format!("127.53.53.{last}");
        let socket = UdpSocket::bind((address.as_str(), 53)).ok()?;
        Some((socket, address))
    })
}

#[test]
fn going_away_ends_the_look_up_of_a_name() {
    // A `resolv.conf` of its own takes a mount name space, and a name server port 53.
    let Some((server, address)) = silent_name_server() else {
        eprintln!("skipped: port 53 can't be had here");
        return;
    };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("resolv.conf");
    fs::write(&file, format!("nameserver {address}\n")).unwrap();
    let mount = format!(
        "mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
        file.display()
    );
    let outer = ["unshare", "-m", "sh", "-c", &mount];
    let allowed = Command::new(outer[0])
        .args(&outer[1..])
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success());
    if !allowed {
        eprintln!("skipped: a mount name space can't be had here");
        return;
    }
    let endpoint = "http://nowhere.test:80".to_owned();
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&endpoint, &second]).within(&outer).start();
    for target in ["/1", "/2"] {
        let mut client = proxy.client();
        client.request(&format!("GET {target}"), "");
        if target == "/1" {
            // The look-up is under way when its question has come.
            server.set_read_timeout(Some(DEADLINE)).unwrap();
            server.recv(&mut [0; 512]).unwrap();
        } else {
            client.wait_until_read();
        }
        let begun = Instant::now();
        client.finish_sending();
        assert_eq!(client.closed(), Closed::Fin);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        given_up(&proxy, target, Way::Fin);
    }
}

#[test]
fn a_client_that_goes_between_two_requests_is_nothing_to_tell() {
    let backend = Backend::always(status(200).body("served"));
    let mut proxy = Proxy::serial(&[&backend]).start();
    for way in WAYS {
        let mut client = proxy.client();
        assert_eq!(client.get("/p").body(), "served");
        if let Some(mut client) = go(client, way) {
            assert_eq!(client.closed(), Closed::Fin);
        }
    }
    assert_eq!(proxy.get_and_settle("/after").body(), "served");
    let log = proxy.stop();
    assert!(!log.iter().any(|line| line.contains("client")), "{log:#?}");
}
