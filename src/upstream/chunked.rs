//! The chunked coding of an answer, made plain for ureq.
//!
//! ureq decodes chunks, but takes no size line of more than 20 bytes, where RFC 9112
//! 7.1.1 wants unknown extensions ignored; it takes sizes such as `+3`, and a body whose
//! very last line is missing. So the coded bytes pass through here first: sizes, data and
//! the end come out as they were, extensions and trailers are cut out, and from the first
//! malformed byte on nothing comes out.
//!
//! It works in place and on pieces of any length: what comes out is never longer than
//! what went in, and nothing is kept but a few numbers.

use crate::http::chunked::{SizeByte, SizeLine};

/// The longest trailer section, in bytes.
const MAX_TRAILERS: usize = 64 * 1024;

/// How far a coded body has come.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    line: SizeLine,
    /// What is left of the chunk's data, in bytes.
    left: u64,
    /// The length of the trailers so far, in bytes.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Line,
    Data,
    /// At the start of a line behind the last chunk.
    LastLine,
    Trailer,
    TrailerEnd,
    End,
    Ended,
    Malformed(&'static str),
}

impl Chunks {
    /// Whether the body has ended as it should.
    #[must_use]
    pub fn have_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// What is wrong with the coding, once something is.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        match self.state {
            State::Malformed(fault) => Some(fault),
            _ => None,
        }
    }

    /// Takes the next piece, and moves what is to be passed on to its start; returns how
    /// much that is. Behind the end everything is passed on: it belongs to no answer, and must be
    /// seen.
    pub fn pass(&mut self, piece: &mut [u8]) -> usize {
        let (mut read, mut written) = (0, 0);
        while let Some(&byte) = piece.get(read) {
            let left = piece.len() - read;
            let amount = match self.state {
                State::Data => usize::try_from(self.left).map_or(left, |size| size.min(left)),
                State::Ended => left,
                State::Malformed(_) => break,
                _ => 1,
            };
            if self.step(byte, amount) {
                piece.copy_within(read..read + amount, written);
                written += amount;
            }
            read += amount;
        }
        written
    }

    /// Takes one byte, or that many of the data. Returns whether it is to be passed on.
    fn step(&mut self, byte: u8, amount: usize) -> bool {
        match (self.state, byte) {
            (State::Line, _) => match self.line.push(byte) {
                Ok(SizeByte::Needed) => return true,
                Ok(SizeByte::Extra) => return false,
                Ok(SizeByte::Last { size, .. }) => {
                    self.left = size;
                    self.state = match size {
                        0 => State::LastLine,
                        _ => State::Data,
                    };
                    return true;
                }
                Err(fault) => return self.fail(fault),
            },
            (State::Data, _) => {
                self.left -= amount as u64;
                if self.left == 0 {
                    self.state = State::Line;
                }
                return true;
            }
            (State::LastLine, b'\r') => {
                self.state = State::End;
                return true;
            }
            (State::End, b'\n') => {
                self.state = State::Ended;
                return true;
            }
            (State::Trailer, b'\r') => self.state = State::TrailerEnd,
            (State::TrailerEnd, b'\n') => self.state = State::LastLine,
            (State::LastLine | State::Trailer, _) if byte != b'\n' => self.state = State::Trailer,
            (State::Ended, _) => return true,
            _ => return self.fail("the trailers of a chunked body are malformed"),
        }
        // Only what is cut out gets here.
        self.length += 1;
        if self.length > MAX_TRAILERS {
            return self.fail("the trailers of a chunked body are too long");
        }
        false
    }

    fn fail(&mut self, fault: &'static str) -> bool {
        self.state = State::Malformed(fault);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::chunked::MAX_LINE;

    /// What comes out, and the state after it, of pieces that long.
    fn passed(input: &[u8], piece: usize) -> (Vec<u8>, Chunks) {
        let mut chunks = Chunks::default();
        let mut output = Vec::new();
        for piece in input.chunks(piece) {
            let mut piece = piece.to_vec();
            let length = chunks.pass(&mut piece);
            output.extend_from_slice(&piece[..length]);
        }
        (output, chunks)
    }

    #[test]
    fn extensions_and_trailers_are_cut_out_wherever_the_pieces_end() {
        let long = "x".repeat(MAX_LINE - 2);
        let table = [
            ("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            ("0\r\n\r\n", "0\r\n\r\n"),
            ("3;a=b\r\nabc\r\n0;\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            (
                "3 ; a=\"b;\tc\"\r\nabc\r\n0\r\n\r\n",
                "3\r\nabc\r\n0\r\n\r\n",
            ),
            (
                "00A  \r\n0123456789\r\n000\r\n\r\n",
                "00A\r\n0123456789\r\n000\r\n\r\n",
            ),
            (
                "2\r\n\r\n\r\n1\r\n;\r\n0\r\n\r\n",
                "2\r\n\r\n\r\n1\r\n;\r\n0\r\n\r\n",
            ),
            ("0\r\nX-A: b\r\nX-C:\r\n\r\n", "0\r\n\r\n"),
            (
                "0\r\n\r\nHTTP/1.1 200 OK\r\n",
                "0\r\n\r\nHTTP/1.1 200 OK\r\n",
            ),
            (
                &format!("1;{long}\r\na\r\n0;{long}\r\n\r\n"),
                "1\r\na\r\n0\r\n\r\n",
            ),
            (
                "000000000000000a\r\n0123456789\r\n0\r\n\r\n",
                "000000000000000a\r\n0123456789\r\n0\r\n\r\n",
            ),
        ];
        for (input, wanted) in table {
            for piece in [1, 2, 3, 7, input.len()] {
                let (output, chunks) = passed(input.as_bytes(), piece);
                assert_eq!(String::from_utf8(output).unwrap(), wanted);
                assert!(chunks.have_ended(), "{input:?}");
                assert_eq!(chunks.fault(), None, "{input:?}");
            }
        }
    }

    #[test]
    fn only_a_body_that_has_ended_counts_as_ended() {
        let whole = b"3;a\r\nabc\r\n0\r\nX: y\r\n\r\n";
        for end in 0..whole.len() {
            let (_, chunks) = passed(&whole[..end], whole.len());
            assert!(!chunks.have_ended(), "{end}");
            assert_eq!(chunks.fault(), None, "{end}");
        }
    }

    #[test]
    fn nothing_comes_out_from_the_first_wrong_byte_on() {
        let line = "the size line of a chunk is malformed";
        let trailers = "the trailers of a chunked body are malformed";
        let table = [
            ("+3\r\nabc\r\n", "", "a chunk without a size"),
            ("-1\r\n\r\n", "", "a chunk without a size"),
            (" 3\r\nabc\r\n", "", "a chunk without a size"),
            ("\r\nabc\r\n", "", "a chunk without a size"),
            (";a=b\r\nabc\r\n", "", "a chunk without a size"),
            ("zz\r\n\r\n", "", "a chunk without a size"),
            ("0x3\r\nabc\r\n", "0", line),
            ("3 4\r\nabc\r\n", "3", line),
            ("3\nabc\r\n", "3", line),
            ("3;a\nabc\r\n", "3", line),
            ("3;a\rb\r\nabc\r\n", "3\r", line),
            ("3\r\r\nabc\r\n", "3\r", line),
            (
                "3\r\nabcd\r\n",
                "3\r\nabc",
                "a chunk is longer than its size",
            ),
            (
                "3\r\nabc\n0\r\n\r\n",
                "3\r\nabc",
                "a chunk is longer than its size",
            ),
            (
                "3\r\nabc0\r\n\r\n",
                "3\r\nabc",
                "a chunk is longer than its size",
            ),
            (
                "3\r\nabc\r0\r\n\r\n",
                "3\r\nabc\r",
                "a chunk is longer than its size",
            ),
            (
                "00000000000000003\r\nabc\r\n",
                "0000000000000000",
                "the size of a chunk is too large",
            ),
            (
                "10000000000000000\r\nabc\r\n",
                "1000000000000000",
                "the size of a chunk is too large",
            ),
            ("0\r\n\n", "0\r\n", trailers),
            ("0\r\nX: y\n\r\n", "0\r\n", trailers),
            ("0\r\n\rX", "0\r\n\r", trailers),
        ];
        for (input, wanted, fault) in table {
            for piece in [1, 2, input.len()] {
                let (output, chunks) = passed(input.as_bytes(), piece);
                assert_eq!(String::from_utf8(output).unwrap(), wanted, "{input:?}");
                assert_eq!(chunks.fault(), Some(fault), "{input:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_out_has_its_limits() {
        let x = |number| "x".repeat(number);
        for (input, fault) in [
            (
                format!("1;{}\r\n", x(MAX_LINE)),
                "the size line of a chunk is too long",
            ),
            (
                format!("1{}\r\n", " ".repeat(MAX_LINE)),
                "the size line of a chunk is too long",
            ),
            (
                format!("0\r\n{}\r\n", x(MAX_TRAILERS)),
                "the trailers of a chunked body are too long",
            ),
            (
                format!("0\r\n{}", "X: y\r\n".repeat(MAX_TRAILERS / 6 + 1)),
                "the trailers of a chunked body are too long",
            ),
        ] {
            assert_eq!(passed(input.as_bytes(), 1000).1.fault(), Some(fault));
        }
        // Each line has its own.
        let many = format!("1;{}\r\na\r\n", x(MAX_LINE - 2)).repeat(100) + "0\r\n\r\n";
        assert!(passed(many.as_bytes(), 1000).1.have_ended());
    }
}
