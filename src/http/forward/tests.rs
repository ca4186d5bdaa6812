//! A table for each rule of what is changed in a head.

mod own_lines;

use super::*;

fn headers(lines: &[&str]) -> Headers {
    let mut headers = Headers::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.push(name.as_bytes(), value.as_bytes());
    }
    headers
}

fn request(method: &str, lines: &[&str]) -> RequestHead {
    request_for(method, lines, Version::Http11, Some("client.example"))
}

fn request_for(method: &str, lines: &[&str], version: Version, host: Option<&str>) -> RequestHead {
    let host = host.map(str::as_bytes);
    let client = "10.0.0.1".parse().unwrap();
    RequestHead::new(method, b"/t?q", version, host, headers(lines), client)
}

fn lines(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8(head.to_vec()).unwrap();
    let text = text.strip_suffix("\r\n\r\n").unwrap();
    text.split("\r\n").map(str::to_owned).collect()
}

/// The entry of process 1; everything else off.
fn rules() -> ForwardRules {
    ForwardRules {
        via: Some(ViaEntry::new(1)),
        ..ForwardRules::default()
    }
}

fn own(lines: &[&str]) -> HeaderLines {
    let mut own = HeaderLines::default();
    for line in lines {
        own.add(line.as_bytes()).unwrap();
    }
    own
}

fn forwarded(url: &str, request: &RequestHead, body: Option<u64>) -> Vec<String> {
    let url = url.parse().unwrap();
    lines(&request_head(request, &url, &own(&[]), &rules(), body))
}

const OURS: [&str; 4] = [
    "X-Forwarded-For: 10.0.0.1",
    "X-Forwarded-Host: client.example",
    "X-Forwarded-Proto: http",
    "Via: 1.1 balancing-reverse-proxy (x000000000001)",
];

#[test]
fn what_is_not_named_keeps_case_order_and_duplicates() {
    let request = request(
        "GET",
        &["host: client.example", "X-B: 1", "x-a: 2", "X-B: 3"],
    );
    assert_eq!(
        forwarded("http://e.example:81/base", &request, None),
        [
            &[
                "GET /base/t?q HTTP/1.1",
                "host: e.example:81",
                "X-B: 1",
                "x-a: 2",
                "X-B: 3"
            ][..],
            &OURS
        ]
        .concat()
    );
}

#[test]
fn hop_by_hop_headers_stop_here() {
    let removed = [
        "Connection: close, X-Named",
        "connection: , x-also-named ,",
        "X-Named: 1",
        "X-Also-Named: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: X-T",
        "Transfer-Encoding: chunked",
        "Upgrade: h2c",
        "Proxy-Authorization: Basic eA==",
        "Expect: 100-continue",
        "X-Forwarded-Host: forged",
        "X-Forwarded-Proto: forged",
    ];
    let request = request("GET", &[&["Host: c"], &removed[..]].concat());
    assert_eq!(
        forwarded("http://e", &request, None),
        [&["GET /t?q HTTP/1.1", "Host: e"][..], &OURS].concat()
    );
}

#[test]
fn the_length_is_that_of_the_body_as_it_is_sent() {
    type Row<'a> = (&'a str, &'a [&'a str], Option<u64>, &'a [&'a str]);
    let table: [Row<'_>; 8] = [
        ("GET", &[], None, &[]),
        (
            "GET",
            &["Content-Length: 0"],
            Some(0),
            &["Content-Length: 0"],
        ),
        (
            "DELETE",
            &["Content-Length: 3"],
            Some(3),
            &["Content-Length: 3"],
        ),
        ("POST", &[], None, &["Content-Length: 0"]),
        (
            "PUT",
            &["content-length: 7", "X: 1"],
            Some(7),
            &["Content-Length: 7", "X: 1"],
        ),
        (
            "GET",
            &["Transfer-Encoding: chunked", "X: 1"],
            Some(9),
            &["Content-Length: 9", "X: 1"],
        ),
        (
            "POST",
            &["Transfer-Encoding: chunked"],
            Some(0),
            &["Content-Length: 0"],
        ),
        ("FOO", &[], None, &[]),
    ];
    for (method, given, body, wanted) in table {
        let request = request(method, &[&["Host: c"], given].concat());
        let first = format!("{method} /t?q HTTP/1.1");
        assert_eq!(
            forwarded("http://e", &request, body),
            [&[first.as_str(), "Host: e"][..], wanted, &OURS].concat()
        );
    }
}

