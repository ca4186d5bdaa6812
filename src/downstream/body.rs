//! Receiving a request's body: whole, within its limits, before the handler is called.
//!
//! A body that breaks off, stalls or is malformed reaches no endpoint. What follows it in
//! the receive buffer is the next request, and is left there.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::connection::ClientConnection;
use super::limits::{Limits, StallTimer};
use super::received::{CloseReason, Received, SHUT_PAUSE};
use super::responder::send_all;
use crate::http::chunked::{ChunkedDecoder, Decoded};
use crate::http::request::{Framing, Rejection, RequestLimits};
use crate::util::body::{Body, BodyWriter};
use crate::util::io_error::describe;

/// Bytes of a body that are read at once.
const BODY_READ: usize = 64 * 1024;

/// RFC 9110 15.2.1. It has no header fields.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Receives the body of a request whose head has just been taken out of `received`.
///
/// # Errors
/// The body is not whole: with the rejection, if the client can still be answered.
pub(super) fn receive(
    connection: &ClientConnection,
    received: &mut Received,
    framing: Framing,
    expects_continue: bool,
    limits: &Limits,
) -> Result<Body, CloseReason> {
    match framing {
        Framing::None => return Ok(Body::None),
        Framing::Length(0) => return Ok(Body::Memory(Arc::new([]))),
        Framing::Length(_) | Framing::Chunked => {}
    }
    let mut timer = StallTimer::new(limits.client_timeout);
    if expects_continue && received.unused().is_empty() {
        let sent = send_all(connection, CONTINUE, &mut timer, true, &mut 0);
        sent.map_err(|_| CloseReason::Silent)?;
    }
    let mut source = Source {
        connection,
        received,
        timer,
        writer: BodyWriter::default(),
    };
    match framing {
        Framing::Length(length) => source.take(length)?,
        _ => source.take_chunks(&limits.sizes())?,
    }
    Ok(source.writer.finish())
}

struct Source<'a> {
    connection: &'a ClientConnection,
    received: &'a mut Received,
    timer: StallTimer,
    writer: BodyWriter,
}

impl Source<'_> {
    /// A body of `length` bytes.
    fn take(&mut self, length: u64) -> Result<(), CloseReason> {
        loop {
            let left = length - self.writer.length();
            let bytes = self.received.unused();
            let amount = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let piece = bytes.get(..amount).unwrap_or_default();
            append(&mut self.writer, &mut self.timer, piece)?;
            self.received.consume(amount);
            if self.writer.length() == length {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// A chunked body.
    fn take_chunks(&mut self, sizes: &RequestLimits) -> Result<(), CloseReason> {
        let mut decoder = ChunkedDecoder::new(sizes);
        loop {
            let bytes = self.received.unused();
            let mut rest = bytes;
            let is_whole = loop {
                match decoder.decode(&mut rest)? {
                    Decoded::Data(piece) => {
                        append(&mut self.writer, &mut self.timer, piece)?;
                    }
                    Decoded::NeedsMore => break false,
                    Decoded::End => break true,
                }
            };
            let amount = bytes.len() - rest.len();
            self.received.consume(amount);
            if is_whole {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Receives more, as soon as there is more.
    fn fill(&mut self) -> Result<(), CloseReason> {
        loop {
            match self
                .received
                .receive(self.connection.socket(), BODY_READ, RecvFlags::DONTWAIT)
            {
                Ok(1..) => return Ok(()),
                Err(Errno::AGAIN) => {
                    let waited = self.connection.wait_for_body(&mut self.timer);
                    waited.map_err(|error| match error.kind() {
                        std::io::ErrorKind::TimedOut => Rejection::new(
                            408,
                            "request body not received in time (-client-timeout)",
                        )
                        .into(),
                        _ => CloseReason::Silent,
                    })?;
                }
                Ok(0) if self.connection.is_shut() && !self.timer.is_over() => {
                    thread::sleep(SHUT_PAUSE);
                    self.timer.add(SHUT_PAUSE, 0);
                }
                Ok(_) | Err(_) => return Err(Rejection::broken_off(self.writer.length()).into()),
            }
        }
    }
}

/// Stores a piece of the body. Only that is progress: not what stands around chunks.
fn append(
    writer: &mut BodyWriter,
    timer: &mut StallTimer,
    piece: &[u8],
) -> Result<(), CloseReason> {
    timer.add(Duration::ZERO, piece.len() as u64);
    writer.append(piece).map_err(|error| {
        let reason = format!("can't store the request body: {}", describe(&error));
        Rejection::new(500, reason).into()
    })
}
