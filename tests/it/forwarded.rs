//! Behind and in front of other proxies: `-keep-forwarded` and `-no-via`.

use crate::common::{
    backend::{Backend, status},
    proxy::Proxy,
    refusing::Refusing,
    without_id,
};
use crate::loops::own_address;

const LOOP: &str = "request loop: more than 64 addresses in X-Forwarded-For";

#[test]
fn a_tls_terminator_s_scheme_and_host_reach_the_application() {
    // It redirects for ever unless it is told of https.
    let application = Backend::choosing(|request| {
        if request.all("x-forwarded-proto") == ["https"] {
            status(200).body("secure")
        } else {
            status(302).header("Location", "https://shop.example/")
        }
    });
    let from_terminator = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n\
                           X-Forwarded-For: 10.0.0.1\r\n";
    let proxy = Proxy::serial(&[&application])
        .flag("-keep-forwarded", "true")
        .start();
    let mut client = proxy.client();
    client.request("GET /", from_terminator);
    assert_eq!(client.response().body(), "secure");
    let request = application.request();
    assert_eq!(request.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(
        request.header("x-forwarded-for"),
        Some("10.0.0.1, 127.0.0.1")
    );

    let proxy = Proxy::serial(&[&application]).start();
    let mut client = proxy.client();
    client.request("GET /", from_terminator);
    assert_eq!(client.response().status(), 302);
    let request = application.requests().pop().unwrap();
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_ne!(request.header("x-forwarded-host"), Some("shop.example"));
}

#[test]
fn what_a_request_does_not_tell_is_added_with_keep_forwarded_too() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend])
        .flag("-keep-forwarded", "true")
        .start();
    let mut client = proxy.client();
    for (n, (given, host, proto)) in [
        ("", "client.example", "http"),
        ("X-Forwarded-Proto: https\r\n", "client.example", "https"),
        ("X-Forwarded-Host: h\r\n", "h", "http"),
        (
            "X-Forwarded-Host:\r\nX-Forwarded-Proto:\r\n",
            "client.example",
            "http",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: client.example\r\n{given}\r\n"
        ));
        assert_eq!(client.response().status(), 200);
        let request = &backend.requests()[n];
        assert_eq!(request.header("x-forwarded-host"), Some(host), "{given:?}");
        assert_eq!(
            request.header("x-forwarded-proto"),
            Some(proto),
            "{given:?}"
        );
    }
}

#[test]
fn no_via_adds_none_in_either_direction_and_leaves_those_of_others() {
    let backend = Backend::replies([
        status(200).body("ok"),
        status(200).header("Via", "1.1 inner").body("ok"),
    ]);
    let proxy = Proxy::serial(&[&backend]).flag("-no-via", "true").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").header("via"), None);
    client.request("GET /", "Via: 1.0 outer\r\n");
    assert_eq!(client.response().header("via"), Some("1.1 inner"));
    let requests = backend.requests();
    assert_eq!(requests[0].header("via"), None);
    assert_eq!(requests[1].header("via"), Some("1.0 outer"));
}

#[test]
fn without_via_a_request_with_more_than_64_addresses_is_refused() {
    let mut refusing = Refusing::with(|builder| builder.flag("-no-via", "true"));
    let with = |number: usize, separator: &str| {
        let addresses = vec!["10.0.0.1"; number].join(separator);
        format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {addresses}\r\n\r\n")
    };
    for separator in [", ", "\r\nx-forwarded-for: "] {
        refusing.serves(with(64, separator));
        refusing.refuses(508, with(65, separator));
        let answer = refusing.refuses_once(508, with(65, separator).as_bytes());
        assert_eq!(answer.body(), format!("{LOOP}\n"));
        assert_eq!(
            answer.header("proxy-status"),
            Some("balancing-reverse-proxy; error=proxy_loop_detected")
        );
    }
    // Entries in Via are those of other proxies.
    let via = vec!["1.1 balancing-reverse-proxy"; 20].join(", ");
    refusing.serves(format!("GET / HTTP/1.1\r\nHost: h\r\nVia: {via}\r\n\r\n"));
    refusing.finish();
}

#[test]
fn without_via_a_proxy_that_is_its_own_endpoint_ends_the_loop_too() {
    let address = own_address("127.11.0.3");
    let itself = format!("http://{address}");
    let proxy = Proxy::serial(&[&itself])
        .flag("-address", address.to_string())
        .flag("-no-via", "true")
        .start();
    assert_eq!(proxy.get("/").status(), 508);
    let line = proxy.wait_for_log("refused a request of ");
    assert!(
        line.contains(&format!(": {LOOP} (508) (GET / of ")),
        "{line}"
    );
    assert_eq!(proxy.log_with("refused a request of ").len(), 1);
}

#[test]
fn the_number_of_addresses_is_no_loop_with_via() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    let addresses = vec!["10.0.0.1"; 100].join(", ");
    client.request("GET /", &format!("X-Forwarded-For: {addresses}\r\n"));
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("via").map(without_id),
        Some("1.1 balancing-reverse-proxy")
    );
}
