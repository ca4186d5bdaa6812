//! Which answers are usable: `-not-terminal`, and what `Retry-After` does (`-max-retry-after`).

use crate::common::{
    Gate,
    backend::{Backend, Endpoint, Step, status},
    eventually, lock,
    proxy::{Builder, Proxy},
    settled,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

type Mode = fn(&[&dyn Endpoint]) -> Builder;

const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

fn refusal(retry_after: &str) -> Step {
    status(429).header("Retry-After", retry_after).body("no")
}

/// As many requests as come in a little more than two seconds to a proxy in front of an endpoint
/// that refuses at once and of one that answers in 60 ms; some hundreds.
fn requests_of_two_seconds(mode: Mode) {
    const CLIENTS: usize = 12;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let refuser = Backend::choosing({
        let calls = Arc::clone(&calls);
        move |_| {
            lock(&calls).push(Instant::now());
            refusal("2")
        }
    });
    let well = Backend::always(status(200).body("well").delayed(Duration::from_millis(60)));
    let proxy = mode(&[&refuser, &well])
        .flag("-not-terminal", "429")
        .start();
    assert_eq!(proxy.get("/").body(), "well");
    proxy.wait_for_log("passed over for 2s (Retry-After)");
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = proxy.client();
                let mut requests = 0;
                while requests < 10 || begun.elapsed() < Duration::from_millis(2_200) {
                    assert_eq!(client.get("/").body(), "well");
                    requests += 1;
                }
            });
        }
    });
    let calls = lock(&calls);
    assert!(calls.len() >= 2, "{} calls", calls.len());
    for pair in calls.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_secs(2), "after {pause:?}");
    }
}

#[test]
fn a_refuser_is_left_alone_for_as_long_as_it_asks_in_serial_mode() {
    requests_of_two_seconds(Proxy::serial);
}

#[test]
fn a_refuser_is_left_alone_for_as_long_as_it_asks_in_a_fan_out() {
    requests_of_two_seconds(Proxy::fanout);
}

#[test]
fn a_refuser_is_left_alone_for_as_long_as_it_asks_with_hedges() {
    requests_of_two_seconds(Proxy::hedged);
}

#[test]
fn the_line_says_what_was_asked_for() {
    let refuser = Backend::always(refusal("30"));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&refuser, &well])
        .flag("-not-terminal", "400-429")
        .start();
    assert_eq!(proxy.get_and_settle("/").body(), "well");
    let line = proxy.wait_for_log("request / served in ");
    let (_, attempts) = line.split_once(" by endpoint 1 ").unwrap();
    assert!(attempts.starts_with("(0: status 429 after "), "{line}");
    assert!(attempts.ends_with(", again in 30s)"), "{line}");
    let url = refuser.url();
    let lines = proxy.log_with(&format!("endpoint 0: {url}: "));
    let failed = format!("endpoint 0: {url}: status 429, again in 30s (GET / of ");
    let passed_over = format!("endpoint 0: {url}: passed over for 30s (Retry-After)");
    assert!(lines[0].starts_with(&failed), "{lines:#?}");
    assert_eq!(lines[1..], [passed_over]);
}

#[test]
fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
    let date = |span| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(span));
    for (retry_after, most, wanted) in [
        ("7".to_owned(), "1m", Some("7s")),
        ("7".to_owned(), "5s", Some("5s")),
        ("99999999999999999999999".to_owned(), "1h", Some("1h0m0s")),
        (date(100_000), "1h", Some("1h0m0s")),
        (date(100_000), "0", None),
        (date(0), "1m", None),
        ("7".to_owned(), "0", None),
        ("0".to_owned(), "1m", None),
        ("soon".to_owned(), "1m", None),
    ] {
        let refuser = Backend::always(refusal(&retry_after));
        let well = Backend::always(status(200).body("well"));
        let proxy = Proxy::serial(&[&refuser, &well])
            .flag("-not-terminal", "429")
            .flag("-max-retry-after", most)
            .start();
        let mut client = proxy.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").body(), "well");
        }
        if let Some(span) = wanted {
            proxy.wait_for_log(&format!(": passed over for {span} (Retry-After)"));
            assert_eq!(refuser.calls(), 1, "{retry_after}");
        } else {
            let served = || proxy.log_with("served in ").len();
            eventually("requests in the log", served, |served| *served == 3);
            assert_eq!(refuser.calls(), 3, "{retry_after}");
            assert!(proxy.log_with("passed over for ").is_empty());
        }
    }
}

#[test]
fn a_status_that_is_not_terminal_anyway_is_heeded_as_well() {
    let busy = Backend::always(status(503).header("retry-after", "30"));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&busy, &well]).start();
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").body(), "well");
    }
    assert_eq!(busy.calls(), 1);
}

#[test]
fn a_usable_answer_with_retry_after_is_one_like_any_other() {
    let well = Backend::always(refusal("30"));
    let proxy = Proxy::serial(&[&well, &Backend::untouched()]).start();
    for _ in 0..3 {
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.body().as_str()), (429, "no"));
        assert_eq!(answer.header("retry-after"), Some("30"));
    }
}

