//! Hedging: the next attempt starts when the last one has had no usable answer for too long;
//! the first usable answer wins. As many as the budget allows.

use crate::common::{
    Gate,
    backend::{Act, Backend, Received, Refused, Step, hangup, never, reset, script, send, status},
    client::End,
    eventually, lock,
    proxy::Proxy,
    scrape::Scrape,
    settled, text,
};
use rustix::process::Signal;
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_slow_attempt_is_hedged_and_the_hedge_may_win() {
    let slow = Backend::replies([never()]);
    let asked = Gate::closed();
    let quick = Backend::replies([status(200).body("quick").after(&asked)]);
    let proxy = Proxy::serial(&[&slow, &quick])
        .flag("-hedge-after", "50ms")
        .start();
    let mut client = proxy.client();
    let begun = Instant::now();
    client.request("GET /p", "");
    slow.wait_for_calls(1);
    quick.wait_for_calls(1);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    asked.open();
    assert_eq!(client.response().body(), "quick");
    let line = proxy.wait_for_log("request /p served in ");
    let attempts = line.split_once(" by endpoint 1, hedged (0: cancelled after ");
    assert!(attempts.is_some(), "{line}");
    // The loser is cancelled.
    slow.wait_until_left();
}

#[test]
fn a_hedge_may_lose() {
    let asked = Gate::closed();
    let first = Backend::replies([status(200).body("first").after(&asked)]);
    let second = Backend::replies([never()]);
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-hedge-after", "20ms")
        .start();
    let mut client = proxy.client();
    client.request("GET /p", "");
    second.wait_for_calls(1);
    asked.open();
    assert_eq!(client.response().body(), "first");
    let line = proxy.wait_for_log("request /p served in ");
    assert!(
        line.contains(" by endpoint 0 (1: hedged, cancelled after "),
        "{line}"
    );
    second.wait_until_left();
}

#[test]
fn a_quick_answer_is_not_hedged() {
    let first = Backend::always(status(200).body("first"));
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-hedge-after", "10s")
        .start();
    let mut client = proxy.client();
    for n in 0..200 {
        assert_eq!(client.get(&format!("/{n}")).body(), "first");
    }
    assert_eq!(second.connections(), 0);
    let line = proxy.wait_for_log("request /7 served in ");
    assert!(line.ends_with(" by endpoint 0"), "{line}");
}

#[test]
fn a_hedge_that_is_not_needed_gets_no_thread() {
    let held = Gate::closed();
    let first = Backend::always(status(200).body("first").after(&held));
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-hedge-after", "60s")
        .start();
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.request("GET /", "");
    }
    first.wait_for_calls(8);
    assert_eq!(proxy.threads_named("attempt"), 0);
    held.open();
    for client in &mut clients {
        assert_eq!(client.response().body(), "first");
    }
}

#[test]
fn a_hedge_that_fails_gives_way_to_the_next_endpoint_while_the_first_one_is_silent() {
    let silent = Backend::replies([never()]);
    let asked = Gate::closed();
    let sick = Backend::replies([status(503).after(&asked)]);
    let well = Backend::replies([status(200).body("well")]);
    // The third attempt is no hedge: the failure starts it.
    let proxy = Proxy::serial(&[&silent, &sick, &well])
        .flag("-hedge-after", "1s")
        .flag("-hedge-budget", "1")
        .start();
    let mut client = proxy.client();
    client.request("GET /p", "");
    silent.wait_for_calls(1);
    sick.wait_for_calls(1);
    asked.open();
    assert_eq!(client.response().body(), "well");
    let line = proxy.wait_for_log("request /p served in ");
    assert!(
        line.contains(" by endpoint 2 (0: cancelled after ")
            && line.contains(", 1: hedged, status 503 after "),
        "{line}"
    );
    silent.wait_until_left();
}

