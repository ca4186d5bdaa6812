//! `/metrics`: what is counted, scenario by scenario, and that the text is what Prometheus takes.

use crate::common::{
    Gate,
    backend::{Act, Backend, Refused, hangup, raw, script, send, status},
    client::{Client, End},
    eventually,
    proxy::Proxy,
    scrape::{Scrape, ask, monitor_of},
};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// All families of the contract, and their types.
const FAMILIES: [(&str, &str); 27] = [
    ("brp_build_info", "gauge"),
    ("brp_clients_gone_total", "counter"),
    ("brp_connections_active", "gauge"),
    ("brp_hedge_delay_seconds", "gauge"),
    ("brp_hedged_requests_rate_limited_total", "counter"),
    ("brp_hedged_requests_total", "counter"),
    ("brp_hedged_requests_won_total", "counter"),
    ("brp_http_request_duration_seconds", "histogram"),
    ("brp_http_requests_in_flight", "gauge"),
    ("brp_http_requests_total", "counter"),
    ("brp_log_lines_dropped_total", "counter"),
    ("brp_refused_requests_total", "counter"),
    ("brp_requests_exhausted_total", "counter"),
    ("brp_retries_total", "counter"),
    ("brp_upstream_ejections_total", "counter"),
    ("brp_upstream_failures_total", "counter"),
    ("brp_upstream_healthy", "gauge"),
    ("brp_upstream_requests_total", "counter"),
    ("brp_upstream_resent_total", "counter"),
    ("brp_upstream_response_head_seconds", "histogram"),
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
];

#[test]
fn every_family_has_its_name_its_type_and_its_help() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::hedged(&[&backend, &backend])
        .flag("-monitor", ":0")
        .start();
    let names: Vec<_> = FAMILIES
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .into();
    for _ in 0..2 {
        let families: Vec<_> = Scrape::of(&proxy).families.into_iter().collect();
        assert_eq!(families, names);
        proxy.get_and_settle("/");
    }
    let scrape = Scrape::of(&proxy);
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(scrape.get(name) > 0.0, "{name}");
    }
    assert_eq!(scrape.get("brp_hedge_delay_seconds"), 0.05);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        scrape.get(&format!("brp_build_info{{version=\"{version}\"}}")),
        1.0
    );
}

#[test]
fn an_answer_that_breaks_off_in_the_relay_is_a_failure() {
    let beginning = "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n";
    let generate = Act::Generate(1_000_000);
    let cut = Backend::always(script([send(beginning), generate, Act::Close]));
    let proxy = Proxy::serial(&[&cut]).flag("-monitor", ":0").start();
    assert_ne!(proxy.get("/").end, End::Complete);
    let failures =
        "brp_upstream_failures_total{endpoint=\"0\",reason=\"http_response_incomplete\"}";
    let served = "brp_http_requests_total{code=\"200\",method=\"GET\"}";
    Scrape::with(&proxy, &[(failures, 1.0), (served, 1.0)]);
}

