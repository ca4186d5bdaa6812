//! `-log-json`: each line is an object, and each request has one.

use crate::common::{
    DEADLINE, Gate,
    backend::{Act, Backend, Endpoint, Refused, hangup, never, raw, script, send, status, wait},
    client::Client,
    eventually,
    process::Process,
    proxy::{Builder, Proxy, started_on},
    scrape::Scrape,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use time::{Date, OffsetDateTime, Time, UtcOffset};

/// A proxy that logs in JSON.
struct JsonProxy {
    process: Process,
    address: SocketAddr,
}

impl JsonProxy {
    #[track_caller]
    fn start(builder: Builder) -> Self {
        let process = Process::start(builder.flag("-log-json", "true").command());
        let words = "starting on: ";
        let line = object(&process.out.wait(words, |line| line.contains(words)));
        let address = started_on(line["message"].as_str().unwrap());
        Self { process, address }
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// All lines so far.
    #[track_caller]
    fn lines(&self) -> Vec<Value> {
        self.process.out.all().iter().map(|l| object(l)).collect()
    }

    /// The objects of requests once there are so many.
    #[track_caller]
    fn requests(&self, number: usize) -> Vec<Value> {
        let requests = || {
            let mut lines = self.lines();
            lines.retain(|line| line.get("status").is_some());
            lines
        };
        eventually("requests", requests, |requests| requests.len() >= number)
    }

    /// The one request there was, without what differs each time: `time`, and durations, which
    /// are checked.
    #[track_caller]
    fn request(&self) -> Value {
        let mut requests = self.requests(1);
        assert_eq!(requests.len(), 1, "{requests:#?}");
        let mut request = requests.remove(0);
        let whole = take_duration(&mut request);
        assert!(whole <= DEADLINE.as_secs_f64(), "{whole}");
        for attempt in request["attempts"].as_array_mut().unwrap() {
            assert!(take_duration(attempt) <= whole, "longer than {whole}");
        }
        let members = request.as_object_mut().unwrap();
        members.remove("time");
        members.remove("prefix");
        request
    }
}

/// The time that `2026-11-23T14:12:20.363613` is.
fn time_of(text: &str, hours: i8) -> OffsetDateTime {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999999");
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u32> = numbers.map(|number| number.parse().unwrap()).collect();
    let small = |place: usize| u8::try_from(numbers[place]).unwrap();
    let year = i32::try_from(numbers[0]).unwrap();
    let date = Date::from_calendar_date(year, small(1).try_into().unwrap(), small(2)).unwrap();
    let time = Time::from_hms_micro(small(3), small(4), small(5), numbers[6]).unwrap();
    OffsetDateTime::new_in_offset(date, time, UtcOffset::from_hms(hours, 0, 0).unwrap())
}

fn take_duration(of: &mut Value) -> f64 {
    let duration = of.as_object_mut().unwrap().remove("duration_s");
    duration.and_then(|duration| duration.as_f64()).unwrap()
}

#[track_caller]
fn object(line: &str) -> Value {
    assert!(!line.contains(char::is_control), "{line:?}");
    match serde_json::from_str::<Value>(line) {
        Ok(value) if value.is_object() => value,
        other => panic!("{other:?} of {line:?}"),
    }
}

#[test]
fn each_line_has_its_time_the_prefix_and_a_message_or_a_request() {
    let backend = Backend::always(status(200));
    for (prefix, utc) in [
        ("balancing-reverse-proxy", true),
        ("a \"b\"", false),
        ("", false),
    ] {
        let before = OffsetDateTime::now_utc();
        let proxy = JsonProxy::start(
            Proxy::serial(&[&backend])
                .env("TZ", "ABC5")
                .flag("-log-prefix", prefix)
                // They have no say.
                .flag("-log-date", "false")
                .flag("-log-time", "false")
                .flag("-log-utc", utc.to_string()),
        );
        assert_eq!(proxy.client().get("/").status(), 200);
        proxy.requests(1);
        let lines = proxy.lines();
        for line in &lines {
            let time = line["time"].as_str().unwrap();
            let (time, hours) = match time.strip_suffix('Z') {
                Some(time) if utc => (time, 0),
                _ => (time.strip_suffix("-05:00").unwrap(), -5),
            };
            let time = time_of(time, hours);
            let now = OffsetDateTime::now_utc();
            // Cut off to microseconds.
            assert!(before - time < time::Duration::MILLISECOND && time <= now);
            assert_eq!(line["prefix"].as_str().unwrap_or_default(), prefix);
        }
        let message = format!("configuring endpoint 0: \"{}\"", backend.url());
        assert_eq!(lines[0]["message"], message);
        assert_eq!(lines[0]["level"], "info");
        assert_eq!(lines.len(), 3, "{lines:#?}");
    }
}

#[test]
fn a_request_that_moved_on() {
    let (sick, well) = (
        Backend::always(status(503)),
        Backend::always(status(201).body("ok")),
    );
    let proxy = JsonProxy::start(Proxy::serial(&[&sick, &Refused::new(), &well]));
    let mut client = proxy.client();
    let from = client.local_address().to_string();
    client.request("GET /p?q=%20", "");
    let answer = client.response();
    assert_eq!(answer.status(), 201);
    let request = proxy.request();
    let bytes = request["bytes"].as_u64().unwrap();
    assert!((40..400).contains(&bytes), "{bytes}");
    assert_eq!(
        request,
        json!({
            "client": from, "method": "GET", "target": "/p?q=%20", "status": 201, "bytes": bytes,
            "endpoint": 2, "hedged": false,
            "attempts": [
                {
                    "endpoint": 0, "outcome": "destination_unavailable", "hedged": false,
                    "status": 503, "reason": "status 503",
                },
                {
                    "endpoint": 1, "outcome": "connection_refused", "hedged": false,
                    "status": null, "reason": "connection refused",
                },
                {"endpoint": 2, "outcome": "usable", "hedged": false, "status": 201},
            ],
        })
    );
    // Each failed attempt has its line, too, with what names the request.
    let lines = proxy.lines();
    let failed = lines
        .iter()
        .filter(|line| line["level"] == "info" && line["target"] == "/p?q=%20");
    let messages: Vec<_> = failed
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    let first = format!("endpoint 0: {}: status 503", sick.url());
    assert_eq!(messages.len(), 2, "{lines:#?}");
    assert_eq!(messages[0], first);
}

#[test]
fn a_hedge_that_won() {
    let (slow, quick) = (Backend::always(never()), Backend::always(status(200)));
    let proxy = JsonProxy::start(Proxy::hedged(&[&slow, &quick]));
    assert_eq!(proxy.client().get("/").status(), 200);
    let request = proxy.request();
    assert_eq!(
        (&request["endpoint"], &request["hedged"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        request["attempts"],
        json!([
            {"endpoint": 0, "outcome": "cancelled", "hedged": false, "status": null},
            {"endpoint": 1, "outcome": "usable", "hedged": true, "status": 200},
        ])
    );
}

#[test]
fn an_exhausted_request_and_the_best_answer() {
    for (on_exhausted, status_code, endpoint) in [
        ("500", 500, None),
        ("gateway", 502, None),
        ("best", 404, Some(1)),
    ] {
        let (worse, best) = (Backend::always(status(503)), Backend::always(status(404)));
        let proxy = JsonProxy::start(
            Proxy::serial(&[&worse, &best])
                .flag("-terminal-responses", "200")
                .flag("-on-exhausted", on_exhausted),
        );
        let answer = proxy.client().get("/");
        assert_eq!(answer.status(), status_code);
        let request = proxy.request();
        assert_eq!(request["status"], status_code);
        let bytes = answer.head.raw.len() + answer.body().len();
        assert_eq!(request["bytes"], bytes);
        assert_eq!(request["endpoint"], json!(endpoint));
        assert_eq!(
            request["reason"],
            "endpoints failed to return a valid answer"
        );
        let statuses = request["attempts"].as_array().unwrap().iter();
        let statuses: Vec<_> = statuses.map(|attempt| &attempt["status"]).collect();
        assert_eq!(statuses, [503, 404]);
    }
}

#[test]
fn a_client_that_has_gone_got_no_status() {
    let backend = Backend::always(never());
    let proxy = JsonProxy::start(Proxy::serial(&[&backend]));
    let mut client = proxy.client();
    client.request("DELETE /slow", "");
    backend.wait_for_calls(1);
    client.finish_sending();
    client.rest();
    let request = proxy.request();
    assert_eq!(request["status"], Value::Null);
    assert_eq!(request["method"], "DELETE");
    assert_eq!(request["bytes"], 0);
    assert_eq!(request["reason"], "the client went away (see -half-close)");
    assert_eq!(request["attempts"][0]["outcome"], "cancelled");
}

#[test]
fn an_answer_that_broke_off_has_its_status_and_what_was_sent() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n";
    let acts = [send(head), Act::Generate(1_000_000), Act::Close];
    let backend = Backend::always(script(acts));
    let proxy = JsonProxy::start(Proxy::serial(&[&backend]));
    let mut client = proxy.client();
    client.request("GET /", "");
    client.rest();
    let request = proxy.request();
    assert_eq!(request["status"], 200);
    let reason = request["reason"].as_str().unwrap();
    assert!(reason.starts_with("the answer broke off: "), "{reason}");
    let bytes = request["bytes"].as_u64().unwrap();
    assert!((1_000_000..1_001_000).contains(&bytes), "{bytes}");
}

#[test]
fn requests_that_ask_no_endpoint() {
    let backend = Backend::untouched();
    let table = [
        ("GET /x HTTP/1.1\r\n\r\n", 400, json!("GET"), json!("/x")),
        ("\u{16}\u{3}\u{1}", 400, Value::Null, Value::Null),
        ("GET x HTTP/1.1\r\n\r\n", 400, json!("GET"), Value::Null),
        (
            "CONNECT h:1 HTTP/1.1\r\n\r\n",
            405,
            json!("CONNECT"),
            json!("h:1"),
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            json!("OPTIONS"),
            json!("*"),
        ),
        (
            "OPTIONS /o HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
            200,
            json!("OPTIONS"),
            json!("/o"),
        ),
    ];
    for (bytes, status, method, target) in table {
        let proxy = JsonProxy::start(Proxy::serial(&[&backend]));
        let mut client = proxy.client();
        client.send(bytes);
        let answer = client.response();
        assert_eq!(answer.status(), status);
        let request = proxy.request();
        assert_eq!(request["status"], status);
        let bytes = answer.head.raw.len() + answer.bytes.len();
        assert_eq!(request["bytes"], bytes);
        assert_eq!((&request["method"], &request["target"]), (&method, &target));
        assert_eq!(request["attempts"], json!([]));
        assert_eq!(request["endpoint"], Value::Null);
        assert_eq!(request.get("reason").is_some(), status != 200, "{request}");
    }
}

#[test]
fn what_a_client_or_an_endpoint_sends_breaks_no_string() {
    let hostile = b"HTTP/1.1 20\x1b0 \"\\\x07\xff\r\n\r\n\x1b[0m\"}";
    let backend = Backend::always(raw(hostile));
    let proxy = JsonProxy::start(Proxy::serial(&[&backend]));
    // Everything that may stand in a target, and what is not UTF-8.
    let mut target = vec![b'/'];
    target.extend((0x21..=0xff).filter(|byte| ![b'#', 0x7f].contains(byte)));
    target.extend("\u{fc}\u{2028}\u{202e}\u{85}".bytes());
    let mut request = b"GET ".to_vec();
    request.extend(&target);
    request.extend(b" HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut client = proxy.client();
    client.send(&request);
    assert_eq!(client.response().status(), 500);
    let request = proxy.request();
    let shown = request["target"].as_str().unwrap();
    let ascii: String = (0x21..0x7f).map(char::from).filter(|c| *c != '#').collect();
    let ascii = ascii.replace('\\', "\\\\");
    assert!(shown.starts_with(&format!("/{ascii}\\x80\\x81")), "{shown}");
    assert!(
        shown.ends_with("\\xff\u{fc}\u{2028}\u{202e}\u{85}"),
        "{shown}"
    );
    for bytes in ["GET /\"\u{1} HTTP/1.1\r\n\r\n", "\u{1b}[31m\"\\ \r\n\r\n"] {
        let mut client = proxy.client();
        client.send(bytes);
        assert_eq!(client.response().status(), 400);
    }
    assert_eq!(proxy.requests(3).len(), 3);
    proxy.lines();
}

#[test]
fn requests_that_were_served_can_be_left_out() {
    let gate = Gate::closed();
    let backend = Backend::choosing(move |request| match request.request_line() {
        b"GET /sick HTTP/1.1" => status(503),
        b"GET /long HTTP/1.1" => script([
            send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"),
            wait(&gate),
        ]),
        _ => status(200),
    });
    for in_json in [false, true] {
        let command = Proxy::serial(&[&backend])
            .flag("-log-requests", "false")
            .flag("-log-json", in_json.to_string())
            .flag("-log-utc", "true")
            .command();
        let process = Process::start(command);
        let line = process
            .out
            .wait("starting on", |line| line.contains("starting on: "));
        let address = if in_json {
            started_on(object(&line)["message"].as_str().unwrap())
        } else {
            started_on(&line)
        };
        let mut client = Client::connect(address);
        assert_eq!(client.get("/served").status(), 200);
        client.request("OPTIONS /served", "Max-Forwards: 0\r\n");
        assert_eq!(client.response_to("OPTIONS").status(), 200);
        assert_eq!(client.get("/sick").status(), 500);
        client.request("GET /long", "");
        client.until("begun");
        client.finish_sending();
        client.rest();
        Client::connect(address).send("GET /refused HTTP/1.1\r\n\r\n");
        for words in ["/sick", "/long", "/refused"] {
            process.out.wait(words, |line| line.contains(words));
        }
        let lines = process.out.all();
        assert!(
            !lines.iter().any(|line| line.contains("/served")),
            "{lines:#?}"
        );
    }
}

#[test]
fn the_end_is_logged_in_json_too() {
    let backend = Backend::untouched();
    let command = Proxy::serial(&[&backend])
        .flag("-log-json", "true")
        .flag("-stop-after", "10ms")
        .command();
    let mut process = Process::start(command);
    assert!(process.wait_for_exit().success());
    let lines = process.out.to_the_end();
    let last = object(lines.last().unwrap());
    assert_eq!(
        last["message"],
        "stopping balancing-reverse-proxy after 10ms"
    );
    for line in lines {
        object(&line);
    }
}

#[test]
fn the_log_agrees_with_the_clients_and_the_endpoints_to_the_request() {
    const CLIENTS: u8 = 4;
    const EACH: usize = 50;
    let all = usize::from(CLIENTS) * EACH;
    let turn = AtomicUsize::new(0);
    let faulty = Backend::choosing(move |_| match turn.fetch_add(1, Ordering::Relaxed) % 4 {
        0 => status(503),
        1 => status(404).body("no"),
        _ => status(200).body("ok"),
    });
    // Half of what comes to it.
    let second = Backend::choosing(|request| {
        let target = request.request_line().strip_suffix(b" HTTP/1.1");
        let last = target.and_then(|target| target.last());
        status(if last.is_some_and(|digit| digit % 2 == 1) {
            500
        } else {
            200
        })
    });
    let proxy = JsonProxy::start(Proxy::serial(&[&faulty, &Refused::new(), &second]));
    let begun = Instant::now();
    let got: Vec<u16> = thread::scope(|scope| {
        let ask = |client: u8| {
            let mut connection = proxy.client();
            let ask = move |n| {
                connection
                    .get(&format!("/{}", usize::from(client) * EACH + n))
                    .status()
            };
            (0..EACH).map(ask).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || ask(n))).collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    let requests = proxy.requests(all);
    assert_eq!(requests.len(), all);
    let count = |status: u16| got.iter().filter(|got| **got == status).count();
    for status in [200, 404, 500] {
        let logged = requests
            .iter()
            .filter(|request| request["status"] == status);
        assert_eq!(logged.count(), count(status), "{status}");
    }
    assert!(count(404) > 0 && count(500) > 0, "{got:?}");
    let attempts = requests
        .iter()
        .flat_map(|request| request["attempts"].as_array().unwrap());
    let attempts: Vec<_> = attempts.collect();
    for (endpoint, calls) in [(0, faulty.calls()), (2, second.calls())] {
        let logged = attempts
            .iter()
            .filter(|attempt| attempt["endpoint"] == endpoint);
        assert_eq!(logged.count(), calls, "endpoint {endpoint}");
    }
    let most = begun.elapsed().as_secs_f64() * f64::from(CLIENTS);
    let sum: f64 = requests
        .iter()
        .map(|r| r["duration_s"].as_f64().unwrap())
        .sum();
    assert!(sum > 0.0 && sum <= most, "{sum} of {most}");
}

#[test]
fn attempts_and_what_they_have_sent_again_are_as_many_as_in_the_metrics() {
    type Start = fn(&[&dyn Endpoint]) -> Builder;
    let modes: [(Start, bool); 3] = [
        (Proxy::serial, true),
        (Proxy::hedged, false),
        (Proxy::fanout, false),
    ];
    for (start, is_serial) in modes {
        let faulty = || {
            let turn = AtomicUsize::new(0);
            Backend::choosing(move |_| match turn.fetch_add(1, Ordering::Relaxed) % 5 {
                4 => hangup(),
                _ => status(200).body("ok"),
            })
        };
        let backends = [faulty(), faulty(), faulty()];
        let endpoints = backends.each_ref().map(|backend| backend as &dyn Endpoint);
        let proxy = JsonProxy::start(start(&endpoints).flag("-monitor", ":0"));
        let words = "monitor on: ";
        let line = object(&proxy.process.out.wait(words, |line| line.contains(words)));
        let line = line["message"]
            .as_str()
            .unwrap()
            .replace("monitor", "starting");
        let mut monitor = Client::connect(started_on(&line));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    for _ in 0..50 {
                        client.get("/");
                    }
                });
            }
        });
        let requests = proxy.requests(200);
        let attempts = requests
            .iter()
            .filter_map(|request| request["attempts"].as_array());
        let attempts: Vec<_> = attempts.flatten().collect();
        let all = f64::from(u32::try_from(attempts.len()).unwrap());
        let name = "brp_upstream_requests_total";
        let scrape = || Scrape::parse(&monitor.get("/metrics").body());
        // Losers end behind the answer.
        let scrape = eventually("attempts", scrape, |scrape| scrape.sum(name, "") >= all);
        assert_eq!(scrape.sum(name, ""), all);
        let resent = attempts
            .iter()
            .filter_map(|attempt| attempt["resent"].as_f64());
        let resent: f64 = resent.sum();
        let counted = scrape.sum("brp_upstream_resent_total", "");
        if is_serial {
            let calls: usize = backends.iter().map(Backend::calls).sum();
            assert!(resent > 0.0);
            assert_eq!(resent, counted);
            assert_eq!(all + resent, f64::from(u32::try_from(calls).unwrap()));
        } else {
            // A loser may have been about to send again when another one won.
            let cancelled = attempts.iter().filter(|a| a["outcome"] == "cancelled");
            let cancelled = f64::from(u32::try_from(cancelled.count()).unwrap());
            let range = resent..=resent + cancelled;
            assert!(range.contains(&counted), "{counted} {range:?}");
        }
    }
}

