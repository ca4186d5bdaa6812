//! An endpoint that has failed too often is passed over for a while (`-max-fails`,
//! `-cooldown`).

use crate::common::{
    Gate,
    backend::{Backend, Endpoint, Refused, Unroutable, never, status},
    proxy::Proxy,
    settled,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two requests while a cooldown goes on: far shorter than that.
const PAUSE: Duration = Duration::from_millis(5);

/// Sick until it is told to be well.
fn recovering() -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let backend = Backend::choosing({
        let well = Arc::clone(&well);
        move |_| {
            if well.load(Ordering::Relaxed) {
                status(200).body("back")
            } else {
                status(503)
            }
        }
    });
    (backend, well)
}

#[test]
fn after_so_many_failures_in_a_row_an_endpoint_is_passed_over() {
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-max-fails", "3")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    for n in 1..=20 {
        assert_eq!(client.get("/").body(), "well");
        assert_eq!(sick.calls(), n.min(3));
    }
    proxy.wait_for_log(&format!(
        "endpoint 0: {}: passed over for 1h0m0s after 3 failures in a row",
        sick.url()
    ));
}

#[test]
fn the_line_of_the_failure_comes_before_that_of_the_cooldown() {
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-max-fails", "1")
        .start();
    assert_eq!(proxy.get_and_settle("/").body(), "well");
    let log = proxy.log();
    let line = |end: &str| log.iter().position(|line| line.contains(end)).unwrap();
    assert!(line(": status 503") < line("passed over for "), "{log:#?}");
}

#[test]
fn a_probe_that_hangs_and_is_superseded_is_one_probe_per_cooldown() {
    let first = Arc::new(AtomicBool::new(true));
    let hung = Backend::choosing(move |_| {
        if first.swap(false, Ordering::Relaxed) {
            status(503)
        } else {
            never()
        }
    });
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&hung, &well])
        .flag("-hedge-after", "10ms")
        .flag("-hedge-budget", "100")
        .flag("-max-fails", "1")
        .flag("-cooldown", "400ms")
        .start();
    let mut client = proxy.client();
    let begun = Instant::now();
    let mut requests = 0;
    while begun.elapsed() < Duration::from_secs(1) || requests < 30 {
        assert_eq!(client.get("/").body(), "well");
        requests += 1;
        thread::sleep(PAUSE);
    }
    // The failure, and a probe for each cooldown that is over.
    let cooldowns = usize::try_from(begun.elapsed().as_millis() / 400).unwrap();
    let calls = settled(|| hung.calls());
    assert!((2..=1 + cooldowns).contains(&calls), "{calls} calls");
}

#[test]
fn what_earlier_attempts_have_left_no_time_for_is_not_passed_over() {
    let (slow, short) = (Backend::always(never()), Backend::always(never()));
    let proxy = Proxy::serial(&[&slow, &short])
        .flag("-max-fails", "1")
        .flag("-per-try-timeout", "1s")
        .flag("-request-timeout", "1900ms")
        .start();
    assert_eq!(proxy.get("/").status(), 500);
    proxy.wait_for_log("returning 500");
    let log = proxy.log();
    let passed_over = |endpoint: &str| {
        let mut lines = log.iter().filter(|line| line.contains("passed over for "));
        lines.any(|line| line.contains(endpoint))
    };
    assert!(
        passed_over("endpoint 0") && !passed_over("endpoint 1"),
        "{log:#?}"
    );
}

#[test]
fn in_a_fan_out_it_is_passed_over_as_well() {
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200).body("well").delayed(Duration::from_millis(20)));
    let proxy = Proxy::fanout(&[&sick, &well])
        .flag("-max-fails", "3")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    // Where the sick one loses before it has failed, that is no failure.
    let passed_over = |line: &String| line.contains("passed over for ");
    while !proxy.log().iter().any(passed_over) {
        assert_eq!(client.get("/").body(), "well");
    }
    let calls = settled(|| sick.calls());
    assert!(calls >= 3);
    for _ in 0..20 {
        assert_eq!(client.get("/").body(), "well");
    }
    assert_eq!(sick.calls(), calls);
}

#[test]
fn a_success_in_between_starts_the_count_anew() {
    let replies = [503, 503, 200, 503, 503, 200, 503, 503, 200];
    let moody = Backend::replies(replies.map(status));
    let well = Backend::always(status(200));
    let proxy = Proxy::serial(&[&moody, &well])
        .flag("-max-fails", "3")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    for _ in replies {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(moody.calls(), replies.len());
}

#[test]
fn without_the_flag_no_endpoint_is_passed_over() {
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200));
    let proxy = Proxy::serial(&[&sick, &well]).start();
    let mut client = proxy.client();
    for n in 1..=50 {
        client.get("/");
        assert_eq!(sick.calls(), n);
    }
}

