//! Requests that come back to the process that has forwarded them, and chains of processes, which
//! are no loop.

use crate::common::{
    backend::{Backend, Endpoint, status},
    proxy::{Builder, Proxy},
    refusing::Refusing,
    without_id,
};
use std::net::{SocketAddr, TcpListener};

const SAME_PROCESS: &str = "request loop: this process has forwarded the request before (Via)";

/// An address for a proxy that is to be its own endpoint. No other test listens on this host, so
/// the port stays free.
pub fn own_address(host: &str) -> SocketAddr {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

type Mode = fn(&[&dyn Endpoint]) -> Builder;

#[test]
fn a_proxy_that_is_its_own_endpoint_ends_the_loop_at_the_first_turn() {
    let modes: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];
    for mode in modes {
        let address = own_address("127.11.0.1");
        let itself = format!("http://{address}");
        let proxy = mode(&[&itself])
            .flag("-address", address.to_string())
            .flag("-workers", "2")
            .start();
        // With two workers a second turn would be answered 503.
        let answer = proxy.get("/alone");
        assert_eq!(answer.status(), 508);
        assert_eq!(
            answer.header("proxy-status"),
            Some("balancing-reverse-proxy; error=proxy_loop_detected; received-status=508")
        );
        let line = proxy.wait_for_log("refused a request of ");
        assert!(
            line.contains(&format!(": {SAME_PROCESS} (508) (GET /alone of ")),
            "{line}"
        );
        proxy.wait_for_log("status 508");
        assert_eq!(proxy.log_with("refused a request of ").len(), 1);
    }
}

#[test]
fn an_endpoint_that_is_the_proxy_itself_costs_the_others_nothing() {
    let modes: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];
    for mode in modes {
        let well = Backend::always(status(200).body("well"));
        let address = own_address("127.11.0.2");
        let itself = format!("http://{address}");
        let proxy = mode(&[&itself, &well])
            .flag("-address", address.to_string())
            .flag("-workers", "2")
            .start();
        assert_eq!(proxy.get("/").body(), "well");
        assert_eq!(well.calls(), 1);
    }
}

#[test]
fn a_request_with_this_process_s_id_is_refused_however_via_is_written() {
    let mut refusing = Refusing::new();
    refusing.serves("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let request = refusing.endpoint().request();
    let ours = request.header("via").unwrap();
    let id = ours.strip_prefix("1.1 balancing-reverse-proxy ").unwrap();
    for via in [
        format!("Via: {ours}\r\n"),
        format!("via: 1.0 first (a, b), {ours}, 1.1 last\r\n"),
        format!("Via: 1.0 first\r\nX-A: b\r\nVIA: {ours}\r\nVia: 1.1 last\r\n"),
        format!("Via: hTTp/1.1 Balancing-Reverse-Proxy:8080 {id}\r\n"),
    ] {
        refusing.refuses(508, format!("GET / HTTP/1.1\r\nHost: h\r\n{via}\r\n"));
        refusing.refuses(508, format!("HEAD / HTTP/1.0\r\n{via}\r\n"));
        let post = format!("POST / HTTP/1.1\r\nHost: h\r\n{via}Content-Length: 4\r\n\r\nbody");
        let answer = refusing.refuses_once(508, post.as_bytes());
        assert_eq!(answer.body(), format!("{SAME_PROCESS}\n"));
        assert_eq!(
            answer.header("proxy-status"),
            Some("balancing-reverse-proxy; error=proxy_loop_detected")
        );
    }
    for via in [
        "1.1 other (x)",
        "1.1 balancing-reverse-proxy (x000000000000)",
    ] {
        refusing.serves(format!("GET / HTTP/1.1\r\nHost: h\r\nVia: {via}\r\n\r\n"));
    }
    refusing.finish();
}

#[test]
fn several_processes_in_a_row_are_no_loop() {
    let backend = Backend::always(status(200).body("ok"));
    let last = Proxy::serial(&[&backend]).start();
    let middle = Proxy::serial(&[&format!("http://{}", last.address)]).start();
    let first = Proxy::serial(&[&format!("http://{}", middle.address)]).start();
    for _ in 0..3 {
        let answer = first.get("/");
        assert_eq!(answer.body(), "ok");
        let returned = answer.head.all("via");
        assert_eq!(returned.len(), 3);
    }
    let requests = backend.requests();
    let entries = requests[0].all("via");
    let [first, middle, last] = entries[..] else {
        panic!("{entries:?}");
    };
    assert!(first != middle && middle != last && first != last);
    for entry in [first, middle, last] {
        assert_eq!(without_id(entry), "1.1 balancing-reverse-proxy");
    }
    // A process has one id.
    assert_eq!(requests[1].all("via"), entries);
}

#[test]
fn more_than_eight_entries_of_this_proxy_are_a_loop_whatever_their_ids() {
    let mut refusing = Refusing::new();
    let with = |number: usize, entry: &str| {
        let via = vec![entry; number].join(", ");
        format!("GET / HTTP/1.1\r\nHost: h\r\nVia: {via}\r\n\r\n")
    };
    for entry in [
        "1.1 balancing-reverse-proxy",
        "1.1 balancing-reverse-proxy (x000000000000)",
    ] {
        refusing.serves(with(8, entry));
        refusing.refuses(508, with(9, entry));
    }
    refusing.serves(with(100, "1.1 other"));
    refusing.finish();
}
