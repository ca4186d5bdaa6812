//! A request's body: read whole, and replayed as often as it is needed.
//!
//! It is read before the first attempt: each endpoint gets the same, and a client that
//! breaks off causes no call. It is kept in memory up to 1 MiB, beyond that in an
//! unnamed temporary file; every attempt reads it at its own pace.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use chunked_transfer::Decoder;
use tiny_http::Request;

use crate::clients::Traffic;
use crate::exchange::{Checked, Framing, Refusal};
use crate::failure::describe;

/// A body up to this size, in bytes, is kept in memory.
const IN_MEMORY: usize = 1024 * 1024;

/// More pieces than a body has that comes together with its head.
const PIECES: usize = 256;

/// A request's body, whole.
#[derive(Clone, Debug)]
pub enum Body {
    /// The client has announced none.
    None,
    /// Up to 1 MiB.
    Memory(Arc<[u8]>),
    /// Beyond that: an unnamed file and its length in bytes.
    File(Arc<File>, u64),
}

impl Body {
    /// The length in bytes; `None` where the client has announced no body.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::File(_, length) => Some(*length),
        }
    }

    /// Reads what stands at `position`, as much as there is and fits; 0 bytes at the end.
    ///
    /// # Errors
    /// The file is shorter than it was: its end is not that of the body.
    pub fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None => Ok(0),
            Self::Memory(bytes) => {
                let position = usize::try_from(position).unwrap_or(usize::MAX);
                bytes.get(position..).unwrap_or_default().read(buffer)
            }
            Self::File(file, length) => match file.read_at(buffer, position)? {
                0 if position < *length && !buffer.is_empty() => {
                    let reason = "the temporary file of the request body was cut short";
                    Err(io::Error::other(reason))
                }
                amount => Ok(amount),
            },
        }
    }
}

/// Reads the whole body of a request, sending `100 Continue` where it is expected.
///
/// `traffic` tells what the client has sent on its connection: `tiny_http`'s reader does
/// not tell a chunked body that ends from one that breaks off inside a chunk. While
/// the client has not ended its side, it has not broken off. If it has, the number of
/// bytes must be that of a whole request, the first one on its connection.
pub fn read_body(
    request: &mut Request,
    checked: &Checked,
    max_body: u64,
    traffic: impl FnOnce() -> Option<Traffic>,
) -> Result<Body, Refusal> {
    let reader = match checked.framing {
        Framing::None => return Ok(Body::None),
        Framing::Length(0) => return Ok(Body::Memory(Arc::new([]))),
        Framing::Length(_) | Framing::Chunked => request.as_reader(),
    };
    let mut store = Store::new(max_body);
    match checked.framing {
        Framing::None => {}
        Framing::Length(length) => {
            store.fill(&mut reader.take(length))?;
            if store.length < length {
                return Err(broken_off(store.length));
            }
        }
        Framing::Chunked if checked.bare => {
            let mut decoder = Decoder::new(reader);
            store.fill(&mut decoder)?;
            if decoder.remaining_chunks_size().is_some() {
                return Err(broken_off(store.length));
            }
        }
        Framing::Chunked => {
            store.fill(reader)?;
            let whole = |traffic: Traffic| {
                !traffic.finished
                    || traffic.received == checked.usual_length + chunked_length(&store.pieces)
            };
            if !traffic().is_some_and(whole) {
                return Err(broken_off(store.length));
            }
        }
    }
    Ok(store.finish())
}

/// The length of a chunked body in bytes, with these chunks and no extensions.
fn chunked_length(chunks: &[usize]) -> u64 {
    let length = |chunk: &usize| (format!("{chunk:x}\r\n\r\n").len() + chunk) as u64;
    chunks.iter().map(length).sum::<u64>() + "0\r\n\r\n".len() as u64
}

fn broken_off(after: u64) -> Refusal {
    Refusal::bad(format!("request body broken off after {after} bytes"))
}

/// Collects a body: in memory first, then in a file.
struct Store {
    max_body: u64,
    length: u64,
    /// The lengths of the first few pieces: chunks, if they came with the head.
    pieces: Vec<usize>,
    memory: Vec<u8>,
    file: Option<File>,
}

impl Store {
    fn new(max_body: u64) -> Self {
        Self {
            max_body,
            length: 0,
            pieces: Vec::new(),
            memory: Vec::new(),
            file: None,
        }
    }

    fn fill(&mut self, reader: &mut dyn Read) -> Result<(), Refusal> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let amount = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(amount) => amount,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The chunked decoder's word for bytes that are no chunk.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Err(Refusal::bad("malformed chunked body"));
                }
                Err(_) => return Err(broken_off(self.length)),
            };
            self.length += amount as u64;
            if self.pieces.len() < PIECES {
                self.pieces.push(amount);
            }
            if self.length > self.max_body {
                return Err(body_too_large(self.max_body));
            }
            self.append(buffer.get(..amount).unwrap_or_default())
                .map_err(|error| {
                    Refusal::new(
                        500,
                        format!("can't store the request body: {}", describe(&error)),
                    )
                })?;
        }
    }

    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(piece);
        }
        self.memory.extend_from_slice(piece);
        if self.memory.len() > IN_MEMORY {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        Ok(())
    }

    fn finish(self) -> Body {
        match self.file {
            Some(file) => Body::File(Arc::new(file), self.length),
            None => Body::Memory(self.memory.into()),
        }
    }
}

/// The refusal of a body beyond the limit, in bytes.
#[must_use]
pub fn body_too_large(max_body: u64) -> Refusal {
    Refusal::new(
        413,
        format!("request body larger than {max_body} bytes (-max-body)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(body: &Body) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match body.read_at(bytes.len() as u64, &mut buffer)? {
                0 => return Ok(bytes),
                amount => bytes.extend_from_slice(&buffer[..amount]),
            }
        }
    }

    #[test]
    fn a_body_is_the_same_from_memory_and_from_a_file_as_often_as_it_is_read() {
        for length in [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut store = Store::new(u64::MAX);
            store.fill(&mut &*bytes).unwrap();
            let body = store.finish();
            assert_eq!(matches!(body, Body::File(..)), length > IN_MEMORY);
            assert_eq!(body.length(), Some(length as u64));
            assert!(read_all(&body).unwrap() == bytes);
            assert!(read_all(&body).unwrap() == bytes);
        }
    }

    #[test]
    fn a_body_that_gets_shorter_is_an_error_and_no_end() {
        let mut store = Store::new(u64::MAX);
        store.fill(&mut &*vec![1; IN_MEMORY + 1]).unwrap();
        let body = store.finish();
        let Body::File(file, _) = &body else { panic!() };
        file.set_len(10).unwrap();
        assert!(read_all(&body).is_err());
    }

    #[test]
    fn a_body_above_the_limit_is_too_large() {
        let mut store = Store::new(10);
        assert!(store.fill(&mut &[0; 10][..]).is_ok());
        assert_eq!(store.fill(&mut &[0; 1][..]).unwrap_err().status, 413);
    }

    #[test]
    fn a_chunked_body_is_as_long_as_it_is_written() {
        assert_eq!(chunked_length(&[]), "0\r\n\r\n".len() as u64);
        assert_eq!(
            chunked_length(&[3, 16]),
            "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n".len() as u64
        );
    }
}
