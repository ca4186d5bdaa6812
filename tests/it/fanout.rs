//! Fan-out: all endpoints at once, the first usable answer at once, the others cut off.

use crate::common::{
    DEADLINE, Gate, Pattern,
    backend::{
        Act, Backend, Refused, Unroutable, hangup, never, reset, script, send, status, wait,
    },
    client::End,
    eventually,
    proxy::Proxy,
    scrape::Scrape,
    settled, text,
};
use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

#[test]
fn all_endpoints_are_asked_at_the_same_time() {
    let gate = Gate::closed();
    let held = || Backend::replies([status(200).body("held").after(&gate)]);
    let (a, b, c) = (held(), held(), held());
    let proxy = Proxy::fanout(&[&a, &b, &c]).start();

    let mut client = proxy.client();
    client.request("GET /p?q", "");
    // None has answered, and yet each has the request.
    for backend in [&a, &b, &c] {
        backend.wait_for_calls(1);
    }
    gate.open();
    assert_eq!(client.response().body(), "held");
    for backend in [&a, &b, &c] {
        assert_eq!(backend.seen(), ["GET /p?q"]);
    }
}

#[test]
fn the_first_usable_answer_does_not_wait_for_a_slower_one() {
    let slow = Backend::always(never());
    let fast = Backend::always(status(200).body("fast"));
    let proxy = Proxy::fanout(&[&slow, &fast]).start();

    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").body(), "fast");
    }
    proxy.wait_for_log("by endpoint 1");
}

#[test]
fn a_loser_is_cut_off() {
    let slow = Backend::replies([never()]);
    let asked = Gate::closed();
    let fast = Backend::replies([status(200).body("fast").after(&asked)]);
    let proxy = Proxy::fanout(&[&slow, &fast]).start();

    let mut client = proxy.client();
    client.request("GET /", "");
    slow.wait_for_calls(1);
    asked.open();
    assert_eq!(client.response().body(), "fast");
    slow.wait_until_left();
}

#[test]
fn a_loser_is_cut_off_in_the_middle_of_its_upload() {
    // It does not read the body, so that its attempt is stuck in writing it.
    let (asked, end) = (Gate::closed(), Gate::closed());
    let stuck = Backend::always(script([wait(&end), Act::Close]).early());
    let fast = Backend::always(status(200).body("fast").after(&asked));
    let proxy = Proxy::fanout(&[&stuck, &fast])
        .flag("-workers", "1")
        .start();

    let mut client = proxy.client();
    client.send_body("POST", "/", &Pattern::bytes(16 << 20));
    stuck.wait_for_calls(1);
    asked.open();
    assert_eq!(client.response().body(), "fast");
    assert!(fast.request().patterned);
    // The one worker is free again: the stuck attempt is over, although its endpoint is not.
    assert_eq!(proxy.get("/").body(), "fast");
    end.open();
}

#[test]
fn a_faster_answer_that_is_not_usable_is_passed_over() {
    let gate = Gate::closed();
    let sick = Backend::replies([status(500).body("sick")]);
    let refused = Refused::new();
    let well = Backend::replies([status(200).body("well").after(&gate)]);
    let proxy = Proxy::fanout(&[&sick, &refused, &well]).start();

    let mut client = proxy.client();
    client.request("GET /", "");
    proxy.wait_for_log("status 500");
    proxy.wait_for_log("connection refused");
    gate.open();
    let answer = client.response();
    assert_eq!((answer.status(), answer.body().as_str()), (200, "well"));
}

#[test]
fn nothing_usable_is_a_500() {
    let sick = Backend::replies([status(503).body("sick")]);
    let gone = Backend::replies([hangup()]);
    let reset = Backend::replies([reset()]);
    let refused = Refused::new();
    let proxy = Proxy::fanout(&[&sick, &gone, &reset, &refused]).start();

    assert_eq!(proxy.get("/").status(), 500);
    proxy.wait_for_log("endpoints failed to return a valid answer, returning 500");
}

