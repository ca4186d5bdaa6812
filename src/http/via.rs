//! `Via` (RFC 9110 7.6.3): this process's entry, and requests that come back to it.
//!
//! The entry has a comment with an id of this process alone. A request that carries it has been
//! forwarded by this very process (RFC 9110 7.3: a message must not be forwarded in an endless
//! loop). Recipients may remove comments, so entries with the pseudonym alone are counted: a
//! chain of several processes is no loop, an endless one is.
//!
//! The entry is made once. A check takes one pass over the header lines and allocates nothing.

use super::header::{is_token, trim};
use super::request::{Rejection, RequestHead};

/// This proxy's name in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "balancing-reverse-proxy";

/// How many entries of this proxy, of any process, a request may carry.
const MAX_ENTRIES: usize = 8;

/// How many addresses `X-Forwarded-For` may list where `Via` is left out.
const MAX_FORWARDED_FOR: usize = 64;

/// The bits of an id that are used: two processes share one with a probability of 2⁻⁴⁸.
const ID_BITS: u32 = 48;

/// This process's entry without the received protocol: `balancing-reverse-proxy (x00c0ffee1234)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViaEntry(Box<str>);

impl ViaEntry {
    /// The entry of the process with this random id, of which the lower 48 bits are used.
    #[must_use]
    pub fn new(id: u64) -> Self {
        let id = id & ((1 << ID_BITS) - 1);
        Self(format!("{PSEUDONYM} (x{id:012x})").into())
    }

    /// As it is written.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The comment with the id.
    fn comment(&self) -> &[u8] {
        let text = self.as_bytes();
        text.get(PSEUDONYM.len() + 1..).unwrap_or(text)
    }
}

/// The rejection of a request that has come in a loop, if it has: `own` is this process's entry,
/// `None` where `Via` is left out. Loops are then found by the length of `X-Forwarded-For`.
#[must_use]
pub fn loop_rejection(request: &RequestHead, own: Option<&ViaEntry>) -> Option<Rejection> {
    let reason = match own {
        Some(own) => loop_in_via(request, own)?,
        None => loop_in_forwarded_for(request)?,
    };
    Some(Rejection::new(508, reason).of(request))
}

fn loop_in_via(request: &RequestHead, own: &ViaEntry) -> Option<&'static str> {
    let entries = request.headers().all("Via").flat_map(Entries::of);
    let mut number = 0;
    for comments in entries.filter_map(comments_of_pseudonym) {
        let comment = own.comment();
        if comments.windows(comment.len()).any(|part| part == comment) {
            return Some("request loop: this process has forwarded the request before (Via)");
        }
        number += 1;
        if number > MAX_ENTRIES {
            return Some("request loop: more than 8 proxies of this kind in Via");
        }
    }
    None
}

fn loop_in_forwarded_for(request: &RequestHead) -> Option<&'static str> {
    let mut addresses = request.headers().elements("X-Forwarded-For");
    addresses
        .nth(MAX_FORWARDED_FOR)
        .map(|_| "request loop: more than 64 addresses in X-Forwarded-For")
}

/// What follows the pseudonym in an entry, which is comments, if the pseudonym is this proxy's.
///
/// `received-protocol RWS received-by [ RWS comment ]`, where the protocol's name and the port
/// may be missing.
fn comments_of_pseudonym(entry: &[u8]) -> Option<&[u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let (protocol, rest) = entry.split_at_checked(entry.iter().position(is_blank)?)?;
    let mut words = protocol.splitn(2, |byte| *byte == b'/');
    if !words.all(is_token) {
        return None;
    }
    let rest = trim(rest);
    let ends = |byte: &u8| is_blank(byte) || *byte == b'(';
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    let (received_by, comments) = rest.split_at_checked(length)?;
    let pseudonym = received_by.split(|byte| *byte == b':').next()?;
    pseudonym
        .eq_ignore_ascii_case(PSEUDONYM.as_bytes())
        .then_some(comments)
}

