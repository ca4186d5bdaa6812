//! Decodes the chunked body of a request (RFC 9112 7.1), from bytes as they come.
//!
//! Data come out as ranges of the input: nothing is copied and nothing is kept but a few
//! numbers. The decoder is strict: a body whose end another recipient could find elsewhere
//! is rejected at the first byte that is not sound. Chunk extensions and trailers are read,
//! bounded and dropped. What follows the body's end is left in the input.

use super::header::{Checked, Fault, LineChecker, is_value_byte};
use super::request::{Rejection, RequestLimits};

/// The most digits of a chunk's size: as many as fit into 64 bits.
const MAX_DIGITS: usize = 16;

/// The longest size line with its extensions, without CRLF, in bytes.
pub(crate) const MAX_LINE: usize = 4 * 1024;

/// How much longer all size lines may be, in bytes, than [`CHUNK_OVERHEAD`] and twice the data
/// of each: extensions cost time and bring nothing.
const MAX_OVERHEAD: u64 = 16 * 1024;
const CHUNK_OVERHEAD: u64 = 16;

/// The longest trailer section is at least this, in bytes.
const MIN_TRAILERS: u64 = 64 * 1024;

/// What stands in front of the data of a chunk: its size line, and the line break that ends the
/// data of the chunk before. Requests and answers have the same rules.
#[derive(Debug, Default)]
pub struct SizeLine {
    place: Place,
    /// The size so far, in bytes.
    size: u64,
    /// The length of the line so far, without line breaks, in bytes.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    /// Blanks behind a size: RFC 9112 7.1.1 wants them read past before an extension, and some
    /// programs write them without one.
    Blanks,
    Extension,
    SizeLf,
    /// Behind data.
    DataCr,
    DataLf,
}

/// What a byte of a [`SizeLine`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeByte {
    /// A digit, or of a line break.
    Needed,
    /// Of an extension, or a blank.
    Extra,
    /// The last one.
    Last {
        /// The size of the chunk, in bytes.
        size: u64,
        /// The length of the line without its line break, in bytes.
        length: usize,
    },
}

impl SizeLine {
    /// Takes the next byte. Behind the last one of a line, the line behind the chunk's data begins.
    ///
    /// # Errors
    /// What is wrong with the coding.
    pub fn push(&mut self, byte: u8) -> Result<SizeByte, &'static str> {
        let (place, kind) = match (self.place, byte) {
            (Place::DataCr, b'\r') => (Place::DataLf, SizeByte::Needed),
            (Place::DataLf, b'\n') => (Place::Size, SizeByte::Needed),
            (Place::DataCr | Place::DataLf, _) => return Err("a chunk is longer than its size"),
            (Place::SizeLf, b'\n') => {
                let (size, length) = (self.size, self.length);
                (self.size, self.length) = (0, 0);
                (Place::DataCr, SizeByte::Last { size, length })
            }
            (Place::Size, _) if byte.is_ascii_hexdigit() => {
                if self.length == MAX_DIGITS {
                    return Err("the size of a chunk is too large");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                self.length += 1;
                (Place::Size, SizeByte::Needed)
            }
            (Place::Size, _) if self.length == 0 => return Err("a chunk without a size"),
            (Place::Size | Place::Blanks | Place::Extension, b'\r') => {
                (Place::SizeLf, SizeByte::Needed)
            }
            (Place::Size | Place::Blanks, b' ' | b'\t') => (Place::Blanks, SizeByte::Extra),
            (Place::Size | Place::Blanks, b';') => (Place::Extension, SizeByte::Extra),
            (Place::Extension, _) if is_value_byte(byte) => (Place::Extension, SizeByte::Extra),
            _ => return Err("the size line of a chunk is malformed"),
        };
        if kind == SizeByte::Extra {
            self.length += 1;
            if self.length > MAX_LINE {
                return Err("the size line of a chunk is too long");
            }
        }
        self.place = place;
        Ok(kind)
    }
}

/// The decoder of one body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    line: SizeLine,
    /// What is left of the chunk's data, in bytes.
    left: u64,
    /// The length so far of the trailer section, in bytes.
    length: u64,
    /// See [`MAX_OVERHEAD`].
    overhead: u64,
    /// How many bytes of data may still come.
    allowed: u64,
    max_body: u64,
    max_trailers: u64,
    trailers: LineChecker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Line,
    Data,
    Trailers,
    End,
}

/// What a [`ChunkedDecoder`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The next bytes of the body; at least one.
    Data(&'a [u8]),
    /// The input is used up, and the body has not ended.
    NeedsMore,
    /// The body has ended. What is left of the input does not belong to it.
    End,
}

