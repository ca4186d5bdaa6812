//! The header lines of one message.
//!
//! Order, duplicates, the case of names and every byte of a value are kept. All lines share
//! one text, in which a line is two ranges: a head costs two allocations, however many lines
//! it has, and 16 bytes for each line beside its text.

use std::fmt;

/// A range of a text, in bytes. Texts are shorter than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// `start..start + length`; `None` beyond 4 GiB.
    pub(super) fn new(start: usize, length: usize) -> Option<Self> {
        let end = start.checked_add(length)?;
        u32::try_from(end).ok()?;
        Some(Self {
            start: u32::try_from(start).ok()?,
            length: u32::try_from(length).ok()?,
        })
    }

    /// Where `part` lies in `text`; `None` if it is no part of it.
    pub(super) fn of(part: &[u8], text: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        let span = Self::new(start, part.len())?;
        (start + part.len() <= text.len()).then_some(span)
    }

    /// The bytes of `text` in this range.
    pub(super) fn in_text(self, text: &[u8]) -> &[u8] {
        let start = self.start as usize;
        text.get(start..start + self.length as usize)
            .unwrap_or_default()
    }

    /// The offset behind the last byte.
    pub(super) fn end(self) -> usize {
        self.start as usize + self.length as usize
    }

    /// The offset of the first byte.
    pub(super) fn start(self) -> usize {
        self.start as usize
    }
}

/// Name and value of a line in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// A token (RFC 9110 5.1) in the case in which it was written.
    pub name: &'a [u8],
    /// Without white space around it.
    pub value: &'a [u8],
}

/// Header lines in order.
#[derive(Clone, Default)]
pub struct Headers {
    text: Vec<u8>,
    lines: Vec<Line>,
}

impl Headers {
    /// No lines, and no allocation.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for that many lines with that many bytes of names and values together.
    #[cfg(test)]
    pub(crate) fn with_capacity(lines: usize, text: usize) -> Self {
        Self {
            text: Vec::with_capacity(text),
            lines: Vec::with_capacity(lines),
        }
    }

    /// Lines that are ranges of `text`, which may hold more than them.
    pub(super) fn from_parts(text: Vec<u8>, lines: Vec<Line>) -> Self {
        Self { text, lines }
    }

    /// The text that the lines are ranges of.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Appends bytes to the text that belong to no line.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Option<Span> {
        let span = Span::new(self.text.len(), bytes.len())?;
        self.text.extend_from_slice(bytes);
        Some(span)
    }

    /// Appends a line. One that makes the text longer than 4 GiB is left out.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        let name_span = Span::new(start, name.len());
        let value_span = Span::new(start.saturating_add(name.len()), value.len());
        if let (Some(name_span), Some(value_span)) = (name_span, value_span) {
            self.text.extend_from_slice(name);
            self.text.extend_from_slice(value);
            self.lines.push(Line {
                name: name_span,
                value: value_span,
            });
        }
    }

    /// All lines in order.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Header<'_>> + ExactSizeIterator {
        self.lines.iter().map(|line| Header {
            name: line.name.in_text(&self.text),
            value: line.value.in_text(&self.text),
        })
    }

    /// The value of the first line of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|header| is(header.name, name))
            .map(|header| header.value)
    }

    /// The values of all lines of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |header| is(header.name, name))
            .map(|header| header.value)
    }

    /// The elements of the comma-separated lists in all lines of that name, without the empty
    /// ones (RFC 9110 5.6.1).
    pub fn elements<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(elements_of)
    }

    /// The number of lines.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no lines.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|header| {
                let text = |bytes| String::from_utf8_lossy(bytes);
                format!("{}: {}", text(header.name), text(header.value))
            }))
            .finish()
    }
}

/// The elements of one comma-separated list, without the empty ones (RFC 9110 5.6.1).
pub(super) fn elements_of(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Without SP and HTAB at both ends: OWS (RFC 9110 5.6.3) and nothing else.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether two header names are the same (RFC 9110 5.1).
#[must_use]
pub fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

/// Whether this is a token (RFC 9110 5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// A whole number without a sign (RFC 9110 8.6, 7.6.2), if it is one; it may be too large for
/// any type.
pub(super) fn digits(bytes: &[u8]) -> Option<&str> {
    let is_number = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| is_number)
}

/// Whether this can be a header's value: SP, HTAB, VCHAR and obs-text (RFC 9110 5.5).
#[cfg(test)]
fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| is_value_byte(*byte))
}