#[test]
fn where_all_are_passed_over_all_are_asked_and_the_client_learns_when_to_ask_again() {
    for mode in MODES {
        let well = Arc::new(AtomicBool::new(false));
        let endpoint = |retry_after: &'static str| {
            let well = Arc::clone(&well);
            Backend::choosing(move |_| {
                if well.load(Ordering::Relaxed) {
                    status(200).body("well")
                } else {
                    refusal(retry_after)
                }
            })
        };
        let endpoints = [endpoint("50"), endpoint("30")];
        let proxy = mode(&[&endpoints[0], &endpoints[1]])
            .flag("-not-terminal", "429")
            .start();
        let mut client = proxy.client();
        for requests in 1..=5 {
            let answer = client.get("/");
            assert_eq!(answer.status(), 500);
            let retry_after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((25..=30).contains(&retry_after), "{retry_after}");
            let calls = [0, 1].map(|endpoint: usize| endpoints[endpoint].calls());
            assert_eq!(calls, [requests, requests]);
        }
        // It is news once.
        let ended = || proxy.log_with("returning 500").len();
        eventually("exhausted requests in the log", ended, |ended| *ended == 5);
        assert_eq!(proxy.log_with("passed over for ").len(), 2);
        well.store(true, Ordering::Relaxed);
        assert_eq!(client.get("/").body(), "well");
        proxy.wait_for_log("not passed over any more");
    }
}

#[test]
fn an_exhausted_answer_has_retry_after_only_where_an_endpoint_has_asked_for_it() {
    type Row<'a> = (&'a [&'a dyn Endpoint], &'a str, u16, Option<&'a str>);
    let refuser = Backend::always(refusal("30"));
    let sick = Backend::always(status(500));
    let table: [Row<'_>; 4] = [
        (&[&refuser], "500", 500, Some("30")),
        (&[&refuser], "gateway", 502, Some("30")),
        (&[&refuser, &sick], "500", 500, None),
        (&[&sick], "500", 500, None),
    ];
    for (endpoints, on_exhausted, code, retry_after) in table {
        let proxy = Proxy::serial(endpoints)
            .flag("-not-terminal", "429")
            .flag("-on-exhausted", on_exhausted)
            .start();
        let answer = proxy.get("/");
        assert_eq!(answer.status(), code);
        assert_eq!(answer.header("retry-after"), retry_after);
    }
}

#[test]
fn among_equals_the_best_is_the_one_that_was_not_taken_out() {
    let missing = Backend::always(status(404).body("missing"));
    for busy in [refusal("30"), status(429)] {
        let busy = Backend::always(busy);
        let orders: [[&dyn Endpoint; 2]; 2] = [[&busy, &missing], [&missing, &busy]];
        for order in orders {
            let proxy = Proxy::serial(&order)
                .flag("-terminal-responses", "200")
                .flag("-not-terminal", "429")
                .flag("-on-exhausted", "best")
                .start();
            assert_eq!(proxy.get("/").body(), "missing");
        }
    }
    // Alone it is the best, as it is.
    let busy = Backend::always(refusal("30"));
    let proxy = Proxy::serial(&[&busy])
        .flag("-not-terminal", "429")
        .flag("-on-exhausted", "best")
        .start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.body().as_str()), (429, "no"));
    assert_eq!(answer.header("retry-after"), Some("30"));
}

#[test]
fn a_status_that_was_taken_out_counts_as_a_failure() {
    let busy = Backend::always(status(429));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&busy, &well])
        .flag("-not-terminal", "429")
        .flag("-max-fails", "3")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    for n in 1..=10 {
        assert_eq!(client.get("/").body(), "well");
        assert_eq!(busy.calls(), n.min(3));
    }
}

#[test]
fn what_is_not_usable_starts_the_next_attempt_at_once_and_is_no_hedge() {
    let busy = Backend::always(status(429));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&busy, &well])
        .flag("-hedge-after", "1h")
        .flag("-hedge-budget", "1")
        .flag("-not-terminal", "429")
        .start();
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").body(), "well");
    }
    assert_eq!((busy.calls(), well.calls()), (50, 50));
    assert!(proxy.log_with("hedged").is_empty());
}

#[test]
fn a_quick_refusal_makes_no_endpoint_the_fastest() {
    let busy = Backend::always(status(429));
    let well = Backend::always(status(200).body("well").delayed(Duration::from_millis(10)));
    let proxy = Proxy::serial(&[&busy, &well])
        .flag("-order", "fastest")
        .flag("-not-terminal", "429")
        .start();
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").body(), "well");
    }
    assert_eq!(busy.calls(), 1);
}

#[test]
fn a_request_that_is_under_way_when_another_one_is_refused_is_not_held_up() {
    let gate = Gate::closed();
    let first = Backend::replies([status(200).body("held").after(&gate), refusal("30")]);
    let second = Backend::always(status(200).body("second"));
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-not-terminal", "429")
        .start();
    let mut held = proxy.client();
    held.request("GET /held", "");
    first.wait_for_calls(1);
    assert_eq!(proxy.get("/").body(), "second");
    proxy.wait_for_log("passed over for 30s (Retry-After)");
    gate.open();
    assert_eq!(held.response().body(), "held");
    // It is usable: that ends it.
    proxy.wait_for_log("not passed over any more");
    assert_eq!(settled(|| first.calls()), 2);
}

#[test]
fn the_best_of_the_answers_that_ask_for_time_is_the_one_with_the_shortest() {
    let (long, short) = (
        Backend::always(refusal("30")),
        Backend::always(refusal("5")),
    );
    let orders: [[&dyn Endpoint; 2]; 2] = [[&long, &short], [&short, &long]];
    for mode in MODES {
        for order in orders {
            let proxy = mode(&order)
                .flag("-not-terminal", "429")
                .flag("-on-exhausted", "best")
                .start();
            // The first one is asked as usual, the others though all are passed over.
            for _ in 0..3 {
                let answer = proxy.get("/");
                assert_eq!(answer.status(), 429);
                assert_eq!(answer.header("retry-after"), Some("5"));
            }
        }
    }
}
