//! Each line about a request names it: `(GET /p of 127.0.0.1:5123)`, behind the words that
//! scripts look for.

use crate::common::{
    Gate,
    backend::{Act, Backend, Refused, never, script, send, status, wait},
    client::Client,
    proxy::Proxy,
};
use std::net::SocketAddr;

fn name(request: &str, client: SocketAddr) -> String {
    format!(" ({request} of {client})")
}

/// The one line with the words; it ends with the name.
#[track_caller]
fn is_named(proxy: &Proxy, words: &str, request: &str, client: SocketAddr) -> String {
    let line = proxy.wait_for_log(words);
    let name = name(request, client);
    let message = line.strip_suffix(&name);
    message.map_or_else(|| panic!("{line:?} is not about{name}"), str::to_owned)
}

#[test]
fn two_requests_that_fail_at_once_can_be_told_apart() {
    let gate = Gate::closed();
    let backend = Backend::always(status(503).after(&gate));
    for mode in [Proxy::serial, Proxy::fanout, Proxy::hedged] {
        let mut proxy = mode(&[&backend, &Refused::new()]).start();
        let (mut first, mut second) = (proxy.client(), proxy.client());
        first.request("GET /first", "");
        second.request("DELETE /second?q", "");
        gate.open();
        assert_eq!(first.response().status(), 500);
        assert_eq!(second.response().status(), 500);
        for words in ["returning 500 (GET", "returning 500 (DELETE"] {
            proxy.wait_for_log(words);
        }
        let names = [
            name("GET /first", first.local_address()),
            name("DELETE /second?q", second.local_address()),
        ];
        let log = proxy.stop();
        for name in names {
            let lines = log.iter().filter_map(|line| line.strip_suffix(&name));
            let lines: Vec<_> = lines.collect();
            let failed = "endpoints failed to return a valid answer, returning 500";
            assert_eq!(lines.last(), Some(&failed), "{log:#?}");
            for end in [": status 503", ": connection refused"] {
                let of_attempt =
                    |line: &&&str| line.starts_with("endpoint ") && line.ends_with(end);
                assert_eq!(lines.iter().filter(of_attempt).count(), 1, "{log:#?}");
            }
            assert_eq!(lines.len(), 3, "{log:#?}");
        }
    }
}

#[test]
fn the_best_answer_of_an_exhausted_request() {
    let backend = Backend::always(status(404));
    let proxy = Proxy::serial(&[&backend])
        .flag("-terminal-responses", "200")
        .flag("-on-exhausted", "best")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.get("/best").status(), 404);
    let line = is_named(
        &proxy,
        "endpoints failed",
        "GET /best",
        client.local_address(),
    );
    assert!(line.ends_with("returning 404 of endpoint 0"), "{line}");
}

#[test]
fn a_head_that_stalls_behind_its_request_line() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "300ms")
        .start();
    let mut client = proxy.client();
    client.send("GET /stalls HTTP/1.1\r\nHost: x\r\n");
    assert_eq!(client.response().status(), 408);
    let from = client.local_address();
    is_named(&proxy, "refused a request of ", "GET /stalls", from);
}

#[test]
fn a_request_that_was_given_up() {
    let backend = Backend::always(never());
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    let from = client.local_address();
    client.request("GET /slow", "");
    backend.wait_for_calls(1);
    client.finish_sending();
    let line = is_named(&proxy, "given up after", "GET /slow", from);
    assert!(
        line.ends_with("the client went away (see -half-close)"),
        "{line}"
    );
}

#[test]
fn an_answer_that_broke_off_on_either_side() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n";
    let cut = Backend::always(script([send(head), Act::Close]));
    let proxy = Proxy::serial(&[&cut]).start();
    let mut client = proxy.client();
    client.request("GET /cut", "");
    client.rest();
    let line = is_named(&proxy, "served in", "GET /cut", client.local_address());
    assert!(
        line.contains(" by endpoint 0, but the answer broke off: "),
        "{line}"
    );

    let gate = Gate::closed();
    let long = Backend::always(script([send(head), wait(&gate)]));
    let proxy = Proxy::serial(&[&long]).start();
    let mut client = proxy.client();
    let from = client.local_address();
    client.request("GET /left", "");
    client.until("begun");
    client.finish_sending();
    let line = is_named(&proxy, "served in", "GET /left", from);
    assert!(
        line.ends_with("but the client went away (see -half-close)"),
        "{line}"
    );
}

#[test]
fn a_served_request_s_line_is_as_it_was() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get("/p?q").status(), 200);
    let line = proxy.wait_for_log("request /p?q served in ");
    assert!(line.ends_with(" by endpoint 0"), "{line}");
}

#[test]
fn what_is_known_of_a_refused_request() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-header", "200")
        .flag("-max-body", "10")
        .start();
    let long = format!("GET /long HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(200));
    let table = [
        ("\u{16}\u{3}\u{1}", 400, ""),
        ("GET\t/ HTTP/1.1\r\n\r\n", 400, ""),
        ("GET * HTTP/1.1\r\n", 400, "GET *"),
        ("GET p HTTP/1.1\r\n", 400, "GET"),
        ("GET /no-host HTTP/1.1\r\n\r\n", 400, "GET /no-host"),
        ("GET http://h/origin HTTP/2.0\r\n", 505, "GET /origin"),
        (
            "\r\nPUT /form HTTP/1.1\r\nHost : h\r\n\r\n",
            400,
            "PUT /form",
        ),
        ("CONNECT h:1 HTTP/1.1\r\n", 405, "CONNECT h:1"),
        ("CONNECT h:1\t", 400, "CONNECT"),
        (&long, 431, "GET /long"),
        (
            "POST /body?q HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n",
            413,
            "POST /body?q",
        ),
        (
            "POST /rest HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx",
            400,
            "POST /rest",
        ),
        (
            "GET /expects HTTP/1.1\r\nHost: h\r\nExpect: much\r\n\r\n",
            417,
            "GET /expects",
        ),
    ];
    for (bytes, status, request) in table {
        let mut client = proxy.client();
        let from = client.local_address();
        client.send(bytes);
        assert_eq!(client.response().status(), status, "{bytes:?}");
        let request = if request.is_empty() {
            format!(" (of {from})")
        } else {
            name(request, from)
        };
        let line = proxy.wait_for_refusal(from);
        let end = format!(" ({status}){request}");
        assert!(line.ends_with(&end), "{line:?} does not end with{end}");
    }
}

#[test]
fn an_upload_that_breaks_off() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    let from = client.local_address();
    client.send("POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    client.finish_sending();
    client.rest();
    let line = proxy.wait_for_refusal(from);
    let end = "request body broken off after 3 bytes (400)".to_owned() + &name("POST /up", from);
    assert!(line.ends_with(&end), "{line}");
}

#[test]
fn a_long_target_is_cut_short_and_breaks_no_line() {
    let backend = Backend::always(status(503).header("X", "\u{1b}"));
    let proxy = Proxy::serial(&[&backend]).start();
    let target = format!("/\u{85}\u{202e}{}", "x".repeat(4000));
    let mut client = Client::connect(proxy.address);
    let from = client.local_address();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(client.response().status(), 500);
    let line = proxy.wait_for_log("returning 500");
    // Two characters of two and three bytes, and the slash.
    let shown = format!("/\\u{{85}}\\u{{202e}}{}…", "x".repeat(2048 - 6));
    assert!(
        line.ends_with(&name(&format!("GET {shown}"), from)),
        "{line}"
    );
}
