//! All endpoints are tried several times (`-rounds`, `-round-delay`), within a number of attempts
//! (`-max-tries`).

use crate::common::{
    Gate, Pattern,
    backend::{Act, Backend, Endpoint, Refused, Step, never, reset, script, send, status},
    client::{Closed, End},
    is_soon,
    proxy::{Builder, Proxy},
};
use rustix::process::Signal;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const MILLI: Duration = Duration::from_millis(1);

/// Longer than any test takes: a pause that nothing but its interruption ends.
const ENDLESS: &str = "1h";

/// How soon the end of a client is noticed, in the middle of some tries.
const SOON: Duration = Duration::from_millis(50);

type Mode = fn(&[&dyn Endpoint]) -> Builder;
const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

/// With this many rounds, and short pauses.
fn rounds(builder: Builder, rounds: u32) -> Builder {
    builder
        .flag("-rounds", rounds.to_string())
        .flag("-round-delay", "10ms")
}

/// With a pause that does not end by itself.
fn endless(builder: Builder) -> Builder {
    builder
        .flag("-rounds", "2")
        .flag("-round-delay", ENDLESS)
        .flag("-request-timeout", "3h")
}

#[test]
fn a_single_endpoint_gets_its_retries() {
    for mode in MODES {
        // In this order: what is reset on a kept connection is repeated within the attempt.
        let flaky = Backend::replies([reset(), status(503), status(200).body("third time")]);
        let proxy = rounds(mode(&[&flaky]), 3).start();
        assert_eq!(proxy.get("/p").body(), "third time");
        let line = proxy.wait_for_log("request /p served in ");
        let (_, attempts) = line.split_once("by endpoint 0 (").unwrap();
        assert!(attempts.starts_with("0: connection reset after "), "{line}");
        assert!(attempts.contains(", 0: status 503 after "), "{line}");
    }
}

#[test]
fn without_rounds_a_single_endpoint_is_asked_once() {
    let sick = Backend::replies([status(503)]);
    let proxy = Proxy::serial(&[&sick]).start();
    assert_eq!(proxy.get("/").status(), 500);
}

#[test]
fn each_round_asks_all_endpoints_and_an_answer_ends_it() {
    for mode in MODES {
        let sick = [Backend::always(status(503)), Backend::always(status(502))];
        let proxy = rounds(mode(&[&sick[0], &sick[1]]), 3).start();
        assert_eq!(proxy.get("/").status(), 500);
        assert_eq!((sick[0].calls(), sick[1].calls()), (3, 3));
        proxy.wait_for_log("returning 500");
        let log = proxy.log_with(": status 50");
        assert_eq!(log.len(), 6, "{log:#?}");

        let first = Backend::always(status(503));
        let second = Backend::replies([status(503), status(200).body("second round")]);
        let proxy = rounds(mode(&[&first, &second]), 9).start();
        assert_eq!(proxy.get("/").body(), "second round");
        // In a fan-out the first one may lose before it has got the request.
        assert!((1..=2).contains(&first.calls()), "{}", first.calls());
    }
}

#[test]
fn a_request_takes_no_more_than_its_tries_whatever_the_rounds() {
    // -max-tries, -rounds, calls at each of three endpoints that fail.
    let table = [
        (0, 1, [1, 1, 1]),
        (0, 2, [2, 2, 2]),
        (1, 1, [1, 0, 0]),
        (1, 9, [1, 0, 0]),
        (2, 1, [1, 1, 0]),
        (3, 9, [1, 1, 1]),
        (4, 9, [2, 1, 1]),
        (8, 9, [3, 3, 2]),
        (9, 2, [2, 2, 2]),
    ];
    for mode in MODES {
        for (max_tries, count, wanted) in table {
            let sick: Vec<_> = (0..3).map(|_| Backend::always(status(503))).collect();
            let proxy = mode(&[&sick[0], &sick[1], &sick[2]])
                .flag("-max-tries", max_tries.to_string())
                .flag("-rounds", count.to_string())
                .flag("-round-delay", "1ms")
                .start();
            assert_eq!(proxy.get("/").status(), 500);
            let calls: Vec<_> = sick.iter().map(Backend::calls).collect();
            assert_eq!(calls, wanted, "-max-tries {max_tries} -rounds {count}");
        }
    }
}