/// RFC 9110 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = table(b"!#$%&'*+-.^_`|~", false);
    is_in(&TABLE, byte)
}

/// SP, HTAB, VCHAR or obs-text.
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// Letters, digits and `others`, and the bytes beyond ASCII or not.
pub(super) const fn table(others: &[u8], beyond_ascii: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        let mut listed = false;
        let mut index = 0;
        while index < others.len() {
            #[allow(clippy::indexing_slicing, reason = "at compile time")]
            if others[index] == byte {
                listed = true;
            }
            index += 1;
        }
        #[allow(clippy::indexing_slicing, reason = "at compile time")]
        {
            table[byte as usize] =
                byte.is_ascii_alphanumeric() || listed || (beyond_ascii && byte >= 0x80);
        }
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

/// Whether the table has this byte.
pub(super) fn is_in(table: &[bool; 256], byte: u8) -> bool {
    // A byte is always an index of such a table; the check is optimised out.
    table.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Checks header lines as they come, in pieces of any length.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineChecker {
    state: LineState,
}

#[derive(Clone, Copy, Debug, Default)]
enum LineState {
    #[default]
    Start,
    Name,
    Value,
    ValueLf,
    EndLf,
}

/// What a [`LineChecker`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// More is needed; everything was sound.
    More,
    /// The end of a header line, behind its CRLF.
    Line,
    /// The end of the header section, behind the CRLF of the empty line.
    End,
}

/// What is wrong with a header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It begins with SP or HTAB.
    Blank,
    /// The name is no token that is directly followed by a colon.
    Name,
    /// A control character in the value, a bare CR or LF.
    Value,
    /// The empty line does not end with CRLF.
    End,
}

impl LineChecker {
    /// Checks what comes next, at most to the end of a line; returns how many bytes that
    /// were. On a fault they end before the offending byte.
    pub(super) fn check(&mut self, input: &[u8]) -> (usize, Result<Checked, Fault>) {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            // Runs of sound bytes are skipped at once.
            at += match self.state {
                LineState::Name => run(rest, is_token_byte),
                LineState::Value => run(rest, is_value_byte),
                _ => 0,
            };
            let Some(&byte) = input.get(at) else {
                return (at, Ok(Checked::More));
            };
            self.state = match (self.state, byte) {
                (LineState::Start, b'\r') => LineState::EndLf,
                (LineState::Start, b' ' | b'\t') => return (at, Err(Fault::Blank)),
                (LineState::Start, _) if is_token_byte(byte) => LineState::Name,
                (LineState::Name, b':') => LineState::Value,
                (LineState::Start | LineState::Name, _) => return (at, Err(Fault::Name)),
                (LineState::Value, b'\r') => LineState::ValueLf,
                (LineState::ValueLf, b'\n') => {
                    self.state = LineState::Start;
                    return (at + 1, Ok(Checked::Line));
                }
                (LineState::Value | LineState::ValueLf, _) => return (at, Err(Fault::Value)),
                (LineState::EndLf, b'\n') => {
                    self.state = LineState::Start;
                    return (at + 1, Ok(Checked::End));
                }
                (LineState::EndLf, _) => return (at, Err(Fault::End)),
            };
            at += 1;
        }
    }
}

