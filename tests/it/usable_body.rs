//! Answers that are not usable because of what stands in their body (`-unusable-body`).

use crate::common::{
    Gate, Pattern,
    backend::{Act, Backend, Endpoint, Step, script, send, status, wait},
    client::End,
    eventually,
    proxy::{Builder, Proxy, command},
};
use std::{
    thread,
    time::{Duration, Instant},
};

type Mode = fn(&[&dyn Endpoint]) -> Builder;

const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

/// Errors of JSON-RPC, and of GraphQL.
const PATTERN: &str = r#""errors?"\s*:"#;

const ERROR: &str =
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit exceeded"}}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#;

fn in_mode(mode: Mode, endpoints: &[&dyn Endpoint]) -> Builder {
    mode(endpoints).flag("-unusable-body", PATTERN)
}

fn in_front_of(endpoints: &[&dyn Endpoint]) -> Builder {
    in_mode(Proxy::serial, endpoints)
}

/// The error at the end of 40 KiB.
fn long_error() -> String {
    format!(r#"{{"trace":"{}",{}"#, "x".repeat(40 * 1024), &ERROR[1..])
}

fn result() -> Step {
    status(200).body(RESULT).delayed(Duration::from_millis(20))
}

#[test]
fn an_error_as_200_is_never_relayed_while_another_endpoint_has_a_result() {
    let long = long_error();
    let (begin, end) = ERROR.as_bytes().split_at(30);
    let long_chunks: Vec<_> = long.as_bytes().chunks(1_000).collect();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pause = Act::Pause(Duration::from_millis(10));
    let trickled = script([
        send(head),
        pause.clone(),
        send("1e\r\n"),
        send(begin),
        send("\r\n"),
        pause,
        send(format!("{:x}\r\n", end.len())),
        send(end),
        send("\r\n0\r\n\r\n"),
    ]);
    let errors = [
        status(200).body(ERROR),
        status(200).chunked(&[begin, end]),
        status(200).until_close(ERROR),
        status(200).body(&long),
        status(200).chunked(&long_chunks),
        trickled,
    ];
    for mode in MODES {
        for error in &errors {
            let limited = Backend::always(error.clone());
            let well = Backend::always(result());
            let proxy = in_mode(mode, &[&limited, &well]).start();
            let mut client = proxy.client();
            for _ in 0..3 {
                let answer = client.post("/", "{}");
                assert_eq!((answer.status(), answer.body().as_str()), (200, RESULT));
            }
        }
    }
}

#[test]
fn a_client_that_asks_for_gzip_gets_bodies_that_are_not_encoded() {
    let answer = |body: &'static str| {
        Backend::choosing(move |request| {
            if request.header("Accept-Encoding") == Some("identity") {
                status(200).body(body)
            } else {
                let gzip = status(200).header("Content-Encoding", "gzip");
                gzip.body("\u{1f}\u{8b} not to be read")
            }
        })
    };
    for mode in MODES {
        let (limited, well) = (answer(ERROR), answer(RESULT));
        let proxy = in_mode(mode, &[&limited, &well]).start();
        let mut client = proxy.client();
        for accepted in [
            "gzip",
            "gzip, br\r\naccept-encoding: deflate;q=0",
            "identity",
        ] {
            client.request("GET /", &format!("Accept-Encoding: {accepted}\r\n"));
            assert_eq!(client.response().body(), RESULT);
        }
        assert_eq!(client.get("/").body(), RESULT);
    }
    // Without the flag the client's own goes out.
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "Accept-Encoding: gzip\r\n");
    client.response();
    client.get("/");
    let sent: Vec<_> = backend.requests();
    assert_eq!(sent[0].header("Accept-Encoding"), Some("gzip"));
    assert_eq!(sent[1].header("Accept-Encoding"), None);
}

#[test]
fn an_encoded_answer_does_not_match() {
    let encoded = status(200).header("Content-Encoding", "br").body(ERROR);
    let backend = Backend::always(encoded);
    let proxy = in_front_of(&[&backend, &Backend::untouched()]).start();
    assert_eq!(proxy.get("/").body(), ERROR);
}

