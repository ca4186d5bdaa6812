//! An answer as bytes: head, and a content that may be larger than memory.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use balancing_reverse_proxy::http::local_reply::{PLAIN_TEXT, reason};
use balancing_reverse_proxy::http::request::Persistence;
use balancing_reverse_proxy::http::response::whole_seconds;

/// Repeated content is written in pieces of about this size, in bytes.
const PIECE: usize = 64 << 10;

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Final status code.
    pub code: u16,
    /// What the content is made of.
    pub text: &'a [u8],
    /// The length of the content, for which the text is repeated and cut; `None`: the text's.
    pub size: Option<u64>,
    /// `Retry-After`, where the status is one that has it.
    pub try_later: Option<Duration>,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// The head alone, as a HEAD request wants it.
    pub is_head: bool,
}

impl Answer<'_> {
    /// Writes the whole answer.
    ///
    /// # Errors
    /// Those of the destination.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        self.write_with(to, self.sent())
    }

    /// Writes as much as breaks off in the middle of the content, or of the head where there
    /// is no content.
    ///
    /// # Errors
    /// Those of the destination.
    pub fn write_broken(&self, to: &mut impl Write) -> io::Result<()> {
        if self.sent() > 0 {
            return self.write_with(to, self.sent() / 2);
        }
        let head = self.head(SystemTime::now());
        to.write_all(head.get(..head.len() / 2).unwrap_or_default())
    }

    fn write_with(&self, to: &mut impl Write, mut left: u64) -> io::Result<()> {
        let mut bytes = self.head(SystemTime::now());
        let text = match self.text {
            // There is no other way to fill a size with nothing.
            b"" => b"\n",
            text => text,
        };
        let piece = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let piece = text.repeat(piece.div_ceil(text.len()));
        // Head and a short content leave together.
        while left > 0 {
            let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            bytes.extend_from_slice(piece.get(..length).unwrap_or_default());
            to.write_all(&bytes)?;
            bytes.clear();
            left -= length as u64;
        }
        to.write_all(&bytes)
    }

    /// The length of the content, in bytes; `None`: an answer that has none (RFC 9110 6.4.1).
    fn length(&self) -> Option<u64> {
        match self.code {
            204 | 304 => None,
            205 => Some(0),
            _ => Some(self.size.unwrap_or(self.text.len() as u64)),
        }
    }

    /// How much content is sent.
    fn sent(&self) -> u64 {
        self.length().filter(|_| !self.is_head).unwrap_or(0)
    }

    fn head(&self, now: SystemTime) -> Vec<u8> {
        let (code, date) = (self.code, httpdate::HttpDate::from(now));
        // Writing to a `Vec` does not fail.
        let mut head = Vec::new();
        let _ = write!(head, "HTTP/1.1 {code} {}\r\nDate: {date}\r\n", reason(code));
        if let Some(length) = self.length() {
            let _ = write!(
                head,
                "Content-Type: {PLAIN_TEXT}\r\nContent-Length: {length}\r\n"
            );
        }
        if let (429 | 503, Some(later)) = (code, self.try_later) {
            let _ = write!(head, "Retry-After: {}\r\n", whole_seconds(later));
        }
        let _ = write!(head, "{}\r\n", self.persistence.header_line());
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Answer = Answer {
        code: 200,
        text: b"abc",
        size: None,
        try_later: Some(Duration::from_millis(1500)),
        persistence: Persistence::Stays,
        is_head: false,
    };

    fn written(answer: Answer) -> String {
        let mut bytes = Vec::new();
        answer.write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn broken(answer: Answer) -> String {
        let mut bytes = Vec::new();
        answer.write_broken(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_text_is_repeated_and_cut_to_the_size() {
        for (size, content) in [
            (None, "abc"),
            (Some(0), ""),
            (Some(2), "ab"),
            (Some(7), "abcabca"),
        ] {
            let text = written(Answer { size, ..ANSWER });
            let (head, rest) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(rest, content);
            let length = format!("Content-Length: {}", content.len());
            assert!(head.contains(&length), "{head}");
        }
        let size = Some(200_000);
        let (_, large) = written(Answer { size, ..ANSWER })
            .split_once("\r\n\r\n")
            .map(|(head, rest)| (head.len(), rest.to_owned()))
            .unwrap();
        assert_eq!(large, "abc".repeat(66_667)[..200_000]);
        let empty = written(Answer {
            size: Some(3),
            text: b"",
            ..ANSWER
        });
        assert!(empty.ends_with("\r\n\r\n\n\n\n"));
    }

    #[test]
    fn only_429_and_503_say_when_to_try_again() {
        for (code, has) in [(200, false), (429, true), (500, false), (503, true)] {
            let text = written(Answer { code, ..ANSWER });
            assert_eq!(text.contains("\r\nRetry-After: 2\r\n"), has, "{code}");
        }
        for (later, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            let try_later = Some(Duration::from_millis(later));
            let text = written(Answer {
                code: 503,
                try_later,
                ..ANSWER
            });
            assert!(
                text.contains(&format!("Retry-After: {seconds}\r\n")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_no_content_has_none() {
        for code in [204, 304] {
            let text = written(Answer { code, ..ANSWER });
            assert!(text.ends_with("GMT\r\n\r\n"), "{text:?}");
        }
        let head = written(Answer {
            is_head: true,
            ..ANSWER
        });
        assert!(head.ends_with("Content-Length: 3\r\n\r\n"));
    }

    #[test]
    fn a_broken_answer_ends_in_the_middle() {
        let text = broken(Answer {
            size: Some(100_000),
            ..ANSWER
        });
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("Content-Length: 100000"));
        assert_eq!(content.len(), 50_000);
        assert!(broken(ANSWER).ends_with("\r\n\r\na"));
        for answer in [
            Answer {
                is_head: true,
                ..ANSWER
            },
            Answer {
                code: 204,
                ..ANSWER
            },
        ] {
            let text = broken(answer);
            assert!(
                text.starts_with("HTTP/1.1 20") && !text.contains("\r\n\r\n"),
                "{text:?}"
            );
        }
    }
}
