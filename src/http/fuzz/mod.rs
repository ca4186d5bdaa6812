//! Generated and mutated requests: what the parser and the chunked decoder accept means the
//! same to other parsers.
//!
//! The inputs come from a generator with a fixed seed. Each is read as a connection reads
//! it, one request after the other, at once and in random pieces: the outcome must be the
//! same. Each accepted request is then given to httparse, to Node's `http_parser` and, if it is
//! chunked, to `chunked_transfer`, in three forms:
//!
//! - as it came, with what follows it: accepted but for a few known differences, with the
//!   same meaning and the same end;
//! - serialised anew: accepted, with the same meaning;
//! - as an endpoint gets it: accepted as exactly one request.
//!
//! `HTTP_FUZZ_INPUTS` is the number of inputs. A million take half a minute:
//! `HTTP_FUZZ_INPUTS=1000000 cargo test --release --lib http::fuzz -- --nocapture`

mod input;
mod meaning;
mod reader;

use self::input::{Dice, input};
use self::meaning::{Replaced, by_httparse, by_node, canonical, meaning};
use self::reader::{Accepted, read};
use super::endpoint_config::HeaderLines;
use super::forward::{ForwardRules, request_head};
use super::request::{Framing, Persistence, Version};
use super::via::ViaEntry;
use crate::http::endpoint_url::EndpointUrl;

/// As many as take a debug build about a second.
const INPUTS: u64 = 7_500;

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// How often something was compared, so that the loop can't run empty.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    chunked: u64,
    rejected: u64,
    raw_by_httparse: u64,
    raw_by_node: u64,
}

/// Compares one accepted request with what other parsers make of it.
fn compare(bytes: &[u8], accepted: &Accepted, endpoint: &EndpointUrl, counts: &mut Counts) {
    let head = &accepted.request.head;
    counts.requests += 1;
    counts.chunked += u64::from(accepted.request.framing == Framing::Chunked);

    let replaced = Replaced::of(accepted);
    let node = |bytes: &[u8], head_length: usize| {
        by_node(&replaced.bytes(bytes, head_length, head.method()))
    };

    // As it came, with what follows it. The target may be in absolute form there.
    let raw = &bytes[accepted.start..];
    let length = accepted.end - accepted.start;
    let (raw_head, raw_body) = raw[..length].split_at(accepted.body - accepted.start);
    assert_has_plain_lines(raw_head);
    match by_httparse(raw) {
        Some(found) => {
            counts.raw_by_httparse += 1;
            assert!(found.target.0.ends_with(origin_as_sent(head.target())));
            let wanted = meaning(accepted, &found.target.0, length);
            assert_eq!(found, wanted, "httparse, as it came");
        }
        // Extensions and trailers are more than `chunked_transfer` takes.
        None => assert!(
            accepted.request.framing == Framing::Chunked || !is_usual(raw_head),
            "httparse rejects it as it came"
        ),
    }
    match node(raw, raw_head.len()) {
        Some((found, keeps_alive)) => {
            counts.raw_by_node += 1;
            let wanted = replaced.meaning(meaning(accepted, &found.target.0, length));
            assert_eq!(found, wanted, "Node, as it came");
            // Of HTTP/1.0's lists it does not know those that begin with an empty element.
            let closes = head.version() == Version::Http11 && !keeps_alive;
            let persistence = accepted.request.persistence;
            assert!(!closes || persistence == Persistence::Close, "Node closes");
        }
        // It knows no tab behind a chunk's size, and counts the lengths in trailers, too.
        None => assert!(
            raw_body.contains(&b'\t') || has_length(raw_body),
            "Node rejects it as it came"
        ),
    }

    let anew = canonical(accepted);
    let wanted = || meaning(accepted, head.target(), anew.len());
    if std::str::from_utf8(head.target()).is_ok() {
        assert_eq!(by_httparse(&anew), Some(wanted()), "httparse, anew");
    }
    // Ourselves, too.
    let (again, rejection) = read(&anew, &[anew.len()]);
    assert!(rejection.is_none() && again.len() == 1, "ourselves, anew");
    let found = meaning(&again[0], again[0].request.head.target(), again[0].end);
    assert_eq!(found, wanted(), "ourselves, anew");
    assert_eq!(again[0].request.framing, accepted.request.framing);
    assert_eq!(again[0].request.persistence, accepted.request.persistence);
    let found = node(&anew, again[0].body).map(|(meaning, _)| meaning);
    assert_eq!(found, Some(replaced.meaning(wanted())), "Node, anew");

    // No endpoint gets the asterisk form.
    if head.target() != b"*" {
        compare_forwarded(accepted, endpoint, &replaced);
    }
}