#[test]
fn forwarded_for_grows_at_its_end() {
    let given = [
        "Host: c",
        "x-forwarded-for: 1.1.1.1",
        "X: 1",
        "X-Forwarded-For: 2.2.2.2, 3.3.3.3",
    ];
    let forwarded = forwarded("http://e", &request("GET", &given), None);
    assert_eq!(
        forwarded,
        [
            "GET /t?q HTTP/1.1",
            "Host: e",
            "x-forwarded-for: 1.1.1.1",
            "X: 1",
            "X-Forwarded-For: 2.2.2.2, 3.3.3.3, 10.0.0.1",
            "X-Forwarded-Host: client.example",
            "X-Forwarded-Proto: http",
            "Via: 1.1 balancing-reverse-proxy (x000000000001)"
        ]
    );
}

#[test]
fn max_forwards_goes_on_less_one_where_it_applies() {
    let table = [
        ("OPTIONS", "max-forwards: 5", Some("max-forwards: 4")),
        ("TRACE", "Max-Forwards: 1", Some("Max-Forwards: 0")),
        ("TRACE", "Max-Forwards: 010", Some("Max-Forwards: 9")),
        (
            "TRACE",
            "Max-Forwards: 99999999999999999999",
            Some("Max-Forwards: 18446744073709551614"),
        ),
        ("TRACE", "Max-Forwards: x", Some("Max-Forwards: x")),
        ("OPTIONS", "Max-Forwards: -5", Some("Max-Forwards: -5")),
        ("GET", "Max-Forwards: 5", Some("Max-Forwards: 5")),
        ("GET", "Max-Forwards: 0", Some("Max-Forwards: 0")),
        ("trace", "Max-Forwards: 5", Some("Max-Forwards: 5")),
    ];
    for (method, given, wanted) in table {
        let given = ["Host: c", given, "X: 1"];
        let head = forwarded("http://e", &request(method, &given), None);
        assert_eq!(head.get(2).map(String::as_str), wanted, "{method}");
        assert_eq!(head[3], "X: 1");
    }
    let given = ["Host: c", "Connection: Max-Forwards", "Max-Forwards: 5"];
    let head = forwarded("http://e", &request("TRACE", &given), None);
    assert!(!head.concat().contains("Max-Forwards"), "{head:?}");
}

#[test]
fn user_information_is_sent_unless_the_client_has_its_own() {
    let own = forwarded(
        "http://u:p@e",
        &request("GET", &["Host: c", "authorization: Bearer x"]),
        None,
    );
    assert!(own.contains(&"authorization: Bearer x".to_owned()));
    assert!(!own.iter().any(|line| line.contains("Basic")));
    let ours = forwarded("http://u:p@e", &request("GET", &["Host: c"]), None);
    assert!(ours.contains(&"Authorization: Basic dTpw".to_owned()));
}

#[test]
fn a_client_without_host_gets_one_and_hides_none() {
    let request = request_for("GET", &[], Version::Http10, None);
    assert_eq!(
        forwarded("http://e", &request, None),
        [
            "GET /t?q HTTP/1.1",
            "Host: e",
            "X-Forwarded-For: 10.0.0.1",
            "X-Forwarded-Proto: http",
            "Via: 1.0 balancing-reverse-proxy (x000000000001)"
        ]
    );
}

