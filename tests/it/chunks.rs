//! Chunked request bodies: whole to an endpoint, or refused, or broken off (RFC 9112 7.1).

use crate::common::{
    backend::{Backend, Endpoint, status},
    client::{Client, Closed},
    proxy::{Builder, Proxy},
    refusing::{Refusing, is_refusal},
    text,
};
use std::time::Duration;

const HEAD: &str = "POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

type Mode = fn(&[&dyn Endpoint]) -> Builder;
const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

/// Bodies as they are written, and what they are.
fn sound() -> Vec<(String, String)> {
    let extension = "e".repeat(4000);
    let digits = "0123456789".repeat(4);
    let table = [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
        ("003\r\nabc\r\n000\r\n\r\n", "abc"),
        ("0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n", "abc"),
        (
            "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            "01234567890123456789",
        ),
        ("3;name=value\r\nabc\r\n0;last\r\n\r\n", "abc"),
        ("3;a=\"q;\\\"x\";b\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3 \t;a\r\nabc\r\n0 ;b\r\n\r\n", "abc"),
        ("3 \r\nabc\r\n0\t\r\n\r\n", "abc"),
        ("3;\tx \u{e9}\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", "abc"),
        (
            "3\r\nabc\r\n0\r\nX-T: 1\r\nX-Empty:\r\nX-U: \t\"2\" \u{e9}\r\n\r\n",
            "abc",
        ),
        (
            "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: i\r\n\r\n",
            "",
        ),
        (
            "4\r\n\r\n0\r\r\n7\r\n\n\r\n0\r\n\r\r\n0\r\n\r\n",
            "\r\n0\r\n\r\n0\r\n\r",
        ),
    ];
    let mut bodies: Vec<_> = table
        .into_iter()
        .map(|(wire, body)| (wire.to_owned(), body.to_owned()))
        .collect();
    bodies.push((format!("28;{extension}\r\n{digits}\r\n0\r\n\r\n"), digits));
    bodies
}

fn bytes(wire: &str) -> Vec<u8> {
    crate::common::latin1(wire)
}

#[test]
fn body_means_the_same_wherever_it_is_split() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    for (number, (wire, body)) in sound().iter().enumerate() {
        // The next request right behind shows that neither too little nor too much is taken.
        let head = HEAD.replace("/up", &format!("/{number}"));
        let whole = bytes(&format!("{head}{wire}{NEXT}"));
        let splits: Vec<usize> = if wire.len() < 100 {
            (head.len()..=head.len() + wire.len()).collect()
        } else {
            vec![
                head.len() + 1,
                head.len() + 3000,
                head.len() + 4020,
                whole.len() - 1,
            ]
        };
        let mut clients: Vec<Client> = splits.iter().map(|_| proxy.client()).collect();
        for (client, &at) in clients.iter_mut().zip(&splits) {
            client.send(&whole[..at]);
        }
        Client::wait_until_all_read(&clients);
        for (client, &at) in clients.iter_mut().zip(&splits) {
            client.send(&whole[at..]);
        }
        for (client, at) in clients.iter_mut().zip(&splits) {
            for _ in 0..2 {
                let answer = client.response();
                assert_eq!(answer.status(), 200, "{wire:?} at {at}: {}", answer.body());
            }
        }
        let target = format!("/{number}");
        let mut requests = backend.requests();
        requests.retain(|request| request.target == target);
        assert_eq!(requests.len(), splits.len());
        for request in requests {
            assert_eq!(text(&request.body), *body, "{wire:?}");
            assert_eq!(
                request.header("content-length"),
                Some(body.len().to_string().as_str())
            );
            assert_eq!(request.header("transfer-encoding"), None);
        }
    }
}

#[test]
fn body_may_come_byte_by_byte() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let wires: Vec<_> = sound()
        .into_iter()
        .filter(|(wire, _)| wire.len() < 100)
        .collect();
    let requests: Vec<_> = wires
        .iter()
        .map(|(wire, _)| bytes(&format!("\r\n{HEAD}{wire}{NEXT}")))
        .collect();
    // All at once, so that each byte is read on its own by the time the next round comes.
    let mut clients: Vec<Client> = requests.iter().map(|_| proxy.client()).collect();
    let longest = requests.iter().map(Vec::len).max().unwrap();
    for at in 0..longest {
        for (client, request) in clients.iter_mut().zip(&requests) {
            if let Some(byte) = request.get(at) {
                client.send([*byte]);
            }
        }
    }
    for (client, (wire, _)) in clients.iter_mut().zip(&wires) {
        for _ in 0..2 {
            assert_eq!(client.response().body(), "served", "{wire:?}");
        }
    }
    let mut got: Vec<_> = backend
        .requests()
        .into_iter()
        .filter(|request| request.target == "/up")
        .map(|request| text(&request.body))
        .collect();
    let mut wanted: Vec<_> = wires.into_iter().map(|(_, body)| body).collect();
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
}