#[test]
fn a_failure_starts_the_next_attempt_at_once_and_is_no_hedge() {
    let failing: [Box<dyn crate::common::backend::Endpoint>; 3] = [
        Box::new(Refused::new()),
        Box::new(Backend::always(status(503))),
        Box::new(Backend::always(reset())),
    ];
    for first in failing {
        let second = Backend::always(status(200).body("second"));
        let proxy = Proxy::serial(&[&*first, &second])
            .flag("-hedge-after", "10s")
            .flag("-hedge-budget", "1")
            .flag("-workers", "4")
            .start();
        let mut client = proxy.client();
        // More than the budget has.
        for n in 0..50 {
            let answer = client.get(&format!("/{n}"));
            assert_eq!(answer.body(), "second");
            assert!(answer.took < Duration::from_secs(8), "{:?}", answer.took);
        }
        let line = proxy.wait_for_log("request /49 served in ");
        assert!(line.contains(" by endpoint 1 (0: "), "{line}");
        assert!(!line.contains("hedged"), "{line}");
    }
}

#[test]
fn each_further_hedge_waits_as_long_again() {
    let (a, b) = (Backend::replies([never()]), Backend::replies([never()]));
    let c = Backend::replies([status(200).body("third")]);
    let proxy = Proxy::serial(&[&a, &b, &c])
        .flag("-hedge-after", "60ms")
        .start();
    let begun = Instant::now();
    assert_eq!(proxy.get("/p").body(), "third");
    assert!(begun.elapsed() >= Duration::from_millis(120));
    let line = proxy.wait_for_log("request /p served in ");
    assert!(line.contains("by endpoint 2, hedged (0: cancelled after "));
    assert!(line.contains(", 1: hedged, cancelled after "), "{line}");
}

#[test]
fn the_attempt_after_a_failure_has_its_own_time() {
    let first = Backend::replies([status(503).delayed(Duration::from_millis(100))]);
    let second = Backend::replies([never()]);
    let third = Backend::replies([status(200).body("third")]);
    let proxy = Proxy::serial(&[&first, &second, &third])
        .flag("-hedge-after", "400ms")
        .start();
    let begun = Instant::now();
    assert_eq!(proxy.get("/").body(), "third");
    // Had the first one's clock gone on, the hedge would have come after 400 ms.
    assert!(begun.elapsed() >= Duration::from_millis(500));
}

#[test]
fn all_hedged_attempts_may_fail() {
    let (a, b) = (Gate::closed(), Gate::closed());
    let first = Backend::replies([status(503).after(&a)]);
    let second = Backend::replies([status(500).after(&b)]);
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-hedge-after", "20ms")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    second.wait_for_calls(1);
    b.open();
    proxy.wait_for_log("endpoint 1: ");
    a.open();
    assert_eq!(client.response().status(), 500);
    proxy.wait_for_log("endpoints failed to return a valid answer, returning 500");
}

#[test]
fn a_hedged_request_keeps_its_time_limit() {
    let (a, b) = (Backend::always(never()), Backend::always(never()));
    let proxy = Proxy::serial(&[&a, &b])
        .flag("-hedge-after", "20ms")
        .flag("-request-timeout", "600ms")
        .start();
    let begun = Instant::now();
    assert_eq!(proxy.get("/").status(), 500);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(10));
    a.wait_until_left();
    b.wait_until_left();
}

#[test]
fn a_client_that_goes_away_cancels_the_attempt_and_its_hedge() {
    let (a, b) = (Backend::replies([never()]), Backend::replies([never()]));
    let proxy = Proxy::serial(&[&a, &b])
        .flag("-hedge-after", "50ms")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    a.wait_for_calls(1);
    b.wait_for_calls(1);
    client.reset();
    a.wait_until_left();
    b.wait_until_left();
    proxy.wait_for_log("given up after");
}