#[test]
fn an_endpoint_where_connecting_never_ends_costs_so_many_timeouts_and_no_more() {
    let dead = Unroutable::new();
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&dead, &well])
        .flag("-connect-timeout", "200ms")
        .flag("-max-fails", "2")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    for number in 0..50 {
        let answer = client.get(&format!("/{number}"));
        assert_eq!(answer.body(), "well");
        if number < 2 {
            assert!(answer.took >= Duration::from_millis(200));
        }
    }
    let lines: Vec<_> = (0..50)
        .map(|number| proxy.wait_for_log(&format!("request /{number} served in ")))
        .collect();
    let timed_out = lines.iter().filter(|line| line.contains("(0: timed out"));
    assert_eq!(timed_out.count(), 2, "{lines:#?}");
}

#[test]
fn after_the_cooldown_exactly_one_request_tries_and_the_others_pass_it_over() {
    let gate = Gate::closed();
    let first = Backend::choosing({
        let (failed, gate) = (AtomicBool::new(false), gate.clone());
        move |_| {
            if failed.swap(true, Ordering::Relaxed) {
                status(200).body("back").after(&gate)
            } else {
                status(503)
            }
        }
    });
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&first, &well])
        .flag("-max-fails", "1")
        .flag("-cooldown", "200ms")
        .start();
    let mut client = proxy.client();
    let begun = Instant::now();
    assert_eq!(client.get("/fails").body(), "well");
    // One request after the other, until one of them tries: that one is held.
    let mut probe = proxy.client();
    probe.request("GET /probe", "");
    while first.calls() < 2 {
        if !probe.hears_nothing_for(Duration::from_millis(5)) {
            assert_eq!(probe.response().body(), "well");
            probe.request("GET /probe", "");
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(200));
    // It is held at the endpoint: no other request goes there, however long that takes.
    for _ in 0..20 {
        assert_eq!(client.get("/others").body(), "well");
    }
    assert_eq!(first.calls(), 2);
    gate.open();
    assert_eq!(probe.response().body(), "back");
    proxy.wait_for_log("not passed over any more");
    assert_eq!(client.get("/").body(), "back");
}

#[test]
fn a_probe_that_fails_is_followed_by_another_cooldown() {
    let (first, well_again) = recovering();
    let second = Backend::always(status(200).body("second"));
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-max-fails", "2")
        .flag("-cooldown", "300ms")
        .start();
    let mut client = proxy.client();
    let begun = Instant::now();
    // Two at first, then one after each cooldown.
    for calls in [3, 4] {
        while first.calls() < calls {
            assert_eq!(client.get("/").body(), "second");
            thread::sleep(PAUSE);
        }
        let cooldowns = u32::try_from(calls - 2).unwrap();
        assert!(begun.elapsed() >= cooldowns * Duration::from_millis(300));
    }
    well_again.store(true, Ordering::Relaxed);
    while client.get("/").body() != "back" {
        thread::sleep(PAUSE);
    }
    assert_eq!(client.get("/").body(), "back");
}

#[test]
fn a_probe_whose_client_goes_away_gives_way_to_the_next() {
    let first = Backend::replies([status(503), never(), status(200).body("back")]);
    let second = Backend::always(status(200).body("second"));
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-max-fails", "1")
        .flag("-cooldown", "1ms")
        .start();
    assert_eq!(proxy.get("/").body(), "second");
    proxy.wait_for_log("passed over for 1ms after a failure");
    // Let the cooldown be over.
    thread::sleep(Duration::from_millis(20));
    let mut client = proxy.client();
    client.request("GET /", "");
    first.wait_for_calls(2);
    client.reset();
    proxy.wait_for_log("given up after");
    assert_eq!(proxy.get("/").body(), "back");
}

#[test]
fn a_cancelled_loser_is_no_failure() {
    let slow = Backend::always(never());
    let quick = Backend::always(status(200).body("quick"));
    let proxy = Proxy::fanout(&[&slow, &quick])
        .flag("-max-fails", "1")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").body(), "quick");
    }
    slow.wait_until_left();
    assert!(!proxy.log().iter().any(|line| line.contains("passed over")));
}

#[test]
fn if_all_are_passed_over_all_are_tried() {
    let refused = Refused::new();
    let (sick, well_again) = recovering();
    for builder in [Proxy::serial, Proxy::fanout] {
        well_again.store(false, Ordering::Relaxed);
        let proxy = builder(&[&refused, &sick])
            .flag("-max-fails", "1")
            .flag("-cooldown", "1h")
            .start();
        let mut client = proxy.client();
        let before = sick.calls();
        for n in 1..=5 {
            assert_eq!(client.get("/").status(), 500);
            assert_eq!(sick.calls(), before + n);
        }
        well_again.store(true, Ordering::Relaxed);
        assert_eq!(client.get("/").body(), "back");
        proxy.wait_for_log("endpoint 1: ");
        proxy.wait_for_log("not passed over any more");
        // Now it is the only one that is not passed over.
        let line = client.get("/alone");
        assert_eq!(line.body(), "back");
        let line = proxy.wait_for_log("request /alone served in ");
        assert!(line.ends_with(" by endpoint 1"), "{line}");
    }
}