#[test]
fn the_host_that_the_client_asked_for_is_kept_on_demand() {
    type Row<'a> = (&'a [&'a str], Option<&'a str>, &'a [&'a str]);
    // A host that differs from the line's is that of an absolute-form target.
    let table: [Row<'_>; 5] = [
        (
            &["X: 1", "host: c:81"],
            Some("c:81"),
            &["X: 1", "host: c:81"],
        ),
        (&["Host: "], Some(""), &["Host: "]),
        (&[], Some("target"), &["Host: target"]),
        (
            &["Host: c", "X: 1"],
            Some("target:8"),
            &["Host: target:8", "X: 1"],
        ),
        (&[], None, &["Host: e:81"]),
    ];
    for (given, host, wanted) in table {
        let request = request_for("GET", given, Version::Http11, host);
        let url = "http://e:81".parse().unwrap();
        let rules = ForwardRules {
            host: HostRule::Client,
            ..rules()
        };
        let forwarded = lines(&request_head(&request, &url, &own(&[]), &rules, None));
        let start = [&["GET /t?q HTTP/1.1"][..], wanted, &OURS[..1]].concat();
        assert_eq!(forwarded[..start.len()], start);
        let told = forwarded
            .iter()
            .find_map(|line| line.strip_prefix("X-Forwarded-Host: "));
        assert_eq!(told, host);
    }
}

fn returned(status: u16, given: &[&str], framing: BodyFraming) -> Vec<String> {
    let response = ResponseHead::new(status, b"Fine", Version::Http11, headers(given));
    lines(&response_head(
        &response,
        framing,
        Persistence::Stays,
        &rules(),
        None,
    ))
}

const VIA: &str = "Via: 1.1 balancing-reverse-proxy (x000000000001)";

#[test]
fn a_response_is_framed_where_the_endpoint_framed_it() {
    let table: [(&[&str], BodyFraming, &[&str]); 6] = [
        (
            &["content-length: 5", "X: 1"],
            BodyFraming::Length(5),
            &["content-length: 5", "X: 1"],
        ),
        (
            &["Transfer-Encoding: chunked", "X: 1"],
            BodyFraming::Chunked,
            &["Transfer-Encoding: chunked", "X: 1"],
        ),
        (
            &["X: 1"],
            BodyFraming::Chunked,
            &["X: 1", "Transfer-Encoding: chunked"],
        ),
        (
            &["Transfer-Encoding: chunked", "Content-Length: 5"],
            BodyFraming::Chunked,
            &["Transfer-Encoding: chunked"],
        ),
        (&["Transfer-Encoding: chunked"], BodyFraming::Close, &[]),
        (
            &["Content-Length: 5", "Content-Length: 5"],
            BodyFraming::Length(5),
            &["Content-Length: 5"],
        ),
    ];
    for (given, framing, wanted) in table {
        assert_eq!(
            returned(200, given, framing),
            [&["HTTP/1.1 200 Fine"][..], wanted, &[VIA]].concat()
        );
    }
}

#[test]
fn without_a_body_the_length_says_what_it_would_be() {
    let given = ["Content-Length: 5", "Transfer-Encoding: chunked"];
    assert_eq!(
        returned(304, &given, BodyFraming::Bodiless),
        ["HTTP/1.1 304 Fine", "Content-Length: 5", VIA]
    );
    // RFC 9110 8.6: never in a 204.
    assert_eq!(
        returned(204, &given, BodyFraming::Bodiless),
        ["HTTP/1.1 204 Fine", VIA]
    );
}

#[test]
fn hop_by_hop_headers_of_a_response_stop_here() {
    let given = [
        "Connection: X-Named",
        "X-Named: 1",
        "Keep-Alive: timeout=5",
        "Upgrade: h2c",
        "Trailer: X-T",
        "Server: theirs",
        "Set-Cookie: a",
        "Set-Cookie: b",
    ];
    assert_eq!(
        returned(200, &given, BodyFraming::Length(0)),
        [
            "HTTP/1.1 200 Fine",
            "Server: theirs",
            "Set-Cookie: a",
            "Set-Cookie: b",
            "Content-Length: 0",
            VIA
        ]
    );
}

