//! The status page: as a document for browsers, as text, as JSON; and in a real browser, if there
//! is one.

use crate::common::{
    backend::{Backend, Refused, status},
    client::{Client, Response},
    eventually,
    proxy::Proxy,
    scrape::{Scrape, ask, monitor_of},
};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

/// What a browser gets.
fn document(proxy: &Proxy) -> Response {
    let mut client = Client::connect(monitor_of(proxy));
    client.request(
        "GET /",
        "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n",
    );
    client.response()
}

/// A proxy that has served two requests, the second endpoint's answers, and had no answer for one.
fn used() -> (Proxy, [Backend; 2]) {
    let sick = Backend::always(status(503));
    let well = Backend::choosing(|request| match &*request.target {
        "/sick" => status(500),
        _ => status(200),
    });
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-monitor", ":0")
        .start();
    for target in ["/one", "/two", "/sick"] {
        proxy.get(target);
    }
    Scrape::with(&proxy, &[("brp_http_request_duration_seconds_count", 3.0)]);
    (proxy, [sick, well])
}

/// The text of the element of this name.
#[track_caller]
fn shown<'a>(document: &'a str, name: &str) -> &'a str {
    let begin = format!("<span id=\"{name}\">");
    let (_, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("no {name}"));
    rest.split_once("</span>").unwrap().0
}

