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

use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};

use http_muncher::{Parser, ParserHandler};

use super::chunked::{ChunkedDecoder, Decoded};
use super::forward::{HostRule, request_head};
use super::header::trim;
use super::request::{Framing, Persistence, Rejection, RequestLimits, ValidatedRequest, Version};
use super::request_parser::RequestParser;
use crate::endpoint_url::EndpointUrl;

/// As many as take a debug build about two seconds.
const INPUTS: u64 = 15_000;

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

const LIMITS: RequestLimits = RequestLimits {
    head: 2048,
    body: 4096,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A generator of the same numbers every time (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.roll(number) == 0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }

    /// Mostly the first part of the items, which is sound, and seldom the rest.
    fn pick_sound<T: Copy>(&mut self, sound: &[T], odd: &[T]) -> T {
        if self.one_in(100) {
            self.pick(odd)
        } else {
            self.pick(sound)
        }
    }
}

const METHODS: [&str; 8] = [
    "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
];

/// One or more requests, most of them sound, and some with a few things done to them.
fn input(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=dice.roll(3) {
        request(dice, &mut bytes);
    }
    if dice.one_in(2) {
        for _ in 0..=dice.roll(3) {
            mutate(dice, &mut bytes);
        }
    }
    // What follows must never be taken for a part of what is in front of it.
    bytes.extend_from_slice(b"GET /last HTTP/1.1\r\nHost: last\r\n\r\n");
    bytes
}

fn request(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let odd_targets: [&[u8]; 7] = [b"*", b"", b"a", b"/a b", b"/#", b"http:///", b"http://u@h/"];
    let targets: [&[u8]; 8] = [
        b"/",
        b"/a?b=c",
        b"//x/../%2F?",
        b"/\xe9\xff",
        b"/\xc3\xa9",
        b"http://t/p",
        b"HTTPS://t:1?q",
        b"/\"<>{|}",
    ];
    let odd_versions: [&[u8]; 5] = [
        b"HTTP/2.0",
        b"HTTP/0.9",
        b"HTTP/1.1 x",
        b"http/1.1",
        b"HTTP/1",
    ];
    if dice.one_in(10) {
        bytes.extend_from_slice(dice.pick_sound(&[b"\r\n", b"\n"], &[b"\r", b" "]));
    }
    let methods = [&METHODS[..], &["M-SEARCH", "get", "!#$%&'*+-.^_`|~9"]].concat();
    let method = dice.pick_sound(&methods, &["CONNECT", "", "G T", "PRI"]);
    bytes.extend_from_slice(method.as_bytes());
    bytes.extend_from_slice(dice.pick_sound(&[b" "], &[b"  ", b"\t"]));
    bytes.extend_from_slice(dice.pick_sound(&targets, &odd_targets));
    bytes.extend_from_slice(dice.pick_sound(&[b" "], &[b"  ", b"\t"]));
    let version = dice.pick_sound(
        &[&b"HTTP/1.1"[..], b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.7"],
        &odd_versions,
    );
    bytes.extend_from_slice(version);
    end_of_line(dice, bytes);

    let mut lines =
        vec![dice.pick_sound(&["Host: h", "host:h:80", "HOST: [::1]"], &["X: no host"])];
    for _ in 0..dice.roll(4) {
        lines.push(dice.pick_sound(
            &[
                "X-A: b",
                "x-a:\t c \t",
                "X-Empty:",
                "X-Blank:   ",
                "Connection: keep-alive",
                "Connection: X-A, close",
                "Connection: Upgrade",
                "Upgrade: h2c",
                "Expect: 100-continue",
                "TE: trailers",
                "Cookie: a=1; b=\"2\"",
                "X-Forwarded-For: 1.1.1.1",
            ],
            &[
                "X : y",
                " folded",
                "\tfolded",
                "no colon",
                ": y",
                "Host: i",
                "Expect: x",
                "X: \u{b}",
            ],
        ));
    }
    let framing = dice.roll(4);
    let length = dice.roll(40);
    let length_line = format!(
        "{}{}{length}",
        dice.pick(&["Content-Length:", "content-length: ", "CONTENT-LENGTH:\t"]),
        dice.pick_sound(&["", "0", "00"], &["+", "-", "0x", "1, ", "\u{b}", "1 "]),
    );
    match framing {
        0 => {}
        1 => lines.push(&length_line),
        _ => lines.push(dice.pick_sound(
            &["Transfer-Encoding: chunked", "transfer-encoding:CHUNKED\t"],
            &[
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: identity",
                "Transfer-Encoding : chunked",
                "Transfer-Encoding: \u{b}chunked",
                "Transfer-Encoding:\r\n chunked",
            ],
        )),
    }
    if dice.one_in(40) {
        lines.push(dice.pick(&["Content-Length: 5", "Transfer-Encoding: chunked"]));
    }
    let shift = dice.roll(lines.len());
    lines.rotate_left(shift);
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        end_of_line(dice, bytes);
    }
    end_of_line(dice, bytes);
    match framing {
        0 => {}
        1 => data(dice, length, bytes),
        _ => chunks(dice, bytes),
    }
}

