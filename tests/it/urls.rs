//! Which URL an endpoint is asked for: paths and queries are joined, never rewritten.

use crate::common::{
    backend::{Backend, Endpoint, status},
    proxy::Proxy,
};
use balancing_reverse_proxy::http::endpoint_url::EndpointUrl;
use rustls::pki_types::ServerName;

/// Sends each target to an endpoint with this path and query, and tells what arrived.
fn arriving(suffix: &str, targets: &[&str]) -> Vec<String> {
    let backend = Backend::always(status(200));
    let url = backend.url() + suffix;
    let proxy = Proxy::serial(&[&url]).start();
    let mut client = proxy.client();
    for target in targets {
        let answer = client.get(target);
        assert_eq!(answer.status(), 200, "{target}: {:?}", answer.head);
    }
    backend.requests().into_iter().map(|r| r.target).collect()
}

#[test]
fn paths_are_joined_with_exactly_one_slash() {
    let targets = ["/", "/p", "/p/", "/a/b"];
    assert_eq!(arriving("", &targets), targets);
    assert_eq!(arriving("/", &targets), targets);
    let below = ["/api/", "/api/p", "/api/p/", "/api/a/b"];
    assert_eq!(arriving("/api", &targets), below);
    assert_eq!(arriving("/api/", &targets), below);
    assert_eq!(
        arriving("/v%2F1/api", &targets),
        [
            "/v%2F1/api/",
            "/v%2F1/api/p",
            "/v%2F1/api/p/",
            "/v%2F1/api/a/b"
        ]
    );
}

#[test]
fn queries_are_joined_with_an_ampersand() {
    assert_eq!(
        arriving("?key=1", &["/p", "/p?a=b", "/?a", "/p?a=b&key=2"]),
        [
            "/p?key=1",
            "/p?key=1&a=b",
            "/?key=1&a",
            "/p?key=1&a=b&key=2"
        ]
    );
    assert_eq!(
        arriving("/api?key=1&k=2", &["/p", "/p?a=b"]),
        ["/api/p?key=1&k=2", "/api/p?key=1&k=2&a=b"]
    );
    assert_eq!(arriving("/api", &["/p?a=b"]), ["/api/p?a=b"]);
}

#[test]
fn what_the_client_wrote_is_what_the_endpoint_reads() {
    let targets = [
        "//",
        "//p",
        "/a//b",
        "/a/../b",
        "/../../etc/passwd",
        "/./a/.",
        "/a%2Fb",
        "/a%2fb",
        "/%2e%2E/b",
        "/a%20b+c",
        "/%",
        "/%zz",
        "/a;b=c,d:e@f!$'()*",
        "/~user/-_.",
        "/p?",
        "/p?a=b=c&&d",
        "/p?q=a/b?c",
        "/p?q=%26%3D+%20",
        "/p?a[]=1",
        "/p?a={b}|c^d\\e",
        "/p??",
    ];
    assert_eq!(arriving("", &targets), targets);
}

#[test]
fn doubled_slashes_survive_below_a_path_too() {
    assert_eq!(
        arriving("/api", &["//p", "/a//b", "/../b", "/a%2Fb"]),
        ["/api//p", "/api/a//b", "/api/../b", "/api/a%2Fb"]
    );
}

#[test]
fn a_long_target_passes() {
    let target = format!("/{}?{}", "p".repeat(4000), "q".repeat(4000));
    assert_eq!(arriving("", &[&target]), [target.as_str()]);
}

#[test]
fn an_absolute_target_is_a_path_and_a_host() {
    let backend = Backend::replies([status(200)]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send("GET http://virtual.example/p?q HTTP/1.1\r\nHost: virtual.example\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let request = backend.request();
    assert_eq!(request.target, "/p?q");
    assert_eq!(request.header("host"), Some(backend.authority().as_str()));
    assert_eq!(request.header("x-forwarded-host"), Some("virtual.example"));
}

#[test]
fn the_host_that_the_client_asked_for_goes_on_with_keep_host() {
    let table = [
        (
            "GET / HTTP/1.1\r\nHost: virtual.example:81\r\n",
            "virtual.example:81",
        ),
        (
            "GET http://target.example/ HTTP/1.1\r\nHost: other.example\r\n",
            "target.example",
        ),
        ("GET http://target.example/ HTTP/1.0\r\n", "target.example"),
        ("GET / HTTP/1.0\r\n", ""),
    ];
    for (head, host) in table {
        let backend = Backend::replies([status(200)]);
        let proxy = Proxy::serial(&[&backend])
            .flag("-keep-host", "true")
            .start();
        let mut client = proxy.client();
        client.send(format!("{head}\r\n"));
        assert_eq!(client.response().status(), 200);
        let request = backend.request();
        let own = backend.authority();
        let (wanted, told) = match host {
            "" => (own.as_str(), None),
            host => (host, Some(host)),
        };
        assert_eq!(request.header("host"), Some(wanted), "{head}");
        assert_eq!(request.header("x-forwarded-host"), told, "{head}");
    }
}

#[test]
fn a_target_that_cannot_be_passed_on_is_refused_and_not_changed() {
    let long = format!("/{}", "p".repeat(70_000));
    for target in ["/a\"b", "/a<b>", "/a`b", "/p?a\"b", "/p#fragment", &long] {
        let backend = Backend::always(status(200));
        let proxy = Proxy::serial(&[&backend]).start();
        let mut client = proxy.client();
        // A refusal may come before the last byte is written.
        let _ = client.try_send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let shown = &target[..target.len().min(20)];
        let answer = client.response();
        if answer.status() == 200 {
            assert_eq!(backend.seen(), [format!("GET {target}")], "{shown}");
        } else {
            assert!([400, 414, 431].contains(&answer.status()), "{shown}");
            assert_eq!(backend.calls(), 0, "{shown}");
        }
        assert_eq!(proxy.get("/next").status(), 200, "after {shown}");
    }
}

#[test]
fn an_https_host_is_accepted_exactly_if_tls_has_a_name_for_it() {
    let long = "a".repeat(64);
    let labels = "a.".repeat(125);
    let mut hosts: Vec<String> = ["", "a", "aa", "aaa", "aaaa"]
        .map(|end| format!("{labels}{end}"))
        .to_vec();
    hosts.extend([long.clone(), long[1..].to_owned(), format!("x.{long}.y")]);
    let parts = [
        "a",
        "-",
        "_",
        "0",
        "7",
        "0x",
        "0XF",
        "x",
        ".",
        "127.0.0.1",
        "[::1]",
    ];
    for first in parts {
        for second in parts {
            hosts.push(format!("{first}{second}"));
            hosts.extend(parts.map(|third| format!("{first}{second}{third}")));
        }
    }
    let mut accepted = 0;
    for host in hosts {
        // What http refuses is refused for other reasons.
        if format!("http://{host}").parse::<EndpointUrl>().is_ok() {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let expected = ServerName::try_from(bare).is_ok();
            let url = format!("https://{host}").parse::<EndpointUrl>();
            assert_eq!(url.is_ok(), expected, "{host:?}: {url:?}");
            accepted += usize::from(expected);
        }
    }
    assert!(accepted > 100, "{accepted}");
}
