//! https endpoints: which certificates are trusted, and what the log says of others.

use crate::common::{
    Pattern,
    backend::{Act, Backend, Endpoint, raw, status},
    certificates::{Authority, Identity},
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
        (
            authority.issue(&["127.0.0.1"]).showing_version_1(),
            "is of x.509 version 1, and version 3 is needed",
        ),
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
fn an_authority_that_is_not_configured_is_not_trusted() {
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
        .flag("-per-try-timeout", "1s")
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
        assert_eq!(output.status.code(), Some(2), "{file:?}: {error}");
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

#[test]
fn a_certificate_that_an_authority_has_signed_is_trusted_when_it_is_given_itself() {
    let authority = Authority::new("not given");
    let given = authority.issue(&["127.0.0.1"]);
    let others = authority.issue(&["127.0.0.1"]);
    let table = [
        (&given, &given, "served in"),
        (
            &given,
            &given.showing_its_authority(&authority),
            "served in",
        ),
        (
            &given,
            &others,
            "the endpoint's certificate is from an unknown authority",
        ),
        (
            &authority.issue(&["elsewhere.example"]),
            &given,
            "the endpoint's certificate is from an unknown authority",
        ),
    ];
    for (trusted, shown, words) in table {
        look(trusted, shown, words);
    }
    let expired = authority.issue_expired(&["127.0.0.1"]);
    look(&expired, &expired, "the endpoint's certificate has expired");
    let elsewhere = authority.issue(&["elsewhere.example"]);
    look(
        &elsewhere,
        &elsewhere,
        "the endpoint's certificate is not valid for 127.0.0.1",
    );
}

/// What the log says of an endpoint that shows a certificate, if this one is given as trusted.
fn look(trusted: &Identity, shown: &Identity, words: &str) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("trusted.pem");
    fs::write(&file, trusted.certificate_pem()).unwrap();
    let good = words == "served in";
    let backend = Backend::tls(shown, good.then(|| status(200)));
    let proxy = Proxy::serial(&[&backend])
        .flag("-ca-file", file.to_str().unwrap())
        .start();
    assert_eq!(
        proxy.get("/").status(),
        if good { 200 } else { 500 },
        "{words}"
    );
    proxy.wait_for_log(words);
}

/// Shows the endpoints this certificate.
fn showing(builder: Builder, directory: &TempDir, identity: &Identity) -> Builder {
    let file = directory.path().join("client.pem");
    fs::write(&file, identity.certificate_pem() + &identity.key_pem()).unwrap();
    let file = file.to_str().unwrap();
    builder.flag("-client-cert", file).flag("-client-key", file)
}

/// Servers that ask for a certificate of `clients`, of both versions of TLS.
fn asking(servers: &Authority, clients: &Authority) -> [(&'static str, Identity); 2] {
    let identity = || servers.issue(&["127.0.0.1"]).asking(clients);
    [
        ("TLS 1.3", identity()),
        ("TLS 1.2", identity().only_tls_1_2()),
    ]
}

#[test]
fn an_endpoint_that_asks_for_a_certificate_is_shown_it() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let client = clients.issue(&["client"]);
    let directory = TempDir::new().unwrap();
    let file = |name: &str, content: String| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let cert = file("cert.pem", client.certificate_pem());
    let key = file("key.pem", client.key_pem());
    for (version, server) in asking(&servers, &clients) {
        let backend = Backend::tls(&server, [status(200).body("known"), status(200)]);
        let proxy = trusting(&servers, &[&backend])
            .flag("-client-cert", &cert)
            .flag("-client-key", &key)
            .start();
        assert_eq!(proxy.get_and_settle("/").body(), "known", "{version}");
        assert_eq!(proxy.post("/", "body").status(), 200, "{version}");
        assert_eq!(backend.connections(), 1);
    }
    // An endpoint that asks for no certificate is shown none.
    let backend = Backend::tls(&servers.issue(&["127.0.0.1"]), [status(200).body("anyone")]);
    let proxy = showing(trusting(&servers, &[&backend]), &directory, &client).start();
    assert_eq!(proxy.get("/").body(), "anyone");
}

#[test]
fn a_certificate_that_is_missing_is_a_failed_attempt_with_a_reason() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let body = Pattern::bytes(3 << 20);
    for (version, server) in asking(&servers, &clients) {
        let strict = Backend::tls(&server, []);
        let well = Backend::tls(
            &servers.issue(&["127.0.0.1"]),
            [status(200).body("well"), status(200).body("well")],
        );
        let proxy = trusting(&servers, &[&strict, &well]).start();
        assert_eq!(proxy.get_and_settle("/get").body(), "well", "{version}");
        assert_eq!(proxy.post("/post", &body).body(), "well", "{version}");
        proxy.wait_for_log("request /post served in");
        let wanted = format!(
            "endpoint 0: {}: TLS refused by the endpoint: it asks for a client certificate (-client-cert, -client-key)",
            strict.url()
        );
        let log = proxy.log();
        let found = log.iter().filter(|line| line.starts_with(&wanted));
        assert_eq!(found.count(), 2, "{version}: {log:#?}");
    }
}

#[test]
fn a_certificate_that_is_refused_is_a_failed_attempt_with_a_reason() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let table = [
        (
            Authority::new("strangers").issue(&["client"]),
            "TLS refused by the endpoint: it does not know the authority of the client certificate (-client-cert)",
        ),
        (
            clients.issue_expired(&["client"]),
            "TLS refused by the endpoint: the client certificate is not valid at this time (-client-cert)",
        ),
    ];
    let directory = TempDir::new().unwrap();
    for (client, reason) in table {
        for (version, server) in asking(&servers, &clients) {
            let backend = Backend::tls(&server, []);
            let proxy = showing(trusting(&servers, &[&backend]), &directory, &client).start();
            assert_eq!(proxy.get("/").status(), 500, "{version}");
            proxy.wait_for_log(&format!("endpoint 0: {}: {reason}", backend.url()));
        }
    }
}

#[test]
fn a_refusal_is_read_although_the_endpoint_has_closed() {
    let authority = Authority::new("known");
    let identity = authority.issue(&["127.0.0.1"]);
    let body = Pattern::bytes(8 << 20);
    let refusal = status(413).body("too large").early().then([Act::Close]);
    let backend = Backend::tls(&identity, [refusal]);
    let proxy = trusting(&authority, &[&backend]).start();
    let answer = proxy.post("/", &body);
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.body(), "too large");
}

#[test]
fn the_name_in_tls_stays_the_endpoints_own_with_keep_host() {
    let authority = Authority::new("known");
    let identity = authority.issue(&["localhost"]);
    let backend = Backend::tls(&identity, [status(200)]).called("localhost");
    let proxy = trusting(&authority, &[&backend])
        .flag("-keep-host", "true")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: virtual.example\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(backend.request().header("host"), Some("virtual.example"));
}