#[test]
fn an_attempt_with_an_unusable_body_has_its_status() {
    let error = Backend::always(status(203).body("an error"));
    let broken = Backend::always(status(201).body("0123456789").cut(5, Act::Close));
    let well = Backend::always(status(200).body("well"));
    let builder = Proxy::serial(&[&error, &broken, &well]).flag("-unusable-body", "error");
    let proxy = JsonProxy::start(builder);
    assert_eq!(proxy.client().get("/").body(), "well");
    let request = proxy.requests(1).remove(0);
    let statuses = [0, 1, 2].map(|n| request["attempts"][n]["status"].as_u64());
    assert_eq!(statuses, [Some(203), Some(201), Some(200)], "{request}");
}

#[test]
fn an_attempt_for_which_no_time_was_left_was_not_tried() {
    let (slow, next) = (Backend::always(never()), Backend::untouched());
    let builder = Proxy::serial(&[&slow, &next]).flag("-request-timeout", "50ms");
    let proxy = JsonProxy::start(builder);
    assert_eq!(proxy.client().get("/").status(), 500);
    let request = proxy.request();
    let outcomes = [0, 1].map(|n| request["attempts"][n]["outcome"].as_str().unwrap());
    assert_eq!(outcomes, ["http_response_timeout", "not_tried"]);
}

