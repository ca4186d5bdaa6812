//! `-rewrite-location`: URLs of the endpoint in an answer's `Location` and `Content-Location`.

use crate::common::{
    backend::{Backend, Endpoint, status},
    proxy::Proxy,
};

/// An endpoint that answers with the values of its request's `X-Location` and
/// `X-Content-Location`; `ITSELF` in them is its own host and port.
fn redirecting() -> Backend {
    Backend::choosing(|request| {
        let itself = request.header("host").unwrap_or_default();
        let value = |name| {
            let value = request.header(name).unwrap_or_default();
            value.replace("ITSELF", itself)
        };
        status(302)
            .header("location", &value("x-location"))
            .header("Content-Location", &value("x-content-location"))
            .body("moved")
    })
}

/// Rows of what the endpoint says and what a client gets that has asked `client.example:81`.
#[track_caller]
fn check(proxy: &Proxy, more: &str, table: &[(&str, &str)]) {
    let mut client = proxy.client();
    for (location, wanted) in table {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: client.example:81\r\n{more}\
             X-Location: {location}\r\nX-Content-Location: {location}\r\n\r\n"
        ));
        let answer = client.response();
        assert_eq!((answer.status(), answer.body().as_str()), (302, "moved"));
        assert_eq!(answer.header("location"), Some(*wanted), "{location}");
        assert_eq!(answer.header("content-location"), Some(*wanted));
    }
}

#[test]
fn a_location_below_the_base_url_is_the_proxy_s() {
    let backend = redirecting();
    let base = backend.url() + "/api";
    let authority = backend.authority();
    let proxy = Proxy::serial(&[&base])
        .flag("-rewrite-location", "true")
        .start();
    let beside = format!("http://{authority}/apix");
    let https = format!("https://{authority}/api/x");
    check(
        &proxy,
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: forged\r\n",
        &[
            (
                "http://ITSELF/api/x?q=1#f",
                "http://client.example:81/x?q=1#f",
            ),
            ("HTTP://ITSELF/api", "http://client.example:81/"),
            ("http://ITSELF/apix", &beside),
            ("https://ITSELF/api/x", &https),
            ("http://other.example/api/x", "http://other.example/api/x"),
            ("/api/x", "/x"),
            ("/x", "/x"),
            ("x", "x"),
            (
                "/api//other.example/",
                "http://client.example:81//other.example/",
            ),
        ],
    );
}

#[test]
fn a_rewritten_location_leads_to_where_it_led_before() {
    let backend = Backend::choosing(|request| match request.target.as_str() {
        "/api/old?k=1" => {
            let itself = request.header("host").unwrap_or_default();
            let location = format!("http://{itself}/api/new?k=1");
            status(301).header("Location", &location)
        }
        "/api/new?k=1" => status(200).body("found"),
        other => status(404).body(other),
    });
    let base = backend.url() + "/api";
    let proxy = Proxy::serial(&[&base])
        .flag("-rewrite-location", "true")
        .start();
    let mut client = proxy.client();
    let answer = client.get("/old?k=1");
    let location = answer.header("location").unwrap();
    let target = location.strip_prefix(&format!("http://{}", proxy.address));
    assert_eq!(client.get(target.unwrap()).body(), "found");
}

#[test]
fn the_answering_endpoint_s_base_counts() {
    let (first, second) = (Backend::always(status(503)), redirecting());
    let (one, two) = (first.url() + "/one", second.url() + "/two");
    let of_first = format!("{one}/x");
    let proxy = Proxy::serial(&[&one, &two])
        .flag("-rewrite-location", "true")
        .start();
    check(
        &proxy,
        "",
        &[
            ("http://ITSELF/two/x", "http://client.example:81/x"),
            (&of_first, &of_first),
            ("/one/x", "/one/x"),
        ],
    );
}

#[test]
fn user_information_of_an_endpoint_is_neither_matched_nor_sent() {
    let backend = redirecting().called("me:sesame@127.0.0.1");
    let proxy = Proxy::serial(&[&backend])
        .flag("-rewrite-location", "true")
        .start();
    let with_user = "http://me:sesame@ITSELF/x";
    let itself = backend.authority().replace("me:sesame@", "");
    check(
        &proxy,
        "",
        &[
            ("http://ITSELF/x", "http://client.example:81/x"),
            (with_user, &with_user.replace("ITSELF", &itself)),
        ],
    );
}

#[test]
fn behind_a_tls_terminator_the_url_has_the_scheme_and_host_of_its_client() {
    let backend = redirecting();
    let proxy = Proxy::serial(&[&backend])
        .flag("-rewrite-location", "true")
        .flag("-keep-forwarded", "true")
        .start();
    for (more, wanted) in [
        (
            "X-Forwarded-Proto: https\r\n",
            "https://client.example:81/x",
        ),
        (
            "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n",
            "https://shop.example/x",
        ),
        ("", "http://client.example:81/x"),
    ] {
        check(&proxy, more, &[("http://ITSELF/x", wanted)]);
    }
}

#[test]
fn a_client_without_a_host_gets_a_path() {
    let backend = Backend::choosing(|request| {
        let itself = request.header("host").unwrap_or_default();
        status(302).header("Location", &format!("http://{itself}/api/x"))
    });
    let base = backend.url() + "/api";
    let proxy = Proxy::serial(&[&base])
        .flag("-rewrite-location", "true")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().header("location"), Some("/x"));
}

#[test]
fn without_the_flag_a_location_is_the_endpoint_s() {
    let backend = redirecting();
    let base = backend.url() + "/api";
    let proxy = Proxy::serial(&[&base]).start();
    let own = format!("http://{}/api/x", backend.authority());
    check(&proxy, "", &[(&own, &own), ("/api/x", "/api/x")]);
}