#[test]
fn what_is_no_body_does_not_match_and_an_empty_one_may() {
    let backend = Backend::choosing(|request| {
        let code = request.target[1..].parse().unwrap_or(200);
        status(code)
    });
    let well = Backend::always(status(200).body("well"));
    for mode in MODES {
        let proxy = mode(&[&backend, &well])
            .flag("-unusable-body", "^$")
            .start();
        assert_eq!(proxy.get("/200").body(), "well");
        let proxy = mode(&[&backend]).flag("-unusable-body", "^$").start();
        let mut client = proxy.client();
        assert_eq!(client.get("/200").status(), 500);
        for code in [204, 304] {
            assert_eq!(client.get(&format!("/{code}")).status(), code);
        }
        client.request("HEAD /200", "");
        assert_eq!(client.response_to("HEAD").status(), 200);
    }
    // An empty pattern is none.
    let proxy = Proxy::serial(&[&backend])
        .flag("-unusable-body", "")
        .start();
    assert_eq!(proxy.get("/200").status(), 200);
}

#[test]
fn the_first_event_of_a_stream_arrives_at_once() {
    // It would match.
    let event = "data: {\"error\": 1}\n\n";
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    let kinds = [
        "text/event-stream; charset=utf-8",
        "application/x-ndjson",
        "application/grpc-web",
    ];
    for (mode, kind) in MODES.into_iter().zip(kinds) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let gate = Gate::closed();
        let stream = Backend::always(script([
            send(&head),
            send(&chunk),
            wait(&gate),
            send(&chunk),
            send("0\r\n\r\n"),
        ]));
        let proxy = in_mode(mode, &[&stream]).start();
        // Were its body looked at, each would come when nothing more had come for 200 ms. One that
        // comes earlier shows that it is not; on a busy machine most may be late.
        let mut clients = Vec::new();
        let waited: Vec<_> = (0..20)
            .map(|_| {
                let mut client = proxy.client();
                let begun = Instant::now();
                client.request("GET /", "");
                client.until(event);
                clients.push(client);
                begun.elapsed()
            })
            .collect();
        let quickest = *waited.iter().min().unwrap();
        assert!(quickest < Duration::from_millis(150), "{waited:?}");
        gate.open();
        for mut client in clients {
            client.until(event);
            client.until("0\r\n\r\n");
        }
    }
}

#[test]
fn a_body_over_commit_after_streams_on_when_its_beginning_has_been_looked_at() {
    const LONG: usize = 3_000_000;
    let body = Pattern::bytes(LONG);
    let (begin, rest) = body.split_at(2_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
    for mode in MODES {
        let gate = Gate::closed();
        let long = Backend::always(script([send(&head), send(begin), wait(&gate), send(rest)]));
        let proxy = in_mode(mode, &[&long])
            .flag("-commit-after", "1KiB")
            .start();
        let mut client = proxy.client();
        client.request("GET /", "");
        // The gate is still closed.
        let head = client.head();
        assert_eq!(head.header("content-length"), Some("3000000"));
        gate.open();
        let mut bytes = Vec::new();
        while bytes.len() < LONG {
            bytes.extend(client.some());
        }
        assert!(bytes == body);
    }
}

#[test]
fn the_first_commit_after_bytes_are_looked_at_and_no_more() {
    let filler = |length| "x".repeat(length);
    // The error's last byte is the 1,024th one, or the one behind it.
    for (length, is_usable) in [(1_024, false), (1_025, true)] {
        let mark = r#""error":"#;
        let body = format!("{}{mark}{}", filler(length - mark.len()), filler(5_000));
        let chunked = status(200).chunked(&[&body.as_bytes()[..1_000], &body.as_bytes()[1_000..]]);
        for step in [status(200).body(&body), chunked] {
            let first = Backend::always(step);
            let second = Backend::always(status(200).body("second"));
            let proxy = in_front_of(&[&first, &second])
                .flag("-commit-after", "1KiB")
                .start();
            let wanted = if is_usable { body.as_str() } else { "second" };
            assert_eq!(proxy.get("/").body(), wanted);
        }
    }
}

#[test]
fn a_body_that_goes_quiet_is_looked_at_after_200_ms_and_streams_on() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for begin in ["", "5\r\nbegin\r\n"] {
        let gate = Gate::closed();
        let slow = Backend::always(script([
            send(head),
            send(begin),
            wait(&gate),
            send("3\r\nend\r\n0\r\n\r\n"),
        ]));
        let proxy = in_front_of(&[&slow, &Backend::untouched()]).start();
        let mut client = proxy.client();
        let begun = Instant::now();
        client.request("GET /", "");
        // The gate is still closed.
        client.until("\r\n\r\n");
        if !begin.is_empty() {
            client.until(begin);
        }
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(200), "{waited:?}");
        gate.open();
        client.until("3\r\nend\r\n0\r\n\r\n");
    }
    // An error is found in what has come until then.
    let error = format!("{:x}\r\n{ERROR}\r\n", ERROR.len());
    let stuck = Backend::always(script([send(head), send(error), Act::Hang]));
    let well = Backend::always(result());
    let proxy = in_front_of(&[&stuck, &well]).start();
    assert_eq!(proxy.get("/").body(), RESULT);
}

