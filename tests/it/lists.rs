//! `-endpoints @FILE`: header lines of an endpoint, a file that changes, and keys that no output
//! has.

use crate::common::{
    Gate,
    backend::{Act, Backend, Endpoint, Received, Refused, hangup, never, raw, status},
    certificates::Authority,
    client::Client,
    eventually,
    process::Process,
    proxy::{Proxy, command, message},
    scrape::{Scrape, ask},
    settled,
};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// A file of endpoints in a directory of its own.
struct List {
    directory: TempDir,
}

impl List {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let list = Self {
            directory: TempDir::new().unwrap(),
        };
        list.write(text);
        list
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("endpoints")
    }

    /// Replaces it in one step, as an editor or a deployment does.
    fn write(&self, text: impl AsRef<[u8]>) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, self.path()).unwrap();
    }
}

impl Endpoint for List {
    fn url(&self) -> String {
        format!("@{}", self.path().display())
    }
}

/// The lines of these names, as they came.
fn lines(request: &Received, names: &[&str]) -> Vec<String> {
    let is_one = |name: &String| names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted));
    let lines = request.headers.iter().filter(|(name, _)| is_one(name));
    lines
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

#[test]
fn header_lines_go_to_their_endpoint_in_place_of_the_client_s() {
    let one = Backend::always(status(503));
    let two = Backend::always(status(200));
    let (first, second) = (one.url(), two.url());
    let list = List::new(format!(
        "# two\r\n{first}/v1?k=1\r\n\tX-Api-Key: one\r\n\tx-api-key: more\r\n\r\n\
         {second}\r\n    Authorization: Bearer two\r\n    Cookie:\r\n    Host: two.example\r\n"
    ));
    for mode in [Proxy::serial(&[&list]), Proxy::fanout(&[&list])] {
        let (seen_by_one, seen_by_two) = (one.calls(), two.calls());
        let proxy = mode.start();
        let mut client = proxy.client();
        client.request(
            "GET /p",
            "X-API-KEY: client\r\nAuthorization: client\r\nCookie: client\r\nA: b\r\n",
        );
        assert_eq!(client.response().status(), 200);
        one.wait_for_calls(seen_by_one + 1);
        two.wait_for_calls(seen_by_two + 1);
        let names = ["X-Api-Key", "Authorization", "Cookie", "A", "Host"];
        let requests = [one.requests().pop().unwrap(), two.requests().pop().unwrap()];
        assert_eq!(requests[0].target, "/v1/p?k=1");
        assert_eq!(
            lines(&requests[0], &names),
            [
                format!("Host: {}", one.authority()).as_str(),
                "Authorization: client",
                "Cookie: client",
                "A: b",
                "X-Api-Key: one",
                "x-api-key: more",
            ]
        );
        assert_eq!(
            lines(&requests[1], &names),
            [
                "Host: two.example",
                "X-API-KEY: client",
                "A: b",
                "Authorization: Bearer two"
            ]
        );
    }
}

