//! Connections to endpoints: used again, and never a reason for a wrong or missing answer.

use crate::common::{
    DEADLINE, Gate,
    backend::{Act, Backend, hangup, never, raw, reset, script, send, status},
    client::Client,
    eventually,
    proxy::Proxy,
    scrape::Scrape,
};
use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    net::TcpListener,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_connection_is_used_again() {
    let backend = Backend::choosing(|request| match request.target.as_str() {
        "/chunked" => status(200).chunked(&[b"o", b"k"]),
        "/none" => status(204),
        "/unchanged" => status(304),
        _ => status(200).body("ok"),
    });
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for _ in 0..10 {
        for target in ["/", "/chunked", "/none", "/unchanged"] {
            client.get(target);
        }
        client.request("HEAD /", "");
        client.response_to("HEAD");
        client.post("/", "body");
        // Another client is no reason for another connection.
        proxy.get("/");
    }
    assert_eq!(backend.calls(), 70);
    // A client may be answered before the connection is back in the pool.
    let connections = backend.connections();
    assert!(connections < 5, "{connections}");
}

/// Opens as many connections to the back end as there are clients: each has a request in
/// flight on its own, until the gate is opened.
fn connections_at_once(proxy: &Proxy, backend: &Backend, gate: &Gate, clients: &mut [Client]) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.request(&format!("GET /held-{number}"), "");
    }
    backend.wait_for_calls(clients.len());
    gate.open();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().body(), "ok");
        proxy.wait_for_log(&format!("request /held-{number} served in "));
    }
    assert_eq!(backend.connections(), clients.len());
}

#[test]
fn the_connection_used_last_is_used_next() {
    let gates = [Gate::closed(), Gate::closed(), Gate::closed()];
    let held = gates.clone();
    let backend = Backend::choosing(move |request| {
        let number: Option<usize> = request.target[1..].parse().ok();
        match number.and_then(|number| held.get(number)) {
            Some(gate) => status(200).after(gate),
            None => status(200),
        }
    });
    let proxy = Proxy::serial(&[&backend]).start();
    let mut clients: Vec<Client> = (0..3)
        .map(|number| {
            let mut client = proxy.client();
            client.request(&format!("GET /{number}"), "");
            backend.wait_for_calls(number + 1);
            client
        })
        .collect();
    for number in [1, 2, 0] {
        gates[number].open();
        assert_eq!(clients[number].response().status(), 200);
        proxy.wait_for_log(&format!("request /{number} served in "));
    }
    for target in ["/a", "/b", "/c"] {
        proxy.get_and_settle(target);
    }
    let connections: Vec<_> = backend.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 1, 2, 0, 0, 0]);
}

#[test]
fn the_connections_of_a_burst_take_no_turns_with_those_in_use() {
    const BURST: usize = 300;
    const AFTERWARDS: usize = 16;
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("ok").after(&gate));
    let proxy = Proxy::serial(&[&backend])
        .flag("-workers", BURST.to_string())
        .start();
    let mut clients: Vec<Client> = (0..BURST).map(|_| proxy.client()).collect();
    connections_at_once(&proxy, &backend, &gate, &mut clients);

    thread::scope(|scope| {
        for client in &mut clients[..AFTERWARDS] {
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(client.get("/").body(), "ok");
                }
            });
        }
    });
    let requests = backend.requests();
    let used: HashSet<_> = requests[BURST..].iter().map(|r| r.connection).collect();
    // A client may be answered before the connection is back in the pool.
    assert!(used.len() <= 2 * AFTERWARDS, "{}", used.len());
    assert!(used.iter().all(|connection| *connection < BURST));
}

