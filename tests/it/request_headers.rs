//! What becomes of the client's headers on the way to the endpoint.

use crate::common::{
    backend::{Backend, Received, status},
    client::Client,
    proxy::Proxy,
    text, without_id,
};
use std::net::SocketAddr;

/// The request as the endpoint gets it, and the client it came from.
fn forwarded(head: &str) -> (Received, String) {
    let backend = Backend::replies([status(200)]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send(head);
    assert_eq!(client.response().status(), 200);
    (backend.request(), backend.authority())
}

/// The headers that are not the proxy's own, as they were.
fn passed(request: &Received) -> Vec<(&str, &str)> {
    let own = [
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "content-length",
    ];
    request
        .headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.to_lowercase().as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[test]
fn order_case_and_duplicates_are_kept() {
    let (request, _) = forwarded(
        "GET / HTTP/1.1\r\nX-b: 1\r\nHost: h\r\nx-A: 2\r\nX-B: 3\r\nCOOKIE: a=1\r\n\
         Accept: */*\r\nX-b: 1\r\ncookie: b=2\r\nUser-Agent: me/1\r\n\r\n",
    );
    assert_eq!(
        passed(&request),
        [
            ("X-b", "1"),
            ("x-A", "2"),
            ("X-B", "3"),
            ("COOKIE", "a=1"),
            ("Accept", "*/*"),
            ("X-b", "1"),
            ("cookie", "b=2"),
            ("User-Agent", "me/1"),
        ]
    );
}

#[test]
fn nothing_is_added_but_what_the_contract_lists() {
    let (request, authority) = forwarded("GET / HTTP/1.1\r\nHost: client.example:81\r\n\r\n");
    let mut names: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| match name.to_lowercase() {
            name if name == "via" => (name, without_id(value).to_owned()),
            name => (name, value.clone()),
        })
        .collect();
    names.sort();
    let expected = [
        ("host", authority.as_str()),
        ("via", "1.1 balancing-reverse-proxy"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "client.example:81"),
        ("x-forwarded-proto", "http"),
    ];
    assert_eq!(names, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(request.version, "HTTP/1.1");
    let raw = text(&request.raw_head);
    assert!(raw.starts_with("GET / HTTP/1.1\r\n"), "{raw:?}");
    assert!(
        !raw.replace("\r\n", "").contains(char::is_control),
        "{raw:?}"
    );
}

#[test]
fn hop_by_hop_headers_stay_here() {
    let (request, _) = forwarded(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Mine, x-other\r\n\
         connection: X-Third\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         TE: trailers\r\nUpgrade: websocket\r\nTrailer: X-T\r\nx-mine: 1\r\nX-OTHER: 2\r\n\
         X-Third: 3\r\nX-Stays: 4\r\n\r\n",
    );
    assert_eq!(passed(&request), [("X-Stays", "4")]);
}

#[test]
fn naming_content_length_in_connection_does_not_undo_the_framing() {
    let (request, authority) = forwarded(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: Content-Length, Host\r\nContent-Length: 4\r\n\r\nbody",
    );
    assert_eq!(request.body, b"body");
    assert_eq!(request.header("content-length"), Some("4"));
    assert_eq!(request.header("host"), Some(authority.as_str()));
}

#[test]
fn naming_the_forwarded_headers_in_connection_does_not_hide_the_client() {
    let (request, _) = forwarded(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Forwarded-For, Via, X-Forwarded-Host\r\n\r\n",
    );
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-host"), Some("h"));
    let via = request.header("via").map(without_id);
    assert_eq!(via, Some("1.1 balancing-reverse-proxy"));
}

#[test]
fn a_chunked_body_goes_on_with_its_length() {
    let (request, _) = forwarded(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n\
         3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n",
    );
    assert_eq!(request.body, b"abcde");
    assert_eq!(request.header("content-length"), Some("5"));
    assert_eq!(request.header("transfer-encoding"), None);
}

#[test]
fn the_length_is_told_whenever_there_is_something_to_tell() {
    let table = [
        ("GET", "", None),
        ("HEAD", "", None),
        ("DELETE", "", None),
        ("OPTIONS", "", None),
        ("POST", "", Some("0")),
        ("PUT", "", Some("0")),
        ("PATCH", "", Some("0")),
        ("GET", "Content-Length: 0\r\n", Some("0")),
        ("DELETE", "Content-Length: 0\r\n", Some("0")),
        ("POST", "Content-Length: 0\r\n", Some("0")),
    ];
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for (n, (method, headers, length)) in table.into_iter().enumerate() {
        client.request(&format!("{method} /"), headers);
        assert_eq!(client.response_to(method).status(), 200);
        let request = &backend.requests()[n];
        assert_eq!(
            request.header("content-length"),
            length,
            "{method} {headers}"
        );
        assert_eq!(request.header("transfer-encoding"), None);
    }
}

#[test]
fn forwarded_for_is_appended() {
    let (request, _) = forwarded(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.0.0.1\r\nX-A: 1\r\n\
         x-forwarded-for: 10.0.0.2, 10.0.0.3\r\nX-Forwarded-Host: spoofed\r\n\
         X-Forwarded-Proto: https\r\nVia: 1.0 before\r\n\r\n",
    );
    assert_eq!(
        request.all("x-forwarded-for"),
        ["10.0.0.1", "10.0.0.2, 10.0.0.3, 127.0.0.1"]
    );
    assert_eq!(request.header("x-forwarded-host"), Some("h"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    let [before, ours] = request.all("via")[..] else {
        panic!("{:?}", request.headers);
    };
    assert_eq!(
        [before, without_id(ours)],
        ["1.0 before", "1.1 balancing-reverse-proxy"]
    );
}

#[test]
fn via_names_the_client_s_version() {
    let (request, _) = forwarded("GET / HTTP/1.0\r\nHost: h\r\n\r\n");
    let via = request.header("via").map(without_id);
    assert_eq!(via, Some("1.0 balancing-reverse-proxy"));
    assert_eq!(request.version, "HTTP/1.1");
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_is_named_as_such() {
    let backend = Backend::replies([status(200), status(200)]);
    let proxy = Proxy::serial(&[&backend]).flag("-address", ":0").start();

    let port = proxy.address.port();
    for address in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        assert_eq!(Client::connect(address).get("/").status(), 200);
    }
    let requests = backend.requests();
    assert_eq!(requests[0].header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(requests[1].header("x-forwarded-for"), Some("::1"));
}

#[test]
fn expect_is_answered_here_and_not_passed_on() {
    let backend = Backend::replies([status(200)]);
    let proxy = Proxy::serial(&[&backend]).start();

    let mut client = proxy.client();
    client.request("POST /", "Content-Length: 4\r\nExpect: 100-continue\r\n");
    assert_eq!(client.head().status, 100);
    assert_eq!(backend.calls(), 0);
    client.send("body");
    assert_eq!(client.response().status(), 200);
    let request = backend.request();
    assert_eq!(request.header("expect"), None);
    assert_eq!(request.body, b"body");
}

#[test]
fn values_are_passed_as_they_are() {
    let long = "v".repeat(7000);
    let (request, _) = forwarded(&format!(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nX-Inner: a  b\tc\r\nX-Quote: \"a, b\"; c=d\r\n\
         X-Long: {long}\r\nX_Under: 1\r\n\r\n"
    ));
    assert_eq!(
        passed(&request),
        [
            ("X-Empty", ""),
            ("X-Inner", "a  b\tc"),
            ("X-Quote", "\"a, b\"; c=d"),
            ("X-Long", long.as_str()),
            ("X_Under", "1"),
        ]
    );
}

#[test]
fn a_hundred_headers_pass() {
    use std::fmt::Write as _;

    let mut head = "GET / HTTP/1.1\r\nHost: h\r\n".to_owned();
    for n in 0..100 {
        write!(head, "X-{n}: {n}\r\n").unwrap();
    }
    let (request, _) = forwarded(&(head + "\r\n"));
    assert_eq!(passed(&request).len(), 100);
}

#[test]
fn a_header_too_long_to_pass_is_refused_and_not_shortened() {
    for length in [20_000, 60_000, 200_000] {
        let backend = Backend::always(status(200));
        let proxy = Proxy::serial(&[&backend]).start();
        let mut client = proxy.client();
        let value = "v".repeat(length);
        let _ = client.try_send(format!("GET / HTTP/1.1\r\nHost: h\r\nX-A: {value}\r\n\r\n"));
        let answer = client.response();
        if answer.status() == 200 {
            assert_eq!(backend.request().header("x-a"), Some(value.as_str()));
        } else {
            assert_eq!(answer.status(), 431, "{length}");
            assert_eq!(backend.calls(), 0);
        }
        assert_eq!(proxy.get("/after").status(), 200);
    }
}

#[test]
fn an_upgrade_is_not_passed_on_and_the_request_is_an_ordinary_one() {
    let backend = Backend::always(status(200).body("plain"));
    let proxy = Proxy::serial(&[&backend]).start();
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n";
    let bodies = [
        ("", ""),
        ("Content-Length: 5\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    ];
    for (framing, body) in bodies {
        let mut client = proxy.client();
        client.request("POST /", &format!("{upgrade}{framing}"));
        client.send(body);
        let answer = client.response();
        assert_eq!((answer.status(), answer.body().as_str()), (200, "plain"));
        let request = backend.requests().pop().unwrap();
        assert_eq!(request.header("upgrade"), None);
        assert_eq!(request.header("connection"), None);
        assert_eq!(request.header("sec-websocket-version"), Some("13"));
        assert_eq!(request.length, if body.is_empty() { 0 } else { 5 });
    }
}

#[test]
fn userinfo_is_sent_as_basic_authorization_unless_the_client_sends_its_own() {
    let backend =
        Backend::replies([status(200), status(200)]).called("user:pass%20w%40rd@127.0.0.1");
    let proxy = Proxy::serial(&[&backend]).start();

    assert_eq!(proxy.get("/").status(), 200);
    let mut client = proxy.client();
    client.request("GET /", "authorization: Bearer mine\r\n");
    assert_eq!(client.response().status(), 200);

    let requests = backend.requests();
    assert_eq!(
        requests[0].header("authorization"),
        Some("Basic dXNlcjpwYXNzIHdAcmQ=")
    );
    assert_eq!(requests[1].header("authorization"), Some("Bearer mine"));
    for request in &requests {
        let host = request.header("host").unwrap();
        assert!(host.starts_with("127.0.0.1:"), "{host}");
    }
}

#[test]
fn userinfo_is_masked_in_the_log() {
    let backend = Backend::replies([status(503)]).called("user:sesame@127.0.0.1");
    let mut proxy = Proxy::serial(&[&backend]).start();

    assert_eq!(proxy.get("/").status(), 500);
    proxy.wait_for_log("returning 500");
    let log = proxy.stop().join("\n");
    assert!(log.contains("configuring endpoint 0: "), "{log}");
    assert!(!log.contains("sesame"), "{log}");
}
