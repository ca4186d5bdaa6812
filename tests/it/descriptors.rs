//! Few descriptors or threads: said, kept to, and no request is lost.

use crate::common::{
    Gate,
    backend::{Backend, status},
    client::Client,
    eventually,
    proxy::Proxy,
    scrape::ask,
    settled,
};
use std::{
    fs::{self, Permissions},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

/// Service comes back within this time, generously: the machine may be busy.
const PROMPT: Duration = Duration::from_secs(10);

/// How long a connection of a flood may take: where the backlog is full the flood is complete.
const FLOOD_CONNECT: Duration = Duration::from_secs(2);

fn warnings(proxy: &Proxy) -> Vec<String> {
    let mut lines = proxy.log();
    lines.extend(proxy.err.all());
    lines.retain(|line| line.contains("-max-connections") && line.contains("descriptors"));
    lines
}

#[test]
fn too_few_are_told_at_start_with_what_they_are_enough_for() {
    let backend = Backend::always(status(200).body("served"));
    for (limit, connections, told) in [(64, 1000, true), (256, 1000, true), (10_000, 50, false)] {
        let proxy = Proxy::serial(&[&backend])
            .flag("-max-connections", connections.to_string())
            .descriptors(limit)
            .start();
        assert_eq!(proxy.get("/").body(), "served");
        let lines = warnings(&proxy);
        assert_eq!(lines.len(), usize::from(told), "{limit}: {lines:?}");
        if let Some(line) = lines.first() {
            // A number that the descriptors are enough for stands in it.
            let words = line.split(|c: char| !c.is_ascii_digit());
            let numbers: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
            assert!(
                numbers.iter().any(|&number| (1..limit).contains(&number)),
                "{line}"
            );
        }
    }
}

/// How many connections the descriptors are said to be enough for.
fn in_force(proxy: &Proxy) -> usize {
    let line = proxy.wait_for_log(" is in force");
    let (_, number) = line.rsplit_once("-max-connections ").unwrap();
    number.trim_end_matches(" is in force").parse().unwrap()
}

#[test]
fn the_monitor_has_descriptors_of_its_own() {
    let backend = Backend::always(status(200));
    let start = || Proxy::serial(&[&backend]).flag("-max-connections", "1000");
    let alone = start().descriptors(300).start();
    let monitored = start().flag("-monitor", ":0").descriptors(300).start();
    // A connection takes five here, and one of the monitor's 32 takes three.
    let (alone, with_monitor) = (in_force(&alone), in_force(&monitored));
    assert!(
        with_monitor + 32 * 3 / 5 <= alone,
        "{with_monitor}, {alone}"
    );
    // It answers when as many clients as there may be hold theirs.
    let _clients: Vec<_> = (0..with_monitor).map(|_| monitored.client()).collect();
    assert_eq!(ask(&monitored, "/livez").status(), 200);
}

#[test]
fn with_64_descriptors_20_clients_lose_no_request() {
    const CLIENTS: usize = 20;
    const REQUESTS: usize = 40;
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).descriptors(64).start();
    let address = proxy.address;
    let served: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let (mut served, mut refused) = (0, 0);
                    let mut kept: Option<(Client, Instant)> = None;
                    while served + refused < REQUESTS {
                        // Half of them keep their connections as long as they are let.
                        let (mut client, since) = kept
                            .take()
                            .unwrap_or_else(|| (Client::connect(address), Instant::now()));
                        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
                        let sent = client.try_send(request);
                        // One that has waited for a request for a while may be closed to make
                        // room. Only now is it known how long that was: this thread may have
                        // waited for a processor.
                        let may_be_closed = since.elapsed() > Duration::from_millis(80);
                        let answer = match client.try_response_to("GET") {
                            Ok(answer) => answer,
                            Err(_) if may_be_closed => continue,
                            Err(closed) => panic!("{closed:?} instead of an answer, {sent:?}"),
                        };
                        if answer.status() == 200 {
                            assert_eq!(answer.body(), "served");
                            served += 1;
                        } else {
                            assert_eq!(answer.status(), 503, "{}", answer.body());
                            refused += 1;
                        }
                        let closes = answer.header("connection") == Some("close");
                        kept = (number % 2 == 0 && !closes).then(|| (client, Instant::now()));
                    }
                    served
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    // Where some had to wait, others were served all the time.
    assert!(served > CLIENTS * REQUESTS / 2, "{served}");
    assert_eq!(proxy.get("/").body(), "served");
    let log = proxy.log();
    let failed = |line: &&String| line.contains("Too many open files") || line.contains("EMFILE");
    assert_eq!(log.iter().find(failed), None);
}