#[test]
fn trailers_are_read_and_dropped() {
    for mode in MODES {
        let backend = Backend::always(status(200).body("served"));
        let proxy = mode(&[&backend, &backend]).start();
        let mut client = proxy.client();
        let long = "v".repeat(30_000);
        let many = "X-T: 1\r\n".repeat(2000);
        for trailers in [
            "X-T: 1\r\n",
            "X-T: 1\r\nX-U: 2\r\n",
            &format!("X-L: {long}\r\n"),
            &many,
        ] {
            client.request("POST /", "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n");
            client.send(format!("3\r\nabc\r\n0\r\n{trailers}\r\n"));
            assert_eq!(client.response().body(), "served");
        }
        for request in backend.requests() {
            assert_eq!(request.body, b"abc");
            for name in ["x-t", "x-u", "x-l", "trailer"] {
                assert_eq!(request.header(name), None);
            }
        }
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let mut front = Refusing::new();
    let extension = "e".repeat(5000);
    let long = format!("3;{extension}\r\nabc\r\n0\r\n\r\n");
    for wire in [
        // Sizes.
        "zz\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "\t3\r\nabc\r\n0\r\n\r\n",
        "3_0\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "3 x\r\nabc\r\n0\r\n\r\n",
        "3x\r\nabc\r\n0\r\n\r\n",
        "3,\r\nabc\r\n0\r\n\r\n",
        "3.0\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        " \r\nabc\r\n0\r\n\r\n",
        ";a\r\nabc\r\n0\r\n\r\n",
        "\u{b}3\r\nabc\r\n0\r\n\r\n",
        "3\u{b}\r\nabc\r\n0\r\n\r\n",
        "3\u{c}\r\nabc\r\n0\r\n\r\n",
        "3\0\r\nabc\r\n0\r\n\r\n",
        "\u{b2}\r\nabc\r\n0\r\n\r\n",
        "00000000000000003\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffffff\r\nabc\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        // Data that is longer or shorter than its size.
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\r\r\n0\r\n\r\n",
        "3\r\nabc \r\n0\r\n\r\n",
        // Bare line ends.
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\nabc\r0\r\n\r\n",
        "3\r\nabc\r\n0\r\r\n\r\n",
        "3\r\nabc\r\n0\r\n\rX",
        // Extensions.
        "3;a\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3;a\0\r\nabc\r\n0\r\n\r\n",
        "3;a\u{1}\r\nabc\r\n0\r\n\r\n",
        "3;a\u{7f}\r\nabc\r\n0\r\n\r\n",
        "3;a=\"b\n\"\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0;a\n\r\n",
        &long,
        // Trailers.
        "0\r\n X-T: 1\r\n\r\n",
        "0\r\n\tX-T: 1\r\n\r\n",
        "0\r\nX-T: 1\r\n 2\r\n\r\n",
        "0\r\nX-T : 1\r\n\r\n",
        "0\r\nX T: 1\r\n\r\n",
        "0\r\n: 1\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nX-T: 1\n\r\n",
        "0\r\nX-T: 1\r\n\n",
        "0\r\nX-T: a\rb\r\n\r\n",
        "0\r\nX-T: a\0b\r\n\r\n",
        "0\r\nX-T: \u{7f}\r\n\r\n",
        "0\r\nX-\u{e9}: 1\r\n\r\n",
        "0\r\n\0\r\n\r\n",
    ] {
        front.refuses(400, bytes(&format!("{HEAD}{wire}")));
    }
    front.finish();
}

#[test]
fn malformed_chunks_are_refused_wherever_they_are_split() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    for wire in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\r\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\n X-T: 1\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-T: 1\n\r\n",
    ] {
        let splits = HEAD.len()..HEAD.len() + wire.len();
        let whole = format!("{HEAD}{wire}{NEXT}");
        let mut clients: Vec<Client> = splits.clone().map(|_| proxy.client()).collect();
        for (client, at) in clients.iter_mut().zip(splits.clone()) {
            client.send(&whole[..at]);
        }
        Client::wait_until_all_read(&clients);
        for (client, at) in clients.iter_mut().zip(splits) {
            // It may have been refused before.
            let _ = client.try_send(&whole[at..]);
            is_refusal(&client.response(), 400, &format!("{wire:?} at {at}"));
            client.closed();
        }
    }
}

#[test]
fn trailers_without_an_end_are_refused() {
    let mut front = Refusing::with(|builder| builder.flag("-max-header", "8KiB"));
    let long = "v".repeat(100 << 10);
    let many = "X-T: 1\r\n".repeat(20_000);
    for trailers in [format!("X-T: {long}"), long.clone(), many] {
        let mut client = front.proxy.client();
        // It may be refused before it has been sent whole.
        let _ = client.try_send(format!("{HEAD}3\r\nabc\r\n0\r\n{trailers}"));
        let answer = client.response();
        assert!(
            [400, 413, 431].contains(&answer.status()),
            "{:?}",
            answer.head
        );
        is_refusal(&answer, answer.status(), "trailers");
    }
    assert_eq!(front.endpoint().calls(), 0);
    front.proxy.stop();
}