#[test]
fn a_winner_streams_while_its_loser_is_held() {
    let (first, second) = (Gate::closed(), Gate::closed());
    let slow = Backend::replies([never()]);
    let winner = Backend::replies([script([
        send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"),
        Act::Wait(first.clone()),
        send("data: 2\n\n"),
        Act::Wait(second.clone()),
        Act::Close,
    ])]);
    let proxy = Proxy::serial(&[&slow, &winner])
        .flag("-hedge-after", "20ms")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    client.until("data: 1\n\n");
    slow.wait_until_left();
    first.open();
    client.until("data: 2\n\n");
    second.open();
    client.until("0\r\n\r\n");
}

/// Puts `requests` through so many clients and returns what each one took, sorted.
fn load(proxy: &Proxy, clients: usize, requests: usize) -> Vec<Duration> {
    let taken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..requests / clients {
                    let answer = client.get("/");
                    assert_eq!((answer.status(), answer.end), (200, End::Complete));
                    lock(&taken).push(answer.took);
                }
            });
        }
    });
    let mut taken = lock(&taken).clone();
    taken.sort();
    taken
}

#[test]
fn requests_that_hit_a_slow_answer_do_not_wait_for_it() {
    for after in ["30ms", "p95"] {
        let (calls, silent) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let uneven = Backend::choosing({
            let silent = Arc::clone(&silent);
            move |_| {
                let number = calls.fetch_add(1, Ordering::Relaxed);
                if number % 50 == 49 && silent.load(Ordering::Relaxed) {
                    never()
                } else {
                    status(200).body("ok")
                }
            }
        });
        let quick = Backend::always(status(200).body("ok"));
        let proxy = Proxy::serial(&[&uneven, &quick])
            .flag("-hedge-after", after)
            .flag("-hedge-budget", "100")
            .start();
        // A percentile needs some answers first, and is made up every tenth of a second.
        load(&proxy, 4, 120);
        thread::sleep(Duration::from_millis(110));
        silent.store(true, Ordering::Relaxed);
        // Each of the silent ones would take the 30 s of -per-try-timeout.
        let taken = load(&proxy, 8, 400);
        assert!(taken[399] < Duration::from_secs(15), "{:?}", taken[399]);
        assert!(quick.calls() >= 7, "{}", quick.calls());
    }
}

/// Answers in 10 ms, every fiftieth time in a second.
fn uneven(offset: usize) -> Backend {
    let calls = AtomicUsize::new(offset);
    Backend::choosing(move |_| {
        let slow = calls.fetch_add(1, Ordering::Relaxed) % 50 == 49;
        let time = if slow { 1_000 } else { 10 };
        status(200).body("ok").delayed(Duration::from_millis(time))
    })
}

#[test]
#[ignore = "its figures want an idle machine: cargo test the_tail -- --ignored --nocapture"]
fn the_tail_is_cut_off_for_a_few_more_calls() {
    const REQUESTS: usize = 2_000;
    for after in ["0", "30ms", "p95"] {
        let (a, b) = (uneven(0), uneven(25));
        let proxy = Proxy::serial(&[&a, &b]).flag("-hedge-after", after).start();
        let warm_up = 160;
        load(&proxy, 8, warm_up);
        let before = a.calls() + b.calls();
        let taken = load(&proxy, 8, REQUESTS);
        let extra = a.calls() + b.calls() - before - REQUESTS;
        let at = |thousandth: usize| taken[taken.len() * thousandth / 1_000];
        println!(
            "-hedge-after {after}: p50 {:?}, p95 {:?}, p99 {:?}, p99.9 {:?}; {extra} extra calls \
             for {REQUESTS} requests",
            at(500),
            at(950),
            at(990),
            at(999)
        );
        if after == "0" {
            assert!(at(990) >= Duration::from_secs(1) && extra == 0);
        } else {
            assert!(
                at(990) < Duration::from_millis(72),
                "{after}: {:?}",
                at(990)
            );
            assert!(extra * 100 <= REQUESTS * 8, "{after}: {extra}");
        }
    }
}