/// The entries in one line, without white space around them.
///
/// A comma in a comment does not end an entry. A line with a comment that is never closed is not
/// well formed; from there on every comma ends an entry, so that such a comment hides none behind
/// it. Each byte is looked at twice at most.
struct Entries<'a> {
    rest: Option<&'a [u8]>,
    has_comments: bool,
}

impl<'a> Entries<'a> {
    fn of(line: &'a [u8]) -> Self {
        Self {
            rest: Some(line),
            has_comments: true,
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let mut length = None;
        if self.has_comments {
            length = length_with_comments(rest);
            self.has_comments = length.is_some();
        }
        let comma = || rest.iter().position(|byte| *byte == b',');
        let length = length.or_else(comma).unwrap_or(rest.len());
        let (entry, behind) = rest.split_at_checked(length)?;
        self.rest = behind.strip_prefix(b",");
        Some(trim(entry))
    }
}

/// The length of the entry at the start of `text`; `None` if a comment in it is not closed.
fn length_with_comments(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b',' if depth == 0 => return Some(at),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            // A quoted pair (RFC 9110 5.6.4).
            b'\\' if depth > 0 => {
                bytes.next();
            }
            _ => {}
        }
    }
    (depth == 0).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header::Headers;
    use crate::http::request::Version;

    const ID: u64 = 0x00c0_ffee_1234;
    const OURS: &str = "1.1 balancing-reverse-proxy (x00c0ffee1234)";
    const OTHER: &str = "1.1 balancing-reverse-proxy (x00c0ffee1235)";

    fn request(name: &str, lines: &[&str]) -> RequestHead {
        let mut headers = Headers::new();
        for line in lines {
            headers.push(name.as_bytes(), line.as_bytes());
        }
        let client = "10.0.0.1".parse().unwrap();
        RequestHead::new("GET", b"/", Version::Http11, None, headers, client)
    }

    fn by_via(lines: &[&str]) -> Option<String> {
        let rejection = loop_rejection(&request("via", lines), Some(&ViaEntry::new(ID)))?;
        assert_eq!(rejection.status, 508);
        Some(rejection.reason.into_owned())
    }

    #[test]
    fn an_entry_has_the_id_in_a_comment() {
        for (id, wanted) in [
            (ID, "balancing-reverse-proxy (x00c0ffee1234)"),
            (0, "balancing-reverse-proxy (x000000000000)"),
            (u64::MAX, "balancing-reverse-proxy (xffffffffffff)"),
            ((1 << 48) + 5, "balancing-reverse-proxy (x000000000005)"),
        ] {
            assert_eq!(ViaEntry::new(id).as_bytes(), wanted.as_bytes());
        }
    }

    #[test]
    fn a_request_with_the_id_of_this_process_has_come_in_a_loop() {
        let table: [&[&str]; 17] = [
            &[OURS],
            &["1.0 first, 1.1 balancing-reverse-proxy (x00c0ffee1234)"],
            &["1.0 first", OURS, "1.1 last"],
            &[
                "1.0 first",
                "",
                "1.1 a,1.1 balancing-reverse-proxy (x00c0ffee1234),1.1 b",
            ],
            &[OTHER, OURS],
            &["HTTP/1.1 balancing-reverse-proxy (x00c0ffee1234)"],
            &["http/1.1 balancing-reverse-proxy (x00c0ffee1234)"],
            &["HtTp/2 Balancing-Reverse-Proxy (x00c0ffee1234)"],
            &["1.0  \t balancing-reverse-proxy\t(x00c0ffee1234)  "],
            &["1.1 balancing-reverse-proxy:8080 (x00c0ffee1234)"],
            &["1.1 balancing-reverse-proxy(x00c0ffee1234)"],
            &["1.1 balancing-reverse-proxy (added) (x00c0ffee1234)"],
            &[", ,1.0 first (a, b), 1.1 balancing-reverse-proxy (x00c0ffee1234)"],
            &["1.0 first (a (b, c) d), 1.1 balancing-reverse-proxy (x00c0ffee1234)"],
            &[r"1.0 first (\), \(), 1.1 balancing-reverse-proxy (x00c0ffee1234)"],
            // A comment that is never closed.
            &["1.0 first (, 1.1 balancing-reverse-proxy (x00c0ffee1234)"],
            &["1.0 first ((, 1.1 balancing-reverse-proxy (x00c0ffee1234), 1.1 b)"],
        ];
        for lines in table {
            let wanted = "request loop: this process has forwarded the request before (Via)";
            assert_eq!(by_via(lines).as_deref(), Some(wanted), "{lines:?}");
        }
    }

    #[test]
    fn a_request_without_the_id_has_not() {
        let table: [&[&str]; 13] = [
            &[],
            &[""],
            &[OTHER],
            &["1.1 balancing-reverse-proxy"],
            &["1.1 balancing-reverse-proxy (00c0ffee1234)"],
            &["1.1 balancing-reverse-proxy (X00C0FFEE1234)"],
            &["1.1 balancing-reverse-proxy x00c0ffee1234"],
            // The id of another program.
            &["1.1 other (x00c0ffee1234)"],
            &["1.1 not-balancing-reverse-proxy (x00c0ffee1234)"],
            // In a comment.
            &["1.1 other (1.1 balancing-reverse-proxy (x00c0ffee1234))"],
            &["1.1 other (a, 1.1 balancing-reverse-proxy (x00c0ffee1234), b)"],
            // No protocol.
            &["balancing-reverse-proxy (x00c0ffee1234)"],
            &["a/b/c balancing-reverse-proxy (x00c0ffee1234)"],
        ];
        for lines in table {
            assert_eq!(by_via(lines), None, "{lines:?}");
        }
        let elsewhere = request("X-Via", &[OURS]);
        assert_eq!(loop_rejection(&elsewhere, Some(&ViaEntry::new(ID))), None);
    }

    #[test]
    fn eight_entries_of_this_proxy_are_a_chain_and_nine_are_a_loop() {
        let bare = "http/1.0 balancing-reverse-proxy";
        let wanted = "request loop: more than 8 proxies of this kind in Via";
        for entry in [OTHER, bare] {
            let entries = |number| vec![entry; number];
            assert_eq!(by_via(&entries(8)), None);
            assert_eq!(by_via(&entries(9)).as_deref(), Some(wanted));
            let joined = |number| entries(number).join(" , ");
            assert_eq!(by_via(&[&joined(8)]), None);
            assert_eq!(by_via(&[&joined(9)]).as_deref(), Some(wanted));
            assert_eq!(
                by_via(&[&joined(8), "1.1 a", entry]).as_deref(),
                Some(wanted)
            );
        }
        assert_eq!(by_via(&vec!["1.1 other"; 100]), None);
    }

    #[test]
    fn without_via_a_loop_shows_in_the_number_of_addresses() {
        let wanted = "request loop: more than 64 addresses in X-Forwarded-For";
        let by_addresses = |lines: &[&str]| {
            let rejection = loop_rejection(&request("x-forwarded-for", lines), None);
            rejection.map(|rejection| (rejection.status, rejection.reason.into_owned()))
        };
        let found = Some((508, wanted.to_owned()));
        for (number, wanted) in [(0, None), (64, None), (65, found.clone()), (1000, found)] {
            let entries = vec!["10.0.0.1"; number];
            assert_eq!(by_addresses(&entries), wanted);
            assert_eq!(by_addresses(&[&entries.join(",")]), wanted);
            // Empty elements are none.
            assert_eq!(by_addresses(&[&entries.join(",, , ")]), wanted);
        }
        assert_eq!(loop_rejection(&request("Via", &[OURS]), None), None);
        let addresses = request("X-Forwarded-For", &["10.0.0.1"; 100]);
        assert_eq!(loop_rejection(&addresses, Some(&ViaEntry::new(ID))), None);
    }

    #[test]
    fn a_rejected_head_request_is_known_as_one() {
        let mut headers = Headers::new();
        headers.push(b"Via", OURS.as_bytes());
        let client = "10.0.0.1".parse().unwrap();
        let head = RequestHead::new("HEAD", b"/", Version::Http11, None, headers, client);
        let rejection = loop_rejection(&head, Some(&ViaEntry::new(ID))).unwrap();
        assert!(rejection.is_head);
    }
}
