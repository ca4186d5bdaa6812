//! The way of the answer to the client: [`Responder`].
//!
//! Nothing is held back: each write goes out on the connection's own duplicate of the socket,
//! past `tiny_http`, and waits only where the socket's buffer is full.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::connection::{ClientConnection, End};
use super::limits::{Limits, StallTimer};
use super::table::{Table, Work};
use crate::http::local_reply::rejected;
use crate::http::request::{Persistence, Rejection};
use crate::logging::{RequestName, RequestReport};
use crate::util::go_duration::GoDuration;

/// The way of the answer to the client.
///
/// Writing waits as long as the client makes progress (`-client-timeout`). Dropped without
/// [`Responder::finish`], it answers 500 if nothing has been written, else it cuts the
/// connection, so that what was written does not look like a whole answer.
#[derive(Debug)]
pub struct Responder {
    connection: Arc<ClientConnection>,
    table: Arc<Table>,
    /// Counts the request as worked on until it is answered.
    work: Option<Work>,
    persistence: Persistence,
    is_head: bool,
    begun: bool,
    /// Bytes so far.
    sent: u64,
    timer: StallTimer,
}

impl Responder {
    pub(super) fn new(
        connection: Arc<ClientConnection>,
        table: Arc<Table>,
        work: Work,
        persistence: Persistence,
        is_head: bool,
    ) -> Self {
        Self {
            timer: StallTimer::new(table.limits().client_timeout),
            connection,
            table,
            work: Some(work),
            persistence,
            is_head,
            begun: false,
            sent: 0,
        }
    }

    /// What the response says about the connection: what the client has asked for, or that it
    /// closes, while the proxy stops or where other connections need its room.
    pub fn persistence(&mut self) -> Persistence {
        if self.table.is_stopping() || self.connection.is_shut() || self.table.takes_room() {
            self.persistence = Persistence::Close;
        }
        self.persistence
    }

    /// Whether this process has cut the request off, because it has not ended in time.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.connection.is_cut_off()
    }

    /// How many bytes of the answer, its head included, have gone out.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends a whole answer, and finishes it as [`Responder::finish`] does. What a client that
    /// has gone does not take is dropped. Returns how many bytes have gone out.
    #[allow(clippy::must_use_candidate)] // Most callers want the answer sent, and no more.
    pub fn send(mut self, answer: &[u8], persistence: Persistence) -> u64 {
        let written = self.write_all(answer);
        let sent = self.sent;
        match written {
            Ok(()) => self.finish(persistence),
            Err(_) => self.abort(),
        }
        sent
    }

    /// The answer is whole. The connection stays open unless `persistence` says otherwise.
    pub fn finish(mut self, persistence: Persistence) {
        self.end(match persistence {
            Persistence::Close => End::Close,
            _ => End::KeepOpen,
        });
    }

    /// The answer is cut short: the connection is closed.
    pub fn abort(mut self) {
        self.end(End::Cut);
    }

    /// The answer is cut short, and its end would be the connection's: it is reset.
    pub fn reset(mut self) {
        self.end(End::Reset);
    }

    fn end(&mut self, end: End) {
        self.connection.end_answer(end);
        self.work = None;
    }
}

impl Write for Responder {
    /// Writes all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun = true;
        let half_close = self.table.limits().half_close;
        let (timer, sent) = (&mut self.timer, &mut self.sent);
        send_all(&self.connection, bytes, timer, half_close, sent)?;
        Ok(bytes.len())
    }

    /// Nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.work.is_none() {
            return;
        }
        if self.begun {
            self.end(End::Cut);
            return;
        }
        let mut rejection = Rejection::new(500, "internal error");
        rejection.is_head = self.is_head;
        let answered = self.write_all(&refusal(&rejection, self.table.limits()));
        self.end(if answered.is_ok() {
            End::Close
        } else {
            End::Cut
        });
    }
}

/// The answer to a request that is rejected now by a server with these limits.
pub(super) fn refusal(rejection: &Rejection, limits: &Limits) -> Vec<u8> {
    rejected(rejection, SystemTime::now(), limits.is_origin)
}

/// Logs that a request of `client` was rejected, the first byte of which was received then, with
/// an answer of which so many bytes have gone out.
pub fn log_refusal(rejection: &Rejection, client: SocketAddr, received_at: Instant, sent: u64) {
    let line = rejection.request_line.as_deref();
    let request = RequestName {
        method: line.map_or("", |line| &line.method),
        target: line.map_or(b"", |line| &line.target),
        client,
    };
    let (status, duration) = (Some(rejection.status), received_at.elapsed());
    let report = RequestReport {
        reason: Some(&rejection.reason),
        ..RequestReport::without_endpoint(request, status, sent, duration)
    };
    let client = request.client();
    report.log(format_args!("refused a request of {client}: {rejection}"));
}

/// Sends `bytes` to the client, until `timer` is over, and adds to `sent` what has gone out.
///
/// # Errors
/// The client has gone, takes nothing, or its connection is closed to make room.
pub(super) fn send_all(
    connection: &ClientConnection,
    mut bytes: &[u8],
    timer: &mut StallTimer,
    half_close: bool,
    sent: &mut u64,
) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    while !bytes.is_empty() {
        match rustix::net::send(connection.socket(), bytes, flags) {
            Ok(amount) => {
                timer.add(std::time::Duration::ZERO, amount as u64);
                *sent += amount as u64;
                bytes = bytes.get(amount..).unwrap_or_default();
            }
            Err(Errno::AGAIN) => {
                let waited = connection.wait_for_reader(timer, half_close);
                waited.map_err(|error| in_words(error, *timer))?;
            }
            Err(Errno::INTR) => {}
            Err(_) if connection.is_leaving() => {
                return Err(in_words(ErrorKind::ConnectionAborted.into(), *timer));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The words of the log for a client that does not take its answer.
fn in_words(error: io::Error, timer: StallTimer) -> io::Error {
    let text = match error.kind() {
        ErrorKind::TimedOut => format!(
            "took too little of the answer for {} (-client-timeout)",
            GoDuration::from(timer.most())
        ),
        ErrorKind::ConnectionAborted => {
            "was closed to make room for others (-max-connections)".to_owned()
        }
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}
