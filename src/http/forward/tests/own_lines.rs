//! Header lines of the endpoint.

use super::*;

#[test]
fn lines_of_the_endpoint_replace_those_of_the_client() {
    let table: [(&[&str], &[&str], &[&str]); 8] = [
        (
            &["X-Key: 1", "A: 2", "x-key: 3", "x-KEY: 4"],
            &["X-key: own"],
            &["Host: e", "A: 2", "X-key: own"],
        ),
        (
            &["A: 1"],
            &["X-Key: 1", "X-Key: 2"],
            &["Host: e", "A: 1", "X-Key: 1", "X-Key: 2"],
        ),
        // Without a value: removed.
        (&["Cookie: 1", "A: 2"], &["cookie:"], &["Host: e", "A: 2"]),
        (
            &["Host: client.example", "A: 1"],
            &["Host: own:1"],
            &["Host: own:1", "A: 1"],
        ),
        (&[], &["host: own"], &["Host: own"]),
        // The user information comes last.
        (
            &["Authorization: client"],
            &["Authorization: Bearer own"],
            &["Host: e", "Authorization: Bearer own"],
        ),
        (&["A: 1"], &["Authorization:"], &["Host: e", "A: 1"]),
        // A client cannot remove them.
        (
            &["Connection: X-Key, A", "A: 1", "X-Key: 2"],
            &["X-Key: own"],
            &["Host: e", "X-Key: own"],
        ),
    ];
    for (given, lines_of_its_own, wanted) in table {
        let request = request("GET", given);
        let url = "http://me:pw@e".parse().unwrap();
        let own = own(lines_of_its_own);
        let mut head = lines(&request_head(&request, &url, &own, &rules(), None));
        if !own.replace(b"Authorization") {
            let basic = head
                .iter()
                .position(|line| line.starts_with("Authorization: Basic "));
            head.remove(basic.unwrap());
        }
        let wanted = [&["GET /t?q HTTP/1.1"][..], wanted, &OURS].concat();
        assert_eq!(head, wanted, "{lines_of_its_own:?}");
    }
}

#[test]
fn trace_gets_no_value_of_the_endpoint_but_its_host() {
    let of_endpoint = own(&["Host: own", "X-Key: own", "Cookie:"]);
    let url = "http://me:pw@e/base?k=1".parse().unwrap();
    let request = request("TRACE", &["X-Key: 1", "A: 2", "Cookie: 3"]);
    assert_eq!(
        lines(&request_head(&request, &url, &of_endpoint, &rules(), None)),
        [
            &["TRACE /base/t?k=1&q HTTP/1.1", "Host: own", "A: 2"][..],
            &OURS
        ]
        .concat()
    );
}

#[test]
fn lines_of_the_endpoint_stand_in_for_ours() {
    let request = request(
        "GET",
        &["X-Forwarded-Proto: wss", "X-Forwarded-Host: forged"],
    );
    let own = own(&["X-Forwarded-Proto: https", "X-Forwarded-Host:"]);
    for keep_forwarded in [false, true] {
        let rules = ForwardRules {
            keep_forwarded,
            ..ForwardRules::default()
        };
        let url = "http://e".parse().unwrap();
        assert_eq!(
            lines(&request_head(&request, &url, &own, &rules, None)),
            [
                "GET /t?q HTTP/1.1",
                "Host: e",
                "X-Forwarded-Proto: https",
                "X-Forwarded-For: 10.0.0.1",
            ]
        );
    }
}