#[test]
fn requests_attempts_failures_and_retries_are_counted() {
    let cut = Backend::always(status(200).body("whole").cut(3, Act::Close));
    let (garbage, refused) = (Backend::always(raw("no HTTP\r\n\r\n")), Refused::new());
    let sick = Backend::always(status(503));
    let well = Backend::always(status(201).body("well"));
    let proxy = Proxy::serial(&[&cut, &garbage, &refused, &sick, &well])
        .flag("-monitor", ":0")
        .start();
    assert_eq!(proxy.get("/one").status(), 201);
    assert_eq!(proxy.post("/two", "body").status(), 201);
    let mut client = proxy.client();
    client.request("BREW /three", "");
    assert_eq!(client.response().status(), 201);

    let upstream = |number: usize, address: String, code: &str| {
        format!(
            "brp_upstream_requests_total{{endpoint=\"{number}\",upstream=\"{address}\",code=\"{code}\"}}"
        )
    };
    let failures = |number: usize, reason: &str| {
        format!("brp_upstream_failures_total{{endpoint=\"{number}\",reason=\"{reason}\"}}")
    };
    let closed = crate::common::backend::Endpoint::url(&refused);
    let closed = closed.trim_start_matches("http://").to_owned();
    let wanted = [
        (
            "brp_http_requests_total{code=\"201\",method=\"GET\"}".to_owned(),
            1.0,
        ),
        (
            "brp_http_requests_total{code=\"201\",method=\"POST\"}".to_owned(),
            1.0,
        ),
        (
            "brp_http_requests_total{code=\"201\",method=\"OTHER\"}".to_owned(),
            1.0,
        ),
        ("brp_http_request_duration_seconds_count".to_owned(), 3.0),
        ("brp_retries_total".to_owned(), 12.0),
        (upstream(0, cut.authority(), "200"), 3.0),
        (upstream(1, garbage.authority(), "none"), 3.0),
        (upstream(2, closed, "unsent"), 3.0),
        (upstream(3, sick.authority(), "503"), 3.0),
        (upstream(4, well.authority(), "201"), 3.0),
        (failures(0, "http_response_incomplete"), 3.0),
        (failures(1, "http_protocol_error"), 3.0),
        (failures(2, "connection_refused"), 3.0),
        (failures(3, "destination_unavailable"), 3.0),
        (
            "brp_upstream_response_head_seconds_count{endpoint=\"0\"}".to_owned(),
            3.0,
        ),
        (
            "brp_upstream_response_head_seconds_count{endpoint=\"1\"}".to_owned(),
            0.0,
        ),
        (
            "brp_upstream_response_head_seconds_count{endpoint=\"4\"}".to_owned(),
            3.0,
        ),
    ];
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(series, value)| (&**series, *value))
        .collect();
    let scrape = Scrape::with(&proxy, &wanted);
    assert_eq!(scrape.sum("brp_http_requests_total", ""), 3.0);
    assert_eq!(scrape.sum("brp_upstream_requests_total", ""), 15.0);
    assert_eq!(scrape.sum("brp_upstream_failures_total", ""), 12.0);
    for (name, seconds) in [("0.005", 3.0), ("+Inf", 3.0)] {
        let series = format!("brp_http_request_duration_seconds_bucket{{le=\"{name}\"}}");
        assert!(scrape.get(&series) <= seconds);
    }
}

#[test]
fn hedges_are_counted_by_what_became_of_them() {
    let gate = Gate::closed();
    let slow = Backend::always(status(200).body("slow").after(&gate));
    let quick = Backend::always(status(200).body("quick"));
    // Ten tokens at first, and none for a request.
    let proxy = Proxy::serial(&[&slow, &quick])
        .flag("-hedge-after", "10ms")
        .flag("-hedge-budget", "1")
        .flag("-monitor", ":0")
        .start();
    for _ in 0..10 {
        assert_eq!(proxy.get("/").body(), "quick");
    }
    let mut held = proxy.client();
    held.request("GET /held", "");
    let wanted = [
        ("brp_hedged_requests_total", 10.0),
        ("brp_hedged_requests_won_total{type=\"hedged\"}", 10.0),
        ("brp_hedged_requests_won_total{type=\"original\"}", 0.0),
        ("brp_hedged_requests_rate_limited_total", 1.0),
        ("brp_hedge_delay_seconds", 0.01),
        ("brp_retries_total", 0.0),
    ];
    Scrape::with(&proxy, &wanted);
    gate.open();
    assert_eq!(held.response().body(), "slow");
}

#[test]
fn an_original_that_beats_its_hedge_is_counted() {
    let hedged = Gate::closed();
    let first = Backend::always(status(200).body("first").after(&hedged));
    // Its request opens the gate of the other one, and it answers never.
    let second = Backend::always(script([Act::Open(hedged.clone()), Act::Hang]));
    let proxy = Proxy::hedged(&[&first, &second])
        .flag("-monitor", ":0")
        .start();
    assert_eq!(proxy.get("/").body(), "first");
    let address = second.authority();
    let cancelled = format!(
        "brp_upstream_requests_total{{endpoint=\"1\",upstream=\"{address}\",code=\"cancelled\"}}"
    );
    let wanted = [
        ("brp_hedged_requests_total", 1.0),
        ("brp_hedged_requests_won_total{type=\"original\"}", 1.0),
        ("brp_hedged_requests_won_total{type=\"hedged\"}", 0.0),
        (&*cancelled, 1.0),
    ];
    let scrape = Scrape::with(&proxy, &wanted);
    // A cancel is no failure.
    assert_eq!(scrape.named("brp_upstream_failures_total"), [""; 0]);
}