#[test]
fn hedges_count_as_tries() {
    let gate = Gate::closed();
    let slow = [
        Backend::replies([status(200).body("first").after(&gate)]),
        Backend::replies([never()]),
    ];
    let third = Backend::untouched();
    let proxy = Proxy::hedged(&[&slow[0], &slow[1], &third])
        .flag("-max-tries", "2")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    slow[1].wait_for_calls(1);
    // Three times as long as the third one would be hedged after.
    assert!(client.hears_nothing_for(MILLI * 150));
    gate.open();
    assert_eq!(client.response().body(), "first");
    assert_eq!(third.connections(), 0);
}

#[test]
fn a_single_try_is_not_hedged() {
    let gate = Gate::closed();
    let first = Backend::replies([status(200).body("first").after(&gate)]);
    let second = Backend::untouched();
    let proxy = Proxy::hedged(&[&first, &second])
        .flag("-max-tries", "1")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    first.wait_for_calls(1);
    assert!(client.hears_nothing_for(MILLI * 150));
    gate.open();
    assert_eq!(client.response().body(), "first");
}

#[test]
fn a_pause_doubles_each_time_and_has_jitter() {
    let nominal = [MILLI * 100, MILLI * 200, MILLI * 400];
    let mut firsts = Vec::new();
    for mode in MODES {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let sick = Backend::choosing({
            let asked = Arc::clone(&asked);
            move |_| {
                asked.lock().unwrap().push(Instant::now());
                status(503)
            }
        });
        let refused = Refused::new();
        let proxy = mode(&[&refused, &sick])
            .flag("-rounds", "4")
            .flag("-round-delay", "100ms")
            .start();
        assert_eq!(proxy.get("/").status(), 500);
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 4);
        for (two, nominal) in asked.windows(2).zip(nominal) {
            let pause = two[1] - two[0];
            // Of the time in which the answer travels nothing is known, but that it is short.
            assert!(pause + MILLI * 5 >= nominal / 2, "{pause:?} of {nominal:?}");
            // A pause of any other unit would be minutes.
            assert!(pause < nominal + MILLI * 10_000, "{pause:?} of {nominal:?}");
        }
        firsts.push(asked[1] - asked[0]);
    }
    firsts.dedup();
    assert!(firsts.len() > 1, "{firsts:?}");
}

#[test]
fn a_round_that_the_request_timeout_leaves_no_time_for_is_not_waited_for() {
    for mode in MODES {
        let sick = Backend::replies([status(503)]);
        let proxy = mode(&[&sick])
            .flag("-rounds", "2")
            .flag("-round-delay", ENDLESS)
            .flag("-request-timeout", "30m")
            .flag("-on-exhausted", "gateway")
            .start();
        let answer = proxy.get("/");
        // The client's own patience is far shorter than the pause.
        assert_eq!(answer.status(), 502);
    }
}

#[test]
fn all_rounds_end_with_the_request_timeout() {
    let timeout = MILLI * 700;
    for mode in MODES {
        let (sick, refused) = (Backend::always(status(503)), Refused::new());
        let proxy = mode(&[&sick, &refused])
            .flag("-rounds", "1000000")
            .flag("-round-delay", "20ms")
            .flag("-request-timeout", "700ms")
            .start();
        let answer = proxy.get("/");
        assert_eq!(answer.status(), 500);
        // A million rounds would take years.
        assert!(answer.took < timeout + MILLI * 8_000, "{:?}", answer.took);
        // The pauses are 20, 40, 80, 160 and 320 ms, each of them at least half of that.
        let calls = sick.calls();
        assert!((2..=7).contains(&calls), "{calls} calls");
    }
}

#[test]
fn an_attempt_of_a_later_round_ends_with_the_request_timeout() {
    let backend = Backend::replies([status(503), never()]);
    let proxy = rounds(Proxy::serial(&[&backend]), 3)
        .flag("-request-timeout", "400ms")
        .flag("-on-exhausted", "gateway")
        .start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 504);
    assert!(answer.took < MILLI * 10_000, "{:?}", answer.took);
    proxy.wait_for_log("(-request-timeout)");
}

