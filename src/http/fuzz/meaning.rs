//! What a request means, and what httparse and Node's parser make of it.

use std::fmt;
use std::io::Read as _;

use http_muncher::{Parser, ParserHandler};

use super::super::header::trim;
use super::super::request::{Framing, Version};
use super::input::METHODS;
use super::reader::Accepted;

/// Bytes that are shown as text.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

pub(super) fn text(bytes: &[u8]) -> Text {
    Text(bytes.to_vec())
}

/// What a request means, to any parser.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) method: String,
    pub(super) target: Text,
    pub(super) version: Version,
    pub(super) headers: Vec<(Text, Text)>,
    pub(super) body: Text,
    /// The number of bytes of all of it.
    pub(super) length: usize,
}

pub(super) fn meaning(accepted: &Accepted, target: &[u8], length: usize) -> Meaning {
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
pub(super) fn canonical(accepted: &Accepted) -> Vec<u8> {
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
pub(super) fn by_httparse(bytes: &[u8]) -> Option<Meaning> {
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
pub(super) fn by_node(bytes: &[u8]) -> Option<(Meaning, bool)> {
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
pub(super) struct Replaced {
    pub(super) method: &'static str,
}

impl Replaced {
    pub(super) fn of(accepted: &Accepted) -> Self {
        let method = accepted.request.head.method();
        let known = METHODS.iter().find(|known| **known == method);
        Self {
            method: known.copied().unwrap_or("POST"),
        }
    }

    /// `bytes`, a head of that length and more, with the replacements.
    pub(super) fn bytes(&self, bytes: &[u8], head: usize, method: &str) -> Vec<u8> {
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

    pub(super) fn meaning(&self, mut meaning: Meaning) -> Meaning {
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