#[test]
fn header_lines_are_sent_again_where_a_kept_connection_was_closed() {
    let backend = Backend::replies([
        status(200).body("first"),
        hangup(),
        status(200).body("again"),
    ]);
    let list = List::new(format!("{}\n X-Api-Key: own\n", backend.url()));
    let proxy = Proxy::serial(&[&list]).start();
    assert_eq!(proxy.get_and_settle("/first").body(), "first");
    let mut client = proxy.client();
    client.request("GET /again", "X-Api-Key: client\r\n");
    assert_eq!(client.response().body(), "again");
    let keys: Vec<_> = backend
        .requests()
        .iter()
        .map(|r| lines(r, &["X-Api-Key"]))
        .collect();
    assert_eq!(keys, [["X-Api-Key: own"]; 3]);
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_file_that_others_may_read_is_warned_about_once_if_it_holds_keys() {
    let backend = Backend::always(status(200));
    let url = backend.url();
    for (text, mode, warned) in [
        (format!("{url}\n  X-Api-Key: KEY\n"), 0o644, true),
        (format!("{url}\n  X-Api-Key: KEY\n"), 0o640, false),
        (format!("{url}\n"), 0o644, false),
    ] {
        let list = List::new(text);
        fs::set_permissions(list.path(), fs::Permissions::from_mode(mode)).unwrap();
        let proxy = Proxy::serial(&[&list]).start();
        assert_eq!(proxy.get("/").status(), 200);
        let warnings = proxy.log_with("others may read it");
        assert_eq!(warnings.len(), usize::from(warned), "{warnings:?}");
        let path = list.path().display().to_string();
        assert!(warnings.iter().all(|line| line.contains(&path)));
    }
}

#[test]
fn a_file_is_warned_about_once_however_often_it_is_read() {
    let backend = Backend::always(status(200));
    for begins_exposed in [true, false] {
        let list = List::new(format!("{}\n  X-Api-Key: KEY\n", backend.url()));
        let expose =
            || fs::set_permissions(list.path(), fs::Permissions::from_mode(0o644)).unwrap();
        if begins_exposed {
            expose();
        }
        let proxy = Proxy::serial(&[&list]).start();
        let warnings = || proxy.log_with("others may read it").len();
        assert_eq!(warnings(), usize::from(begins_exposed));
        expose();
        for _ in 0..2 {
            reload(&proxy, "nothing has changed");
        }
        assert_eq!(warnings(), 1);
    }
}

#[test]
fn a_file_that_becomes_readable_by_others_is_warned_about_in_one_reload_only() {
    let backend = Backend::always(status(200));
    let text = |round: u32| format!("{}\n  X-Api-Key: {round}\n", backend.url());
    let list = List::new(text(0));
    let proxy = Proxy::serial(&[&list]).start();
    for round in 1..4 {
        list.write(text(round));
        fs::set_permissions(list.path(), fs::Permissions::from_mode(0o644)).unwrap();
        reload(&proxy, "endpoints reloaded: 0 new, 0 gone, 1 kept");
        assert_eq!(proxy.log_with("others may read it").len(), 1, "{round}");
    }
}

/// Sends SIGHUP and waits for what comes of it: the lines since then, up to the one with the words.
#[track_caller]
fn reload(proxy: &Proxy, words: &str) -> Vec<String> {
    let before = proxy.out.number();
    proxy.signal(Signal::HUP);
    let wanted = |line: &str| line.contains(words);
    let lines = proxy.out.wait_behind(before, words, wanted);
    lines.iter().map(|line| message(line)).collect()
}

#[test]
fn a_reload_keeps_the_counts_of_an_endpoint_that_stays() {
    let one = Backend::always(status(200));
    let two = Backend::always(status(200));
    let list = List::new(format!("{}\n{}\n", one.url(), two.url()));
    let proxy = Proxy::serial(&[&list]).flag("-monitor", ":0").start();
    let series = |number: usize, backend: &Backend| {
        let address = backend.authority();
        format!(
            "brp_upstream_requests_total{{endpoint=\"{number}\",upstream=\"{address}\",code=\"200\"}}"
        )
    };
    proxy.get_and_settle("/1");
    Scrape::with(&proxy, &[(&series(0, &one), 1.0)]);

    list.write(format!("{}\n{}\n", two.url(), one.url()));
    reload(&proxy, "endpoints reloaded");
    proxy.get_and_settle("/2");
    let counts = [(&*series(0, &two), 1.0), (&*series(1, &one), 1.0)];
    let scrape = Scrape::with(&proxy, &counts);
    assert_eq!(scrape.get(&series(0, &one)), 0.0);

    list.write(format!("{}\n", two.url()));
    reload(&proxy, "endpoints reloaded");
    let scrape = Scrape::of(&proxy);
    assert_eq!(scrape.get(&series(0, &two)), 1.0);
    assert_eq!(scrape.get(&series(1, &one)), 0.0);
}

#[test]
fn a_client_s_own_connection_to_an_endpoint_that_is_gone_is_closed_with_its_next_request() {
    let one = Backend::always(status(200).body("one"));
    let two = Backend::always(status(200).body("two"));
    let list = List::new(format!("{}\n{}\n", one.url(), two.url()));
    let proxy = Proxy::serial(&[&list]).start();
    let mut client = proxy.client();
    client.request("GET /1", "Authorization: NTLM begin\r\n");
    assert_eq!(client.response().body(), "one");
    list.write(format!("{}\n", two.url()));
    reload(&proxy, "endpoints reloaded");
    assert_eq!(one.open_connections(), 1);
    client.request("GET /2", "");
    assert_eq!(client.response().body(), "two");
    let open = || one.open_connections();
    eventually("open connections", open, |open| *open == 0);
    // The client is still there.
    client.request("GET /3", "");
    assert_eq!(client.response().body(), "two");
}

#[test]
fn a_reload_renumbers_the_endpoints_and_keeps_their_connections() {
    let one = Backend::always(status(200).body("one"));
    let two = Backend::always(status(200).body("two"));
    let three = Backend::always(status(200).body("three"));
    let list = List::new(format!("{}\n{}\n", one.url(), two.url()));
    let proxy = Proxy::serial(&[&list]).start();
    assert_eq!(proxy.get_and_settle("/1").body(), "one");

    // The second comes first, a new one behind it, and the first has a header line of its own.
    list.write(format!(
        "{}\n{}\n{}\n  X-Api-Key: new\n",
        two.url(),
        three.url(),
        one.url()
    ));
    assert_eq!(
        reload(&proxy, "endpoints reloaded"),
        [
            format!("configuring endpoint 0: \"{}\"", two.url()),
            format!("configuring endpoint 1: \"{}\"", three.url()),
            format!("configuring endpoint 2: \"{}\"", one.url()),
            "endpoints reloaded: 1 new, 0 gone, 2 kept".to_owned(),
        ]
    );
    assert_eq!(proxy.get_and_settle("/2").body(), "two");
    let served = proxy.wait_for_log("request /2 served in ");
    assert!(served.contains(" by endpoint 0"), "{served}");

    list.write(format!("{}\n  X-Api-Key: newer\n", one.url()));
    let lines = reload(&proxy, "endpoints reloaded");
    assert!(lines[1].contains("0 new, 2 gone, 1 kept"), "{lines:?}");
    let mut client = proxy.client();
    client.request("GET /3", "X-Api-Key: client\r\n");
    assert_eq!(client.response().body(), "one");
    let request = one.requests().pop().unwrap();
    assert_eq!(lines_of_key(&request), ["X-Api-Key: newer"]);
    assert_eq!(one.connections(), 1);
    // What is gone keeps no connection.
    two.wait_until_left();
}

fn lines_of_key(request: &Received) -> Vec<String> {
    lines(request, &["X-Api-Key"])
}

#[test]
fn a_bad_file_changes_nothing_and_says_its_line() {
    let backend = Backend::always(status(200));
    let good = format!("{}\n  X-Api-Key: own\n", backend.url());
    let list = List::new(&good);
    let proxy = Proxy::serial(&[&list]).start();
    assert_eq!(proxy.get_and_settle("/").status(), 200);
    let path = list.path();
    for (text, words) in [
        (format!("{good}\nhttp://a/{KEY} b\n"), "line 4: "),
        (format!("{good}  Via: {KEY}\n"), "line 3: Via cannot be set"),
        (format!("http://{KEY}@a:x\n"), "line 1: "),
        (String::new(), "names no endpoint"),
    ] {
        list.write(text);
        let lines = reload(&proxy, "not reloaded");
        let wanted = "endpoints not reloaded, the list in force stays: -endpoints: ";
        assert!(lines[0].starts_with(wanted), "{lines:?}");
        assert!(
            lines[0].contains(&format!("{:?} {words}", path.display().to_string())),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 1);
    }
    fs::remove_file(&path).unwrap();
    let lines = reload(&proxy, "no such file");
    assert_eq!(lines.len(), 1, "{lines:?}");
    list.write(&good);
    assert_eq!(
        reload(&proxy, "not reloaded: "),
        ["endpoints not reloaded: nothing has changed"]
    );
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(lines_of_key(&backend.requests()[1]), ["X-Api-Key: own"]);
    assert_eq!(backend.connections(), 1);
    let log = proxy.log().join("\n");
    assert!(!log.contains(KEY), "{log}");
}

#[test]
fn a_request_under_way_ends_with_the_list_that_it_began_with() {
    let gate = Gate::closed();
    let sick = Backend::always(status(503).after(&gate));
    let old = Backend::always(status(200).body("old"));
    let new = Backend::always(status(200).body("new"));
    let list = List::new(format!("{}\n{}\n", sick.url(), old.url()));
    let proxy = Proxy::serial(&[&list]).start();
    let mut client = proxy.client();
    client.request("GET /under-way", "");
    sick.wait_for_calls(1);
    list.write(format!("{}\n", new.url()));
    reload(&proxy, "endpoints reloaded: 1 new, 2 gone, 0 kept");
    assert_eq!(proxy.get("/").body(), "new");
    gate.open();
    assert_eq!(client.response().body(), "old");
    let served = proxy.wait_for_log("request /under-way served in ");
    assert!(served.contains(" by endpoint 1 (0: status 503"), "{served}");
    // Nothing is kept of what is gone.
    sick.wait_until_left();
    old.wait_until_left();
}

#[test]
fn failures_are_kept_with_an_endpoint_that_stays() {
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200));
    let list = List::new(format!("{}\n{}\n", sick.url(), well.url()));
    let proxy = Proxy::serial(&[&list])
        .flag("-max-fails", "1")
        .flag("-cooldown", "1h")
        .start();
    assert_eq!(proxy.get("/").status(), 200);
    proxy.wait_for_log("passed over");
    list.write(format!("{}\n  A: b\n{}\n", sick.url(), well.url()));
    reload(&proxy, "endpoints reloaded: 0 new, 0 gone, 2 kept");
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(sick.calls(), 1);
}