impl ChunkedDecoder {
    /// At the start of a body. Trailers may be as long as the head, or 64 KiB.
    #[must_use]
    pub fn new(limits: &RequestLimits) -> Self {
        Self {
            state: State::Line,
            line: SizeLine::default(),
            left: 0,
            length: 0,
            overhead: 0,
            allowed: limits.body,
            max_body: limits.body,
            max_trailers: limits.head.max(MIN_TRAILERS),
            trailers: LineChecker::default(),
        }
    }

    /// How many bytes of data have come out so far.
    #[cfg(test)]
    fn decoded(&self) -> u64 {
        let announced = self.max_body - self.allowed;
        match self.state {
            State::Data => announced - self.left,
            _ => announced,
        }
    }

    /// Decodes the next step, and moves `input` behind what it has used.
    ///
    /// # Errors
    /// The body is malformed (400), or has too large data (413) or trailers (431).
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Decoded<'a>, Rejection> {
        loop {
            match self.state {
                State::End => return Ok(Decoded::End),
                State::Data => {
                    let length = usize::try_from(self.left).unwrap_or(usize::MAX);
                    let (data, rest) = input
                        .split_at_checked(length)
                        .unwrap_or((*input, Default::default()));
                    if data.is_empty() {
                        return Ok(Decoded::NeedsMore);
                    }
                    *input = rest;
                    self.left -= data.len() as u64;
                    if self.left == 0 {
                        self.state = State::Line;
                    }
                    return Ok(Decoded::Data(data));
                }
                State::Trailers => {
                    let (length, checked) = self.trailers.check(input);
                    self.length += length as u64;
                    // The byte at the limit is rejected before it is looked at.
                    let beyond = self.length > self.max_trailers
                        || (self.length == self.max_trailers && checked.is_err());
                    if beyond {
                        let reason =
                            format!("request trailers larger than {} bytes", self.max_trailers);
                        return Err(Rejection::new(431, reason));
                    }
                    *input = input.get(length..).unwrap_or_default();
                    match checked {
                        Ok(Checked::More) => return Ok(Decoded::NeedsMore),
                        Ok(Checked::Line) => {}
                        Ok(Checked::End) => self.state = State::End,
                        Err(fault) => return Err(trailer_rejection(fault)),
                    }
                }
                State::Line => {
                    let Some((&byte, rest)) = input.split_first() else {
                        return Ok(Decoded::NeedsMore);
                    };
                    if let SizeByte::Last { size, length } =
                        self.line.push(byte).map_err(Rejection::bad)?
                    {
                        self.begin_chunk(size, length as u64)?;
                    }
                    *input = rest;
                }
            }
        }
    }

    fn begin_chunk(&mut self, size: u64, line: u64) -> Result<(), Rejection> {
        let usual = size.saturating_mul(2).saturating_add(CHUNK_OVERHEAD);
        self.overhead = (self.overhead + line).saturating_sub(usual);
        if self.overhead > MAX_OVERHEAD {
            let reason = "too much of the chunked body is no data";
            return Err(Rejection::bad(reason));
        }
        if size == 0 {
            self.state = State::Trailers;
            return Ok(());
        }
        let allowed = self.allowed.checked_sub(size);
        self.allowed = allowed.ok_or_else(|| Rejection::body_too_large(self.max_body))?;
        (self.state, self.left) = (State::Data, size);
        Ok(())
    }
}