#[test]
fn a_client_that_goes_in_a_pause_is_noticed_and_no_endpoint_is_called() {
    for mode in MODES {
        let sick = [Backend::always(status(503)), Backend::always(status(503))];
        let proxy = endless(mode(&[&sick[0], &sick[1]])).start();
        let mut tries = 0;
        is_soon("the end of a client", SOON, || {
            tries += 1;
            let mut client = proxy.client();
            client.request(&format!("GET /{tries}"), "");
            for backend in &sick {
                backend.wait_for_calls(tries);
            }
            assert!(client.hears_nothing_for(MILLI * 20));
            let begun = Instant::now();
            client.finish_sending();
            assert_eq!(client.closed(), Closed::Fin);
            let took = begun.elapsed();
            let line = proxy.wait_for_log(&format!("request /{tries} given up after "));
            assert!(line.contains(": the client went away"), "{line}");
            took
        });
        assert_eq!((sick[0].calls(), sick[1].calls()), (tries, tries));
    }
}

#[test]
fn a_reset_in_a_pause_is_noticed_too() {
    let sick = Backend::always(status(503));
    let proxy = endless(Proxy::serial(&[&sick]))
        .flag("-half-close", "true")
        .start();
    let mut client = proxy.client();
    client.request("GET /p", "");
    sick.wait_for_calls(1);
    // With -half-close this alone is no reason to give up.
    client.finish_sending();
    assert!(client.hears_nothing_for(MILLI * 150));
    client.reset();
    proxy.wait_for_log("request /p given up after ");
    assert_eq!(sick.calls(), 1);
}

#[test]
fn a_pause_does_not_prolong_the_drain_time() {
    for mode in MODES {
        let sick = Backend::always(status(503));
        let mut proxy = endless(mode(&[&sick])).flag("-drain", "300ms").start();
        let mut client = proxy.client();
        client.request("GET /", "");
        sick.wait_for_calls(1);
        let begun = Instant::now();
        proxy.signal(Signal::TERM);
        proxy.wait_for_log("-drain)");
        assert!(proxy.wait_for_exit().success());
        assert!(begun.elapsed() < MILLI * 10_000, "{:?}", begun.elapsed());
    }
}

#[test]
fn a_stop_waits_for_the_next_round_within_the_drain_time() {
    let sick = Backend::replies([status(503), status(200).body("kept")]);
    let mut proxy = Proxy::serial(&[&sick])
        .flag("-rounds", "2")
        .flag("-round-delay", "600ms")
        .flag("-drain", "1m")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    proxy.wait_for_log(": status 503");
    proxy.signal(Signal::TERM);
    assert_eq!(client.response().body(), "kept");
    assert!(proxy.wait_for_exit().success());
}

#[test]
fn a_pause_holds_no_thread_for_attempts() {
    for mode in [Proxy::fanout as Mode, Proxy::hedged] {
        let sick: Vec<_> = (0..3).map(|_| Backend::always(status(503))).collect();
        let proxy = endless(mode(&[&sick[0], &sick[1], &sick[2]])).start();
        let mut clients = Vec::new();
        for tries in 1..=20 {
            let mut client = proxy.client();
            client.request("GET /", "");
            clients.push(client);
            for backend in &sick {
                backend.wait_for_calls(tries);
            }
            // The lines are written before the threads are idle, but by them.
            while proxy.log_with(": status 503").len() < 3 * tries {
                assert!(clients[tries - 1].hears_nothing_for(MILLI));
            }
        }
        // Held, they would be two for each client.
        let threads = proxy.threads_named("attempt");
        assert!(threads <= 10, "{threads}");
        for mut client in clients {
            assert!(client.hears_nothing_for(MILLI));
        }
    }
}

/// Sends a request with this method and a body, and returns the status.
fn ask(proxy: &Proxy, method: &str) -> u16 {
    let mut client = proxy.client();
    client.send_body(method, "/", b"body");
    client.response().status()
}