#[test]
fn backups_are_read_anew_too() {
    let sick = Backend::always(status(503));
    let (one, two) = (
        Backend::always(status(200).body("one")),
        Backend::always(status(200).body("two")),
    );
    let list = List::new(format!("{}\n", one.url()));
    let proxy = Proxy::serial(&[&sick]).flag("-backups", list.url()).start();
    assert_eq!(proxy.get_and_settle("/").body(), "one");
    list.write(format!("{}\n{}\n", two.url(), one.url()));
    let lines = reload(&proxy, "endpoints reloaded: 1 new, 0 gone, 2 kept");
    assert_eq!(
        lines[0],
        format!("configuring endpoint 0: \"{}\"", sick.url())
    );
    assert_eq!(
        lines[1],
        format!("configuring endpoint 1: \"{}\" (backup)", two.url())
    );
    assert_eq!(proxy.get("/").body(), "two");
}

#[test]
fn an_endpoint_that_becomes_a_backup_is_a_change() {
    let gate = Gate::closed();
    let one = Backend::always(status(200).body("one").after(&gate));
    let two = Backend::always(status(200).body("two"));
    let endpoints = List::new(format!("{}\n{}\n", one.url(), two.url()));
    // None of them can be connected to.
    let backups = List::new("http://127.0.0.1:1\n");
    let proxy = Proxy::fanout(&[&endpoints])
        .flag("-backups", backups.url())
        .start();
    assert_eq!(proxy.get("/before").body(), "two");
    // All are there as before, and in the same order.
    endpoints.write(format!("{}\n", one.url()));
    backups.write(format!("{}\nhttp://127.0.0.1:1\n", two.url()));
    let lines = reload(&proxy, "endpoints reloaded: 0 new, 0 gone, 3 kept");
    let line = format!("configuring endpoint 1: \"{}\" (backup)", two.url());
    assert!(lines.contains(&line), "{lines:?}");
    let mut client = proxy.client();
    client.request("GET /after", "");
    let is_there = |seen: &Vec<String>| seen.iter().any(|line| line == "GET /after");
    eventually("the request", || one.seen(), is_there);
    gate.open();
    assert_eq!(client.response().body(), "one");
    assert_eq!(two.calls(), 1);
}