#[test]
fn bytes_beyond_ascii_pass_as_they_are() {
    let mut lines = headers(&["Host: c"]);
    lines.push(b"X-\x2a", b"\xff\x80 \xc3\xa9");
    let client = "::1".parse().unwrap();
    let request = RequestHead::new(
        "M-SEARCH",
        b"/\xe9?\xff",
        Version::Http11,
        None,
        lines,
        client,
    );
    let url = "http://e/b?k=1".parse().unwrap();
    assert_eq!(
        request_head(&request, &url, &own(&[]), &rules(), None),
        b"M-SEARCH /b/\xe9?k=1&\xff HTTP/1.1\r\nHost: e\r\nX-*: \xff\x80 \xc3\xa9\r\n\
          X-Forwarded-For: ::1\r\nX-Forwarded-Proto: http\r\n\
          Via: 1.1 balancing-reverse-proxy (x000000000001)\r\n\r\n"
    );
    let mut lines = headers(&[]);
    lines.push(b"X", b"\xff");
    let mut response = ResponseHead::new(200, b"\xe9", Version::Http10, lines);
    response.added.push(b"Y", b"\xfe");
    assert_eq!(
        response_head(&response, BodyFraming::Bodiless, Persistence::Close, &rules(), None),
        b"HTTP/1.1 200 \xe9\r\nX: \xff\r\nY: \xfe\r\nVia: 1.0 balancing-reverse-proxy (x000000000001)\r\n\
          Connection: close\r\n\r\n"
    );
}

#[test]
fn an_empty_forwarded_for_is_no_element() {
    let forwarded = forwarded(
        "http://e",
        &request("GET", &["Host: c", "X-Forwarded-For: "]),
        None,
    );
    assert!(forwarded.contains(&"X-Forwarded-For: 10.0.0.1".to_owned()));
}

#[test]
fn many_named_headers_are_all_removed_whatever_their_case() {
    let names: Vec<String> = (0..500).map(|number| format!("X-{number}")).collect();
    let mut lines = headers(&["Host: c"]);
    for name in &names {
        lines.push(b"Connection", name.to_lowercase().as_bytes());
    }
    for name in &names {
        lines.push(name.as_bytes(), b"1");
    }
    lines.push(b"X-500", b"kept");
    let client = "10.0.0.1".parse().unwrap();
    let host = Some(&b"client.example"[..]);
    let request = RequestHead::new("GET", b"/t?q", Version::Http11, host, lines, client);
    assert_eq!(
        forwarded("http://e", &request, None),
        [&["GET /t?q HTTP/1.1", "Host: e", "X-500: kept"][..], &OURS].concat()
    );
}

#[test]
fn an_http_1_0_client_is_told_what_becomes_of_its_connection() {
    let response = ResponseHead::new(200, b"", Version::Http11, Headers::new());
    for (persistence, wanted) in [
        (Persistence::Stays, None),
        (Persistence::KeepAlive, Some("Connection: keep-alive")),
        (Persistence::Close, Some("Connection: close")),
    ] {
        let head = lines(&response_head(
            &response,
            BodyFraming::Length(0),
            persistence,
            &rules(),
            None,
        ));
        let found = head.iter().find(|line| line.starts_with("Connection"));
        assert_eq!(found.map(String::as_str), wanted);
    }
}

#[test]
fn without_an_entry_via_is_what_others_have_written() {
    let given = ["Host: c", "Via: 1.0 a", "X: 1"];
    let url = "http://e".parse().unwrap();
    let rules = ForwardRules::default();
    let head = lines(&request_head(
        &request("GET", &given),
        &url,
        &own(&[]),
        &rules,
        None,
    ));
    let wanted = [
        &["GET /t?q HTTP/1.1", "Host: e", "Via: 1.0 a", "X: 1"][..],
        &OURS[..3],
    ];
    assert_eq!(head, wanted.concat());
    let response = ResponseHead::new(200, b"Fine", Version::Http11, headers(&["Via: 1.1 b"]));
    let framing = BodyFraming::Length(0);
    let head = response_head(&response, framing, Persistence::Stays, &rules, None);
    let wanted = ["HTTP/1.1 200 Fine", "Via: 1.1 b", "Content-Length: 0"];
    assert_eq!(lines(&head), wanted);
}

