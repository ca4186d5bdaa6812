//! A request's body: stored once, replayed as often as it is needed.
//!
//! It is kept in memory up to 1 MiB, beyond that in an unnamed temporary file. Each attempt
//! reads it at its own pace, by position.

use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use log::warn;

use super::io_error::describe;
use super::random;

/// A body up to this size, in bytes, is kept in memory.
const IN_MEMORY: usize = 1024 * 1024;

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
    memory: Vec<u8>,
    file: Option<File>,
}

impl BodyWriter {
    /// Bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends `piece`.
    ///
    /// # Errors
    /// There is no room for the temporary file.
    pub fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.length += piece.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(piece);
        }
        if self.memory.len() + piece.len() <= IN_MEMORY {
            self.memory.extend_from_slice(piece);
            return Ok(());
        }
        let mut file = unnamed_file()?;
        file.write_all(&self.memory)?;
        file.write_all(piece)?;
        self.memory = Vec::new();
        self.file = Some(file);
        Ok(())
    }

    /// The whole body.
    #[must_use]
    pub fn finish(self) -> Body {
        match self.file {
            Some(file) => Body::File(Arc::new(file), self.length),
            None => Body::Memory(self.memory.into()),
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
        for length in [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut writer = BodyWriter::default();
            for piece in bytes.chunks(64 * 1024) {
                writer.append(piece).unwrap();
            }
            let body = writer.finish();
            assert_eq!(matches!(body, Body::File(..)), length > IN_MEMORY);
            assert_eq!(body.length(), Some(length as u64));
            assert!(read_all(&body).unwrap() == bytes);
            assert!(read_all(&body).unwrap() == bytes);
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
