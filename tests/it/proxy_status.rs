//! `Proxy-Status` (RFC 9209): the reason for an answer of the proxy's own and, with
//! `-proxy-status`, the endpoint that gave any other one.

use crate::common::{
    backend::{Backend, Endpoint, Refused, Unroutable, hangup, never, status},
    client::Response,
    proxy::Proxy,
};
use std::time::Duration;

const OURS: &str = "balancing-reverse-proxy";

/// The members of all lines, of which ours is the last; a member has no comma in these tests
/// but within its strings.
fn last_member(answer: &Response) -> String {
    let lines = answer.head.all("proxy-status");
    (*lines.last().unwrap()).to_owned()
}

#[test]
fn an_answer_of_the_proxy_s_own_tells_the_type_of_error_and_no_more() {
    let refused = Refused::new();
    let unknown = format!("http://{}.invalid:80", "x".repeat(64));
    let (silent, broken) = (Backend::always(never()), Backend::always(hangup()));
    let sick = Backend::always(status(503));
    let unroutable = Unroutable::new();
    let table: [(&dyn Endpoint, &str); 6] = [
        (&unroutable, "error=connection_timeout"),
        (&refused, "error=connection_refused"),
        (&unknown, "error=dns_error"),
        (&silent, "error=http_response_timeout"),
        (&broken, "error=connection_terminated"),
        (&sick, "error=destination_unavailable; received-status=503"),
    ];
    for (endpoint, wanted) in table {
        // The others fail by themselves, also on a busy machine.
        let time_out = if wanted.contains("timeout") {
            "300ms"
        } else {
            "30s"
        };
        let proxy = Proxy::serial(&[endpoint])
            .flag("-per-try-timeout", time_out)
            .flag("-connect-timeout", time_out)
            .flag("-workers", "4")
            .start();
        let answer = proxy.get("/");
        assert_eq!(answer.status(), 500);
        assert_eq!(
            answer.header("proxy-status"),
            Some(format!("{OURS}; {wanted}").as_str())
        );
    }
}

#[test]
fn a_refusal_tells_that_it_is_the_proxy_s() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-body", "10")
        .flag("-header-timeout", "1s")
        .start();
    for (line, headers, code) in [
        ("GET /", "Content-Length: x\r\n", 400),
        ("CONNECT h:1", "", 405),
        ("POST /", "Content-Length: 2000\r\n", 413),
    ] {
        let mut client = proxy.client();
        client.request(line, headers);
        let answer = client.response();
        assert_eq!(answer.status(), code);
        let wanted = format!("{OURS}; error=http_request_error; status-code={code}");
        assert_eq!(answer.header("proxy-status"), Some(wanted.as_str()));
    }
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\n");
    let answer = client.response();
    let wanted = format!("{OURS}; error=http_request_error; status-code=408");
    assert_eq!(answer.header("proxy-status"), Some(wanted.as_str()));
}

#[test]
fn a_relayed_answer_has_none_of_ours_without_the_flag() {
    let backend = Backend::replies([
        status(200).body("ok"),
        status(200).header("Proxy-Status", "inner; hit").body("ok"),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get("/").header("proxy-status"), None);
    assert_eq!(proxy.get("/").header("proxy-status"), Some("inner; hit"));
}

#[test]
fn with_the_flag_it_tells_who_won_and_what_became_of_the_others() {
    let refused = Refused::new();
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&refused, &sick, &well])
        .flag("-proxy-status", "true")
        .start();
    let answer = proxy.get("/");
    let member = last_member(&answer);
    let begin = format!(
        "{OURS}; next-hop=\"{}\"; details=\"endpoint 2 (0: connection refused, 1: status 503 after ",
        well.authority()
    );
    assert!(
        member.starts_with(&begin) && member.ends_with("s)\""),
        "{member}"
    );
    // The same words as in the log, as far as they are ASCII.
    let line = proxy.wait_for_log("request / served in ");
    let (_, attempts) = line.split_once(" by ").unwrap();
    assert!(
        member.contains(&attempts.replace('µ', "u")),
        "{member} {attempts}"
    );

    let alone = Proxy::serial(&[&well])
        .flag("-proxy-status", "true")
        .start();
    assert_eq!(
        last_member(&alone.get("/")),
        format!(
            "{OURS}; next-hop=\"{}\"; details=\"endpoint 0\"",
            well.authority()
        )
    );
}