#[test]
fn what_must_not_be_carried_out_twice_is_not_sent_again_in_a_later_round() {
    let failures: [fn() -> Step; 3] = [
        || status(503),
        reset,
        || status(200).body("0123456789").cut(5, Act::Close),
    ];
    for mode in MODES {
        for failure in failures {
            let (first, second) = (Backend::always(failure()), Backend::always(failure()));
            let proxy = rounds(mode(&[&first, &second]), 3)
                .flag("-idempotent-only", "true")
                .start();
            assert_eq!(ask(&proxy, "POST"), 500);
            assert_eq!((first.calls(), second.calls()), (1, 0));
            // What may be repeated is.
            assert_eq!(ask(&proxy, "PUT"), 500);
            assert_eq!((first.calls(), second.calls()), (4, 3));
        }
    }
}

#[test]
fn what_was_never_sent_may_be_tried_in_a_later_round() {
    for mode in MODES {
        let refused = Refused::new();
        let proxy = rounds(mode(&[&refused]), 3)
            .flag("-idempotent-only", "true")
            .start();
        assert_eq!(ask(&proxy, "POST"), 500);
        proxy.wait_for_log("returning 500");
        assert_eq!(proxy.log_with(": connection refused").len(), 3);
    }
}

#[test]
fn the_best_answer_is_that_of_any_round() {
    for mode in MODES {
        let flaky = Backend::replies([status(503), status(404).body("best"), status(503)]);
        let proxy = rounds(mode(&[&flaky]), 3)
            .flag("-terminal-responses", "200")
            .flag("-on-exhausted", "best")
            .start();
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.body().as_str()), (404, "best"));
    }
}

/// So that 404 and 503 are not usable, and one of them is the answer all the same.
fn best(builder: Builder) -> Builder {
    builder
        .flag("-terminal-responses", "200")
        .flag("-on-exhausted", "best")
}

#[test]
fn the_best_answer_of_unknown_length_is_read_in_a_pause_and_frees_its_connection() {
    for (mode, most) in MODES.iter().flat_map(|mode| [(mode, "64KiB"), (mode, "4")]) {
        let refused = Refused::new();
        let flaky = Backend::replies([
            status(404).chunked(&[b"be", b"st"]),
            status(503),
            status(503).chunked(&[b"worse"]),
        ]);
        let proxy = best(rounds(mode(&[&flaky, &refused]), 3))
            .flag("-commit-after", most)
            .start();
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.body().as_str()), (404, "best"));
        assert_eq!(flaky.connections(), 1);
    }
}

#[test]
fn a_best_answer_without_a_body_is_kept_even_where_none_is_read_ahead() {
    for mode in MODES {
        let refused = Refused::new();
        let flaky = Backend::choosing({
            let calls = std::sync::atomic::AtomicUsize::new(0);
            move |request| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 if request.method == "HEAD" => {
                    status(404).head_only().header("Content-Length", "9")
                }
                2 => status(404),
                _ => status(503),
            }
        });
        let proxy = best(rounds(mode(&[&flaky, &refused]), 2))
            .flag("-commit-after", "0")
            .start();
        let mut client = proxy.client();
        client.request("HEAD /", "");
        assert_eq!(client.response_to("HEAD").status(), 404);
        assert_eq!(client.get("/").status(), 404);
        assert_eq!(flaky.calls(), 4);
    }
}

#[test]
fn the_rest_of_the_best_answer_may_come_within_the_pause() {
    let gate = Gate::closed();
    let flaky = Backend::replies([
        script([
            send("HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbe\r\n"),
            Act::Wait(gate.clone()),
            send("2\r\nst\r\n0\r\n\r\n"),
        ]),
        status(503),
    ]);
    let proxy = best(Proxy::serial(&[&flaky]))
        .flag("-rounds", "2")
        .flag("-round-delay", "2s")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    proxy.wait_for_log(": status 404");
    gate.open();
    let answer = client.response();
    assert_eq!((answer.status(), answer.body().as_str()), (404, "best"));
    assert_eq!(flaky.connections(), 1);
}

