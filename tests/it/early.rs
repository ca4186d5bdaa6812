//! Answers that come while the request is still being sent.

use crate::common::{
    DEADLINE, Gate, Pattern,
    backend::{Act, Backend, raw, status, wait},
    client::End,
    eventually,
    proxy::Proxy,
    text, uninterrupted,
};
use socket2::SockRef;
use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

const MIB: usize = 1 << 20;

/// More than the buffers of both sockets together take.
const UPLOAD: usize = 16 * MIB;

const LIMIT_KIB: u64 = 48 * 1024;

/// An endpoint that goes its own way on its one connection, from the end of the head on.
fn by_hand<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> io::Result<T> + Send + 'static,
) -> (String, JoinHandle<io::Result<T>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        serve(stream)
    });
    (url, served)
}

#[test]
fn an_answer_counts_though_the_endpoint_reads_no_more() {
    let bodies = [
        status(200).body("early"),
        status(200).chunked(&[b"ea", b"rly"]),
        status(200)
            .body("early")
            .preceded_by("HTTP/1.1 100 Continue\r\n\r\n"),
        // It is not the interim answer that decides.
        status(413)
            .body("early")
            .preceded_by("HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    for step in bodies {
        let over = Gate::closed();
        let early = Backend::replies([step.early().then([wait(&over)]), status(200).body("after")]);
        let other = Backend::untouched();
        let proxy = Proxy::serial(&[&early, &other])
            .flag("-per-try-timeout", "10s")
            .start();
        assert_eq!(proxy.post("/", Pattern::bytes(UPLOAD)).body(), "early");
        // What was not sent can't be made up for on this connection.
        over.open();
        assert_eq!(proxy.get("/after").body(), "after");
        assert_eq!(early.connections(), 2);
    }
}

#[test]
fn an_endpoint_that_answers_at_once_and_reads_then_gets_the_whole_body() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nearly",
    ] {
        let (url, read) = by_hand(move |mut stream| {
            stream.write_all(answer.as_bytes())?;
            let mut body = vec![0; UPLOAD];
            stream.read_exact(&mut body)?;
            Ok(body)
        });
        let proxy = Proxy::serial(&[&url]).start();
        let body = Pattern::bytes(UPLOAD);
        assert_eq!(proxy.post("/", &body).body(), "early");
        assert!(read.join().unwrap().unwrap() == body, "{answer}");
    }
}

#[test]
fn a_chunked_answer_whose_head_comes_alone_is_relayed_whatever_the_body_does() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    // By then the proxy has met a full socket, and has read what there is.
    const READ_FIRST: usize = 8 * MIB;
    const REST: usize = UPLOAD - READ_FIRST;
    // The rest of the body is read behind the answer, or echoed.
    for echoes in [false, true] {
        let over = Gate::closed();
        let until = over.clone();
        let (url, served) = by_hand(move |mut stream| {
            stream.write_all(HEAD)?;
            let mut buffer = vec![0; 64 * 1024];
            let mut body = Vec::new();
            (&stream).take(READ_FIRST as u64).read_to_end(&mut body)?;
            if !echoes {
                stream.write_all(b"5\r\nearly\r\n")?;
            }
            let mut left = REST;
            while left > 0 {
                let length = uninterrupted(|| stream.read(&mut buffer))?;
                assert!(length > 0, "{left} bytes are missing");
                left -= length;
                if echoes {
                    stream.write_all(format!("{length:x}\r\n").as_bytes())?;
                    stream.write_all(&buffer[..length])?;
                    stream.write_all(b"\r\n")?;
                }
            }
            stream.write_all(b"0\r\n\r\n")?;
            // A close would end the answer in another way.
            until.wait();
            Ok(())
        });
        let proxy = Proxy::serial(&[&url])
            .flag("-per-try-timeout", "10s")
            .start();
        let mut client = proxy.client();
        client.request("POST /", &format!("Content-Length: {UPLOAD}\r\n"));
        client.send_pattern(UPLOAD as u64);
        let answer = client.counted_response();
        let wanted = if echoes { REST as u64 } else { 5 };
        assert_eq!((answer.end, answer.length), (End::Complete, wanted));
        over.open();
        served.join().unwrap().unwrap();
    }
}

