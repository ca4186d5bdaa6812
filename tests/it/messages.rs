//! Messages for a new user: what is probably wrong, in words that name what to change.

use crate::common::{
    backend::{Backend, status},
    proxy::{Proxy, command},
    text,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Stdio,
    thread,
};

/// A server of another protocol: it answers the first bytes that come with these, and closes when
/// its peer does.
fn other_protocol(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((mut stream, _)) = listener.accept() {
            // The peer may have gone by then.
            if matches!(stream.read(&mut buffer), Ok(1..)) && stream.write_all(answer).is_ok() {
                while matches!(stream.read(&mut buffer), Ok(1..)) {}
            }
        }
    });
    address
}

#[test]
fn endpoint_of_another_protocol_is_named_with_what_it_may_be() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";
    // handshake_failure, fatal; protocol_version of a server that knows TLS 1.3.
    const OLD_ALERT: &[u8] = b"\x15\x03\x01\0\x02\x02\x28";
    const ALERT: &[u8] = b"\x15\x03\x03\0\x02\x02\x46";
    const HTTP_2: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x10\0\0\0";
    let no_tls = "the endpoint does not speak TLS (is it http://?)";
    let tls = "the endpoint speaks TLS (is it https://?)";
    for (scheme, answer, expected) in [
        ("https", HTTP, no_tls),
        ("https", SSH, no_tls),
        ("http", OLD_ALERT, tls),
        ("http", ALERT, tls),
        ("http", SSH, "no HTTP/1 answer"),
        ("http", HTTP_2, "no HTTP/1 answer"),
        (
            "http",
            b"HTTP/1.1 OK\r\n\r\n",
            "no valid HTTP answer: invalid response status",
        ),
    ] {
        let url = format!("{scheme}://{}", other_protocol(answer));
        let proxy = Proxy::serial(&[&url]).start();
        assert_eq!(proxy.get("/").status(), 500);
        let line = proxy.wait_for_log("endpoint 0: http");
        let start = format!("endpoint 0: {url}: {expected} (GET / of 127.0.0.1:");
        assert!(line.starts_with(&start), "{line}\n{start}");
    }
}

#[test]
fn too_few_descriptors_for_one_connection_end_the_proxy_at_start() {
    for limit in [14, 23] {
        let output = Proxy::serial(&[&"http://127.0.0.1:9".to_owned()])
            .descriptors(limit)
            .command()
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(
            text(&output.stderr),
            format!(
                "cannot start: 24 descriptors are the least, and there are {limit} (ulimit -n)\n"
            )
        );
        assert_eq!(output.status.code(), Some(1));
    }
    let backend = Backend::replies([status(200).body("served")]);
    let proxy = Proxy::serial(&[&backend]).descriptors(24).start();
    assert_eq!(proxy.get("/").body(), "served");
}

#[test]
fn wrong_command_lines_are_answered_with_what_would_be_right() {
    let endpoint = "-endpoints=http://127.0.0.1:9";
    for (words, expected) in [
        (&["-bogus"][..], "unknown flag -bogus"),
        (
            &["-endpoints", "localhost:8000"],
            "-endpoints: \"localhost:8000\" has no scheme (write \"http://localhost:8000\")",
        ),
        (
            &["-endpoints"],
            "-endpoints: the value is missing (write -endpoints URLS)",
        ),
        (
            &[endpoint, "http://127.0.0.1:10"],
            "stray argument \"http://127.0.0.1:10\" (the URLS of -endpoints are separated by \
             commas, without blanks)",
        ),
        (
            &[endpoint, "-address", "8080"],
            "-address: \"8080\" has no port (write :8080, localhost:8080 or [::1]:8080)",
        ),
        (
            &[endpoint, "-hedge-after", "50"],
            "-hedge-after: \"50\" is a duration without a unit (write 50ms, p95, or 0 for no \
             hedging)",
        ),
        (
            &[endpoint, "-hedge-after", "95%"],
            "-hedge-after: \"95%\" is not a duration (write 50ms, p95, or 0 for no hedging)",
        ),
        (
            &[endpoint, "-drain", "5"],
            "-drain: \"5\" is a duration without a unit (write 5s, 300ms, 1m30s, or 0 for no \
             waiting)",
        ),
        (
            &[endpoint, "-terminal-responses", "201"],
            "-terminal-responses: part \"201\" of \"201\" is not a round hundred (a range is \
             written 201-201)",
        ),
        (
            &[endpoint, "-max-body", "5MB"],
            "-max-body: \"5MB\" is not a size (write a whole number of bytes, or one with KiB, \
             MiB or GiB)",
        ),
        (
            &[endpoint, "-client-cert", "client.pem"],
            "-client-key is missing (-client-cert needs it; the file may be the same)",
        ),
        (
            &[endpoint, "-log", "true"],
            "-log is ambiguous, it may be any of ",
        ),
    ] {
        let output = command().args(words).stdin(Stdio::null()).output().unwrap();
        let stderr = text(&output.stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{words:?}: {stderr}");
        assert!(lines[0].starts_with(expected), "{words:?}: {stderr}");
        assert_eq!(
            lines[1],
            "run 'balancing-reverse-proxy -help' for the usage"
        );
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
    }
}