#[test]
fn a_browser_gets_a_document_that_needs_nothing_else() {
    let (proxy, [sick, well]) = used();
    let answer = document(&proxy);
    assert_eq!(
        answer.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let page = answer.body();
    assert!(page.len() <= 16 << 10, "{} bytes", page.len());
    for (name, wanted) in [
        ("serving", "serving"),
        ("served", "2"),
        ("exhausted", "1"),
        ("retries", "3"),
        ("e0-attempts", "3"),
        ("e0-failures", "destination_unavailable: 3"),
        ("e1-share", "100.0 %"),
        ("e1-codes", "200: 2, 500: 1"),
    ] {
        assert_eq!(shown(&page, name), wanted, "{name}");
    }
    for backend in [sick, well] {
        assert!(page.contains(&backend.authority()));
    }
    for bad in [
        "http:", "https:", "src=", "@import", "url(", "{{", "[[", "style=", "onload",
    ] {
        assert!(!page.contains(bad), "{bad}");
    }
}

#[test]
fn only_its_own_script_and_style_may_run() {
    let (proxy, _backends) = used();
    let mut nonces = BTreeSet::new();
    for _ in 0..3 {
        let answer = document(&proxy);
        let page = answer.body();
        let (_, rest) = page.split_once("<script nonce=\"").unwrap();
        let (nonce, _) = rest.split_once('"').unwrap();
        assert!(
            nonce.len() == 32 && nonces.insert(nonce.to_owned()),
            "{nonce}"
        );
        assert!(page.contains(&format!("<style nonce=\"{nonce}\">")));
        let policy = answer.header("Content-Security-Policy").unwrap();
        for part in [
            "default-src 'none'",
            &format!("script-src 'nonce-{nonce}'"),
            &format!("style-src 'nonce-{nonce}'"),
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(
                policy.split("; ").any(|found| found == part),
                "{part}: {policy}"
            );
        }
    }
}

#[test]
fn a_terminal_gets_the_same_as_text() {
    let (proxy, [sick, _well]) = used();
    let answer = ask(&proxy, "/");
    assert_eq!(
        answer.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    let text = answer.body();
    let address = sick.authority();
    for line in [
        "served                  2 (66.7 %)",
        "no usable answer        1",
        "retries                 3",
        &format!("endpoint 0: {address} asked"),
        "  attempts              3 (503: 3)",
        "  wins                  2 (100.0 %)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn programs_get_json() {
    let (proxy, [sick, _well]) = used();
    let answer = ask(&proxy, "/status.json");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let json = answer.body();
    for part in [
        "\"state\":\"serving\"",
        "\"requests\":{\"served\":2,\"exhausted\":1,\"gone\":0,\"refused\":0,",
        "\"codes\":{\"200\":2,\"500\":1}",
        "\"retries\":3",
        &format!("\"endpoint\":0,\"upstream\":\"{}\"", sick.authority()),
        "\"failures\":{\"destination_unavailable\":3}",
        "\"passed_over_s\":null",
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
    assert!(!json.contains("\"page\""));
    let mut python = Command::new("python3")
        .args(["-m", "json.tool"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(json.as_bytes())
        .unwrap();
    assert!(python.wait().unwrap().success(), "{json}");
}

#[test]
fn all_that_changes_has_its_place_on_the_page() {
    let (proxy, _backends) = used();
    let page = document(&proxy).body();
    let json = ask(&proxy, "/status.json?page").body();
    let (_, values) = json.split_once("\"page\":{").unwrap();
    let values = values.strip_prefix('"').unwrap();
    let values = values.trim_end().strip_suffix("\"}}").unwrap();
    let names: Vec<_> = values
        .split("\",\"")
        .map(|value| value.split_once("\":\"").unwrap().0)
        .collect();
    assert!(names.len() > 40, "{names:?}");
    for name in &names {
        let place = format!(" id=\"{name}\"");
        assert_eq!(page.matches(&place).count(), 1, "{name}");
    }
    // And what has a name changes, but for the word that says whether it does.
    let places: Vec<_> = page.split(" id=\"").skip(1).collect();
    assert_eq!(places.len(), names.len() + 1);
}

#[test]
fn an_endpoint_that_is_passed_over_is_shown_as_such() {
    let (refused, well) = (Refused::new(), Backend::always(status(200)));
    let proxy = Proxy::serial(&[&refused, &well])
        .flag("-max-fails", "1")
        .flag("-cooldown", "1h")
        .flag("-monitor", ":0")
        .start();
    proxy.get_and_settle("/");
    Scrape::with(&proxy, &[("brp_upstream_healthy{endpoint=\"0\"}", 0.0)]);
    let page = document(&proxy).body();
    let over = shown(&page, "e0-over");
    assert!(
        over.starts_with("passed over for 1 h 0 min") || over.starts_with("passed over for 59 ")
    );
    let status: serde_json::Value =
        serde_json::from_str(&ask(&proxy, "/status.json").body()).unwrap();
    let left = |endpoint: usize| status["endpoints"][endpoint]["passed_over_s"].as_f64();
    assert!(left(0).is_some_and(|left| left > 3000.0) && left(1).is_none());
    assert_eq!(shown(&page, "e0-ejections"), "passed over once so far");
    assert_eq!(
        (shown(&page, "e1-over"), shown(&page, "e1-asked")),
        ("", "asked")
    );
}

/// What a browser makes of a page, and what it says meanwhile; none where there is no browser.
fn browse(url: &str) -> Option<(String, String)> {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--virtual-time-budget=3500",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: chromium is not installed (Debian: apt-get install chromium)");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), errors))
}

/// Stands in front of a monitor, and does something after the page has been fetched and before
/// anything else is. `policy`: what is put in front of the page's policy.
fn behind(
    monitor: SocketAddr,
    policy: &'static str,
    then: impl FnOnce() + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut then = Some(then);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut browser = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && browser.read_line(&mut head).unwrap_or(0) > 0 {}
            let Some((line, headers)) = head.split_once("\r\n") else {
                continue;
            };
            if !line.starts_with("GET / ")
                && let Some(then) = then.take()
            {
                then();
            }
            let mut proxy = TcpStream::connect(monitor).unwrap();
            let head = format!("{line}\r\nConnection: close\r\n{headers}");
            let head = head.replace("Connection: keep-alive\r\n", "");
            proxy.write_all(head.as_bytes()).unwrap();
            let mut answer = String::new();
            let _ = proxy.read_to_string(&mut answer);
            let answer = answer.replace("Security-Policy: ", &format!("Security-Policy: {policy}"));
            let _ = browser.get_mut().write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn in_a_browser_numbers_change_and_nothing_is_complained_about() {
    let (proxy, _backends) = used();
    let (address, monitor) = (proxy.address, monitor_of(&proxy));
    let url = behind(monitor, "", move || {
        for _ in 0..5 {
            Client::connect(address).get("/more");
        }
        let counted = || Client::connect(monitor).get("/").body();
        let is_counted = |text: &String| text.contains("served                  7 (");
        eventually("requests", counted, is_counted);
    });
    let Some((page, errors)) = browse(&url) else {
        return;
    };
    assert_eq!(shown(&page, "served"), "7", "{errors}");
    assert!(page.contains("id=\"live\">live<"), "{page}");
    assert!(!errors.contains("CONSOLE"), "{errors}");
}

#[test]
fn without_javascript_the_page_is_whole() {
    let (proxy, _backends) = used();
    // As if it was switched off. (With the switch the page could not be looked at.)
    let url = behind(monitor_of(&proxy), "sandbox; ", || {});
    let Some((page, errors)) = browse(&url) else {
        return;
    };
    assert_eq!(shown(&page, "served"), "2", "{errors}");
    assert!(page.contains("reload for new numbers"));
    assert!(!page.contains("id=\"live\">live<"));
    assert_eq!(errors.matches("CONSOLE").count(), 1, "{errors}");
    assert!(errors.contains("Blocked script execution"), "{errors}");
}

#[test]
fn html_is_for_those_that_ask_for_it() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).flag("-monitor", ":0").start();
    for (accepted, wanted) in [
        ("TEXT/HTML", "text/html"),
        ("*/*, text/html;level=1;q=0.5", "text/html"),
        ("text/html; q=0, text/plain", "text/plain"),
        ("text/html;q=0.000", "text/plain"),
        ("text/htmlx", "text/plain"),
        ("*/*", "text/plain"),
    ] {
        let mut client = Client::connect(monitor_of(&proxy));
        client.request("GET /", &format!("Accept: {accepted}\r\n"));
        let answer = client.response();
        let kind = answer.header("Content-Type").unwrap();
        assert_eq!(kind, format!("{wanted}; charset=utf-8"), "{accepted}");
    }
}

#[test]
fn backups_are_marked() {
    let (sick, backup) = (Backend::always(status(503)), Refused::new());
    let backups = crate::common::backend::Endpoint::url(&backup);
    let proxy = Proxy::serial(&[&sick])
        .flag("-backups", &backups)
        .flag("-max-fails", "1")
        .flag("-cooldown", "1h")
        .flag("-monitor", ":0")
        .start();
    let states = || {
        let page = document(&proxy).body();
        ["e0-asked", "e0-over", "e1-asked", "e1-over"].map(|name| {
            let (begin, _) = shown(&page, name)
                .split_once(" for ")
                .unwrap_or((shown(&page, name), ""));
            begin.to_owned()
        })
    };
    assert_eq!(states(), ["asked", "", "backup", ""]);
    let text = ask(&proxy, "/").body();
    assert!(
        text.lines()
            .any(|line| line.starts_with("endpoint 1: ") && line.ends_with(" backup"))
    );
    let json = ask(&proxy, "/status.json").body();
    let marks: Vec<_> = json.match_indices("\"backup\":").collect();
    assert_eq!(marks.len(), 2);
    assert!(json[marks[0].0..].starts_with("\"backup\":false,"));
    assert!(json[marks[1].0..].starts_with("\"backup\":true,"));

    assert_eq!(proxy.get("/").status(), 500);
    let all_over = ["", "passed over", "backup, ", "passed over"];
    eventually("all passed over", states, |states| *states == all_over);
}

#[test]
fn what_has_come_of_requests_is_kept_over_time() {
    let (proxy, _backends) = used();
    let past = || {
        let status = ask(&proxy, "/status.json").body();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let history = status["history"].clone();
        ["served", "exhausted"].map(|outcome| {
            let counts = history[outcome].as_array().unwrap().iter();
            counts.filter_map(serde_json::Value::as_u64).sum::<u64>()
        })
    };
    // It is read every five seconds.
    eventually("a reading", past, |past| *past == [2, 1]);
}