#[test]
fn a_body_that_never_goes_quiet_streams_on_after_a_second() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let token = [
        send("5\r\ntoken\r\n"),
        Act::Pause(Duration::from_millis(20)),
    ];
    // 15 seconds at least, which the test does not wait for.
    let tokens = token.into_iter().cycle().take(1_500);
    let stream = Backend::always(script([send(head)].into_iter().chain(tokens)));
    let until_it_streams = |mode: Mode| {
        let proxy = in_mode(mode, &[&stream]).start();
        let mut client = proxy.client();
        let begun = Instant::now();
        client.request("GET /", "");
        client.until("token");
        begun.elapsed()
    };
    thread::scope(|scope| {
        for mode in MODES {
            scope.spawn(move || {
                let mut waited = Vec::new();
                // Where the machine keeps the stream waiting it does go quiet: again then.
                for _ in 0..10 {
                    waited.push(until_it_streams(mode));
                    let last = *waited.last().unwrap();
                    assert!(last < Duration::from_secs(12), "{waited:?}");
                    if last >= Duration::from_millis(900) {
                        return;
                    }
                }
                panic!("it streams on too soon: {waited:?}");
            });
        }
    });
}

#[test]
fn a_beginning_that_breaks_off_is_a_failure_like_any_other() {
    let broken = status(200).chunked(&[b"0123456789"]).cut(8, Act::Close);
    let broken = Backend::always(broken);
    let well = Backend::always(result());
    let proxy = in_front_of(&[&broken, &well]).start();
    assert_eq!(proxy.get("/").body(), RESULT);
}