#[test]
fn scheme_and_host_that_a_request_tells_are_kept_on_demand() {
    let (host, proto) = (OURS[1], OURS[2]);
    let table: [(&[&str], &[&str], &[&str]); 7] = [
        (
            &["x-forwarded-proto: https", "X: 1"],
            &["x-forwarded-proto: https", "X: 1"],
            &[host],
        ),
        (
            &["X-Forwarded-Host: f", "X: 1"],
            &["X-Forwarded-Host: f", "X: 1"],
            &[proto],
        ),
        (
            &["X-Forwarded-Host: f, g", "X-Forwarded-Proto: https"],
            &["X-Forwarded-Host: f, g", "X-Forwarded-Proto: https"],
            &[],
        ),
        (
            &["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"],
            &["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"],
            &[host],
        ),
        (
            &["X-Forwarded-Host: ", "X-Forwarded-Proto: "],
            &[],
            &[host, proto],
        ),
        (&["X: 1"], &["X: 1"], &[host, proto]),
        // For this hop only.
        (
            &["Connection: x-forwarded-proto", "X-Forwarded-Proto: https"],
            &[],
            &[host, proto],
        ),
    ];
    let url = "http://e".parse().unwrap();
    let rules = ForwardRules {
        keep_forwarded: true,
        ..rules()
    };
    for (given, kept, added) in table {
        let request = request("GET", &[&["Host: c"], given].concat());
        let head = lines(&request_head(&request, &url, &own(&[]), &rules, None));
        let start = ["GET /t?q HTTP/1.1", "Host: e"];
        let wanted = [&start[..], kept, &OURS[..1], added, &OURS[3..]].concat();
        assert_eq!(head, wanted, "{given:?}");
    }
}

#[test]
fn locations_are_rewritten_on_demand_and_nothing_else_is() {
    let given = [
        "location: http://e/api/a",
        "Content-Location: /api/b",
        "Location: http://other/c",
        "Link: <http://e/api/d>",
        "Refresh: 1; url=http://e/api/e",
    ];
    let response = ResponseHead::new(201, b"Fine", Version::Http11, headers(&given));
    let request = request("GET", &["Host: client.example"]);
    let url = "http://e/api".parse().unwrap();
    let location = LocationRewrite::new(&request, &url, false);
    let head = |location| {
        let framing = BodyFraming::Length(0);
        let head = response_head(&response, framing, Persistence::Stays, &rules(), location);
        lines(&head)[1..6].to_vec()
    };
    assert_eq!(head(None), given);
    let rewritten = ["location: http://client.example/a", "Content-Location: /b"];
    assert_eq!(head(Some(location)), [&rewritten[..], &given[2..]].concat());
    let named = ["Connection: Location", "Location: http://e/api/a"];
    let response = ResponseHead::new(201, b"", Version::Http11, headers(&named));
    let framing = BodyFraming::Length(0);
    let head = response_head(
        &response,
        framing,
        Persistence::Stays,
        &rules(),
        Some(location),
    );
    assert!(!lines(&head).concat().contains("http://"));
}

#[test]
fn endpoints_are_asked_not_to_encode_bodies_on_demand() {
    let url = "http://e".parse().unwrap();
    let rules = ForwardRules {
        only_identity: true,
        ..rules()
    };
    for given in [
        &[][..],
        &["Accept-Encoding: gzip, br"],
        &["accept-encoding: gzip", "Accept-Encoding: identity;q=0"],
        &["Connection: Accept-Encoding", "Accept-Encoding: gzip"],
    ] {
        let request = request("GET", &[&["Host: c"], given].concat());
        let head = lines(&request_head(&request, &url, &own(&[]), &rules, None));
        let start = ["GET /t?q HTTP/1.1", "Host: e", "Accept-Encoding: identity"];
        assert_eq!(head, [&start[..], &OURS].concat(), "{given:?}");
    }
    // An endpoint may have a line for it.
    let request = request("GET", &["Host: c", "Accept-Encoding: br"]);
    let own = own(&["Accept-Encoding: gzip"]);
    let head = lines(&request_head(&request, &url, &own, &rules, None));
    assert_eq!(head[2..4], ["Accept-Encoding: gzip", OURS[0]]);
}