#[test]
fn in_an_outage_hedges_stop_at_the_budget() {
    const REQUESTS: usize = 400;
    for (percent, most) in [("10", 40 + 10), ("1", 4 + 10)] {
        let slow = || Backend::always(status(200).body("ok").delayed(Duration::from_millis(200)));
        let (a, b) = (slow(), slow());
        let mut proxy = Proxy::serial(&[&a, &b])
            .flag("-monitor", ":0")
            .flag("-hedge-after", "5ms")
            .flag("-hedge-budget", percent)
            .start();
        load(&proxy, 100, REQUESTS);
        let hedges = a.calls() + b.calls() - REQUESTS;
        println!("{hedges} hedges for {REQUESTS} requests at {percent} %");
        assert!(hedges <= most, "{hedges} at {percent} %");
        // And they are used: it is an outage for every request.
        assert!(hedges >= most / 2, "{hedges} at {percent} %");
        // The first one that was held back is reported, the others once a minute, or at the end.
        let all = Scrape::of(&proxy).get("brp_hedged_requests_rate_limited_total");
        proxy.signal(Signal::TERM);
        assert!(proxy.wait_for_exit().success());
        let log = proxy.log_with("held back");
        let told = |number: f64| {
            format!(
                "hedges held back since the last such line: {number}, the budget is used up \
                 (-hedge-budget)"
            )
        };
        assert_eq!(log, [told(1.0), told(all - 1.0)]);
    }
}

#[test]
fn a_budget_of_a_hundred_is_no_limit() {
    let slow = || Backend::always(status(200).body("ok").delayed(Duration::from_millis(300)));
    let (a, b, c) = (slow(), slow(), slow());
    let proxy = Proxy::serial(&[&a, &b, &c])
        .flag("-hedge-after", "1ms")
        .flag("-hedge-budget", "100")
        .start();
    // Two hedges each: more than any smaller budget would let pass.
    load(&proxy, 20, 40);
    assert_eq!((a.calls(), b.calls(), c.calls()), (40, 40, 40));
}

#[test]
fn by_a_percentile_nothing_is_hedged_before_a_hundred_answers() {
    let first = Backend::choosing(|request| match request.target.as_str() {
        "/99" => status(200).body("ok").delayed(Duration::from_millis(300)),
        "/slow" => never(),
        _ => status(200).body("ok"),
    });
    let second = Backend::always(status(200).body("second"));
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-hedge-after", "p50")
        .flag("-hedge-budget", "100")
        .start();
    let mut client = proxy.client();
    for number in 0..=99 {
        assert_eq!(client.get(&format!("/{number}")).body(), "ok");
    }
    assert_eq!(second.calls(), 0);
    // What is known is made up anew every tenth of a second.
    thread::sleep(Duration::from_millis(110));
    assert_eq!(client.get("/slow").body(), "second");
    proxy.wait_for_log("by endpoint 1, hedged (0: cancelled after ");
}

/// A number that is as good as any (xorshift); one sequence for all threads.
fn random(state: &AtomicU64, below: u64) -> u64 {
    let next = |mut x: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let before = state
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(next(x)))
        .unwrap();
    (next(before) >> 20) % below
}

/// An endpoint that echoes, and fails in every way now and then. What it gets must be whole.
fn faulty(state: &Arc<AtomicU64>, spoilt: &Arc<Mutex<Vec<String>>>) -> Backend {
    let (state, spoilt) = (Arc::clone(state), Arc::clone(spoilt));
    Backend::choosing(move |request: &Received| {
        let body = text(&request.body);
        if body != body_of(&request.target) {
            lock(&spoilt).push(format!("{} {} bytes", request.target, body.len()));
        }
        echo_or_fail(random(&state, 100), &body)
    })
}