#[test]
fn the_whole_body_goes_to_each_endpoint() {
    let gate = Gate::closed();
    let held = || Backend::replies([status(200).after(&gate)]);
    let (a, b) = (held(), held());
    let proxy = Proxy::fanout(&[&a, &b]).start();

    let body = Pattern::bytes(2 << 20);
    let mut client = proxy.client();
    client.send_body("POST", "/", &body);
    a.wait_for_calls(1);
    b.wait_for_calls(1);
    for backend in [&a, &b] {
        assert!(backend.request().body == body);
    }
    gate.open();
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_large_answer_is_relayed_whole_while_the_losers_answer_too() {
    let large = || {
        Backend::always(
            status(200)
                .head_only()
                .header("Content-Length", "3000000")
                .then([Act::Generate(3_000_000)]),
        )
    };
    let (a, b, c) = (large(), large(), large());
    let proxy = Proxy::fanout(&[&a, &b, &c]).start();

    let mut client = proxy.client();
    for _ in 0..20 {
        let answer = client.get("/");
        assert_eq!((answer.end, answer.length), (End::Complete, 3_000_000));
        assert!(answer.patterned);
    }
}

#[test]
fn a_winner_streams_while_the_losers_are_held() {
    let (first, second, end) = (Gate::closed(), Gate::closed(), Gate::closed());
    let winner = Backend::replies([script([
        wait(&first),
        send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"),
        wait(&second),
        send("data: 2\n\n"),
        wait(&end),
        Act::Close,
    ])]);
    let slow = Backend::replies([never()]);
    let proxy = Proxy::fanout(&[&winner, &slow]).start();

    let mut client = proxy.client();
    client.request("GET /", "");
    slow.wait_for_calls(1);
    first.open();
    client.until("data: 1\n\n");
    second.open();
    client.until("data: 2\n\n");
    end.open();
    client.until("0\r\n\r\n");
}

#[test]
fn a_winner_that_breaks_off_is_not_replaced_in_the_middle() {
    let (begin, gate) = (Gate::closed(), Gate::closed());
    let winner = Backend::replies([script([
        wait(&begin),
        send("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"),
        send(vec![b'a'; 100_000]),
        wait(&gate),
        Act::Reset,
    ])]);
    let other = Backend::replies([status(200).body(vec![b'b'; 4_000_000]).after(&gate)]);
    let proxy = Proxy::fanout(&[&winner, &other]).start();

    let mut client = proxy.client();
    client.request("GET /", "");
    other.wait_for_calls(1);
    begin.open();
    let head = client.head();
    assert_eq!(head.header("content-length"), Some("4000000"));
    gate.open();
    let rest = client.rest();
    assert!(rest.len() < 4_000_000);
    assert!(!rest.contains('b'));
}

#[test]
fn fifty_requests_past_a_slow_endpoint_do_not_wait_for_it() {
    let late = Gate::closed();
    let fast = Backend::always(status(200).body("fast").delayed(Duration::from_millis(10)));
    let slow = Backend::always(status(200).body("slow").after(&late));
    let proxy = Proxy::fanout(&[&slow, &fast]).start();

    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").body(), "fast");
    }
    // No slow answer has come until now.
    late.open();
}

#[test]
fn nothing_is_left_behind_by_losers_of_every_kind() {
    let silent = Backend::always(never());
    let unroutable = Unroutable::new();
    let refused = Refused::new();
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::fanout(&[&silent, &unroutable, &refused, &well]).start();

    let mut client = proxy.client();
    assert_eq!(client.get("/").body(), "well");
    let threads = settled(|| proxy.threads());
    let descriptors = settled(|| proxy.descriptors());
    let begun = Instant::now();
    for _ in 0..300 {
        assert_eq!(client.get("/").body(), "well");
    }
    let took = begun.elapsed();
    // Waiting for a connect time-out would make it a quarter of an hour.
    assert!(took < Duration::from_secs(60), "{took:?}");

    // A leak would be one in three hundred; two more are the pool's business.
    eventually("threads", || proxy.threads(), |&now| now <= threads + 2);
    eventually(
        "descriptors",
        || proxy.descriptors(),
        |&now| now <= descriptors + 2,
    );
    silent.wait_until_left();
}

#[test]
fn answers_are_never_mixed_up() {
    // Each endpoint wins some of the time; what it answers tells which request it had.
    let echo = |name: &'static str| {
        Backend::choosing(move |request| {
            let slow = request.target.ends_with(name);
            let answer = status(200).body(format!("{} {}", request.target, text(&request.body)));
            if slow {
                answer.delayed(Duration::from_millis(3))
            } else {
                answer
            }
        })
    };
    let (a, b) = (echo("a"), echo("b"));
    let proxy = Proxy::fanout(&[&a, &b]).start();

    thread::scope(|scope| {
        for thread in 0..4 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut client = proxy.client();
                for n in 0..100 {
                    let target = format!("/{thread}/{n}/{}", ["a", "b"][n % 2]);
                    let answer = client.post(&target, format!("body of {target}"));
                    assert_eq!(answer.body(), format!("{target} body of {target}"));
                }
            });
        }
    });
}