/// The number of bytes in front of the first one that is not of this kind.
pub(super) fn run(bytes: &[u8], kind: impl Fn(u8) -> bool) -> usize {
    bytes
        .iter()
        .position(|byte| !kind(*byte))
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        headers
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_keep_order_case_and_duplicates() {
        let given = [("X-b", "1"), ("x-A", ""), ("X-B", "2"), ("X-b", "1")];
        let mut headers = Headers::with_capacity(4, 20);
        assert!(headers.is_empty());
        for (name, value) in given {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        let found: Vec<_> = headers
            .iter()
            .map(|line| (text(line.name), text(line.value)))
            .collect();
        assert_eq!(found, given);
        assert_eq!(headers.len(), 4);
        assert_eq!(headers.iter().len(), 4);
        assert_eq!(
            format!("{headers:?}"),
            r#"["X-b: 1", "x-A: ", "X-B: 2", "X-b: 1"]"#
        );
    }

    #[test]
    fn lines_are_found_by_name_in_any_case() {
        let headers = headers(&[("X-b", "1"), ("X", "no"), ("x-B", "2"), ("X-bb", "no")]);
        assert_eq!(headers.get("X-B"), Some(&b"1"[..]));
        assert_eq!(headers.get("X-"), None);
        let all: Vec<_> = headers.all("x-b").map(text).collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(headers.all("X-c").count(), 0);
    }

    #[test]
    fn elements_are_those_of_all_lines_without_blanks_and_empty_ones() {
        let headers = headers(&[
            ("A", "1, 2\t,,"),
            ("B", "no"),
            ("a", ""),
            ("A", " , \t3 4 , \"5, 6\""),
        ]);
        let elements: Vec<_> = headers.elements("A").map(text).collect();
        assert_eq!(elements, ["1", "2", "3 4", "\"5", "6\""]);
        assert_eq!(headers.elements("C").count(), 0);
    }

    #[test]
    fn only_blanks_and_tabs_are_trimmed() {
        for (given, wanted) in [
            ("", ""),
            (" \t ", ""),
            ("\t a b\t ", "a b"),
            ("\u{b}a\u{c}", "\u{b}a\u{c}"),
            ("\r\n", "\r\n"),
        ] {
            assert_eq!(text(trim(given.as_bytes())), wanted);
        }
    }

    #[test]
    fn tokens_and_values_have_the_bytes_of_rfc_9110() {
        let token = b"!#$%&'*+-.^_`|~";
        for byte in 0..=u8::MAX {
            let in_token = byte.is_ascii_alphanumeric() || token.contains(&byte);
            assert_eq!(is_token(&[b'a', byte]), in_token, "{byte}");
            let in_value = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            assert_eq!(is_field_value(&[b'a', byte]), in_value, "{byte}");
        }
        assert!(!is_token(b""));
        assert!(is_field_value(b""));
        assert!(is(b"hOST", "Host") && !is(b"Hos", "Host") && !is(b"Host ", "Host"));
    }

    #[test]
    fn a_span_lies_in_its_text_and_below_4_gib() {
        let text = b"abcdef";
        let span = Span::of(&text[2..4], text).unwrap();
        assert_eq!((span.start(), span.end()), (2, 4));
        assert_eq!(span.in_text(text), b"cd");
        assert_eq!(span.in_text(b"abc"), b"");
        assert_eq!(Span::of(&text[6..], text).unwrap().in_text(text), b"");
        assert_eq!(Span::of(&text[2..5], &text[..4]), None);
        assert_eq!(Span::of(&text[..2], &text[1..]), None);
        let end = u32::MAX as usize;
        assert!(Span::new(end, 0).is_some() && Span::new(1, end - 1).is_some());
        assert!(Span::new(end + 1, 0).is_none() && Span::new(1, end).is_none());
        assert!(Span::new(usize::MAX, 1).is_none());
    }

    #[test]
    fn lines_are_checked_up_to_the_first_fault() {
        for (input, length, wanted) in [
            ("", 0, Ok(Checked::More)),
            ("A", 1, Ok(Checked::More)),
            ("A: b\r", 5, Ok(Checked::More)),
            ("A: b\r\nC", 6, Ok(Checked::Line)),
            ("A:\r\n", 4, Ok(Checked::Line)),
            ("\r\nA", 2, Ok(Checked::End)),
            ("\r", 1, Ok(Checked::More)),
            ("\rA", 1, Err(Fault::End)),
            (" A: b\r\n", 0, Err(Fault::Blank)),
            ("\tA: b\r\n", 0, Err(Fault::Blank)),
            (": b\r\n", 0, Err(Fault::Name)),
            ("\nA: b\r\n", 0, Err(Fault::Name)),
            ("A : b\r\n", 1, Err(Fault::Name)),
            ("A\r\n", 1, Err(Fault::Name)),
            ("A: b\n", 4, Err(Fault::Value)),
            ("A: b\rc", 5, Err(Fault::Value)),
            ("A: \0", 3, Err(Fault::Value)),
        ] {
            let whole = LineChecker::default().check(input.as_bytes());
            assert_eq!(whole, (length, wanted), "{input:?}");
            let mut checker = LineChecker::default();
            let (mut at, mut outcome) = (0, Ok(Checked::More));
            while outcome == Ok(Checked::More) && at < input.len() {
                let (length, next) = checker.check(&input.as_bytes()[at..=at]);
                (at, outcome) = (at + length, next);
            }
            assert_eq!((at, outcome), (length, wanted), "{input:?}");
        }
    }
}