fn echo_or_fail(dice: u64, body: &str) -> Step {
    let echo = status(200).body(body);
    match dice {
        0..=2 => hangup(),
        3..=5 => reset(),
        6..=8 => status(503).body("sick"),
        9..=11 => script([
            send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                body.len() + 1
            )),
            send(body),
            Act::Close,
        ]),
        12..=13 => script([send("HTTP/1.1 2"), Act::Reset]),
        14 => script([send("garbage\r\n\r\n"), Act::Close]),
        15..=24 => echo.delayed(Duration::from_millis(25)),
        25..=34 => status(200).chunked(&[body.as_bytes()]),
        _ => echo,
    }
}

/// The one body that belongs to this target.
fn body_of(target: &str) -> String {
    let length = target.bytes().map(usize::from).sum::<usize>() % 150;
    format!("{target} {}", target.repeat(length))
}

/// How many requests were answered by an echo, of so many: hedged, or in fan-out.
fn storm(requests: usize, is_fanout: bool) -> usize {
    let state = Arc::new(AtomicU64::new(0x9e37_79b9_7f4a_7c15));
    let spoilt = Arc::default();
    let backends: Vec<_> = (0..3).map(|_| faulty(&state, &spoilt)).collect();
    let endpoints: [&dyn crate::common::backend::Endpoint; 3] =
        [&backends[0], &backends[1], &backends[2]];
    let proxy = if is_fanout {
        Proxy::fanout(&endpoints).start()
    } else {
        Proxy::serial(&endpoints)
            .flag("-hedge-after", "5ms")
            .flag("-hedge-budget", "100")
            .start()
    };
    let run = |range: std::ops::Range<usize>| {
        let answered = AtomicUsize::new(0);
        let next = AtomicUsize::new(range.start);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= range.end {
                            break;
                        }
                        let target = format!("/{number}");
                        let answer = client.post(&target, body_of(&target));
                        if answer.status() == 200 {
                            assert!(answer.body() == body_of(&target), "{target}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        } else {
                            assert_eq!(answer.status(), 500, "{target}");
                        }
                    }
                });
            }
        });
        answered.into_inner()
    };
    run(0..100);
    let threads = settled(|| proxy.threads());
    // Besides the connections that the pool keeps: each one is open at its endpoint, too.
    let others = || {
        let pooled: usize = backends.iter().map(Backend::open_connections).sum();
        proxy.descriptors().saturating_sub(pooled)
    };
    let descriptors = settled(others);
    let answered = run(100..100 + requests);
    // A leak would be one in a hundred requests at least.
    eventually("threads", || proxy.threads(), |&now| now <= threads + 2);
    eventually("descriptors", others, |&now| now <= descriptors + 2);
    let spoilt = lock(&spoilt);
    assert!(spoilt.is_empty(), "{spoilt:?}");
    let hedged = proxy.log().iter().filter(|l| l.contains("hedged")).count();
    let targets: HashSet<_> = backends.iter().flat_map(Backend::seen).collect();
    assert_eq!(targets.len(), 100 + requests);
    let calls: usize = backends.iter().map(Backend::calls).sum();
    println!(
        "{requests} requests: {answered} answered, {hedged} hedged, {calls} calls; {threads} \
         threads and {descriptors} descriptors besides the pool before, {} and {} after",
        proxy.threads(),
        others()
    );
    if is_fanout {
        assert!(calls > requests * 2, "{calls} calls");
    } else {
        assert!(hedged > requests / 50, "{hedged} hedged");
    }
    answered
}

#[test]
fn under_faults_of_every_kind_each_client_gets_its_own_answer() {
    for is_fanout in [false, true] {
        let answered = storm(400, is_fanout);
        // Three endpoints of which each fails in 15 of 100.
        assert!(answered > 390, "{answered}");
    }
}

#[test]
#[ignore = "takes a while; what it prints is worth reading: cargo test twenty_thousand -- --ignored --nocapture"]
fn twenty_thousand_requests_under_faults_of_every_kind() {
    for is_fanout in [false, true] {
        let answered = storm(20_000, is_fanout);
        assert!(answered > 19_600, "{answered}");
    }
}
