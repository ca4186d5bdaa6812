//! The endpoint's answer as the client gets it: byte for byte, as it comes, and visibly cut
//! when it was cut.

use crate::common::{
    Gate, Pattern,
    backend::{Act, Backend, Step, chunk_of, never, raw, script, send, status, wait},
    client::{Closed, End, Head},
    proxy::Proxy,
    text, without_id,
};
use std::time::{Duration, SystemTime};

/// The headers that are not the proxy's own business, as they were.
fn passed(head: &Head) -> Vec<(&str, &str)> {
    let own = [
        "via",
        "date",
        "connection",
        "content-length",
        "transfer-encoding",
    ];
    head.headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.to_lowercase().as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[test]
fn names_order_duplicates_and_values_are_the_endpoint_s() {
    let backend = Backend::replies([status(200)
        .header("x-B", "1")
        .header("Set-Cookie", "a=1; Path=/")
        .header("X-a", "2")
        .header("set-cookie", "b=2")
        .header("X-Empty", "")
        .header("Content-Type", "text/weird; charset=x")
        .header("X-B", "3, 4")
        .header("Server", "mine/1.0")
        .header("Date", "some day")
        .header("Content-Encoding", "gzip")
        .header("Via", "1.1 inner")
        .body("no gzip at all")]);
    let proxy = Proxy::serial(&[&backend]).start();

    let answer = proxy.get("/");
    assert_eq!(answer.body(), "no gzip at all");
    assert_eq!(
        passed(&answer.head),
        [
            ("x-B", "1"),
            ("Set-Cookie", "a=1; Path=/"),
            ("X-a", "2"),
            ("set-cookie", "b=2"),
            ("X-Empty", ""),
            ("Content-Type", "text/weird; charset=x"),
            ("X-B", "3, 4"),
            ("Server", "mine/1.0"),
            ("Content-Encoding", "gzip"),
        ]
    );
    let [inner, ours] = answer.head.all("via")[..] else {
        panic!("{:?}", answer.head);
    };
    assert_eq!(
        [inner, without_id(ours)],
        ["1.1 inner", "1.1 balancing-reverse-proxy"]
    );
    assert_eq!(answer.head.all("date"), ["some day"]);
    assert_eq!(answer.header("content-length"), Some("14"));
}

#[test]
fn an_answer_without_a_date_gets_one() {
    let backend = Backend::replies([status(200).body("ok"), status(404).body("no")]);
    let proxy = Proxy::serial(&[&backend]).start();
    for _ in 0..2 {
        let before = SystemTime::now() - Duration::from_secs(1);
        let answer = proxy.get("/");
        let [date] = answer.head.all("date")[..] else {
            panic!("{:?}", answer.head);
        };
        let date = httpdate::parse_http_date(date).unwrap();
        assert!(before <= date && date <= SystemTime::now(), "{date:?}");
    }
}

#[test]
fn a_blank_in_front_of_a_colon_is_removed() {
    let head = "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length\t: 2\r\n\r\nok";
    let backend = Backend::replies([raw(head)]);
    let proxy = Proxy::serial(&[&backend]).start();
    let answer = proxy.get("/");
    assert_eq!(answer.body(), "ok");
    let raw = text(&answer.head.raw);
    assert!(
        raw.contains("\r\nX-A: b\r\nContent-Length: 2\r\n"),
        "{raw:?}"
    );
}

#[test]
fn nothing_is_invented() {
    let backend = Backend::replies([status(200).body("ok"), status(200).chunked(&[b"ok"])]);
    let proxy = Proxy::serial(&[&backend]).start();
    for _ in 0..2 {
        let answer = proxy.get("/");
        let raw = text(&answer.head.raw);
        assert!(raw.starts_with("HTTP/1.1 200 OK\r\n"), "{raw:?}");
        assert!(
            !raw.replace("\r\n", "").contains(char::is_control),
            "{raw:?}"
        );
        assert_eq!(answer.body(), "ok");
        assert_eq!(passed(&answer.head), []);
        let via = answer.header("via").map(without_id);
        assert_eq!(via, Some("1.1 balancing-reverse-proxy"));
    }
}

#[test]
fn hop_by_hop_headers_of_the_answer_stay_here() {
    let backend = Backend::replies([status(200)
        .header("Connection", "X-Mine, x-other, close")
        .header("X-Mine", "1")
        .header("X-OTHER", "2")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Upgrade", "h2c")
        .header("Trailer", "X-T")
        .header("X-Stays", "3")
        .body("ok")
        .then([Act::Close])]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    let answer = client.get("/");
    assert_eq!(answer.body(), "ok");
    assert_eq!(passed(&answer.head), [("X-Stays", "3")]);
}

#[test]
fn the_endpoint_closing_its_connection_does_not_close_the_client_s() {
    let backend = Backend::always(
        status(200)
            .header("Connection", "close")
            .body("ok")
            .then([Act::Close]),
    );
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").body(), "ok");
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn status_and_reason_phrase_are_the_endpoint_s() {
    let table = [
        (200, "Fine, thanks: 100%"),
        (299, "Odd"),
        (404, "Niemand zuhause"),
        (418, "I'm a teapot"),
        (200, ""),
        (451, "caf\u{e9}"),
    ];
    for (code, reason) in table {
        let line: String = format!("HTTP/1.1 {code} {reason}\r\nContent-Length: 2\r\n\r\nok");
        let latin1: Vec<u8> = line.chars().map(|c| u8::try_from(c).unwrap()).collect();
        let backend = Backend::replies([raw(latin1)]);
        let proxy = Proxy::serial(&[&backend]).start();
        let answer = proxy.get("/");
        assert_eq!(answer.body(), "ok");
        assert_eq!(
            (answer.status(), answer.head.reason.as_str()),
            (code, reason)
        );
        assert_eq!(answer.head.version, "HTTP/1.1");
    }
}

#[test]
fn a_status_line_without_a_reason_is_understood() {
    let backend = Backend::replies([raw("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.body().as_str()), (200, "ok"));
}

#[test]
fn values_beyond_ascii_are_passed_byte_for_byte() {
    let backend = Backend::replies([raw(
        b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nX-Utf8: caf\xc3\xa9\r\nContent-Length: 2\r\n\r\nok",
    )]);
    let proxy = Proxy::serial(&[&backend]).start();
    let answer = proxy.get("/");
    assert_eq!(answer.body(), "ok");
    assert_eq!(answer.header("x-latin"), Some("caf\u{e9}"));
    assert_eq!(answer.header("x-utf8"), Some("caf\u{c3}\u{a9}"));
}

#[test]
fn every_framing_of_every_size_arrives_byte_for_byte() {
    const SIZES: [usize; 8] = [0, 1, 32_767, 32_768, 32_769, 65_536, 1 << 20, 5_000_000];
    let backend = Backend::choosing(|request| {
        let mut words = request.target.trim_start_matches('/').split('/');
        let framing = words.next().unwrap().to_owned();
        let body = Pattern::bytes(words.next().unwrap().parse().unwrap());
        match framing.as_str() {
            "length" => status(200).body(body),
            "chunked" => status(200).chunked(&body.chunks(9973).collect::<Vec<_>>()),
            _ => status(200).until_close(body),
        }
    });
    for serial in [true, false] {
        let builder = if serial { Proxy::serial } else { Proxy::fanout };
        let proxy = builder(&[&backend]).start();
        let mut client = proxy.client();
        for size in SIZES {
            for framing in ["length", "chunked", "close"] {
                let answer = client.get(&format!("/{framing}/{size}"));
                assert_eq!(answer.end, End::Complete, "{framing} {size}");
                assert_eq!(answer.length, size as u64, "{framing} {size}");
                assert!(answer.patterned, "{framing} {size}");
                if framing == "length" {
                    assert_eq!(
                        answer.header("content-length"),
                        Some(size.to_string().as_str())
                    );
                }
            }
        }
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn chunk_extensions_and_trailers_do_not_get_into_the_body() {
    let x = |number| "x".repeat(number);
    let bodies = [
        "3;a=b\r\nabc\r\n002\r\nde\r\n0\r\nX-T: 1\r\n\r\n".to_owned(),
        // As some object stores sign what they send.
        format!(
            "5;chunk-signature={}\r\nabcde\r\n0;chunk-signature={0}\r\n\r\n",
            x(64)
        ),
        format!("3 ; a=\"{}\"\r\nabc\r\n2;{0}\r\nde\r\n0\r\n\r\n", x(4000)),
        format!("5\r\nabcde\r\n0\r\nX-T: {}\r\nX-U: 2\r\n\r\n", x(50_000)),
    ];
    for body in bodies {
        let all_at_once = [Act::Send((CHUNKED.to_owned() + &body).into_bytes())];
        let moment = Act::Pause(Duration::from_millis(5));
        let head_alone = [send(CHUNKED), moment, send(&body)];
        let pieces = body.as_bytes().chunks(1 + body.len() / 100).map(send);
        let in_pieces = [send(CHUNKED)].into_iter().chain(pieces);
        let backend =
            Backend::replies([script(all_at_once), script(head_alone), script(in_pieces)]);
        let proxy = Proxy::serial(&[&backend]).start();
        for n in 0..3 {
            assert_eq!(
                proxy.get_and_settle(&format!("/{n}")).body(),
                "abcde",
                "{body}"
            );
        }
        // Nothing of it is left in the way of the next answer.
        assert_eq!(backend.connections(), 1, "{body}");
    }
}

#[test]
fn chunks_that_are_none_are_a_break_and_never_an_end() {
    let x = |number| "x".repeat(number);
    let bodies = [
        "+2\r\nok\r\n0\r\n\r\n".to_owned(),
        "0x2\r\nok\r\n0\r\n\r\n".to_owned(),
        " 2\r\nok\r\n0\r\n\r\n".to_owned(),
        "2 2\r\nok\r\n0\r\n\r\n".to_owned(),
        ";a=b\r\nok\r\n0\r\n\r\n".to_owned(),
        "10000000000000002\r\nok\r\n0\r\n\r\n".to_owned(),
        "2\nok\r\n0\r\n\r\n".to_owned(),
        "2;a\nok\r\n0\r\n\r\n".to_owned(),
        "2\r\nok0\r\n\r\n".to_owned(),
        "2\r\nok\n0\r\n\r\n".to_owned(),
        "2\r\nok\r\n0\n\n".to_owned(),
        format!("2;{}\r\nok\r\n0\r\n\r\n", x(5000)),
        format!("2\r\nok\r\n0\r\nX-T: {}\r\n\r\n", x(70_000)),
    ];
    // Each of them on a connection that stays open, and a whole one that breaks off.
    let hangs = bodies.iter().map(|body| (body.as_str(), Act::Hang));
    let breaks = [
        "2",
        "2;a",
        "2\r\nok",
        "2\r\nok\r\n",
        "2\r\nok\r\n0",
        "2\r\nok\r\n0\r\n",
    ];
    let breaks = breaks.into_iter().chain(["2\r\nok\r\n0\r\nX: y\r\n"]);
    for (body, end) in hangs.chain(breaks.map(|body| (body, Act::Close))) {
        let backend = Backend::replies([script([send(CHUNKED), send(body), end])]);
        let proxy = Proxy::serial(&[&backend]).start();
        let answer = proxy.get("/");
        assert_eq!(answer.status(), 200, "{body:?}");
        assert_ne!(answer.end, End::Complete, "{body:?}");
    }
}

#[test]
fn what_follows_the_last_chunk_is_not_the_next_answer() {
    let answer =
        CHUNKED.to_owned() + "2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let backend = Backend::replies([raw(answer), status(200).body("next")]);
    let proxy = Proxy::serial(&[&backend]).start();
    assert_eq!(proxy.get_and_settle("/1").body(), "ok");
    assert_eq!(proxy.get("/2").body(), "next");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn two_framings_in_an_answer_are_not_passed_on_as_two() {
    // RFC 9112 6.3: the coding wins, or the answer is no answer.
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                5\r\nabcde\r\n0\r\n\r\n";
    let backend = Backend::replies([raw(both)]);
    let other = Backend::always(status(200).body("abcde"));
    let proxy = Proxy::serial(&[&backend, &other]).start();
    // The client refuses an answer with both.
    assert_eq!(proxy.get("/").body(), "abcde");
}

#[test]
fn a_large_head_passes() {
    let mut answer = status(200).header("X-Long", &"v".repeat(16_000));
    for n in 0..100 {
        answer = answer.header("Set-Cookie", &format!("c{n}={n}"));
    }
    let backend = Backend::replies([answer.body("ok")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let answer = proxy.get("/");
    assert_eq!(answer.body(), "ok");
    assert_eq!(answer.header("x-long").map(str::len), Some(16_000));
    let cookies = answer.head.all("set-cookie");
    assert_eq!(cookies.len(), 100);
    assert!((0..100).all(|n| cookies[n] == format!("c{n}={n}")));
}

#[test]
fn head_has_the_length_and_no_body() {
    let backend = Backend::replies([
        status(200).body("twelve bytes"),
        status(200).chunked(&[b"of some length"]),
        status(404).body("nothing"),
        status(200).body("after"),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    let mut head = || {
        client.request("HEAD /", "");
        client.response_to("HEAD")
    };
    assert_eq!(head().header("content-length"), Some("12"));
    assert_eq!(head().status(), 200);
    let missing = head();
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.header("content-length"), Some("7"));
    // Had a body been sent, this would be it.
    assert_eq!(client.get("/").body(), "after");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn bodiless_statuses_have_no_body() {
    let backend = Backend::replies([
        status(204).header("X-A", "1"),
        status(304)
            .header("ETag", "\"x\"")
            .header("Content-Length", "1234"),
        status(304).header("Transfer-Encoding", "chunked"),
        status(205).body(""),
        status(200).body("after"),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();

    let answer = client.get("/");
    assert_eq!((answer.status(), answer.header("x-a")), (204, Some("1")));
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(answer.header("transfer-encoding"), None);

    let answer = client.get("/");
    assert_eq!(
        (answer.status(), answer.header("etag")),
        (304, Some("\"x\""))
    );
    assert_eq!(answer.header("content-length"), Some("1234"));

    assert_eq!(client.get("/").status(), 304);
    assert_eq!(client.get("/").status(), 205);
    assert_eq!(client.get("/").body(), "after");
}

#[test]
fn redirects_are_the_client_s_business() {
    let elsewhere = Backend::untouched();
    let location = format!("http://{}/there", elsewhere.authority());
    for code in [301, 302, 303, 307, 308] {
        let backend = Backend::replies([status(code).header("Location", &location).body("go")]);
        let proxy = Proxy::serial(&[&backend]).start();
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.body().as_str()), (code, "go"));
        assert_eq!(answer.header("location"), Some(location.as_str()));
    }
}

#[test]
fn partial_content_passes() {
    let backend = Backend::replies([status(206)
        .header("Content-Range", "bytes 0-1/4")
        .body("ab")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "Range: bytes=0-1\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), answer.body().as_str()), (206, "ab"));
    assert_eq!(answer.header("content-range"), Some("bytes 0-1/4"));
    assert_eq!(backend.request().header("range"), Some("bytes=0-1"));
}

#[test]
fn interim_responses_do_not_stand_for_the_answer() {
    let interims = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
        // Bare LF and empty lines in front are tolerated, as in a final head.
        "HTTP/1.1 100 Continue\n\n",
        "HTTP/1.1 103 Early Hints\nLink: </a>\n\n",
        "HTTP/1.1 103 Early Hints\nLink: </a>\r\n\n\r\n\n",
        "\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n",
    ];
    for interim in interims {
        let answer = || status(200).body("final").preceded_by(interim);
        let backend = Backend::replies([answer(), answer()]);
        let other = Backend::untouched();
        let proxy = Proxy::serial(&[&backend, &other]).start();
        let mut client = proxy.client();
        for answer in [client.get("/"), client.post("/", "body")] {
            assert_eq!(
                (answer.status(), answer.body().as_str()),
                (200, "final"),
                "{interim:?}"
            );
        }
    }
}

#[test]
fn an_http_1_0_client_gets_no_chunks() {
    let answers: [fn() -> Step; 3] = [
        || status(200).body("in all"),
        || status(200).chunked(&[b"in ", b"all"]),
        || status(200).until_close("in all"),
    ];
    for answer in answers {
        for connection in ["", "Connection: keep-alive\r\n"] {
            let backend = Backend::always(answer());
            let proxy = Proxy::serial(&[&backend]).start();
            let mut client = proxy.client();
            client.send(format!("GET / HTTP/1.0\r\nHost: h\r\n{connection}\r\n"));
            let answer = client.response();
            assert_eq!(answer.body(), "in all");
            assert_eq!(answer.header("transfer-encoding"), None);
            let kept = answer
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"));
            if kept {
                assert_ne!(connection, "", "kept alive without being asked to");
                // Its end must be told by a length then, and the connection must be usable.
                assert!(answer.header("content-length").is_some());
                client.send(format!("GET / HTTP/1.0\r\nHost: h\r\n{connection}\r\n"));
                assert_eq!(client.response().body(), "in all");
            } else {
                assert_eq!(client.closed(), Closed::Fin);
            }
        }
    }
}

#[test]
fn a_client_that_asks_for_it_is_left_after_the_answer() {
    let backend = Backend::replies([status(200).body("bye")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "Connection: close\r\n");
    let answer = client.response();
    assert_eq!(answer.body(), "bye");
    assert_eq!(client.closed(), Closed::Fin);
}

#[test]
fn an_http_1_0_endpoint_is_understood() {
    let backend = Backend::replies([
        status(200).http_1_0().until_close("old"),
        status(200).http_1_0().body("old too").then([Act::Close]),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for body in ["old", "old too"] {
        let answer = client.get("/");
        assert_eq!(answer.body(), body);
        assert_eq!(answer.head.version, "HTTP/1.1");
        let via = answer.header("via").map(without_id);
        assert_eq!(via, Some("1.0 balancing-reverse-proxy"));
    }
}

/// An event stream with this framing, each event let go by its own gate.
fn events(framing: &str, frame: fn(&[u8]) -> Vec<u8>, end: Act) -> (Backend, Vec<Gate>) {
    let gates: Vec<_> = (0..5).map(|_| Gate::closed()).collect();
    let mut acts = vec![send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n"
    ))];
    for (n, gate) in gates.iter().enumerate() {
        acts.push(wait(gate));
        acts.push(Act::Send(frame(format!("data: {n}\n\n").as_bytes())));
    }
    acts.push(end);
    (Backend::replies([script(acts)]), gates)
}

#[test]
fn events_arrive_one_by_one() {
    for version in ["1.1", "1.0"] {
        let streams = [
            events("", <[u8]>::to_vec, Act::Close),
            events(
                "Transfer-Encoding: chunked\r\n",
                chunk_of,
                send("0\r\n\r\n"),
            ),
            // A short answer may be read whole first, a long one may not.
            events("Content-Length: 45000000\r\n", <[u8]>::to_vec, Act::Close),
        ];
        for (backend, gates) in streams {
            let proxy = Proxy::serial(&[&backend]).start();
            let mut client = proxy.client();
            client.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            assert_eq!(client.head().status, 200);
            for (n, gate) in gates.iter().enumerate() {
                // The next one is held until this one is here.
                gate.open();
                client.until(&format!("data: {n}\n\n"));
            }
        }
    }
}

#[test]
fn the_head_does_not_wait_for_the_body() {
    let gate = Gate::closed();
    let backend = Backend::replies([script([
        send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        wait(&gate),
        send("2\r\nok\r\n0\r\n\r\n"),
    ])]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    assert_eq!(client.head().status, 200);
    gate.open();
    assert_eq!(client.until("0\r\n\r\n"), "2\r\nok\r\n0\r\n\r\n");
}

#[test]
fn a_cut_answer_never_looks_whole() {
    let megabyte = || Pattern::bytes(1 << 20);
    let generated = |head: &str, end: Act| {
        script([
            send(format!("HTTP/1.1 200 OK\r\n{head}\r\n")),
            Act::Send(megabyte()),
            end,
        ])
    };
    let chunked = |end: Act| {
        let body = megabyte();
        let chunks: Vec<_> = body.chunks(10_000).collect();
        status(200).chunked(&chunks).cut(600_000, end)
    };
    let cuts: Vec<(&str, Step)> = vec![
        (
            "length, FIN",
            generated("Content-Length: 1048577\r\n", Act::Close),
        ),
        (
            "length, RST",
            generated("Content-Length: 1048577\r\n", Act::Reset),
        ),
        ("chunked, FIN", chunked(Act::Close)),
        ("chunked, RST", chunked(Act::Reset)),
        (
            "chunked, FIN before the last chunk",
            status(200).chunked(&[b"all there is"]).cut(17, Act::Close),
        ),
        ("no framing, RST", generated("", Act::Reset)),
        (
            "chunked, garbage for a chunk",
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n\r\n")
                .then([Act::Hang]),
        ),
    ];
    for (what, step) in cuts {
        for version in ["1.1", "1.0"] {
            let backend = Backend::replies([step.clone()]);
            let proxy = Proxy::serial(&[&backend]).start();
            let mut client = proxy.client();
            client.send(format!("GET /cut HTTP/{version}\r\nHost: h\r\n\r\n"));
            let answer = client.response();
            assert_eq!(answer.status(), 200, "{what}, {version}");
            assert_ne!(answer.end, End::Complete, "{what}, {version}");

            let line = proxy.wait_for_log("request /cut ");
            let cut = line.contains(" by endpoint 0, but the answer broke off: ");
            assert!(cut, "{what}: {line}");
        }
    }
}

#[test]
fn what_came_before_the_cut_is_the_endpoint_s() {
    let gate = Gate::closed();
    let backend = Backend::replies([script([
        send("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\nbegin"),
        send("x".repeat(1_000_000)),
        wait(&gate),
        Act::Close,
    ])]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    client.head();
    client.until("begin");
    gate.open();
    let rest = client.rest();
    assert!(rest.len() <= 1_000_000);
    assert!(rest.bytes().all(|byte| byte == b'x'));
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    let events = || {
        raw("HTTP/1.1 200 OK\r\n\r\n").then([Act::Trickle(b"data\n\n", Duration::from_millis(5))])
    };
    let backend = Backend::replies([events(), events()]);
    let proxy = Proxy::serial(&[&backend]).start();
    for reset in [false, true] {
        let mut client = proxy.client();
        client.request("GET /", "");
        client.until("data\n\n");
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        backend.wait_until_left();
    }
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let gate = Gate::closed();
    let backend = Backend::choosing({
        let gate = gate.clone();
        move |request| {
            let answer = status(200).body(&request.target);
            if request.target == "/1" {
                answer.after(&gate)
            } else {
                answer
            }
        }
    });
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for n in 1..=3 {
        client.request(&format!("GET /{n}"), "");
    }
    backend.wait_for_calls(1);
    gate.open();
    for n in 1..=3 {
        assert_eq!(client.response().body(), format!("/{n}"));
    }
}

#[test]
fn an_endless_answer_to_one_client_does_not_hold_up_another() {
    let endless = Backend::choosing(|request| {
        if request.target == "/endless" {
            never()
        } else {
            status(200).body("ok")
        }
    });
    let proxy = Proxy::serial(&[&endless]).start();
    let mut waiting = proxy.client();
    waiting.request("GET /endless", "");
    endless.wait_for_calls(1);
    assert_eq!(proxy.get("/").body(), "ok");
}