#[test]
fn an_endless_answer_to_a_body_that_is_not_read_is_relayed_and_not_kept() {
    const MUCH: u64 = 100 << 20;
    let over = Gate::closed();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let flood = raw(head)
        .early()
        .then([Act::GenerateChunked(MUCH), wait(&over)]);
    let backend = Backend::replies([flood]);
    let proxy = Proxy::serial(&[&backend])
        .flag("-per-try-timeout", "10s")
        .start();
    let mut client = proxy.client();
    client.send_body("POST", "/", &Pattern::bytes(UPLOAD));
    // Before it is read: the request's own file is all there is.
    eventually(
        "files",
        || deleted_files(proxy.pid()),
        |files| files.len() == 1,
    );
    let answer = client.counted_response();
    assert_eq!((answer.end, answer.length), (End::Complete, MUCH));
    assert!(answer.patterned);
    let peak = proxy.peak_memory_kib();
    assert!(peak < LIMIT_KIB, "{peak} KiB");
    over.open();
}

/// The files without a name that a process has open.
fn deleted_files(pid: u32) -> Vec<String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| path.ends_with("(deleted)"))
        .collect()
}

#[test]
fn an_endpoint_may_echo_more_than_anybody_keeps() {
    const MUCH: usize = 50 * MIB;
    for framing in ["Content-Length: 52428800\r\n", "Connection: close\r\n"] {
        let (url, echoed) = by_hand(move |mut stream| {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n").as_bytes())?;
            let mut buffer = vec![0; 64 * 1024];
            let mut left = MUCH;
            while left > 0 {
                let length = uninterrupted(|| stream.read(&mut buffer))?;
                assert!(length > 0, "{left} bytes are missing");
                stream.write_all(&buffer[..length])?;
                left -= length;
            }
            Ok(())
        });
        let proxy = Proxy::serial(&[&url]).start();
        let mut client = proxy.client();
        client.request("POST /", &format!("Content-Length: {MUCH}\r\n"));
        client.send_pattern(MUCH as u64);
        let answer = client.counted_response();
        assert_eq!((answer.end, answer.length), (End::Complete, MUCH as u64));
        assert!(answer.patterned);
        echoed.join().unwrap().unwrap();
        let peak = proxy.peak_memory_kib();
        assert!(peak < LIMIT_KIB, "{peak} KiB");
    }
}

#[test]
fn an_end_or_a_reset_while_the_body_is_sent_is_what_it_was() {
    let table = [
        ("Content-Length: 5\r\n", Act::Close, (200, End::Complete)),
        ("Connection: close\r\n", Act::Close, (200, End::Complete)),
        // Short enough to be a failed attempt: the client has had nothing yet.
        ("Content-Length: 6\r\n", Act::Close, (500, End::Complete)),
        (
            "Content-Length: 6000000\r\n",
            Act::Close,
            (200, End::Truncated),
        ),
        (
            "Content-Length: 6000000\r\n",
            Act::Reset,
            (200, End::Truncated),
        ),
        ("Connection: close\r\n", Act::Reset, (200, End::Truncated)),
    ];
    for (framing, end, wanted) in table {
        let resets = matches!(end, Act::Reset);
        let over = Gate::closed();
        let until = over.clone();
        let (url, served) = by_hand(move |mut stream| {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\nearly").as_bytes())?;
            if resets {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            } else {
                stream.shutdown(Shutdown::Write)?;
                // Closing with unread bytes would be a reset, too.
                until.wait();
            }
            Ok(())
        });
        let proxy = Proxy::serial(&[&url]).start();
        let mut client = proxy.client();
        client.send_body("POST", "/", &Pattern::bytes(UPLOAD));
        let answer = client.response();
        let got = (answer.status(), answer.end);
        assert_eq!(got, wanted, "{framing:?} {resets}");
        if got.0 == 200 {
            assert_eq!(text(&answer.bytes), "early");
        }
        over.open();
        served.join().unwrap().unwrap();
    }
}