#[test]
fn a_client_that_goes_while_the_best_answer_is_read_in_a_pause_is_noticed() {
    for mode in MODES {
        let refused = Refused::new();
        let stalled = Backend::always(script([
            send("HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbe\r\n"),
            Act::Hang,
        ]));
        let proxy = best(endless(mode(&[&stalled, &refused]))).start();
        let mut client = proxy.client();
        client.request("GET /", "");
        proxy.wait_for_log(": status 404");
        // The time after which the attempt would have been hedged is over by then.
        assert!(client.hears_nothing_for(MILLI * 150));
        client.reset();
        stalled.wait_until_left();
        proxy.wait_for_log("given up after");
    }
}

#[test]
fn a_best_answer_that_is_too_long_for_a_pause_is_that_of_the_last_round() {
    let long = |code: u16| {
        status(code)
            .head_only()
            .header("Content-Length", "3000000")
            .then([Act::Generate(3_000_000)])
    };
    let chunked = |code: u16| {
        status(code)
            .head_only()
            .header("Transfer-Encoding", "chunked")
            .then([Act::GenerateChunked(3_000_000)])
    };
    for mode in MODES {
        let refused = Refused::new();
        for (first, second) in [(long(404), chunked(503)), (chunked(404), long(503))] {
            let flaky = Backend::replies([first, second]);
            let proxy = best(rounds(mode(&[&flaky, &refused]), 2)).start();
            let answer = proxy.get("/");
            assert_eq!((answer.status(), answer.end), (503, End::Complete));
            assert!(answer.bytes == Pattern::bytes(3_000_000));
        }
        let endless = Backend::always(chunked(404));
        let proxy = best(self::endless(mode(&[&endless, &refused]))).start();
        let mut client = proxy.client();
        client.request("GET /", "");
        // Nothing waits for the next round there.
        endless.wait_until_left();
        client.reset();
        proxy.wait_for_log("given up after");
    }
}

#[test]
fn endpoints_that_are_all_passed_over_are_asked_in_each_round() {
    for mode in MODES {
        let sick = Backend::always(status(503));
        let flaky = Backend::replies([status(503), status(503), status(200).body("back")]);
        let proxy = rounds(mode(&[&sick, &flaky]), 3)
            .flag("-max-fails", "1")
            .flag("-cooldown", ENDLESS)
            .start();
        assert_eq!(proxy.get("/").body(), "back");
    }
}

#[test]
fn a_round_begins_when_nothing_is_under_way_any_more() {
    for mode in [Proxy::fanout as Mode, Proxy::hedged] {
        let gate = Gate::closed();
        let slow = Backend::replies([status(503).after(&gate), status(200).body("again")]);
        let sick = Backend::choosing(|_| status(503));
        let proxy = mode(&[&slow, &sick])
            .flag("-rounds", "2")
            .flag("-round-delay", "1ms")
            .start();
        let mut client = proxy.client();
        client.request("GET /", "");
        proxy.wait_for_log(&format!("endpoint 1: {}: status 503", sick.url()));
        assert!(client.hears_nothing_for(MILLI * 150));
        assert_eq!((slow.calls(), sick.calls()), (1, 1));
        gate.open();
        assert_eq!(client.response().body(), "again");
    }
}

#[test]
fn a_delay_of_zero_is_no_pause() {
    for mode in MODES {
        let sick = Backend::always(status(503));
        let proxy = mode(&[&sick])
            .flag("-rounds", "40")
            .flag("-round-delay", "0")
            .flag("-request-timeout", "1m")
            .start();
        // With any pause that doubles it would be some minutes.
        assert_eq!(proxy.get("/").status(), 500);
        assert_eq!(sick.calls(), 40);
    }
}

#[test]
fn a_loop_has_no_further_round() {
    for mode in MODES {
        let (looping, sick) = (Backend::always(status(508)), Backend::always(status(503)));
        let proxy = rounds(mode(&[&looping, &sick]), 5).start();
        assert_eq!(proxy.get("/").status(), 508);
        assert_eq!((looping.calls(), sick.calls()), (1, 1));
    }
}
