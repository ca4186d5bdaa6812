//! Bytes beyond ASCII: obs-text in values and in the target passes byte for byte
//! (RFC 9110 5.5), in both directions and in every mode.

use crate::common::{
    backend::{Backend, Endpoint, status},
    latin1,
    proxy::{Builder, Proxy},
    text,
};

/// Every byte that is obs-text.
fn all() -> Vec<u8> {
    (0x80..=0xff).collect()
}

type Mode = fn(&[&dyn Endpoint]) -> Builder;
const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

#[test]
fn values_reach_the_endpoint_byte_for_byte() {
    let every = all();
    let values: [&[u8]; 8] = [
        b"S\xc3\xa3o Paulo",
        b"J\xf6rg",
        b"\xe5\x90\x8d",
        b"\x80",
        b"\xff",
        b"a \xa0 b\t\x85c",
        b"\xf0\x9f\x8e\x89\xc3",
        &every,
    ];
    for mode in MODES {
        let backend = Backend::always(status(200).body("fine"));
        let proxy = mode(&[&backend, &backend]).start();
        let mut client = proxy.client();
        for (number, value) in values.iter().enumerate() {
            for (line, body) in [
                (format!("GET /{number} HTTP/1.1\r\nHost: h\r\n"), ""),
                (
                    format!("POST /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"),
                    "abc",
                ),
                (
                    format!("PUT /{number} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"),
                    "3\r\nabc\r\n0\r\n\r\n",
                ),
            ] {
                let head = [
                    line.as_bytes(),
                    b"X-Name: ",
                    value,
                    b"\r\nCookie: n=",
                    value,
                ]
                .concat();
                client.send([&head[..], b"\r\n\r\n", body.as_bytes()].concat());
                assert_eq!(client.response().body(), "fine", "{value:?}");
            }
        }
        let requests = backend.requests();
        assert!(requests.len() >= 3 * values.len());
        for request in requests {
            let number: usize = request.target[1..].parse().unwrap();
            let value = values[number];
            for name in ["X-Name: ", "Cookie: n="] {
                let line = [name.as_bytes(), value].concat();
                assert!(request.has_line(&line), "{:?}", text(&request.raw_head));
            }
            assert_eq!(
                request.body.len(),
                if request.method == "GET" { 0 } else { 3 }
            );
        }
    }
}

#[test]
fn targets_reach_the_endpoint_byte_for_byte_and_the_log_escaped() {
    let every = all();
    let targets: [&[u8]; 6] = [
        b"/\xc3\xbc",
        b"/J\xf6rg?q=\xff",
        b"/?\x80",
        b"/\x9b31m",
        b"/a%20\xe2\x80\xa8b",
        &[b"/all?", &every[..]].concat(),
    ];
    for mode in MODES {
        let backend = Backend::always(status(200).body("fine"));
        let mut proxy = mode(&[&backend, &backend]).start();
        for target in targets {
            for origin in ["", "http://h"] {
                let mut client = proxy.client();
                let start = format!("GET {origin}");
                client.send([start.as_bytes(), target, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat());
                assert_eq!(client.response().body(), "fine", "{target:?}");
            }
        }
        for request in backend.requests() {
            let target = latin1(&request.target);
            assert!(targets.contains(&target.as_slice()), "{}", request.target);
        }
        proxy.wait_for_log("/all?");
        let log = proxy.stop();
        let served = log.iter().filter(|line| line.contains(" served in "));
        assert!(served.count() >= 2 * targets.len() - 2, "{log:#?}");
        assert!(!log.concat().contains(char::is_control), "{log:#?}");
    }
}

#[test]
fn below_a_path_of_the_endpoint_as_well() {
    let backend = Backend::always(status(200).body("fine"));
    let base = format!("{}/api?key=1", backend.url());
    let proxy = Proxy::serial(&[&base]).start();
    let mut client = proxy.client();
    client.send(b"GET /\xc3\xbc?\xff HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response().body(), "fine");
    assert_eq!(
        text(backend.request().request_line()),
        text(b"GET /api/\xc3\xbc?key=1&\xff HTTP/1.1")
    );
}

#[test]
fn values_of_an_answer_reach_the_client_byte_for_byte() {
    let every = text(&all());
    let backend = Backend::always(status(200).header("X-Name", &every).body("fine"));
    for mode in MODES {
        let proxy = mode(&[&backend, &backend]).start();
        let answer = proxy.get("/");
        assert_eq!(answer.header("x-name"), Some(every.as_str()));
        assert_eq!(answer.body(), "fine");
    }
}

#[test]
fn trailers_may_hold_them_too() {
    let backend = Backend::always(status(200).body("fine"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("POST /", "Transfer-Encoding: chunked\r\n");
    client.send(b"3\r\nabc\r\n0\r\nX-T: J\xf6rg\r\n\r\n");
    assert_eq!(client.response().body(), "fine");
    assert_eq!(backend.request().body, b"abc");
}