/// The same of the request as an endpoint gets it.
fn compare_forwarded(accepted: &Accepted, endpoint: &EndpointUrl, replaced: &Replaced) {
    let head = &accepted.request.head;
    let data = accepted.data();
    let announced = accepted.request.framing != Framing::None;
    let announced = announced.then_some(data.len() as u64);
    let mut forwarded = request_head(head, endpoint, &HeaderLines::default(), &rules(), announced);
    let head_length = forwarded.len();
    forwarded.extend_from_slice(&data);
    let forwarded_anew = replaced.bytes(&forwarded, head_length, head.method());
    let (found, _) = by_node(&forwarded_anew).expect("an endpoint gets a request");
    let shift = replaced.method.len().wrapping_sub(head.method().len());
    assert_eq!(found.length, forwarded.len().wrapping_add(shift));
    assert_eq!(found.body.0, data);
    assert!(found.target.0.starts_with(b"/base"));
    let count = |name: &str| {
        let lines = found.headers.iter();
        let lines = lines.filter(|line| line.0.0.eq_ignore_ascii_case(name.as_bytes()));
        lines.count()
    };
    assert_eq!((count("Host"), count("Transfer-Encoding")), (1, 0));
    assert!(count("Content-Length") <= 1);
}

fn rules() -> ForwardRules {
    ForwardRules {
        via: Some(ViaEntry::new(1)),
        ..ForwardRules::default()
    }
}

fn has_length(body: &[u8]) -> bool {
    let name = b"Content-Length";
    let mut words = body.windows(name.len());
    words.any(|word| word.eq_ignore_ascii_case(name))
}

/// Whether a head has nothing that httparse rejects: a target that is not UTF-8, HTTP/1.2
/// and above.
fn is_usual(head: &[u8]) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > 1).unwrap();
    let version = line.ends_with(b" HTTP/1.0\r") || line.ends_with(b" HTTP/1.1\r");
    version && std::str::from_utf8(line).is_ok()
}

/// Whether every line of a head ends with CRLF, no other one begins with white space, and there is
/// no other control character than HTAB. Other parsers are more lenient.
fn assert_has_plain_lines(head: &[u8]) {
    let text = head.escape_ascii();
    let begin = head
        .iter()
        .position(|byte| !b"\r\n".contains(byte))
        .unwrap();
    let lines = head[begin..]
        .strip_suffix(b"\r\n\r\n")
        .expect("an empty line");
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!matches!(line, [] | [b' ' | b'\t', ..]), "{text}");
        let is_bad = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        assert!(!line.iter().any(is_bad), "{text}");
    }
    let bare = |end: &[u8]| matches!(end, [before, b'\n'] if *before != b'\r');
    assert!(!head[begin..].windows(2).any(bare), "{text}");
}

/// The origin form without a slash that the absolute form has left out.
fn origin_as_sent(target: &[u8]) -> &[u8] {
    match target {
        b"/" => b"",
        [b'/', rest @ ..] if rest.starts_with(b"?") => rest,
        _ => target,
    }
}

fn number_of_inputs() -> u64 {
    let number = std::env::var("HTTP_FUZZ_INPUTS");
    number.map_or(INPUTS, |number| {
        number.parse().expect("HTTP_FUZZ_INPUTS is no number")
    })
}

#[test]
fn what_is_accepted_means_the_same_to_other_parsers() {
    let mut dice = Dice(SEED);
    let mut counts = Counts::default();
    let endpoint = "http://e/base?k=1".parse().unwrap();
    let number = number_of_inputs();
    for index in 0..number {
        let bytes = input(&mut dice);
        let mut ends: Vec<_> = (0..dice.roll(8)).map(|_| dice.roll(bytes.len())).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (accepted, rejection) = read(&bytes, &[bytes.len()]);
            let (in_pieces, rejection_in_pieces) = read(&bytes, &ends);
            assert_eq!(rejection, rejection_in_pieces);
            assert_eq!(accepted.len(), in_pieces.len());
            for (one, other) in accepted.iter().zip(&in_pieces) {
                assert_eq!(
                    (one.start, one.body, one.end),
                    (other.start, other.body, other.end)
                );
                let target = one.request.head.target();
                let (one, other) = (meaning(one, target, 0), meaning(other, target, 0));
                assert_eq!(one, other);
            }
            for request in &accepted {
                compare(&bytes, request, &endpoint, &mut counts);
            }
            counts.rejected += u64::from(rejection.is_some());
        }));
        if let Err(panic) = checked {
            println!(
                "input {index}, in pieces that end at {ends:?}: {}",
                bytes.escape_ascii()
            );
            std::panic::resume_unwind(panic);
        }
    }
    println!("{number} inputs: {counts:?}");
    // Both outcomes are frequent, and the other parsers take most of what is accepted.
    assert!(counts.requests > number && counts.rejected > number / 2);
    assert!(counts.chunked > counts.requests / 5);
    assert!(counts.raw_by_httparse > counts.requests / 2);
    assert!(counts.raw_by_node > counts.requests / 10 * 9);
}