#[test]
fn a_connection_is_used_again_whatever_was_made_of_the_body() {
    let backend = Backend::choosing(|request| match request.target.as_str() {
        "/error" => status(200).body(ERROR),
        "/chunks" => status(200).chunked(&[b"some", b"chunks"]),
        _ => status(200).body(RESULT),
    });
    let proxy = in_front_of(&[&backend]).start();
    for target in ["/", "/chunks", "/"] {
        assert_eq!(proxy.get_and_settle(target).status(), 200);
        assert_eq!(proxy.get("/error").status(), 500);
        let lines = || proxy.log_with("unusable body (GET /error").len();
        eventually("a line", lines, |lines| *lines > 0);
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn what_was_looked_at_does_not_count_against_what_is_read_to_keep_a_connection() {
    let long = format!("{ERROR}{}", "x".repeat(66 * 1024));
    let backend = Backend::always(status(200).chunked(&[long.as_bytes()]));
    let proxy = in_front_of(&[&backend]).start();
    let mut requests = 0;
    // On a busy machine the rest of a body may be late.
    let is_reused = || {
        requests += 1;
        assert_eq!(proxy.get("/error").status(), 500);
        backend.connections() < requests
    };
    eventually("a connection that is used again", is_reused, |reused| {
        *reused
    });
}

#[test]
fn the_best_answer_may_be_one_with_an_unusable_body_byte_for_byte() {
    let mut long = ERROR.as_bytes().to_vec();
    long.extend(Pattern::bytes(500_000));
    let (begin, rest) = long.split_at(100);
    let latin1: &[u8] = b"{\"error\": \"\xff\x00\xe9\"}";
    for (step, body) in [
        (status(200).body(latin1), latin1),
        (status(200).chunked(&[begin, rest]), &long),
        (status(200).body(&long), &long),
    ] {
        let first = Backend::always(step);
        let busy = Backend::always(status(503));
        for mode in MODES {
            let proxy = in_mode(mode, &[&first, &busy])
                .flag("-on-exhausted", "best")
                .start();
            let answer = proxy.get("/");
            assert_eq!((answer.status(), answer.end), (200, End::Complete));
            assert!(answer.bytes == body);
            proxy.wait_for_log("returning 200 of endpoint 0");
        }
    }
    // Of the same class it is the last choice.
    let error = Backend::always(status(200).body(ERROR));
    let created = Backend::always(status(201).body("created"));
    let orders: [[&dyn Endpoint; 2]; 2] = [[&error, &created], [&created, &error]];
    for order in orders {
        let proxy = in_front_of(&order)
            .flag("-terminal-responses", "200-200")
            .flag("-on-exhausted", "best")
            .start();
        assert_eq!(proxy.get("/").body(), "created");
    }
}

#[test]
fn an_unusable_body_is_in_the_log_and_in_proxy_status() {
    let limited = status(200).header("Retry-After", "30").body(ERROR);
    let limited = Backend::replies([status(200).body(ERROR), limited]);
    let well = Backend::always(result());
    let proxy = in_front_of(&[&limited, &well])
        .flag("-proxy-status", "true")
        .start();
    let answer = proxy.get("/first");
    let proxy_status = answer.header("proxy-status").unwrap().to_owned();
    assert!(
        proxy_status.contains("(0: unusable body after "),
        "{proxy_status}"
    );
    proxy.get_and_settle("/second");
    let line = proxy.wait_for_log("request /first served in ");
    assert!(
        line.contains("endpoint 1 (0: unusable body after "),
        "{line}"
    );
    let line = proxy.wait_for_log("request /second served in ");
    let (_, attempts) = line
        .split_once("endpoint 1 (0: unusable body after ")
        .unwrap();
    assert!(attempts.ends_with(", again in 30s)"), "{line}");
    let url = limited.url();
    proxy.wait_for_log(&format!("endpoint 0: {url}: unusable body (GET /first of "));
    proxy.wait_for_log(&format!(
        "endpoint 0: {url}: passed over for 30s (Retry-After)"
    ));
    // It is left alone now.
    assert_eq!(proxy.get("/third").body(), RESULT);
    // A proxy in front learns that there was an answer.
    let alone = Backend::always(status(200).body(ERROR));
    let proxy = in_front_of(&[&alone])
        .flag("-on-exhausted", "gateway")
        .start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 502);
    let proxy_status = answer.header("proxy-status").unwrap();
    assert!(
        proxy_status.contains("error=destination_unavailable"),
        "{proxy_status}"
    );
}

#[test]
fn an_unusable_body_is_a_failure_and_no_hedge() {
    let limited = Backend::always(status(200).body(ERROR));
    let well = Backend::always(status(200).body(RESULT));
    let proxy = in_front_of(&[&limited, &well])
        .flag("-hedge-after", "1h")
        .flag("-hedge-budget", "1")
        .flag("-max-fails", "30")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    for n in 1..=50 {
        assert_eq!(client.get("/").body(), RESULT);
        assert_eq!((limited.calls(), well.calls()), (n.min(30), n));
    }
    assert!(proxy.log_with("hedged").is_empty());
}

#[test]
fn an_error_as_200_to_what_must_not_be_repeated_is_not_followed_by_another_call() {
    for mode in MODES {
        let error = Backend::replies([status(200).body(ERROR)]);
        let (other, backup) = (Backend::untouched(), Backend::untouched());
        let proxy = in_mode(mode, &[&error, &other])
            .flag("-backups", backup.url())
            .flag("-idempotent-only", "true")
            .flag("-rounds", "3")
            .flag("-round-delay", "1ms")
            .start();
        assert_eq!(proxy.post("/", "once").status(), 500);
        assert_eq!((other.connections(), backup.connections()), (0, 0));
    }
}

#[test]
fn a_quick_error_makes_no_endpoint_the_fastest() {
    let limited = Backend::always(status(200).body(ERROR));
    let well = Backend::always(status(200).body(RESULT).delayed(Duration::from_millis(10)));
    let proxy = in_front_of(&[&limited, &well])
        .flag("-order", "fastest")
        .start();
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").body(), RESULT);
    }
    assert_eq!(limited.calls(), 1);
}

#[test]
fn a_bad_pattern_is_a_bad_command_line() {
    for (words, wanted) in [
        (
            &["-unusable-body", "a(b"][..],
            r#"-unusable-body: "a(b" is not a regular expression: unclosed group at character 2: "(b""#,
        ),
        (
            &["-unusable-body", "a", "-commit-after", "0"],
            "-unusable-body and -commit-after 0 exclude each other (nothing of a body would be \
             looked at; write -commit-after 64KiB)",
        ),
    ] {
        let output = command()
            .args(["-endpoints", "http://127.0.0.1:1"])
            .args(words)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let usage = "run 'balancing-reverse-proxy -help' for the usage";
        assert_eq!(stderr, format!("{wanted}\n{usage}\n"));
    }
}