fn end_of_line(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let end: &[u8] = if dice.one_in(500) {
        dice.pick(&[&b"\n"[..], b"\r", b"\r\r\n", b"\n\r\n", b" \r\n", b""])
    } else {
        b"\r\n"
    };
    bytes.extend_from_slice(end);
}

fn data(dice: &mut Dice, length: usize, bytes: &mut Vec<u8>) {
    let part = dice.pick(&[
        &b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n"[..],
        b"abc",
        b"\xff\0",
        b"5\r\n",
    ]);
    bytes.extend(part.iter().cycle().take(length));
}

fn chunks(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let odd_extensions = [";\n", ";\0", " x", ",", "\u{b}", ";\r", "h", "_"];
    let extensions = ["", "", "", ";", ";a=b", " ;a=\"b;c\"", "\t", "; \u{e9}\t"];
    for _ in 0..dice.roll(4) {
        let length = 1 + dice.roll(20);
        let sign = dice.pick_sound(
            &["", "0", "000"],
            &["+", "-", "0x", " ", "0000000000000000"],
        );
        let extension = dice.pick_sound(&extensions, &odd_extensions);
        let size = if dice.one_in(2) {
            format!("{sign}{length:x}{extension}")
        } else {
            format!("{sign}{length:X}{extension}")
        };
        bytes.extend_from_slice(size.as_bytes());
        end_of_line(dice, bytes);
        let wrong = usize::from(dice.one_in(100));
        data(dice, length + wrong, bytes);
        end_of_line(dice, bytes);
    }
    bytes.extend_from_slice(dice.pick(&[&b"0"[..], b"0", b"00000", b"0;x"]));
    end_of_line(dice, bytes);
    if dice.one_in(5) {
        let trailer = dice.pick_sound(
            &["X-T: y", "Content-Length: 7", "X-T:"],
            &["X-T : y", " folded", "X-T", "X-T: \0"],
        );
        bytes.extend_from_slice(trailer.as_bytes());
        end_of_line(dice, bytes);
    }
    end_of_line(dice, bytes);
}

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    const SPICE: [&[u8]; 24] = [
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"\x0b",
        b"\x0c",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\r\n ",
        b"+",
        b"-",
        b"0",
        b"0x",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: i\r\n",
    ];
    if bytes.is_empty() {
        return;
    }
    let at = dice.roll(bytes.len());
    match dice.roll(5) {
        0 => {
            bytes.remove(at);
        }
        1 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
        2 => {
            bytes.splice(at..at, dice.pick(&SPICE).iter().copied());
        }
        3 => {
            let end = (at + dice.roll(30)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => bytes.truncate(at),
    }
}

/// A request that was accepted whole.
struct Accepted {
    request: ValidatedRequest,
    /// The data of the body in pieces: the chunks, if all of it came at once.
    pieces: Vec<Vec<u8>>,
    /// Where it lies in the input, and where its body begins.
    start: usize,
    body: usize,
    end: usize,
}

impl Accepted {
    fn data(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

/// Reads requests one after the other, as a connection does.
#[derive(Default)]
struct Reader {
    parser: RequestParser,
    /// The number of bytes that have been used.
    at: usize,
    /// The request whose body is being read.
    under_way: Option<(Accepted, Option<ChunkedDecoder>)>,
    accepted: Vec<Accepted>,
}

impl Reader {
    /// Takes the next step with all bytes that have come; whether there may be another one.
    fn step(&mut self, bytes: &[u8]) -> Result<bool, Rejection> {
        let mut input = &bytes[self.at..];
        let Some((mut request, mut decoder)) = self.under_way.take() else {
            let Some((request, length)) = self.parser.parse(input, CLIENT, &LIMITS)? else {
                return Ok(false);
            };
            let chunked = request.framing == Framing::Chunked;
            let (start, body) = (self.at, self.at + length);
            let request = Accepted {
                request,
                pieces: Vec::new(),
                start,
                body,
                end: body,
            };
            self.at = body;
            self.under_way = Some((request, chunked.then(|| ChunkedDecoder::new(&LIMITS))));
            return Ok(true);
        };
        let (mut is_whole, mut goes_on) = (false, true);
        match (&mut decoder, request.request.framing) {
            (Some(decoder), _) => match decoder.decode(&mut input)? {
                Decoded::Data(data) => request.pieces.push(data.to_vec()),
                Decoded::NeedsMore => goes_on = false,
                Decoded::End => is_whole = true,
            },
            (None, Framing::Length(length)) => {
                match input.split_at_checked(usize::try_from(length).unwrap()) {
                    Some((data, rest)) => {
                        request.pieces.push(data.to_vec());
                        input = rest;
                        is_whole = true;
                    }
                    None => goes_on = false,
                }
            }
            (None, _) => is_whole = true,
        }
        self.at = bytes.len() - input.len();
        if is_whole {
            request.end = self.at;
            self.accepted.push(request);
        } else {
            self.under_way = Some((request, decoder));
        }
        Ok(goes_on)
    }
}

/// What a connection makes of bytes that come in pieces that end there.
fn read(bytes: &[u8], ends: &[usize]) -> (Vec<Accepted>, Option<Rejection>) {
    let mut reader = Reader::default();
    for &end in ends {
        loop {
            match reader.step(&bytes[..end]) {
                Ok(true) => {}
                Ok(false) => break,
                Err(rejection) => return (reader.accepted, Some(rejection)),
            }
        }
    }
    (reader.accepted, None)
}

/// Bytes that are shown as text.
#[derive(Default, PartialEq, Eq)]
struct Text(Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

fn text(bytes: &[u8]) -> Text {
    Text(bytes.to_vec())
}

/// What a request means, to any parser.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    method: String,
    target: Text,
    version: Version,
    headers: Vec<(Text, Text)>,
    body: Text,
    /// The number of bytes of all of it.
    length: usize,
}

fn meaning(accepted: &Accepted, target: &[u8], length: usize) -> Meaning {
    let head = &accepted.request.head;
    Meaning {
        method: head.method().to_owned(),
        target: text(target),
        version: head.version(),
        headers: head
            .headers()
            .iter()
            .map(|line| (text(line.name), text(line.value)))
            .collect(),
        body: Text(accepted.data()),
        length,
    }
}

/// The request serialised anew.
fn canonical(accepted: &Accepted) -> Vec<u8> {
    let head = &accepted.request.head;
    let mut bytes = [head.method().as_bytes(), b" ", head.target()].concat();
    bytes.extend_from_slice(format!(" HTTP/{}\r\n", head.version().number()).as_bytes());
    for line in head.headers().iter() {
        bytes.extend_from_slice(&[line.name, b": ", line.value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    if accepted.request.framing != Framing::Chunked {
        bytes.extend_from_slice(&accepted.data());
        return bytes;
    }
    for piece in accepted.pieces.iter().map(Vec::as_slice).chain([&b""[..]]) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        if !piece.is_empty() {
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// What httparse makes of the head, and simple rules and `chunked_transfer` of the body behind
/// it; `None` if they reject it.
fn by_httparse(bytes: &[u8]) -> Option<Meaning> {
    let mut room = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut room);
    let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else {
        return None;
    };
    let value = |name: &str| {
        let mut lines = request.headers.iter();
        let line = lines.find(|line| line.name.eq_ignore_ascii_case(name));
        line.map(|line| std::str::from_utf8(line.value).unwrap())
    };
    let rest = &bytes[head..];
    let (body, length) = if value("Transfer-Encoding").is_some() {
        let (mut left, mut body) = (rest, Vec::new());
        let mut decoder = chunked_transfer::Decoder::new(&mut left);
        decoder.read_to_end(&mut body).ok()?;
        (body, bytes.len() - left.len())
    } else {
        let length = value("Content-Length").map_or(0, |value| value.parse().unwrap());
        (rest.get(..length)?.to_vec(), head + length)
    };
    let lines = request.headers.iter();
    Some(Meaning {
        method: request.method.unwrap().to_owned(),
        target: text(request.path.unwrap().as_bytes()),
        version: version(request.version.unwrap().into()),
        headers: lines
            .map(|line| (text(line.name.as_bytes()), text(line.value)))
            .collect(),
        body: Text(body),
        length,
    })
}

fn version(minor: u16) -> Version {
    match minor {
        0 => Version::Http10,
        _ => Version::Http11,
    }
}

/// What Node's parser reports.
#[derive(Default)]
struct Reported {
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    in_value: bool,
    head_is_complete: bool,
    body: Vec<u8>,
    /// Whether the connection persists, at the end of the request.
    keeps_alive: Option<bool>,
}

impl ParserHandler for Reported {
    fn on_url(&mut self, _: &mut Parser, part: &[u8]) -> bool {
        self.target.extend_from_slice(part);
        true
    }

    fn on_header_field(&mut self, _: &mut Parser, part: &[u8]) -> bool {
        // Trailers are reported, too.
        if !self.head_is_complete {
            if self.in_value || self.headers.is_empty() {
                self.headers.push(Default::default());
                self.in_value = false;
            }
            if let Some((name, _)) = self.headers.last_mut() {
                name.extend_from_slice(part);
            }
        }
        true
    }

    fn on_header_value(&mut self, _: &mut Parser, part: &[u8]) -> bool {
        if !self.head_is_complete
            && let Some((_, value)) = self.headers.last_mut()
        {
            value.extend_from_slice(part);
        }
        self.in_value = true;
        true
    }

    fn on_headers_complete(&mut self, _: &mut Parser) -> bool {
        self.head_is_complete = true;
        true
    }

    fn on_body(&mut self, _: &mut Parser, part: &[u8]) -> bool {
        self.body.extend_from_slice(part);
        true
    }

    fn on_message_complete(&mut self, parser: &mut Parser) -> bool {
        self.keeps_alive = Some(parser.should_keep_alive());
        // Stops at the end of the first request.
        false
    }
}

/// What Node's parser makes of the first request, and whether it keeps the connection;
/// `None` where it rejects it.
fn by_node(bytes: &[u8]) -> Option<(Meaning, bool)> {
    let mut reported = Reported::default();
    let mut parser = Parser::request();
    let length = parser.parse(&mut reported, bytes);
    let keeps_alive = reported.keeps_alive?;
    let headers = reported.headers.iter();
    let meaning = Meaning {
        method: parser.http_method().to_owned(),
        target: Text(reported.target),
        version: version(parser.http_version().1),
        // It leaves the white space behind a value.
        headers: headers
            .map(|(name, value)| (text(name), text(trim(value))))
            .collect(),
        body: Text(reported.body),
        length,
    };
    Some((meaning, keeps_alive))
}

/// What Node's parser does not know: methods of our own, bytes beyond ASCII in a target, tabs
/// around `chunked`. They are replaced by something of the same kind.
struct Replaced {
    method: &'static str,
}

impl Replaced {
    fn of(accepted: &Accepted) -> Self {
        let method = accepted.request.head.method();
        let known = METHODS.iter().find(|known| **known == method);
        Self {
            method: known.copied().unwrap_or("POST"),
        }
    }

    /// `bytes`, a head of that length and more, with the replacements.
    fn bytes(&self, bytes: &[u8], head: usize, method: &str) -> Vec<u8> {
        let begin = bytes
            .iter()
            .position(|byte| !b"\r\n".contains(byte))
            .unwrap();
        let (head, rest) = bytes.split_at(head);
        let behind = &head[begin + method.len()..];
        let line = behind.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, lines) = behind.split_at(line);
        let lines = lines.iter().map(|byte| without_tab(*byte));
        let mut replaced = [&head[..begin], self.method.as_bytes()].concat();
        replaced.extend(line.iter().map(|byte| without_obs_text(*byte)));
        replaced.extend(lines);
        replaced.extend_from_slice(rest);
        replaced
    }

    fn meaning(&self, mut meaning: Meaning) -> Meaning {
        meaning.length = meaning.length + self.method.len() - meaning.method.len();
        meaning.method = self.method.to_owned();
        let target = meaning.target.0.iter_mut();
        target.for_each(|byte| *byte = without_obs_text(*byte));
        let values = meaning.headers.iter_mut().map(|(_, value)| value);
        let bytes = values.flat_map(|value| &mut value.0);
        bytes.for_each(|byte| *byte = without_tab(*byte));
        meaning
    }
}

fn without_obs_text(byte: u8) -> u8 {
    if byte.is_ascii() { byte } else { b'%' }
}

fn without_tab(byte: u8) -> u8 {
    if byte == b'\t' { b' ' } else { byte }
}

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

    // As an endpoint gets it.
    let data = accepted.data();
    let announced = accepted.request.framing != Framing::None;
    let announced = announced.then_some(data.len() as u64);
    let mut forwarded = request_head(head, endpoint, HostRule::Endpoint, announced);
    let head_length = forwarded.len();
    forwarded.extend_from_slice(&data);
    let (found, _) = node(&forwarded, head_length).expect("an endpoint gets a request");
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