#[test]
fn exhausted_refused_and_abandoned_requests_are_counted() {
    let gate = Gate::closed();
    let backend = Backend::choosing({
        let gate = gate.clone();
        move |request| match &*request.target {
            "/sick" => status(503),
            "/best" => status(404).body("best"),
            _ => status(200).after(&gate),
        }
    });
    let proxy = Proxy::serial(&[&backend])
        .flag("-terminal-responses", "200")
        .flag("-on-exhausted", "best")
        .flag("-max-body", "10")
        .flag("-monitor", ":0")
        .start();
    assert_eq!(proxy.get("/sick").status(), 503);
    assert_eq!(proxy.get("/best").status(), 404);
    for (request, code) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n",
            413,
        ),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ] {
        let mut client = proxy.client();
        client.send(request);
        assert_eq!(client.response().status(), code);
    }
    let mut client = proxy.client();
    client.request("OPTIONS /", "Max-Forwards: 0\r\n");
    assert_eq!(client.response().status(), 200);
    let via = "1.1 balancing-reverse-proxy, ".repeat(9);
    client.request("GET /", &format!("Via: {via}1.1 x\r\n"));
    assert_eq!(client.response().status(), 508);
    let mut gone = proxy.client();
    gone.request("GET /held", "");
    backend.wait_for_calls(3);
    drop(gone);
    let wanted = [
        ("brp_requests_exhausted_total", 2.0),
        ("brp_clients_gone_total", 1.0),
        ("brp_http_requests_total{code=\"503\",method=\"GET\"}", 1.0),
        ("brp_http_requests_total{code=\"404\",method=\"GET\"}", 1.0),
        ("brp_http_requests_total{code=\"499\",method=\"GET\"}", 1.0),
        ("brp_refused_requests_total{reason=\"malformed\"}", 1.0),
        ("brp_refused_requests_total{reason=\"method\"}", 1.0),
        ("brp_refused_requests_total{reason=\"body_size\"}", 1.0),
        ("brp_refused_requests_total{reason=\"version\"}", 1.0),
        ("brp_refused_requests_total{reason=\"loop\"}", 1.0),
        (
            "brp_http_requests_total{code=\"200\",method=\"OPTIONS\"}",
            1.0,
        ),
    ];
    let scrape = Scrape::with(&proxy, &wanted);
    assert_eq!(scrape.sum("brp_http_requests_total", ""), 4.0);
    assert_eq!(scrape.sum("brp_refused_requests_total", ""), 5.0);
    gate.open();
}

#[test]
fn an_answer_that_breaks_off_behind_its_head_keeps_its_status() {
    let broken = script([
        send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"),
        Act::Close,
    ]);
    let backend = Backend::replies([broken, hangup()]);
    let proxy = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.get("/").status(), 500);
    let wanted = [
        ("brp_http_requests_total{code=\"200\",method=\"GET\"}", 1.0),
        ("brp_http_requests_total{code=\"500\",method=\"GET\"}", 1.0),
        ("brp_requests_exhausted_total", 1.0),
        ("brp_clients_gone_total", 0.0),
        (
            "brp_upstream_failures_total{endpoint=\"0\",reason=\"connection_terminated\"}",
            1.0,
        ),
    ];
    Scrape::with(&proxy, &wanted);
}

/// No URL with more than host and port, and no series without a bound.
#[test]
fn nothing_that_a_client_or_a_url_says_is_shown() {
    let backend = Backend::always(status(200));
    let url = format!(
        "{}/secret/path?key=hidden",
        crate::common::backend::Endpoint::url(&backend)
    );
    let url = url.replace("http://", "http://user:word@");
    let proxy = Proxy::serial(&[&url]).flag("-monitor", ":0").start();
    let mut client = proxy.client();
    for number in 0..50 {
        client.request(
            &format!("METHOD-{number} /target/{number}"),
            "X-Header: value\r\n",
        );
        assert_eq!(client.response().status(), 200);
    }
    let series = "brp_http_requests_total{code=\"200\",method=\"OTHER\"}";
    let scrape = Scrape::with(&proxy, &[(series, 50.0)]);
    assert_eq!(scrape.named("brp_http_requests_total"), [series]);
    let text = ask(&proxy, "/metrics").body();
    for secret in ["secret", "hidden", "user", "word", "target", "METHOD"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

/// A parser that is not this suite's, where there is one.
#[test]
fn promtool_takes_the_metrics() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!("skipped: promtool is not installed (Debian: apt-get install prometheus)");
        return;
    };
    let sick = Backend::always(status(503).delayed(Duration::from_millis(5)));
    let well = Backend::always(status(200));
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-monitor", ":0")
        .start();
    proxy.get_and_settle("/");
    Scrape::with(&proxy, &[("brp_http_request_duration_seconds_count", 1.0)]);
    let text = Client::connect(monitor_of(&proxy)).get("/metrics").body();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

/// The metrics that a text names, without the suffixes of histograms.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let names = words.filter(|word| word.starts_with("brp_") || word.starts_with("process_"));
    names.map(|name| name.trim_end_matches("_bucket")).collect()
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let known: BTreeSet<_> = FAMILIES.into_iter().map(|(name, _)| name).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let alerts = fs::read_to_string(root.join("scripts/alerts.yml")).unwrap();
    let dashboard = fs::read_to_string(root.join("scripts/grafana.json")).unwrap();
    assert!(named(&alerts).len() > 8 && named(&alerts).is_subset(&known));
    let shown = named(&dashboard);
    assert!(shown.is_subset(&known), "{shown:?}");
    // Every metric of the proxy's own has its place on the dashboard.
    let own = known.iter().filter(|name| name.starts_with("brp_"));
    let missing: Vec<_> = own.filter(|name| !shown.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let python = Command::new("python3")
        .args(["-m", "json.tool", "scripts/grafana.json"])
        .current_dir(root)
        .stdout(Stdio::null())
        .status();
    assert!(python.unwrap().success());
}

#[test]
fn promtool_takes_the_alerts() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/alerts.yml");
    match Command::new("promtool")
        .args(["check", "rules", rules])
        .output()
    {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => eprintln!("skipped: promtool is not installed"),
    }
}