#[test]
fn size_beyond_the_limit_is_refused_as_soon_as_it_is_exceeded() {
    let mut front = Refusing::with(|builder| builder.flag("-max-body", "1KiB"));
    let (full, over) = ("x".repeat(1024), "x".repeat(1025));
    front.serves(format!("{HEAD}400\r\n{full}\r\n0\r\n\r\n"));
    front.serves(format!(
        "{HEAD}1;a\r\nx\r\n3ff\r\n{}\r\n0\r\nX-T: 1\r\n\r\n",
        &full[1..]
    ));
    for wire in [
        format!("401\r\n{over}"),
        format!("400\r\n{full}\r\n1\r\nx"),
        format!("ffffffff\r\n{over}"),
        format!("ffffffffffffffff\r\n{over}"),
        "1\r\nx\r\n".repeat(1025),
    ] {
        front.refuses_once(413, format!("{HEAD}{wire}").as_bytes());
    }
    front.finish();
}

/// Every way in which a chunked body can end too early.
const BEGINNINGS: [&str; 16] = [
    "",
    "3",
    "3\r",
    "3\r\n",
    "3;ext",
    "3\r\nab",
    "3\r\nabc",
    "3\r\nabc\r",
    "3\r\nabc\r\n",
    "3\r\nabc\r\n0",
    "3\r\nabc\r\n0\r\n",
    "3\r\nabc\r\n0\r\n\r",
    "3\r\nabc\r\n0\r\nX-T: 1",
    "3\r\nabc\r\n0\r\nX-T: 1\r\n",
    // Leading zeros, and an end inside the data.
    "00000009\r\nabc",
    "00000020\r\naaaaaaaaaaaaaaa",
];

#[test]
fn body_broken_off_reaches_no_endpoint() {
    let heads = [HEAD.to_owned(), HEAD.replace("Host: h", "Host:        h")];
    for mode in MODES {
        let (a, b) = (Backend::untouched(), Backend::untouched());
        let proxy = mode(&[&a, &b]).start();
        for head in &heads {
            for beginning in BEGINNINGS {
                let mut client = proxy.client();
                client.send(format!("{head}{beginning}"));
                client.finish_sending();
                let answer = client.response();
                is_refusal(&answer, 400, beginning);
                let words = "request body broken off after ";
                assert!(answer.body().contains(words), "{}", answer.body());
                assert_eq!(client.closed(), Closed::Fin);
                let line = proxy.wait_for_refusal(client.local_address());
                assert!(line.contains(words) && line.contains("(400)"), "{line}");

                let client = proxy.client();
                let mut gone = client;
                gone.send(format!("{head}{beginning}"));
                gone.reset();
                let mut gone = proxy.client();
                gone.send(format!("{head}{beginning}"));
                drop(gone);
            }
        }
        // `untouched` also notices a call that comes later, up to its end.
        assert!(proxy.client().hears_nothing_for(Duration::from_millis(100)));
        assert_eq!((a.calls(), b.calls()), (0, 0));
    }
}

#[test]
fn body_that_stalls_is_given_up_and_reaches_no_endpoint() {
    for mode in MODES {
        let (a, b) = (Backend::untouched(), Backend::untouched());
        let proxy = mode(&[&a, &b]).flag("-client-timeout", "400ms").start();
        let mut stalled: Vec<Client> = BEGINNINGS
            .iter()
            .map(|beginning| {
                let mut client = proxy.client();
                client.send(format!("{HEAD}{beginning}"));
                client
            })
            .collect();
        let mut long = proxy.client();
        long.send(format!("{HEAD}1000\r\n{}", "a".repeat(100)));
        stalled.push(long);
        for declared in ["100", "2000000"] {
            let mut client = proxy.client();
            client.request("POST /up", &format!("Content-Length: {declared}\r\n"));
            client.send("0123456789");
            stalled.push(client);
        }
        for client in &mut stalled {
            is_refusal(&client.response(), 408, "a stalled body");
            assert_eq!(client.closed(), Closed::Fin);
            let line = proxy.wait_for_refusal(client.local_address());
            assert!(line.contains("(408)"), "{line}");
        }
        assert_eq!((a.calls(), b.calls()), (0, 0));
    }
}

#[test]
fn upload_that_stalls_holds_no_worker_and_is_served_when_it_goes_on() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).flag("-workers", "1").start();
    let mut uploads: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut uploads {
        client.send(format!("{HEAD}1000\r\n{}", "a".repeat(100)));
    }
    Client::wait_until_all_read(&uploads);
    for _ in 0..20 {
        assert_eq!(proxy.get("/other").body(), "served");
    }
    for client in &mut uploads {
        client.send(format!("{}\r\n0\r\n\r\n", "a".repeat(4096 - 100)));
        assert_eq!(client.response().body(), "served");
    }
    let mut requests = backend.requests();
    requests.retain(|request| request.target == "/up");
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|request| request.length == 4096));
}