#[test]
fn a_fan_out_to_a_list_that_has_grown_finds_threads_for_all() {
    let gate = Gate::closed();
    let first = Backend::always(status(503));
    let backends: Vec<_> = (0..6)
        .map(|n| Backend::replies([status(200).body(n.to_string()).after(&gate)]))
        .collect();
    let list = List::new(format!("{}\n", first.url()));
    let proxy = Proxy::fanout(&[&list])
        .flag("-max-connections", "1")
        .start();
    assert_eq!(proxy.get("/before").status(), 500);
    let text = backends.iter().map(|b| b.url() + "\n");
    list.write(text.collect::<String>());
    reload(&proxy, "endpoints reloaded: 6 new, 1 gone, 0 kept");
    let mut client = proxy.client();
    client.request("GET /after", "");
    for backend in &backends {
        backend.wait_for_calls(1);
    }
    gate.open();
    assert_eq!(client.response().status(), 200);
    assert!(proxy.log_with("cannot start a thread").is_empty());
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_holds_up_nothing() {
    let backend = Backend::always(status(200).body("ok"));
    let list = List::new(format!("{}\n", backend.url()));
    let mut proxy = Proxy::serial(&[&list]).start();
    fs::remove_file(list.path()).unwrap();
    // A pipe that nothing is written to.
    let made = Command::new("mkfifo").arg(list.path()).status().unwrap();
    assert!(made.success());
    for _ in 0..3 {
        proxy.signal(Signal::HUP);
    }
    assert_eq!(proxy.get("/").body(), "ok");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_list_that_grows_beyond_the_descriptors_says_so() {
    let backend = Backend::always(status(200).body("ok"));
    let url = backend.url();
    // Before that there are as many connections as they are enough for, beside the monitor's.
    for (monitor, limit) in [(None, 64), (Some(":0"), 256)] {
        let list = List::new(format!("{url}\n"));
        let mut builder = Proxy::serial(&[&list]);
        if let Some(monitor) = monitor {
            builder = builder.flag("-monitor", monitor);
        }
        let proxy = builder.descriptors(limit).start();
        list.write(format!("{url}\n{url}/two\n"));
        reload(&proxy, "endpoints reloaded: 1 new, 0 gone, 1 kept");
        let line = proxy.wait_for_log("2 endpoints need ");
        let only = format!("there are only {limit} (ulimit -n)");
        assert!(line.contains(&only), "{line}");
        assert_eq!(proxy.get("/").body(), "ok");
    }
}

#[test]
fn a_hundred_reloads_under_load_cost_no_request_and_leave_nothing() {
    const RELOADS: usize = 100;
    const CLIENTS: usize = 4;
    const PAUSE: Duration = Duration::from_millis(10);
    let backends: Vec<Backend> = (0..4)
        .map(|_| Backend::always(status(200).body("ok")))
        .collect();
    // Each time one of them is missing, the others stand in another order.
    let text = |round: usize| {
        let listed = (0..3).map(|place| backends[(round + place) % 4].url());
        listed.fold(String::new(), |text, url| {
            format!("{text}{url}\n  X-Round: {round}\n")
        })
    };
    let list = List::new(text(0));
    for mode in [Proxy::serial(&[&list]), Proxy::fanout(&[&list])] {
        list.write(text(0));
        let proxy = mode.flag("-order", "rotate").start();
        for _ in 0..3 {
            assert_eq!(proxy.get("/").status(), 200);
        }
        let descriptors = settled(|| proxy.descriptors());
        let threads = settled(|| proxy.threads());
        let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    while !over.load(Ordering::Acquire) {
                        assert_eq!(client.get("/").body(), "ok");
                        served.fetch_add(1, Ordering::AcqRel);
                        // Requests are under way all the time, and the machine is not full of them.
                        thread::sleep(PAUSE);
                    }
                });
            }
            for round in 1..=RELOADS {
                list.write(text(round));
                reload(&proxy, "endpoints reloaded");
                // Requests go through this list, too.
                let now = served.load(Ordering::Acquire);
                eventually(
                    "requests",
                    || served.load(Ordering::Acquire),
                    |served| *served > now,
                );
            }
            over.store(true, Ordering::Release);
        });
        let log = proxy.log();
        let reloads = log
            .iter()
            .filter(|line| line.contains("endpoints reloaded"));
        assert_eq!(reloads.count(), RELOADS);
        assert!(!log.iter().any(|line| line.contains("returning 500")));
        // Clients and their connections to three endpoints may still be kept.
        eventually(
            "threads",
            || proxy.threads(),
            |now| *now <= threads + CLIENTS,
        );
        eventually(
            "descriptors",
            || proxy.descriptors(),
            |now| *now <= descriptors + CLIENTS * 3,
        );
    }
}