#[test]
fn a_failure_at_start_breaks_no_line_of_a_log_on_stderr() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = format!("cannot bind to address: {address}: address already in use");
    for (log_file, texts) in [("stderr", 0), ("stdout", 1)] {
        let command = Proxy::serial(&[&Backend::untouched()])
            .flag("-log-json", "true")
            .flag("-log-file", log_file)
            .flag("-address", &address)
            .command();
        let mut process = Process::start(command);
        assert_eq!(process.wait_for_exit().code(), Some(1));
        let lines = process.err.to_the_end();
        let (text, objects) = lines.split_at(texts);
        assert!(text.iter().all(|line| *line == message), "{lines:#?}");
        let objects: Vec<_> = objects.iter().map(|line| object(line)).collect();
        let last = objects.last().map(|object| &object["message"]);
        let wanted = json!(message);
        assert_eq!(last, (texts == 0).then_some(&wanted), "{lines:#?}");
    }
}

/// A disk that is full, and then is not: the file must not be larger than so much. In the second
/// case the file has been renamed meanwhile.
#[test]
fn a_line_that_had_begun_when_the_disk_was_full_is_ended_when_there_is_room_or_lost() {
    for is_renamed in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let [file, old, ready] = ["log", "old", "ready"].map(|name| directory.path().join(name));
        let backend = Backend::always(status(200));
        let command = Proxy::serial(&[&backend])
            .flag("-log-json", "true")
            .flag("-log-file", file.to_str().unwrap())
            .flag("-ready-file", ready.to_str().unwrap())
            .command();
        let mut process = Process::start(command);
        let address = || std::fs::read_to_string(&ready).ok()?.trim().parse().ok();
        let address = eventually("an address", address, Option::is_some).unwrap();
        let limit = |bytes| {
            let pid = rustix::process::Pid::from_raw(process.pid().cast_signed());
            let limit = rustix::process::Rlimit {
                current: bytes,
                maximum: None,
            };
            rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
        };
        let text = || std::fs::read_to_string(&file).unwrap_or_default();
        let mut client = Client::connect(address);
        let mut get = |target: &str| assert_eq!(client.get(target).status(), 200);
        get("/whole");
        let most = eventually("a line", text, |text| text.contains("/whole")).len() + 30;
        limit(Some(most as u64));
        get("/torn");
        eventually("a part of a line", text, |text| text.len() == most);
        get("/lost");
        get("/lost");
        let before = if is_renamed {
            std::fs::rename(&file, &old).unwrap();
            process.signal(rustix::process::Signal::HUP);
            eventually("a new file", || file.exists(), |exists| *exists);
            let old = std::fs::read_to_string(&old).unwrap();
            let (whole, torn) = old.rsplit_once('\n').unwrap();
            assert_eq!(torn.len(), 30);
            whole.to_owned() + "\n"
        } else {
            String::new()
        };
        limit(None);
        get("/later");
        process.signal(rustix::process::Signal::TERM);
        assert!(process.wait_for_exit().success());
        let text = before + &text();
        let lines: Vec<_> = text.lines().map(object).collect();
        let targets = lines.iter().filter_map(|line| line["target"].as_str());
        let targets: Vec<_> = targets.collect();
        let mut lost = lines.iter().rev().filter_map(|line| {
            let (number, _) = line["message"]
                .as_str()?
                .split_once(" log lines could not")?;
            number.parse::<usize>().ok()
        });
        assert_eq!(targets[0], "/whole");
        assert_eq!(targets.contains(&"/torn"), !is_renamed, "{text}");
        assert_eq!(targets.last(), Some(&"/later"));
        // How many of the two were lost depends on when they were written.
        assert_eq!(targets.len() + lost.next().unwrap_or(0), 5, "{text}");
    }
}