#[test]
fn a_hedge_shows_and_so_do_exhausted_requests_and_the_best_of_them() {
    let slow = Backend::always(never());
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&slow, &well])
        .flag("-proxy-status", "true")
        .flag("-hedge-after", "20ms")
        .start();
    let member = last_member(&proxy.get("/"));
    assert!(
        member.contains("; details=\"endpoint 1, hedged (0: cancelled after "),
        "{member}"
    );

    let (refused, sick) = (Refused::new(), Backend::always(status(503).body("sick")));
    let proxy = Proxy::serial(&[&sick, &refused])
        .flag("-proxy-status", "true")
        .start();
    let member = last_member(&proxy.get("/"));
    let begin = format!("{OURS}; error=connection_refused; details=\"0: status 503 after ");
    assert!(member.starts_with(&begin), "{member}");
    assert!(member.ends_with(", 1: connection refused\""), "{member}");

    let proxy = Proxy::serial(&[&refused, &sick])
        .flag("-proxy-status", "true")
        .flag("-on-exhausted", "best")
        .start();
    let answer = proxy.get("/");
    assert_eq!(answer.body(), "sick");
    let member = last_member(&answer);
    let wanted = format!(
        "next-hop=\"{}\"; details=\"endpoint 1 (0: ",
        sick.authority()
    );
    assert!(member.contains(&wanted), "{member}");
}

#[test]
fn an_endpoint_s_own_members_stay_and_stand_before_ours() {
    let backend = Backend::always(
        status(200)
            .header("Proxy-Status", "inner; error=dns_error")
            .header("proxy-status", "middle, \"other one\"")
            .body("ok"),
    );
    let proxy = Proxy::serial(&[&backend])
        .flag("-proxy-status", "true")
        .start();
    let answer = proxy.get("/");
    let lines = answer.head.all("proxy-status");
    assert_eq!(
        lines[..2],
        ["inner; error=dns_error", "middle, \"other one\""]
    );
    assert_eq!(lines.len(), 3);
    assert!(lines[2].starts_with(OURS));
}

#[test]
fn user_name_and_password_of_an_endpoint_are_never_told() {
    let backend = Backend::always(status(200).body("ok"));
    let sick = Backend::always(status(503));
    let with_secret =
        |backend: &Backend| format!("http://user:secret@{}/base", backend.authority());
    for endpoint in [with_secret(&backend), with_secret(&sick)] {
        let proxy = Proxy::serial(&[&endpoint])
            .flag("-proxy-status", "true")
            .start();
        let member = last_member(&proxy.get("/"));
        assert!(
            member.contains("endpoint 0") || member.contains("0: "),
            "{member}"
        );
        assert!(
            !member.contains("secret") && !member.contains("user"),
            "{member}"
        );
    }
}

#[test]
fn every_kind_of_answer_passes_with_it() {
    let backend = Backend::choosing(|request| match request.target.as_str() {
        "/chunked" => status(200).chunked(&[b"ok"]),
        "/none" => status(204),
        "/slow" => status(200).body("ok").delayed(Duration::from_millis(5)),
        _ => status(200).body("ok"),
    });
    let proxy = Proxy::serial(&[&backend])
        .flag("-proxy-status", "true")
        .start();
    let mut client = proxy.client();
    for target in ["/", "/chunked", "/none", "/slow"] {
        assert!(last_member(&client.get(target)).starts_with(OURS));
    }
    client.request("HEAD /", "");
    assert!(last_member(&client.response_to("HEAD")).starts_with(OURS));
}

#[test]
fn an_endpoint_cannot_take_the_line_away() {
    let backend = Backend::always(
        status(200)
            .header("Connection", "Proxy-Status")
            .header("Proxy-Status", "its-own"),
    );
    let proxy = Proxy::serial(&[&backend])
        .flag("-proxy-status", "true")
        .start();
    let answer = proxy.get("/");
    let lines = answer.head.all("proxy-status");
    assert!(lines.len() == 1 && lines[0].starts_with(OURS), "{lines:?}");
}