/// What a key looks like here, wherever it stands.
const KEY: &str = "S3cr3t";

/// Stops the proxy: none of its output may have a key in it, and all of it together is returned.
#[track_caller]
fn output_without_keys(proxy: &mut Proxy) -> String {
    let mut output = proxy.stop();
    output.extend(proxy.err.to_the_end());
    let output = output.join("\n");
    assert!(!output.contains(KEY), "{output}");
    output
}

/// The URL with a key in its user information, path and query.
fn with_keys(endpoint: &dyn Endpoint) -> String {
    let url = endpoint.url();
    let (scheme, authority) = url.split_once("://").unwrap();
    format!("{scheme}://{KEY}-user:{KEY}@{authority}/{KEY}/v1?key={KEY}")
}

#[test]
fn keys_are_in_no_output_whatever_fails() {
    let refused = Refused::new();
    let unknown = format!("http://{}.invalid:80", "x".repeat(64));
    let (_, identity) = Authority::itself(&["localhost"]);
    let untrusted = Backend::tls(&identity, []);
    let table: [(&dyn Endpoint, &str); 8] = [
        (&refused, "connection refused"),
        (&unknown, "cannot look up"),
        (&untrusted, "unknown authority"),
        (&Backend::always(never()), "timed out"),
        (&Backend::always(hangup()), "closed without an answer"),
        (&Backend::always(status(503)), "status 503"),
        (&Backend::always(raw("no HTTP\r\n\r\n")), "endpoint 0: "),
        (
            &Backend::always(status(200).body("x".repeat(9)).cut(3, Act::Close)),
            "in the middle of the answer",
        ),
    ];
    for (endpoint, words) in table {
        let list = List::new(format!("{}\n  X-Api-Key: {KEY}\n", with_keys(endpoint)));
        // The others are to fail by themselves, also on a busy machine.
        let per_try = if words == "timed out" { "300ms" } else { "30s" };
        for mode in [Proxy::serial(&[&list]), Proxy::fanout(&[&list])] {
            let mut proxy = mode
                .flag("-per-try-timeout", per_try)
                .flag("-connect-timeout", "5s")
                .flag("-proxy-status", "true")
                .flag("-max-fails", "1")
                .flag("-on-exhausted", "gateway")
                .flag("-monitor", "127.0.0.1:0")
                .start();
            let answer = proxy.get("/p");
            assert!(answer.status() >= 500, "{words}: {}", answer.status());
            assert!(answer.header("proxy-status").is_some());
            assert!(
                !format!("{:?}", answer.head.headers).contains(KEY),
                "{words}"
            );
            proxy.wait_for_log("returning ");
            for page in ["/", "/metrics", "/status.json"] {
                let page = ask(&proxy, page);
                assert_eq!(page.status(), 200);
                assert!(!page.body().contains(KEY), "{}", page.body());
            }
            let output = output_without_keys(&mut proxy);
            assert!(output.contains(words), "{words}: {output}");
            assert!(output.contains("/…"), "{output}");
        }
        let output = log_in_json(&list, per_try);
        assert!(output.contains(words) && !output.contains(KEY), "{output}");
    }
}