#[test]
fn a_duration_begins_with_the_first_byte_of_its_request() {
    const PAUSE: Duration = Duration::from_millis(150);
    let backend = Backend::always(status(200));
    let ready = tempfile::tempdir().unwrap();
    let ready_file = ready.path().join("ready");
    let builder = Proxy::serial(&[&backend])
        .flag("-monitor", ":0")
        .flag("-ready-file", ready_file.to_str().unwrap());
    let proxy = JsonProxy::start(builder);
    let mut client = proxy.client();
    let wait = |client: &mut Client| assert!(client.hears_nothing_for(PAUSE));
    // The time in front of the first byte does not count, on a new connection and on a kept one.
    let mut durations = Vec::new();
    for (number, rest) in ["", "", "Content-Length: x\r\n"].iter().enumerate() {
        wait(&mut client);
        let begun = Instant::now();
        client.send("G");
        wait(&mut client);
        client.send(format!("ET / HTTP/1.1\r\nHost: h\r\n{rest}\r\n"));
        let answer = client.response();
        assert_eq!(answer.status(), if rest.is_empty() { 200 } else { 400 });
        let mut request = proxy.requests(number + 1).remove(number);
        let most = begun.elapsed().as_secs_f64();
        let duration = take_duration(&mut request);
        // On a busy machine the first byte is read a little after it was sent.
        assert!(
            PAUSE.as_secs_f64() / 2.0 <= duration && duration <= most,
            "{request:#?}"
        );
        durations.push(most);
    }
    let lines = eventually(
        "ready file",
        || std::fs::read_to_string(&ready_file).unwrap_or_default(),
        |lines| lines.lines().count() == 2,
    );
    let monitor = lines.lines().nth(1).unwrap().parse().unwrap();
    let scrape = || {
        let metrics = Client::connect(monitor).get("/metrics");
        Scrape::parse(&metrics.body())
    };
    let is_counted = |scrape: &Scrape| scrape.get("brp_http_request_duration_seconds_count") == 2.0;
    let scrape = eventually("metrics", scrape, is_counted);
    let sum = scrape.get("brp_http_request_duration_seconds_sum");
    // A refusal is not among them.
    let served: f64 = durations[..2].iter().sum();
    assert!(
        PAUSE.as_secs_f64() <= sum && sum <= served,
        "{sum}, {durations:?}"
    );
}
