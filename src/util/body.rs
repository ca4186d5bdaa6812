//! A request's body: stored once, replayed as often as it is needed.
//!
//! It is kept in memory up to 1 MiB, beyond that in an unnamed temporary file. Each attempt
//! reads it at its own pace, by position.
//!
//! Cost: a body in memory takes what it is long and at most 64 KiB more, also while it comes in. Only
//! its first 64 KiB are moved as they grow. An allocator that keeps freed memory for later keeps less of
//! pieces than of wholes.

use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use log::warn;

use super::io_error::describe;
use super::random;

/// A body up to this size, in bytes, is kept in memory.
const IN_MEMORY: usize = 1024 * 1024;

/// It is kept there in pieces of so many bytes; the last one may be shorter.
const PIECE_SIZE: usize = 64 * 1024;

/// A request's body, whole.
#[derive(Clone, Debug)]
pub enum Body {
    /// The client has announced none.
    None,
    /// Up to 1 MiB, in pieces.
    Memory(Arc<[Vec<u8>]>),
    /// Beyond that: an unnamed file and its length in bytes.
    File(Arc<File>, u64),
}

impl Body {
    /// The length in bytes; `None` where the client has announced no body.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Memory(pieces) => Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Self::File(_, length) => Some(*length),
        }
    }

    /// Reads some of what stands at `position`, as much as fits; 0 bytes at the end.
    ///
    /// # Errors
    /// The file is shorter than it was: its end is not that of the body.
    pub fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None => Ok(0),
            Self::Memory(pieces) => {
                let position = usize::try_from(position).unwrap_or(usize::MAX);
                let piece = pieces.get(position / PIECE_SIZE);
                let rest = piece.and_then(|piece| piece.get(position % PIECE_SIZE..));
                rest.unwrap_or_default().read(buffer)
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

/// Logs a warning if there is no room for temporary files, so that a body that does not fit
/// into memory could not be received.
pub fn check_storage() {
    if let Err(error) = unnamed_file().and_then(|mut file| file.write_all(&[0])) {
        warn!(
            "cannot write to {:?}, the folder for request bodies above {} MiB: {}: they will be \
             refused (TMPDIR names another folder)",
            env::temp_dir().to_string_lossy(),
            IN_MEMORY >> 20,
            describe(&error)
        );
    }
}

/// A new file in the folder for temporary files, without a name: it goes with its last user.
fn unnamed_file() -> io::Result<File> {
    loop {
        let number = random::number();
        let path = env::temp_dir().join(format!("request-body.{number:016x}"));
        // Not through a link, nor a file that is there.
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Collects a body: in memory first, then in a file.
#[derive(Debug, Default)]
pub struct BodyWriter {
    length: u64,
    pieces: Vec<Vec<u8>>,
    file: Option<File>,
}

impl BodyWriter {
    /// Bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// There is no room for the temporary file.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(bytes);
        }
        if self.length <= IN_MEMORY as u64 {
            self.keep(bytes);
            return Ok(());
        }
        let mut file = unnamed_file()?;
        for piece in mem::take(&mut self.pieces) {
            file.write_all(&piece)?;
        }
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Appends `bytes` to what is in memory.
    fn keep(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let has_room = self
                .pieces
                .last()
                .is_some_and(|last| last.len() < PIECE_SIZE);
            if !has_room {
                // Most bodies are short: the first piece grows with its body.
                let is_first = self.pieces.is_empty();
                let capacity = if is_first { 0 } else { PIECE_SIZE };
                self.pieces.push(Vec::with_capacity(capacity));
            }
            if let Some(last) = self.pieces.last_mut() {
                let room = PIECE_SIZE - last.len();
                let (now, later) = bytes.split_at(bytes.len().min(room));
                last.reserve_exact(now.len().max(last.len()).min(room));
                last.extend_from_slice(now);
                bytes = later;
            }
        }
    }

    /// The whole body.
    #[must_use]
    pub fn finish(self) -> Body {
        match self.file {
            Some(file) => Body::File(Arc::new(file), self.length),
            None => Body::Memory(self.pieces.into()),
        }
    }
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
        let lengths = [
            0,
            1,
            PIECE_SIZE - 1,
            PIECE_SIZE,
            PIECE_SIZE + 1,
            200_000,
            IN_MEMORY,
            IN_MEMORY + 1,
            3 * IN_MEMORY,
        ];
        for length in lengths {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            for most in [1_000, PIECE_SIZE, PIECE_SIZE + 7, 5 * PIECE_SIZE] {
                let mut writer = BodyWriter::default();
                for piece in bytes.chunks(most) {
                    writer.append(piece).unwrap();
                }
                let body = writer.finish();
                assert_eq!(matches!(body, Body::File(..)), length > IN_MEMORY);
                assert_eq!(body.length(), Some(length as u64));
                assert!(read_all(&body).unwrap() == bytes);
                assert!(read_all(&body).unwrap() == bytes);
                let mut rest = [0; 10];
                assert_eq!(body.read_at(length as u64, &mut rest).unwrap(), 0);
            }
        }
    }

    #[test]
    fn a_temporary_file_that_gets_shorter_is_an_error_and_no_end() {
        let mut writer = BodyWriter::default();
        writer.append(&vec![1; IN_MEMORY + 1]).unwrap();
        let body = writer.finish();
        let Body::File(file, _) = &body else { panic!() };
        file.set_len(10).unwrap();
        assert!(read_all(&body).is_err());
    }
}