fn trailer_rejection(fault: Fault) -> Rejection {
    Rejection::bad(match fault {
        Fault::Blank => "trailer line begins with white space",
        Fault::Name => "malformed trailer name",
        Fault::Value => "control character in a trailer",
        Fault::End => "malformed end of the trailers",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        head: 1024,
        body: 1 << 60,
    };

    /// The data and the bytes that are left, or why the body is rejected; `None` if it has
    /// not ended.
    type Outcome = Result<Option<(Vec<u8>, usize)>, (u16, String)>;

    /// Decodes pieces that end there.
    fn decode_pieces(
        bytes: &[u8],
        ends: impl IntoIterator<Item = usize>,
        limits: &RequestLimits,
    ) -> Outcome {
        let mut decoder = ChunkedDecoder::new(limits);
        let (mut data, mut begin) = (Vec::new(), 0);
        for end in ends {
            let mut input = &bytes[begin..end];
            begin = end;
            loop {
                match decoder.decode(&mut input) {
                    Ok(Decoded::Data(piece)) => {
                        assert!(!piece.is_empty());
                        data.extend_from_slice(piece);
                        assert_eq!(decoder.decoded(), data.len() as u64);
                    }
                    Ok(Decoded::NeedsMore) => break,
                    Ok(Decoded::End) => return Ok(Some((data, bytes.len() - end + input.len()))),
                    Err(rejection) => {
                        return Err((rejection.status, rejection.reason.into_owned()));
                    }
                }
            }
            assert!(input.is_empty());
        }
        Ok(None)
    }

    /// The outcome, which is the same wherever the bytes are split.
    fn decode_within(bytes: &[u8], limits: &RequestLimits) -> Outcome {
        let whole = decode_pieces(bytes, [bytes.len()], limits);
        let text = String::from_utf8_lossy(bytes);
        let singly = decode_pieces(bytes, 0..=bytes.len(), limits);
        assert_eq!(singly, whole, "byte by byte: {text:?}");
        if bytes.len() < 500 {
            for at in 0..bytes.len() {
                let halves = decode_pieces(bytes, [at, bytes.len()], limits);
                assert_eq!(halves, whole, "split at {at}: {text:?}");
            }
        }
        whole
    }

    fn decode(bytes: impl AsRef<[u8]>) -> Outcome {
        decode_within(bytes.as_ref(), &LIMITS)
    }

    #[test]
    fn extensions_may_be_long_but_not_many() {
        let chunk = |data: usize, extension: usize| {
            let (data, extension) = ("d".repeat(data), "e".repeat(extension));
            format!("{:x};{extension}\r\n{data}\r\n", data.len())
        };
        for (chunks, is_sound) in [
            (chunk(1, 4000).repeat(4), true),
            (chunk(1, 4000).repeat(5), false),
            // Little for each chunk, or little for its data.
            (chunk(1, 16).repeat(10_000), true),
            (chunk(1, 17).repeat(100_000), false),
            (chunk(2000, 4000).repeat(100), true),
        ] {
            let wire = chunks + "0\r\n\r\n";
            let outcome = decode_pieces(wire.as_bytes(), [wire.len()], &LIMITS);
            let wanted = "too much of the chunked body is no data";
            match outcome {
                Ok(found) => assert!(is_sound && found.is_some()),
                Err((status, reason)) => {
                    assert!(!is_sound);
                    assert_eq!((status, reason.as_str()), (400, wanted));
                }
            }
        }
    }

    #[test]
    fn data_come_out_and_the_rest_is_left() {
        let long = "x".repeat(MAX_LINE - 2);
        for (input, data, left) in [
            ("3\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("0\r\n\r\n", "", ""),
            ("0\r\n\r\nGET / HTTP/1.1\r\n", "", "GET / HTTP/1.1\r\n"),
            ("0\r\n\r\n\r\n", "", "\r\n"),
            ("1\r\na\r\n1\r\nb\r\n00\r\n\r\n0", "ab", "0"),
            (
                "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
                "01234567890123456789",
                "",
            ),
            (
                "2\r\n\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
                "\r\n0\r\n\r\n",
                "",
            ),
            (
                "0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n",
                "abc",
                "",
            ),
            ("3;a=b\r\nabc\r\n0;\r\n\r\n", "abc", ""),
            ("3 \t; a=\"b;\tc\u{e9}\"\r\nabc\r\n0 ;x\r\n\r\n", "abc", ""),
            ("3  \r\nabc\r\n0\t\r\n\r\n", "abc", ""),
            ("0\r\nX-A: b\r\nX-C:\r\nContent-Length: 5\r\n\r\nx", "", "x"),
            ("0\r\nX:\t\u{e9}\r\n\r\n", "", ""),
            (&format!("1;{long}\r\na\r\n0;{long}\r\n\r\n"), "a", ""),
        ] {
            let wanted = Ok(Some((data.as_bytes().to_vec(), left.len())));
            assert_eq!(decode(input), wanted, "{input:?}");
        }
    }

    #[test]
    fn a_body_that_has_not_ended_needs_more() {
        let whole = "3;a\r\nabc\r\n0\r\nX: y\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_is_malformed_is_rejected() {
        let size = "a chunk without a size";
        let line = "the size line of a chunk is malformed";
        let longer = "a chunk is longer than its size";
        let name = "malformed trailer name";
        let value = "control character in a trailer";
        let blank = "trailer line begins with white space";
        for (input, wanted) in [
            ("+", size),
            ("-", size),
            (" ", size),
            ("\r", size),
            ("\n", size),
            (";", size),
            ("z", size),
            ("\"", size),
            ("g", size),
            ("0x", line),
            ("3h", line),
            ("3_", line),
            ("3 4", line),
            ("3 \u{b}", line),
            ("3\n", line),
            ("3 \n", line),
            ("3;a\n", line),
            ("3;a\0", line),
            ("3;a\u{7f}", line),
            ("3;a\u{b}", line),
            ("3;a\rb", line),
            ("3\r\r", line),
            ("3\rb", line),
            ("3,", line),
            ("3g", line),
            ("00000000000000003", "the size of a chunk is too large"),
            ("10000000000000000", "the size of a chunk is too large"),
            ("3\r\nabcd", longer),
            ("3\r\nabc\n", longer),
            ("3\r\nabc0", longer),
            ("3\r\nabc\r0", longer),
            ("3\r\nabc\r\r", longer),
            ("3\r\nabc\r\n\r", size),
            ("3\r\nabc\r\n ", size),
            ("0\r\n\n", name),
            ("0\r\nX\r", name),
            ("0\r\nX ", name),
            ("0\r\n:", name),
            ("0\r\nX: y\r\nZ\n", name),
            ("0\r\n ", blank),
            ("0\r\nX: y\r\n\t", blank),
            ("0\r\nX: y\n", value),
            ("0\r\nX: \0", value),
            ("0\r\nX: y\rz", value),
            ("0\r\n\rX", "malformed end of the trailers"),
            ("0\r\n\r\r", "malformed end of the trailers"),
        ] {
            let found = decode(input);
            assert_eq!(found, Err((400, wanted.to_owned())), "{input:?}");
            // Not before the last byte: rejected as soon as it is there, and no sooner.
            let before = &input.as_bytes()[..input.len() - 1];
            assert_eq!(decode(before), Ok(None), "{input:?}");
        }
    }

    #[test]
    fn extensions_are_bounded() {
        let x = |number| "x".repeat(number);
        let too_long = Err((400, "the size line of a chunk is too long".to_owned()));
        assert_eq!(decode(format!("1;{}", x(MAX_LINE - 2))), Ok(None));
        assert_eq!(decode(format!("1;{}", x(MAX_LINE - 1))), too_long);
        assert_eq!(decode(format!("1{}", " ".repeat(MAX_LINE))), too_long);
        // Each line has its own bound.
        let many = format!("1;{}\r\na\r\n", x(MAX_LINE - 2)).repeat(4) + "0\r\n\r\n";
        assert_eq!(decode(many), Ok(Some((vec![b'a'; 4], 0))));
    }

    #[test]
    fn trailers_are_bounded_by_64_kib_or_the_limit_of_the_head() {
        for (head, most) in [(1024, 64 * 1024), (100_000, 100_000)] {
            let limits = RequestLimits { head, ..LIMITS };
            let too_large = format!("request trailers larger than {most} bytes");
            let too_large = Err((431, too_large));
            let with = |length: usize| {
                let line = format!("X: {}\r\n", "x".repeat(95));
                let lines = line.repeat(length / 100 - 1);
                let rest = "x".repeat(length - lines.len() - "X: \r\n\r\n".len());
                let trailers = format!("{lines}X: {rest}\r\n\r\n");
                assert_eq!(trailers.len(), length);
                format!("0\r\n{trailers}")
            };
            let decode = |text: &str| decode_within(text.as_bytes(), &limits);
            assert_eq!(decode(&with(most)), Ok(Some((Vec::new(), 0))));
            assert_eq!(decode(&with(most + 1)), too_large);
            // The byte behind the limit is not looked at.
            let full = format!("0\r\nX: {}", "x".repeat(most - 3));
            assert_eq!(decode(&full), Ok(None));
            assert_eq!(decode(&format!("{full}x")), too_large);
            assert_eq!(decode(&format!("{full}\0")), too_large);
        }
    }

    #[test]
    fn a_body_is_too_large_as_soon_as_a_size_line_says_so() {
        let limits = RequestLimits { body: 10, ..LIMITS };
        let too_large = "request body larger than 10 bytes (-max-body)".to_owned();
        let too_large = Err((413, too_large));
        let decode = |text: &str| decode_within(text.as_bytes(), &limits);
        let ten = "7\r\n0123456\r\n3\r\n789\r\n";
        assert_eq!(
            decode(&format!("{ten}0\r\n\r\n")),
            Ok(Some((b"0123456789".to_vec(), 0)))
        );
        assert_eq!(decode(&format!("{ten}1\r\n")), too_large);
        assert_eq!(decode(&format!("{ten}1\r")), Ok(None));
        assert_eq!(decode("b\r\n"), too_large);
        assert_eq!(decode("ffffffffffffffff\r\n"), too_large);
        assert_eq!(decode("1\r\na\r\nffffffffffffffff\r\n"), too_large);
    }
}