#[test]
fn idle_connections_are_closed_in_time_though_nothing_happens() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("ok").after(&gate));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    connections_at_once(&proxy, &backend, &gate, &mut clients);
    assert_eq!(backend.open_connections(), 8);
    let idle = Instant::now();
    // They expire after 15 s.
    while backend.open_connections() > 0 {
        let open = backend.open_connections();
        assert!(idle.elapsed() < 2 * DEADLINE, "{open} are open");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(idle.elapsed() > Duration::from_secs(10));
    assert_eq!(clients[0].get("/").body(), "ok");
    assert_eq!(backend.open_connections(), 1);
}

#[test]
fn a_connection_in_steady_use_is_renewed() {
    const AFTER: Duration = Duration::from_millis(300);
    let backend = Backend::always(status(200).body("ok"));
    let proxy = Proxy::serial(&[&backend])
        .flag("-renew-after", "300ms")
        .start();
    let mut client = proxy.client();
    let begun = Instant::now();
    while backend.connections() < 4 {
        assert!(begun.elapsed() < DEADLINE);
        assert_eq!(client.get("/").body(), "ok");
        thread::sleep(Duration::from_millis(5));
    }
    // Three have been used up, each for nine tenths of that time at least.
    assert!(begun.elapsed() > AFTER * 27 / 10, "{:?}", begun.elapsed());
}

#[test]
fn a_connection_in_steady_use_is_kept_where_none_is_renewed() {
    let backend = Backend::always(status(200).body("ok"));
    let proxy = Proxy::serial(&[&backend]).flag("-renew-after", "0").start();
    for _ in 0..20 {
        proxy.get_and_settle("/");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_cancelled_loser_returns_no_connection() {
    let asked = Gate::closed();
    let slow = Backend::replies([never(), status(200).body("slow")]);
    let answers = asked.clone();
    let fast = Backend::choosing(move |request| match request.target.as_str() {
        "/1" => status(200).body("fast").after(&answers),
        _ => never(),
    });
    let proxy = Proxy::fanout(&[&slow, &fast]).start();
    let mut client = proxy.client();
    client.request("GET /1", "");
    slow.wait_for_calls(1);
    asked.open();
    assert_eq!(client.response().body(), "fast");
    slow.wait_until_left();
    assert_eq!(proxy.get("/2").body(), "slow");
    let connections: Vec<_> = slow.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 1]);
}

#[test]
fn a_refused_answer_does_not_cost_the_connection() {
    let backend = Backend::always(status(503).body("sick"));
    let proxy = Proxy::serial(&[&backend]).start();
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status(), 500);
    }
    let connections = backend.connections();
    assert!(connections < 3, "{connections}");
}

#[test]
fn a_connection_closed_while_idle_is_replaced() {
    let backend = Backend::always(status(200).body("ok").then([Act::Close]));
    let proxy = Proxy::serial(&[&backend]).start();
    for n in 1..=20 {
        assert_eq!(proxy.get("/").body(), "ok");
        assert_eq!(proxy.post("/", "body").body(), "ok");
        assert_eq!(backend.connections(), 2 * n);
    }
}

#[test]
fn a_connection_reset_while_idle_is_replaced() {
    let backend = Backend::always(status(200).body("ok").then([Act::Reset]));
    let proxy = Proxy::serial(&[&backend]).start();
    for _ in 0..20 {
        // The reset may overtake a long answer, but not this one: it is awaited by length.
        assert_eq!(proxy.get("/").body(), "ok");
    }
}

#[test]
fn a_connection_that_dies_under_the_request_is_retried_once_on_a_fresh_one() {
    for stale in [hangup(), reset()] {
        for body in ["", "a body"] {
            let backend = Backend::replies([
                status(200).body("first"),
                stale.clone(),
                status(200).body("second"),
            ]);
            let next = Backend::untouched();
            let proxy = Proxy::serial(&[&backend, &next]).start();
            assert_eq!(proxy.get_and_settle("/first").body(), "first");
            assert_eq!(proxy.post("/", body).body(), "second");
            let connections: Vec<_> = backend.requests().iter().map(|r| r.connection).collect();
            assert_eq!(connections, [0, 0, 1]);
            assert_eq!(backend.requests()[2].body, body.as_bytes());
        }
    }
}

