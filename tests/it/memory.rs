//! Much more goes through than is ever held.

use crate::common::{
    Gate,
    backend::{Act, Backend, Step, raw, script, send, status, wait},
    client::End,
    proxy::Proxy,
    settled,
};

const MUCH: u64 = 100 << 20;
const LIMIT_KIB: u64 = 40 * 1024;

fn large(framing: &str, act: Act) -> Step {
    raw(format!("HTTP/1.1 200 OK\r\n{framing}\r\n")).then([act])
}

#[test]
fn a_large_answer_needs_no_memory() {
    let backend = Backend::replies([
        large(&format!("Content-Length: {MUCH}\r\n"), Act::Generate(MUCH)),
        large(
            "Transfer-Encoding: chunked\r\n",
            Act::GenerateChunked(MUCH * 2 / 3),
        ),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for length in [MUCH, MUCH * 2 / 3] {
        client.request("GET /", "");
        let answer = client.counted_response();
        assert_eq!((answer.end, answer.length), (End::Complete, length));
        assert!(answer.patterned);
    }
    let peak = proxy.peak_memory_kib();
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

#[test]
fn a_large_upload_needs_no_memory() {
    let backend = Backend::replies([status(503), status(200)]).counting_bodies();
    let proxy = Proxy::serial(&[&backend, &backend])
        .flag("-max-body", "1GiB")
        .start();
    let mut client = proxy.client();
    client.request("POST /", &format!("Content-Length: {MUCH}\r\n"));
    client.send_pattern(MUCH);
    assert_eq!(client.response().status(), 200);
    for request in backend.requests() {
        assert_eq!(request.length, MUCH);
        assert!(request.patterned);
    }
    let peak = proxy.peak_memory_kib();
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

#[test]
fn a_client_that_does_not_read_makes_the_endpoint_wait() {
    let all_sent = Gate::closed();
    let backend =
        Backend::replies([
            large(&format!("Content-Length: {MUCH}\r\n"), Act::Generate(MUCH))
                .then([Act::Open(all_sent.clone())]),
        ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    assert_eq!(client.head().status, 200);
    // It takes no more once the sockets are full, and it does not collect the rest.
    let peak = settled(|| proxy.peak_memory_kib());
    assert!(peak < LIMIT_KIB, "{peak} KiB");
    assert!(!all_sent.is_open());

    let mut rest = 0;
    while rest < MUCH {
        rest += client.some().len() as u64;
    }
    assert_eq!(rest, MUCH);
    assert!(all_sent.wait());
}

#[test]
fn large_losers_need_no_memory_either() {
    let end = Gate::closed();
    let loser = || {
        Backend::always(script([
            send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n")),
            Act::Generate(MUCH),
            wait(&end),
        ]))
    };
    let backends = [loser(), loser(), loser()];
    let proxy = Proxy::fanout(&[&backends[0], &backends[1], &backends[2]]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    let answer = client.counted_response();
    assert_eq!((answer.end, answer.length), (End::Complete, MUCH));
    assert!(answer.patterned);
    end.open();
    let peak = proxy.peak_memory_kib();
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

/// Each arena of glibc's keeps what its threads have freed. There are eight for each processor
/// unless it is told otherwise.
#[test]
#[cfg(target_env = "gnu")]
fn the_allocator_has_two_arenas_for_each_processor() {
    use std::{fs, thread};

    const CLIENTS: usize = 40;
    const ARENA: u64 = 64 << 20;
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("served").after(&gate));
    let proxy = Proxy::serial(&[&backend]).start();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = proxy.client();
            client.request("GET /", "");
            client
        })
        .collect();
    backend.wait_for_calls(CLIENTS);
    let maps = fs::read_to_string(format!("/proc/{}/maps", proxy.pid())).unwrap();
    // All but the first one begin at a multiple of their size.
    let arenas = maps
        .lines()
        .filter(|line| line.contains(" rw-p "))
        .filter_map(|line| u64::from_str_radix(line.split_once('-')?.0, 16).ok())
        .filter(|begin| begin % ARENA == 0)
        .count();
    let processors = thread::available_parallelism().unwrap().get();
    assert!((1..2 * processors).contains(&arenas), "{arenas}");
    gate.open();
    for mut client in clients {
        assert_eq!(client.response().body(), "served");
    }
}