#[test]
fn a_loser_whose_kept_connection_is_closed_has_not_failed() {
    let [first, second, closes, first_other] = [(); 4].map(|()| Gate::closed());
    let gates = [first_other, second.clone()];
    let other = Backend::choosing(move |request| {
        let gate = &gates[usize::from(request.target == "/second")];
        status(200).body("other").after(gate)
    });
    let closing = Backend::replies([
        status(200).body("closing").after(&first),
        script([wait(&closes), Act::Close]),
        status(200).body("closing"),
    ]);
    let proxy = Proxy::fanout(&[&other, &closing])
        .flag("-max-fails", "1")
        .flag("-monitor", ":0")
        .start();
    let code = |code: &str, count: f64| {
        let upstream = closing.authority();
        let series = format!(
            "brp_upstream_requests_total{{endpoint=\"1\",upstream=\"{upstream}\",code=\"{code}\"}}"
        );
        Scrape::with(&proxy, &[(&series, count)])
    };
    let mut client = proxy.client();
    client.request("GET /", "");
    other.wait_for_calls(1);
    first.open();
    assert_eq!(client.response().body(), "closing");
    code("200", 1.0);
    client.request("GET /second", "");
    closing.wait_for_calls(2);
    other.wait_for_calls(2);
    second.open();
    assert_eq!(client.response().body(), "other");
    closes.open();
    let scrape = code("cancelled", 1.0);
    assert_eq!(scrape.sum("brp_upstream_failures_total", ""), 0.0);
    assert_eq!(proxy.get("/").body(), "closing");
}

#[test]
fn equal_endpoints_keep_their_connections() {
    let equal = || Backend::always(status(200).body("ok").delayed(Duration::from_millis(2)));
    let mut seen = Vec::new();
    // A loser that the machine is too busy for is cancelled: again then.
    for _ in 0..10 {
        let backends = [equal(), equal(), equal()];
        let proxy = Proxy::fanout(&[&backends[0], &backends[1], &backends[2]]).start();
        let mut client = proxy.client();
        for _ in 0..100 {
            assert_eq!(client.get("/").body(), "ok");
        }
        let calls: usize = backends.iter().map(Backend::calls).sum();
        let connections: usize = backends.iter().map(Backend::connections).sum();
        // Losers that are cancelled would cost two each time.
        if calls > 283 && connections < 20 {
            return;
        }
        seen.push((calls, connections));
    }
    panic!("calls and connections: {seen:?}");
}

#[test]
fn the_losers_of_one_request_take_no_thread_from_the_next() {
    // Requests that are worked on are few; the connections whose losers go on are more.
    let number = Cell::new(0);
    let quick = Backend::choosing(move |_| {
        number.set(number.get() + 1);
        status(if number.get() % 3 == 0 { 503 } else { 200 })
    });
    let slow = || Backend::always(status(200).delayed(Duration::from_millis(40)));
    let (first, second) = (slow(), slow());
    let proxy = Proxy::fanout(&[&quick, &first, &second])
        .flag("-workers", "2")
        .flag("-terminal-responses", "200")
        .start();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..12 {
                    let answer = client.get("/");
                    assert_ne!(answer.status(), 500);
                    if answer.header("connection") == Some("close") {
                        // More than two at once.
                        assert_eq!(answer.status(), 503);
                        client = proxy.client();
                    }
                }
            });
        }
    });
    assert!(proxy.log_with("cannot start a thread").is_empty());
}

#[test]
fn threads_for_attempts_are_shared_and_end_when_they_are_idle() {
    // An endpoint that has been silent for so long is left to pooled threads, so a request that
    // comes later takes one more of them.
    const SILENCE: Duration = Duration::from_millis(50);
    const CLIENTS: usize = 4;
    let give_up = Instant::now() + 4 * DEADLINE;
    let (held, _backends, proxy, mut clients) = loop {
        let held = Gate::closed();
        let answer = || Backend::always(status(200).body("ok").after(&held));
        let backends = [answer(), answer(), answer()];
        let proxy = Proxy::fanout(&[&backends[0], &backends[1], &backends[2]]).start();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
        let begun = Instant::now();
        for client in &mut clients {
            client.request("GET /", "");
        }
        for backend in &backends {
            backend.wait_for_calls(CLIENTS);
        }
        if begun.elapsed() < SILENCE {
            break (held, backends, proxy, clients);
        }
        held.open();
        assert!(
            Instant::now() < give_up,
            "the machine is too slow for this test"
        );
    };
    // The dispatching thread runs one attempt of each request itself.
    assert_eq!(proxy.threads_named("attempt"), 2 * CLIENTS);
    held.open();
    for client in &mut clients {
        assert_eq!(client.response().body(), "ok");
    }
    for _ in 0..100 {
        assert_eq!(clients[0].get("/").body(), "ok");
    }
    assert!(proxy.threads_named("attempt") <= 2 * CLIENTS);
    eventually(
        "threads",
        || proxy.threads_named("attempt"),
        |&threads| threads == 0,
    );
    assert_eq!(clients[0].get("/").body(), "ok");
}
