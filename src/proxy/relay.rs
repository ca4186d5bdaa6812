//! Copies the winner's answer to the client, as it comes.
//!
//! Each piece is flushed when it has been read, so event streams and trickles arrive
//! event by event; memory is one buffer, whatever the body's size. What has been
//! begun and can't be completed is reported as such: the caller cuts the connection,
//! so that the client sees a truncation and never a clean end.

use std::io::{self, Write};

use crate::http::response::BodyFraming;
use crate::upstream::failure::Failure;
use crate::upstream::response::Response;

/// Bytes read from the endpoint at once.
const COPY_BUFFER: usize = 64 * 1024;

/// Room in front of a piece for its chunk size: up to eight hex digits and CRLF.
const CHUNK_SIZE_ROOM: usize = 10;

/// Why a relay broke off.
#[derive(Debug)]
pub enum Broken {
    /// The endpoint broke off after the client had been answered in part.
    Endpoint(Failure),
    /// The client does not take the answer.
    Client(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Client(error)
    }
}

/// Relays `answer` to `client`. `pending` is what goes out with the next piece: at first the head.
/// The framing says whether the end is marked by the end of the connection, which is then the
/// caller's to make.
///
/// # Errors
/// The client does not have the whole answer.
pub fn relay(
    client: &mut dyn Write,
    mut answer: Response,
    mut pending: Vec<u8>,
    framing: BodyFraming,
) -> Result<(), Broken> {
    if let (BodyFraming::Length(_), Some(body)) = (framing, answer.in_memory())
        && body.len() <= COPY_BUFFER
    {
        // One copy, one write.
        pending.extend_from_slice(body);
        client.write_all(&pending)?;
        client.flush()?;
        return Ok(());
    }
    let chunked = framing == BodyFraming::Chunked;
    let ends_with_head = matches!(framing, BodyFraming::Bodiless | BodyFraming::Length(0));
    if !answer.body_begun && !ends_with_head {
        // The body may take long: the client should know what is coming.
        client.write_all(&pending)?;
        client.flush()?;
        pending.clear();
    }
    let size = match framing {
        BodyFraming::Length(length) => usize::try_from(length)
            .unwrap_or(COPY_BUFFER)
            .min(COPY_BUFFER),
        _ => COPY_BUFFER,
    };
    let mut piece = vec![0; CHUNK_SIZE_ROOM + size + 2];
    loop {
        let room = CHUNK_SIZE_ROOM..CHUNK_SIZE_ROOM + size;
        let amount = match answer.read(piece.get_mut(room).unwrap_or_default()) {
            Ok(amount) => amount,
            Err(failure) => {
                // What the client was promised goes out, so that it sees the cut.
                client.write_all(&pending)?;
                client.flush()?;
                return Err(Broken::Endpoint(failure));
            }
        };
        let out = if chunked {
            chunk(&mut piece, amount)
        } else {
            piece
                .get(CHUNK_SIZE_ROOM..CHUNK_SIZE_ROOM + amount)
                .unwrap_or_default()
        };
        if pending.is_empty() {
            client.write_all(out)?;
        } else {
            // One write, one packet where it fits.
            pending.extend_from_slice(out);
            client.write_all(&pending)?;
            pending.clear();
        }
        client.flush()?;
        if amount == 0 {
            return Ok(());
        }
    }
}

/// Frames the `amount` bytes at `CHUNK_SIZE_ROOM` in place (RFC 9112 7.1). No bytes
/// give the last chunk and the empty trailer section.
fn chunk(piece: &mut [u8], amount: usize) -> &[u8] {
    let mut size = [0; CHUNK_SIZE_ROOM];
    let mut left = size.as_mut_slice();
    // It has room for every size.
    let _ = write!(left, "{amount:x}\r\n");
    let length = CHUNK_SIZE_ROOM - left.len();
    let start = CHUNK_SIZE_ROOM - length;
    let end = CHUNK_SIZE_ROOM + amount;
    if let Some(room) = piece.get_mut(start..CHUNK_SIZE_ROOM) {
        room.copy_from_slice(size.get(..length).unwrap_or_default());
    }
    if let Some(room) = piece.get_mut(end..end + 2) {
        room.copy_from_slice(b"\r\n");
    }
    piece.get(start..end + 2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_framed_in_place() {
        for (text, wanted) in [
            ("", "0\r\n\r\n"),
            ("abc", "3\r\nabc\r\n"),
            ("0123456789abcdef", "10\r\n0123456789abcdef\r\n"),
        ] {
            let mut piece = vec![0; CHUNK_SIZE_ROOM + text.len() + 2];
            piece[CHUNK_SIZE_ROOM..CHUNK_SIZE_ROOM + text.len()].copy_from_slice(text.as_bytes());
            assert_eq!(chunk(&mut piece, text.len()), wanted.as_bytes());
        }
    }

    #[test]
    fn the_largest_piece_fits() {
        let mut piece = vec![0; CHUNK_SIZE_ROOM + COPY_BUFFER + 2];
        assert!(chunk(&mut piece, COPY_BUFFER).starts_with(b"10000\r\n"));
    }
}