/// What a server sends that has waited for a request for too long.
const IDLE_TIMEOUT: &str =
    "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_408_that_ends_a_kept_connection_is_no_answer() {
    let backend = Backend::replies([
        status(200).body("first"),
        raw(IDLE_TIMEOUT).then([Act::Close]),
        status(200).body("second"),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/first").body(), "first");
    assert_eq!(proxy.post("/", "body").body(), "second");
    let connections: Vec<_> = backend.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}

#[test]
fn a_408_on_a_fresh_connection_or_on_one_that_stays_is_an_answer() {
    let stays = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::replies([
        raw(IDLE_TIMEOUT).then([Act::Close]),
        status(200).body("first"),
        raw(stays),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/").status(), 408);
    assert_eq!(proxy.get_and_settle("/").body(), "first");
    assert_eq!(proxy.get_and_settle("/").status(), 408);
    assert_eq!(backend.calls(), 3);
}

#[test]
fn a_408_on_a_kept_connection_is_no_reason_to_send_again_what_must_be_sent_once() {
    let backend = Backend::replies([
        status(200).body("first"),
        raw(IDLE_TIMEOUT).then([Act::Close]),
    ]);
    let proxy = Proxy::serial(&[&backend])
        .flag("-idempotent-only", "true")
        .start();
    assert_eq!(proxy.get_and_settle("/first").body(), "first");
    assert_eq!(proxy.post("/", "body").status(), 500);
    proxy.wait_for_log("(status 408 on a kept connection)");
    assert_eq!(backend.calls(), 2);
}

#[test]
fn what_is_sent_again_is_counted_and_takes_a_try() {
    for (tries, answered, resent) in [("0", 200, 1), ("1", 500, 0), ("2", 200, 1)] {
        for stale in [hangup(), raw(IDLE_TIMEOUT).then([Act::Close])] {
            let steps = [status(200).body("first"), stale, status(200).body("second")];
            let backend = Backend::replies(steps.into_iter().take(2 + resent));
            let proxy = Proxy::serial(&[&backend])
                .flag("-max-tries", tries)
                .flag("-monitor", ":0")
                .start();
            assert_eq!(proxy.get_and_settle("/first").body(), "first");
            assert_eq!(proxy.post("/", "body").status(), answered, "{tries}");
            let counted = f64::from(u8::try_from(resent).unwrap());
            let wanted = [
                ("brp_upstream_resent_total{endpoint=\"0\"}", counted),
                ("brp_http_request_duration_seconds_count", 2.0),
                ("brp_retries_total", 0.0),
            ];
            Scrape::with(&proxy, &wanted);
            assert_eq!(backend.calls(), 2 + resent);
        }
    }
}

#[test]
fn a_try_is_left_where_nothing_could_be_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dying = format!("http://{}", listener.local_addr().unwrap());
    // It ends when it has got its second request.
    let endpoint = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let read_head = || {
            let mut received = Vec::new();
            while !received.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                (&stream).read_exact(&mut byte).unwrap();
                received.extend(byte);
            }
        };
        read_head();
        (&stream)
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
            .unwrap();
        read_head();
        drop(listener);
    });
    let next = Backend::always(status(200).body("next"));
    let proxy = Proxy::serial(&[&dying, &next])
        .flag("-max-tries", "2")
        .start();
    assert_eq!(proxy.get_and_settle("/first").body(), "first");
    assert_eq!(proxy.get("/").body(), "next");
    endpoint.join().unwrap();
}

#[test]
fn a_try_that_is_used_up_by_sending_again_is_not_left_for_the_next_endpoint_or_round() {
    let backend = Backend::replies([status(200).body("first"), hangup(), hangup()]);
    let next = Backend::untouched();
    let proxy = Proxy::serial(&[&backend, &next])
        .flag("-max-tries", "2")
        .flag("-rounds", "2")
        .start();
    assert_eq!(proxy.get_and_settle("/first").body(), "first");
    assert_eq!(proxy.get("/").status(), 500);
}

