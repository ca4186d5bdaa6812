//! `Max-Forwards` (RFC 9110 7.6.2): a request of OPTIONS or TRACE that has come far enough is
//! answered here.

use crate::common::{
    backend::{Backend, status},
    proxy::Proxy,
};

const ZERO: &str = "Max-Forwards: 0\r\n";

#[test]
fn options_that_may_not_be_forwarded_gets_an_empty_answer() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    // The connection is kept.
    for target in ["/a", "*", "/b"] {
        client.request(&format!("OPTIONS {target}"), ZERO);
        let answer = client.response();
        assert_eq!((answer.status(), answer.body()), (200, String::new()));
        assert_eq!(answer.header("content-length"), Some("0"));
        assert_eq!(answer.header("content-type"), None);
        assert_eq!(answer.header("connection"), None);
        let date = answer.header("date").unwrap_or_default();
        assert!(httpdate::parse_http_date(date).is_ok(), "{date:?}");
        assert_eq!(
            answer.header("proxy-status"),
            Some("balancing-reverse-proxy")
        );
        proxy.wait_for_log(&format!(
            "request {target} answered without an endpoint: Max-Forwards is 0"
        ));
    }
}

#[test]
fn trace_that_may_not_be_forwarded_gets_the_request_without_credentials() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send(
        "TRACE /t?q HTTP/1.1\r\nhost: h\r\nAuthorization: Basic eA==\r\ncookie: a=1\r\n\
         Proxy-Authorization: Basic eA==\r\nX-Api-Key: 1\r\nX-A: \r\nVia: 1.1 front\r\n\
         Max-Forwards: 0\r\n\r\n",
    );
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("message/http"));
    assert_eq!(
        answer.body(),
        "TRACE /t?q HTTP/1.1\r\nhost: h\r\nX-A: \r\nVia: 1.1 front\r\nMax-Forwards: 0\r\n\r\n"
    );
    // A request body is no part of it, and is read.
    client.request("TRACE /", &format!("{ZERO}Content-Length: 4\r\n"));
    client.send("body");
    assert!(!client.response().body().contains("body"));
    client.request("OPTIONS /", ZERO);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_old_client_is_told_that_its_connection_ends() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send(format!("TRACE / HTTP/1.0\r\n{ZERO}\r\n"));
    let answer = client.response();
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.body(), "TRACE / HTTP/1.0\r\nMax-Forwards: 0\r\n\r\n");
}

#[test]
fn a_number_goes_on_less_one_and_everything_else_untouched() {
    let backend = Backend::always(status(200).body("ok"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for (n, (method, given, wanted)) in [
        ("OPTIONS", "3", "2"),
        ("TRACE", "1", "0"),
        ("OPTIONS", "x", "x"),
        ("TRACE", "-1", "-1"),
        ("GET", "0", "0"),
        ("POST", "7", "7"),
    ]
    .into_iter()
    .enumerate()
    {
        client.request(
            &format!("{method} /"),
            &format!("Max-Forwards: {given}\r\n"),
        );
        assert_eq!(client.response().status(), 200, "{method} {given}");
        let request = &backend.requests()[n];
        assert_eq!(request.header("max-forwards"), Some(wanted));
    }
}

#[test]
fn a_chain_of_proxies_is_followed_hop_by_hop() {
    let backend = Backend::always(status(200).body("the end"));
    let last = Proxy::serial(&[&backend]).start();
    let first = Proxy::serial(&[&format!("http://{}", last.address)]).start();
    let mut client = first.client();
    let mut trace = |number: u32| {
        client.request("TRACE /", &format!("Max-Forwards: {number}\r\n"));
        client.response().body()
    };
    assert!(!trace(0).contains("Via: "));
    assert!(trace(1).contains("Via: 1.1 balancing-reverse-proxy (x"));
    assert_eq!(backend.calls(), 0);
    assert_eq!(trace(2), "the end");
    assert_eq!(backend.request().header("max-forwards"), Some("0"));
}

#[test]
fn a_request_about_the_whole_server_is_for_this_one_or_for_none() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    for headers in ["", "Max-Forwards: 1\r\n"] {
        let mut client = proxy.client();
        client.request("OPTIONS *", headers);
        let answer = client.response();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.body(), "OPTIONS * can't be forwarded\n");
        let line = proxy.wait_for_refusal(client.local_address());
        assert!(line.contains(" (400) (OPTIONS * of "), "{line}");
    }
}