/// The log in JSON of a proxy that has put one request to the endpoints of the list.
fn log_in_json(list: &List, per_try: &str) -> String {
    let ready = list.directory.path().join("ready");
    let command = Proxy::serial(&[list])
        .flag("-per-try-timeout", per_try)
        .flag("-log-json", "true")
        .flag("-ready-file", ready.to_str().unwrap())
        .command();
    let mut process = Process::start(command);
    let address = || fs::read_to_string(&ready).ok()?.trim().parse().ok();
    let address = eventually("ready file", address, Option::is_some).unwrap();
    assert_eq!(Client::connect(address).get("/p").status(), 500);
    process
        .out
        .wait("the request", |line| line.contains("\"/p\""));
    process.stop();
    process.out.to_the_end().join("\n")
}

#[test]
fn keys_are_in_no_complaint_about_a_command_line_or_a_file() {
    let key = |text: &str| text.replace("KEY", KEY);
    let mut outputs = Vec::new();
    let mut refused = |words: &[&str]| {
        let mut command = command();
        command.args(words.iter().map(|word| key(word)));
        let mut process = Process::start(command);
        assert_eq!(process.wait_for_exit().code(), Some(2), "{words:?}");
        let output = [process.out.to_the_end(), process.err.to_the_end()].concat();
        assert!(!output.is_empty());
        outputs.push((words.join(" "), output.join("\n")));
    };
    for value in [
        "http://KEY@a:x",
        "http://KEY:KEY@a/KEY?KEY#KEY",
        "http://a/KEY,http://b/KEY KEY",
        "http://a?k=1,KEY",
        "KEY:KEY@a/KEY",
        "a/KEY",
        "ftp://KEY@a/KEY",
        "http://me:K,KEY@a",
        "@/no/such/file,http://KEY@a/KEY",
    ] {
        refused(&["-endpoints", value]);
        refused(&["-e=http://a/KEY", "-e", value]);
    }
    refused(&["-e", "http://a/KEY", "http://b/KEY"]);
    refused(&["-e", "http://a/?k=1", "KEY"]);
    refused(&["-e", "http://a/KEY", "-address", "http://KEY@a/KEY"]);
    refused(&["-e", "http://a/KEY", "-ca-file", "http://KEY@a/KEY"]);
    refused(&["-e", "http://a", "-backups", "KEY"]);
    refused(&["-e", "https://a\\KEY"]);
    refused(&["-e", "http://a/KEY", "-workers", "http://KEY@a/KEY"]);
    refused(&["-e", "http://a/KEY", "-bogus=http://KEY@a/KEY"]);
    refused(&["-e", "http://a/KEY", "-fanout", "-hedge-after=50ms"]);
    for text in [
        "http://a/KEY KEY",
        "http://KEY@a:x/KEY",
        "X-Api-Key: KEY",
        "http://a/KEY\nX-Api-Key: KEY",
        "http://a/KEY\n  KEY",
        "http://a/KEY\n  X Y: KEY",
        "http://a/KEY\n  Via: KEY",
        "http://a/KEY\n  Host: KEY KEY",
        "http://a/KEY\n  X-Api-Key: KEY\u{1}",
        "# KEY\n",
    ] {
        let list = List::new(key(text));
        refused(&["-endpoints", &list.url()]);
    }
    for (words, output) in outputs {
        assert!(!output.contains(KEY), "{words}: {output}");
    }
}

#[test]
fn a_url_in_the_place_of_a_file_is_printed_without_keys() {
    let url = format!("https://{KEY}@a/{KEY}");
    for flag in ["-log-file", "-ready-file"] {
        let mut command = command();
        command.args(["-e", "http://a", "-address", "127.0.0.1:0", flag, &url]);
        let mut process = Process::start(command);
        assert_eq!(process.wait_for_exit().code(), Some(1), "{flag}");
        let output = [process.out.to_the_end(), process.err.to_the_end()].concat();
        let output = output.join("\n");
        assert!(output.contains("https://***@a/…"), "{output}");
        assert!(!output.contains(KEY), "{output}");
    }
}