#[test]
fn requests_are_refused_for_what_they_take_by_reason() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).after(&gate));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "2")
        .flag("-workers", "1")
        .flag("-max-header", "1KiB")
        .flag("-header-timeout", "20ms")
        .flag("-monitor", ":0")
        .start();
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1024));
    for (request, code) in [
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: much\r\n\r\n", 417),
        (&long, 431),
        ("GET / HTTP/1.1\r\nHost:", 408),
    ] {
        let mut client = proxy.client();
        client.send(request);
        assert_eq!(client.response().status(), code);
    }
    let mut held = proxy.client();
    held.request("GET /held", "");
    backend.wait_for_calls(1);
    assert_eq!(proxy.get("/").status(), 503);
    let by_reason = |scrape: &Scrape| {
        [
            "expectation",
            "head_size",
            "timeout",
            "workers",
            "connections",
        ]
        .map(|reason| {
            scrape.get(&format!(
                "brp_refused_requests_total{{reason=\"{reason}\"}}"
            ))
        })
    };
    let refused = || by_reason(&Scrape::of(&proxy));
    eventually("refusals", refused, |refused| {
        *refused == [1.0, 1.0, 1.0, 1.0, 0.0]
    });
    gate.open();
    assert_eq!(held.response().status(), 200);

    let gate = Gate::closed();
    let backend = Backend::always(status(200).after(&gate));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-connections", "1")
        .flag("-monitor", ":0")
        .start();
    let mut held = proxy.client();
    held.request("GET /held", "");
    backend.wait_for_calls(1);
    assert_eq!(proxy.get("/").status(), 503);
    let refused = || by_reason(&Scrape::of(&proxy));
    eventually("refusals", refused, |refused| {
        *refused == [0.0, 0.0, 0.0, 0.0, 1.0]
    });
    gate.open();
    assert_eq!(held.response().status(), 200);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer_is_gone_and_not_unanswered() {
    let gate = Gate::closed();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n";
    let backend = Backend::always(script([send(head), Act::Wait(gate.clone())]));
    let proxy = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    let mut client = proxy.client();
    client.request("GET /", "");
    client.until("begun");
    client.finish_sending();
    let wanted = [
        ("brp_clients_gone_total", 1.0),
        ("brp_http_requests_total{code=\"200\",method=\"GET\"}", 1.0),
    ];
    Scrape::with(&proxy, &wanted);
    let status = ask(&proxy, "/status.json").body();
    let requests =
        "\"requests\":{\"served\":1,\"exhausted\":0,\"gone\":0,\"refused\":0,\"clients_gone\":1,";
    assert!(status.contains(requests), "{status}");
    gate.open();
}

#[test]
fn an_endpoint_that_answers_499_has_answered() {
    let backend = Backend::always(status(499));
    for (terminal, outcome) in [
        ("400", "\"served\":1,\"exhausted\":0"),
        ("200", "\"served\":0,\"exhausted\":1"),
    ] {
        let proxy = Proxy::serial(&[&backend])
            .flag("-terminal-responses", terminal)
            .flag("-on-exhausted", "best")
            .flag("-monitor", ":0")
            .start();
        assert_eq!(proxy.get("/").status(), 499);
        let wanted = [("brp_http_requests_total{code=\"499\",method=\"GET\"}", 1.0)];
        Scrape::with(&proxy, &wanted);
        let status = ask(&proxy, "/status.json").body();
        let requests = format!("{outcome},\"gone\":0,\"refused\":0,\"clients_gone\":0,");
        assert!(status.contains(&requests), "{status}");
    }
}
