//! https endpoints: who is trusted, who is not, and what the log says of it.

use crate::common::{
    Pattern,
    backend::{Act, Backend, Endpoint, raw, status},
    certificates::Authority,
    client::End,
    proxy::{Builder, Proxy, command},
};
use std::fs;
use tempfile::TempDir;

fn trusting(authority: &Authority, endpoints: &[&dyn Endpoint]) -> Builder {
    Proxy::serial(endpoints).flag("-ca-file", authority.file().to_str().unwrap())
}

#[test]
fn a_good_certificate_is_served_and_its_connection_used_again() {
    let authority = Authority::new("known");
    let identity = authority.issue(&["localhost", "127.0.0.1"]);
    for host in ["localhost", "127.0.0.1"] {
        let steps = (0..4).map(|_| status(200).body("secret"));
        let backend = Backend::tls(&identity, steps).called(host);
        let proxy = trusting(&authority, &[&backend]).start();
        for n in 0..3 {
            assert_eq!(proxy.get_and_settle(&format!("/{n}")).body(), "secret");
        }
        assert_eq!(proxy.post("/", "body").body(), "secret");
        assert_eq!(backend.connections(), 1);
        let request = &backend.requests()[3];
        assert_eq!(request.body, b"body");
        assert_eq!(request.header("host"), Some(backend.authority().as_str()));
        // It is the client's side that this header is about.
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let authority = Authority::new("known");
    let identity = authority.issue(&["127.0.0.1"]);
    let body = Pattern::bytes(3 << 20);
    let backend = Backend::tls(&identity, [status(200).body(&body)]);
    let proxy = trusting(&authority, &[&backend]).start();
    let answer = proxy.post("/", &body);
    assert_eq!((answer.end, answer.length), (End::Complete, 3 << 20));
    assert!(answer.patterned);
    assert!(backend.request().body == body);
}

#[test]
fn a_certificate_that_is_not_good_is_a_failed_attempt_with_a_reason() {
    let authority = Authority::new("known");
    let stranger = Authority::new("stranger");
    let table = [
        (authority.issue_expired(&["127.0.0.1"]), "expired"),
        (authority.issue(&["elsewhere.example"]), "for 127.0.0.1"),
        (stranger.issue(&["127.0.0.1"]), "unknown"),
    ];
    for (identity, reason) in table {
        let bad = Backend::tls(&identity, []);
        let good = Backend::tls(&authority.issue(&["127.0.0.1"]), [status(200).body("good")]);
        let proxy = trusting(&authority, &[&bad, &good])
            .flag("-terminal-responses", "200,500")
            .start();
        assert_eq!(proxy.get("/").body(), "good", "{reason}");
        proxy.wait_for_log("by endpoint 1");
        let start = format!("endpoint 0: {}: ", bad.url());
        let log = proxy.log();
        let why = log.iter().find_map(|line| line.strip_prefix(&start));
        let why = why.unwrap_or_else(|| panic!("{log:#?}")).to_lowercase();
        assert!(why.contains("certificate") && why.contains(reason), "{why}");
    }
}

#[test]
fn nobody_is_trusted_without_being_told_to() {
    let authority = Authority::new("known");
    let backend = Backend::tls(&authority.issue(&["127.0.0.1"]), []);
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get("/").status(), 500);
    proxy.wait_for_log(&format!("endpoint 0: {}: ", backend.url()));
}

#[test]
fn a_server_without_tls_is_a_failed_attempt() {
    let plain = Backend::always(raw("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let well = Backend::replies([status(200).body("well")]);
    let url = plain.url().replace("http:", "https:");
    let proxy = Proxy::serial(&[&url, &well])
        .flag("-per-try-timeout", "500ms")
        .start();
    assert_eq!(proxy.get("/").body(), "well");
    assert_eq!(plain.calls(), 0);
}

#[test]
fn an_end_without_close_notify_is_a_break() {
    let authority = Authority::new("known");
    let identity = authority.issue(&["127.0.0.1"]);
    for (end, whole) in [(Act::CloseNotify, true), (Act::Close, false)] {
        let answer = raw("HTTP/1.1 200 OK\r\n\r\nuntil the end").then([end]);
        let backend = Backend::tls(&identity, [answer]);
        let proxy = trusting(&authority, &[&backend]).start();
        let answer = proxy.get("/");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.end == End::Complete, whole);
        if whole {
            assert_eq!(answer.body(), "until the end");
        }
    }
}

#[test]
fn fan_out_works_over_tls() {
    let authority = Authority::new("known");
    let well = Backend::tls(&authority.issue(&["127.0.0.1"]), [status(200).body("well")]);
    let bad = Backend::tls(&authority.issue_expired(&["127.0.0.1"]), []);
    let proxy = Proxy::fanout(&[&bad, &well])
        .flag("-ca-file", authority.file().to_str().unwrap())
        .start();
    assert_eq!(proxy.get("/").body(), "well");
    // The loser is given its time to fail; it must not be called.
    proxy.wait_for_log("by endpoint 1");
}

#[test]
fn a_ca_file_that_is_no_use_is_refused_at_start() {
    let directory = TempDir::new().unwrap();
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let garbage = directory.path().join("garbage.pem");
    fs::write(
        &garbage,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let missing = directory.path().join("missing.pem");
    for file in [empty, garbage, missing] {
        let output = command()
            .args([
                "-endpoints",
                "https://127.0.0.1:1",
                "-address",
                "127.0.0.1:0",
            ])
            .args(["-stop-after", "5s", "-ca-file"])
            .arg(&file)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let first = error.lines().next().unwrap_or_default();
        assert_eq!(output.status.code(), Some(1), "{file:?}: {error}");
        assert!(first.contains("-ca-file"), "{first}");
        assert!(first.contains(file.to_str().unwrap()), "{first}");
    }
}

#[test]
fn a_self_signed_certificate_is_trusted_when_it_is_given_and_for_its_own_name_only() {
    let (itself, identity) = Authority::itself(&["127.0.0.1"]);
    let backend = Backend::tls(&identity, [status(200).body("mine")]);
    let proxy = trusting(&itself, &[&backend]).start();
    assert_eq!(proxy.get("/").body(), "mine");

    let (elsewhere, identity) = Authority::itself(&["elsewhere.example"]);
    let backend = Backend::tls(&identity, []);
    let proxy = trusting(&elsewhere, &[&backend]).start();
    assert_eq!(proxy.get("/").status(), 500);
    proxy.wait_for_log("the endpoint's certificate is not valid for 127.0.0.1");

    let (_, stranger) = Authority::itself(&["127.0.0.1"]);
    let backend = Backend::tls(&stranger, []);
    let proxy = trusting(&itself, &[&backend]).start();
    assert_eq!(proxy.get("/").status(), 500);
    proxy.wait_for_log("from an unknown authority");
}