#[test]
fn it_is_retried_only_once() {
    let backend = Backend::replies([status(200).body("first"), hangup(), hangup()]);
    let next = Backend::replies([status(200).body("next")]);
    let proxy = Proxy::serial(&[&backend, &next]).start();
    assert_eq!(proxy.get_and_settle("/first").body(), "first");
    assert_eq!(proxy.get("/").body(), "next");
    assert_eq!(backend.calls(), 3);
}

#[test]
fn a_fresh_connection_that_dies_is_not_retried() {
    let backend = Backend::replies([hangup()]);
    let next = Backend::replies([status(200).body("next")]);
    let proxy = Proxy::serial(&[&backend, &next]).start();
    assert_eq!(proxy.get("/").body(), "next");
    assert_eq!(backend.calls(), 1);
}

#[test]
fn nothing_is_retried_once_something_was_received() {
    let halves = [
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234",
    ];
    for half in halves {
        let backend =
            Backend::replies([status(200).body("first"), script([send(half), Act::Close])]);
        let next = Backend::always(status(200).body("next"));
        let proxy = Proxy::serial(&[&backend, &next]).start();
        assert_eq!(proxy.get_and_settle("/first").body(), "first");
        let answer = proxy.get("/");
        assert_eq!(answer.status(), 200);
        assert_eq!(backend.calls(), 2, "{half:?}");
    }
}

#[test]
fn a_pool_full_of_dead_connections_does_not_fail_a_request() {
    // Eight connections at once, then all of them closed.
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("ok").after(&gate).then([Act::Close]));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut clients: Vec<_> = (0..8)
        .map(|n| {
            let mut client = proxy.client();
            client.request("GET /", "");
            backend.wait_for_calls(n + 1);
            client
        })
        .collect();
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().body(), "ok");
    }
    for client in &mut clients {
        assert_eq!(client.get("/").body(), "ok");
    }
}

#[test]
fn what_comes_after_an_answer_is_not_the_next_one() {
    let poisoned = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
                    HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let backend = Backend::replies([raw(poisoned), status(200).body("clean")]);
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/1").body(), "ok");
    assert_eq!(proxy.get("/2").body(), "clean");
}

#[test]
fn a_body_sent_for_head_is_not_the_next_answer() {
    let rude = "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n\
                HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let backend = Backend::replies([raw(rude), status(200).body("clean")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("HEAD /", "");
    assert_eq!(client.response_to("HEAD").status(), 200);
    assert_eq!(client.get("/").body(), "clean");
}

#[test]
fn a_connection_whose_answer_contradicts_itself_is_not_used_again() {
    // What such an endpoint sends next may still belong to that answer.
    let answers = [
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n0\r\n\r\n",
    ];
    for answer in answers {
        let backend = Backend::replies([raw(answer), status(200).body("own")]);
        let proxy = Proxy::serial(&[&backend]).start();
        assert!(proxy.get_and_settle("/first").status() < 300);
        assert_eq!(proxy.get("/second").body(), "own");
        assert_eq!(backend.connections(), 2, "{answer:?}");
    }
}