#[test]
fn where_threads_run_out_each_client_has_an_answer() {
    const CLIENTS: usize = 60;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let gate = Gate::closed();
    let answer = status(200).body("served").after(&gate);
    let backend = Backend::always(answer);
    // The limit counts all threads of a user, and root has none: this proxy has a user of its own,
    // who must be able to read it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("proxy");
    fs::copy(env!("CARGO_BIN_EXE_balancing-reverse-proxy"), &program).unwrap();
    let user = (50_000 + std::process::id() % 10_000).to_string();
    let script = format!("exec {} \"$@\"", program.display());
    let user_words = [
        "setpriv",
        "--clear-groups",
        "--regid",
        &user,
        "--reuid",
        &user,
    ];
    let words = ["prlimit", "--nproc=24:24", "sh", "-c", &script];
    let proxy = Proxy::serial(&[&backend])
        .within(&[&user_words[..], &words].concat())
        .start();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = proxy.client();
            client.request("GET /", "Connection: close\r\n");
            client
        })
        .collect();
    // Those that have a thread keep it, until another one has been refused.
    proxy.wait_for_log("refused a request of ");
    gate.open();
    for client in &mut clients {
        let answer = client.response();
        match answer.status() {
            200 => assert_eq!(answer.body(), "served"),
            status => assert_eq!(
                (status, answer.body().contains("too few threads")),
                (503, true)
            ),
        }
    }
    assert_eq!(proxy.get("/").body(), "served");
    let log = proxy.log();
    let failed = |line: &&String| line.contains("internal error") || line.contains("no connection");
    assert_eq!(log.iter().find(failed), None);
}

#[test]
fn a_flood_of_connections_passes_and_leaves_nothing() {
    thread::scope(|scope| {
        for limit in [48, 64, 128] {
            scope.spawn(move || a_flood_passes(limit));
        }
    });
}

fn a_flood_passes(limit: usize) {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).descriptors(limit).start();
    assert_eq!(proxy.get_and_settle("/").body(), "served");
    let before = settled(|| proxy.descriptors());
    let threads = settled(|| proxy.threads());
    let flood: Vec<TcpStream> = (0..300)
        .map_while(|_| TcpStream::connect_timeout(&proxy.address, FLOOD_CONNECT).ok())
        .collect();
    assert!(flood.len() > limit, "{limit}: {}", flood.len());
    // Connections that say nothing make room for one that does.
    assert_eq!(proxy.get("/").body(), "served");
    assert!(proxy.descriptors() <= limit);
    drop(flood);
    let over = Instant::now();
    assert_eq!(proxy.get("/").body(), "served");
    assert!(over.elapsed() < PROMPT, "{limit}: {:?}", over.elapsed());
    eventually(
        "descriptors",
        || proxy.descriptors(),
        |&open| open <= before + 2,
    );
    if limit == 64 {
        // Idle threads end after some seconds; the pool keeps a few.
        eventually("threads", || proxy.threads(), |&now| now <= threads + 4);
    }
}

#[test]
fn what_is_in_flight_survives_a_flood() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("kept").after(&gate));
    let proxy = Proxy::serial(&[&backend]).descriptors(64).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.extend(
            (0..30).map_while(|_| TcpStream::connect_timeout(&proxy.address, FLOOD_CONNECT).ok()),
        );
        flood.drain(..flood.len() / 2);
    }
    gate.open();
    assert_eq!(client.response().body(), "kept");
    drop(flood);
    assert_eq!(proxy.get("/").body(), "kept");
}