#[test]
fn a_connection_with_half_a_body_on_it_is_not_used_again() {
    // The client leaves in the middle; the rest of the body is still on the way.
    let backend = Backend::replies([
        raw("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
            .then([Act::Generate(50_000_000)]),
        status(200).body("clean"),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    client.head();
    client.reset();
    assert_eq!(proxy.get("/").body(), "clean");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let backend = Backend::choosing(|request| {
        status(200).body([request.target.as_bytes(), &request.body].concat())
    });
    let proxy = Proxy::serial(&[&backend]).start();
    thread::scope(|scope| {
        for thread in 0..16 {
            let proxy = &proxy;
            scope.spawn(move || {
                for n in 0..30 {
                    // A connection each: many short ones must not starve either.
                    let target = format!("/{thread}/{n}");
                    let answer = proxy.post(&target, format!(" body {thread} {n}"));
                    assert_eq!(answer.body(), format!("{target} body {thread} {n}"));
                }
            });
        }
    });
}

#[test]
fn descriptors_do_not_pile_up() {
    let backend = Backend::choosing(|request| match request.target.as_str() {
        "/cut" => script([
            send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
            Act::Reset,
        ]),
        "/close" => status(200).body("ok").then([Act::Close]),
        _ => status(200).body("ok"),
    });
    let proxy = Proxy::serial(&[&backend]).start();
    proxy.get("/");
    let before = proxy.descriptors();
    for _ in 0..50 {
        for target in ["/", "/cut", "/close"] {
            proxy.get(target);
        }
        let mut client = proxy.client();
        client.request("POST /", "Content-Length: x\r\n");
        client.response();
    }
    // What the last few requests left open closes by and by.
    eventually(
        "descriptors",
        || proxy.descriptors(),
        |&now| now <= before + 2,
    );
}

/// An endpoint on which a connection is a user's once he has sent `proof-NAME`.
fn authenticating(scheme: &'static str) -> Backend {
    let users = Mutex::new(HashMap::new());
    Backend::choosing(move |request| {
        let mut users = users.lock().unwrap();
        let sent = request.header("Authorization").unwrap_or_default();
        let token = sent.strip_prefix(scheme).unwrap_or_default().trim();
        if let Some(user) = token.strip_prefix("proof-") {
            users.insert(request.connection, user.to_owned());
        }
        let challenge = match token {
            "begin" => format!("{scheme} challenge-{}", request.connection),
            _ => scheme.to_owned(),
        };
        match users.get(&request.connection) {
            Some(user) => status(200).body(format!("hello {user}")),
            None => status(401).header("WWW-Authenticate", &challenge),
        }
    })
}

#[test]
fn a_connection_that_a_client_has_authenticated_is_private_to_it() {
    for scheme in ["NTLM", "Negotiate", "ntlm"] {
        let backend = authenticating(scheme);
        let proxy = Proxy::serial(&[&backend])
            .flag("-renew-after", "1ms")
            .start();
        let (mut alice, mut bob) = (proxy.client(), proxy.client());
        let ask = |client: &mut Client, token: &str| {
            let line = format!("Authorization: {scheme} {token}\r\n");
            client.request("GET /", if token.is_empty() { "" } else { &line });
            let response = client.response();
            (response.status(), response.body())
        };
        assert_eq!(ask(&mut alice, "").0, 401);
        assert_eq!(ask(&mut alice, "begin").0, 401);
        assert_eq!(ask(&mut bob, "").0, 401);
        assert_eq!(ask(&mut alice, "proof-alice").1, "hello alice");
        assert_eq!(ask(&mut bob, "begin").0, 401);
        for _ in 0..3 {
            assert_eq!(ask(&mut alice, "").1, "hello alice");
            assert_eq!(ask(&mut bob, "").0, 401);
        }
        assert_eq!(ask(&mut bob, "proof-bob").1, "hello bob");
        assert_eq!(ask(&mut proxy.client(), "").0, 401);
        assert_eq!(ask(&mut alice, "").1, "hello alice");
        assert_eq!(ask(&mut bob, "").1, "hello bob");
    }
}

#[test]
fn a_private_connection_ends_with_its_client() {
    let backend = authenticating("NTLM");
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "Authorization: NTLM proof-alice\r\n");
    assert_eq!(client.response().body(), "hello alice");
    assert_eq!(backend.open_connections(), 1);
    drop(client);
    eventually(
        "open connections",
        || backend.open_connections(),
        |open| *open == 0,
    );
}
