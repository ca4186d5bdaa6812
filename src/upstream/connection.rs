//! A connection to an endpoint, and one exchange after the other on it.
//!
//! - **Cancelling.** A [`Connection`] in use is registered with its attempt's
//!   [`AttemptControl`]; it belongs to no attempt while it is in the pool.
//! - **A strict end.** Only an orderly end is one: a reset is an error even where the body has
//!   no length (RFC 9112 6.3).
//! - **Both directions at once.** ureq sends first and reads then; it knows nothing
//!   of the body, which is sent from here, whenever input is waited for. An answer
//!   that comes early is taken in at once and held back while the endpoint goes on
//!   taking the body: it may be a 200 that is sent before the request is read. It is
//!   handed on when the body has been sent, when the endpoint has refused (a status
//!   from 300: then no more is sent, RFC 9112 9.5), when its head is complete and the
//!   endpoint has taken nothing for 200 ms, or when the input buffer is full. What
//!   is left of the body then goes out while the answer's body is relayed, so an
//!   endpoint may echo any amount, and nothing but these two buffers is ever held. A
//!   connection on which something remains unsent at the end is not used again.
//! - **Little cost.** Non-blocking sockets, one `poll` per real wait.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use ureq::unversioned::transport::Buffers as _;

use super::call::{Call, is_idle_timeout, offers_authentication, outside_a_call, with_call};
use super::capture::HeadCapture;
use super::control::AttemptControl;
use super::failure::{ExchangeFault, Failure};
use super::resolver::Resolver;
use super::stream::{Stream, acknowledge};
use crate::util::body::Body;
use crate::util::io_error::describe;

/// An endpoint that has answered and has taken nothing for so long will take no more.
const STALL: Duration = Duration::from_millis(200);

/// A connection to an endpoint.
#[allow(clippy::struct_excessive_bools)] // They are independent of each other.
pub struct Connection {
    stream: Stream,
    buffers: HeadCapture,
    /// The attempt that uses the connection; none while it is in the pool.
    control: Option<Arc<AttemptControl>>,
    /// It is authenticated as one client, by NTLM or Negotiate, or may be soon.
    is_private: bool,
    /// From then on it is used for no new exchange; none: without a limit.
    renew_at: Option<Instant>,
    /// The address that it was dialled to, and what the resolver knew at its last exchange.
    address: SocketAddr,
    lookups: u64,
    /// Whether an exchange has begun on it.
    used: bool,
    /// What is left of the request to be sent.
    pending: Option<PendingRequest>,
    /// Why the rest of the request was not sent. Such a connection is not reused.
    sending_ended: Option<Failure>,
    /// A write failed with ECONNRESET. The kernel reports that once; a following read sees EOF
    /// and must not take it for an orderly end.
    reset: bool,
    /// How the endpoint's side has ended. It is not asked again: it may have changed
    /// its mind, from an orderly end to a reset or the other way round.
    end: Option<Result<(), Failure>>,
    /// The request has just been sent: its answer can't be here yet.
    answer_due: bool,
}

/// What is left of a request.
struct PendingRequest {
    head: Vec<u8>,
    body: Body,
    /// What was read of the body, in bytes.
    position: u64,
    /// Where in the output buffer that stands which was read of it and not sent.
    piece: Range<usize>,
    /// When the endpoint took something for the last time.
    taken: Instant,
}

impl PendingRequest {
    fn take(&mut self, amount: usize) {
        let of_head = amount.min(self.head.len());
        self.head.drain(..of_head);
        self.piece.start += amount - of_head;
        self.taken = Instant::now();
    }
}

impl Connection {
    /// A new one on a connected, non-blocking socket that is registered with `control`. It is
    /// used for no new exchange from `renew_at` on.
    pub(super) fn new(
        socket: Arc<TcpStream>,
        control: Arc<AttemptControl>,
        address: SocketAddr,
        renew_at: Option<Instant>,
    ) -> Self {
        Self {
            stream: Stream::new(socket),
            buffers: HeadCapture::new(),
            control: Some(control),
            renew_at,
            address,
            lookups: 0,
            is_private: false,
            used: false,
            pending: None,
            sending_ended: None,
            reset: false,
            end: None,
            answer_due: false,
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(super) fn buffers(&mut self) -> &mut HeadCapture {
        &mut self.buffers
    }

    /// Whether it must be given to no other client connection.
    pub(super) fn is_private(&self) -> bool {
        self.is_private
    }

    /// Whether it is time to dial a new one instead.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.renew_at.is_some_and(|at| at <= now)
    }

    /// Whether the endpoint's name has another address by now.
    pub(super) fn has_moved(&mut self, resolver: &Arc<Resolver>) -> bool {
        self.renew_at.is_some() && !resolver.still_has(self.address, &mut self.lookups)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Sends what goes without waiting of the call's request.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.begin_exchange()?;
        self.send()?;
        self.answer_due = true;
        Ok(())
    }

    /// Waits until there is something to read for ureq; false at the end.
    pub(super) fn await_input(&mut self) -> Result<bool, Failure> {
        loop {
            self.buffers.check_chunks()?;
            let amount = match self.receive()? {
                Received::Bytes(amount) => amount,
                Received::Stall => return Ok(true),
                Received::End if self.buffers.holds_a_head() => return Ok(true),
                Received::End if self.buffers.waits_for_head() => {
                    let received = with_call(|call| call.trace.received);
                    return Err(Failure::Broken(if received == Some(true) {
                        ExchangeFault::HeadCut
                    } else {
                        ExchangeFault::NoAnswer
                    }));
                }
                Received::End => {
                    self.buffers.check_end()?;
                    return Ok(false);
                }
            };
            if self.buffers.is_body() {
                if self.buffers.append(amount)? {
                    return Ok(true);
                }
                self.control()?.check_in_passing()?;
                continue;
            }
            with_call(|call| call.trace.received = true);
            let has_head = self.buffers.append(amount)?;
            if has_head && is_idle_timeout() {
                return Err(Failure::Broken(ExchangeFault::IdleTimeout));
            }
            self.is_private |= has_head && offers_authentication();
            // An answer that has only begun may be a refusal.
            if !self.holds_back() && has_head {
                return Ok(true);
            }
            if !has_head {
                self.control()?.check_in_passing()?;
            }
        }
    }

    /// Whether the connection can be used again. It belongs to no attempt any more.
    pub(super) fn end_exchange(&mut self) -> bool {
        let sent = self.finish_sending();
        let Some(control) = self.control.take() else {
            return false;
        };
        control.release(self.stream.socket());
        self.buffers.inner.shrink();
        // A cancel before the release has shut the socket down; a later one does not.
        let whole = sent.is_ok() && self.pending.is_none() && self.sending_ended.is_none();
        whole
            && self.end.is_none()
            && (self.is_private || !self.is_due(Instant::now()))
            && control.check().is_ok()
    }

    /// At the first I/O of a call: takes over its request and registers with its control.
    fn begin_exchange(&mut self) -> Result<(), Failure> {
        let (control, head, body, is_head, authenticates) = with_call(|call| {
            call.trace.pooled = self.used;
            (
                Arc::clone(&call.control),
                std::mem::take(&mut call.head),
                call.body.clone(),
                call.is_head,
                call.authenticates,
            )
        })
        .ok_or_else(outside_a_call)?;
        if self.control.is_none() {
            control.register(self.stream.socket())?;
            self.control = Some(control);
        }
        self.used = true;
        self.is_private |= authenticates;
        self.buffers.inner.expect_body(body.length().unwrap_or(0));
        self.pending = Some(PendingRequest {
            head,
            body,
            position: 0,
            piece: 0..0,
            taken: Instant::now(),
        });
        self.buffers.begin_answer(is_head);
        Ok(())
    }

    fn control(&self) -> Result<&Arc<AttemptControl>, Failure> {
        self.control.as_ref().ok_or_else(outside_a_call)
    }

    fn release(&mut self) {
        if let Some(control) = self.control.take() {
            control.release(self.stream.socket());
        }
    }

    /// Sends as much of the request as the endpoint takes without waiting; true while
    /// something is left. Once the endpoint takes no more, nothing is: it may have
    /// answered.
    fn send(&mut self) -> Result<bool, Failure> {
        while let Some(pending) = &mut self.pending {
            let output = self.buffers.inner.output();
            if pending.piece.is_empty() {
                let amount = pending
                    .body
                    .read_at(pending.position, output)
                    .map_err(|error| Failure::Internal(describe(&error)))?;
                pending.position += amount as u64;
                pending.piece = 0..amount;
            }
            let piece = output.get(pending.piece.clone()).unwrap_or_default();
            let result = if pending.head.is_empty() && piece.is_empty() {
                self.stream.flush().map(|()| None)
            } else {
                self.stream.write(&pending.head, piece).map(Some)
            };
            match result {
                Ok(None) => self.pending = None,
                Ok(Some(amount)) => {
                    if !pending.head.is_empty() {
                        with_call(Call::note_sent);
                    }
                    pending.take(amount);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.control()?.check()?;
                    self.reset = error.kind() == io::ErrorKind::ConnectionReset;
                    self.stop_sending(Failure::from_io(&error));
                }
            }
        }
        Ok(false)
    }

    fn stop_sending(&mut self, why: Failure) {
        self.pending = None;
        self.sending_ended = Some(why);
    }

    /// Whether an answer that has come early, at least in part, is still to be kept from
    /// ureq. No more is sent to an endpoint that has refused.
    fn holds_back(&mut self) -> bool {
        if self.pending.is_none() || self.buffers.inner.input_append_buf().is_empty() {
            return false;
        }
        if self.buffers.refuses() {
            self.stop_sending(Failure::Broken(ExchangeFault::AnsweredEarly));
        }
        self.pending.is_some()
    }

    /// Reads into the input buffer, and sends what is left of the request meanwhile.
    fn receive(&mut self) -> Result<Received, Failure> {
        let control = Arc::clone(self.control()?);
        if let Some(end) = &self.end {
            return end.clone().map(|()| Received::End);
        }
        if std::mem::take(&mut self.answer_due) && self.pending.is_none() && !self.stream.is_tls() {
            control.wait(self.stream.socket(), PollFlags::IN)?;
        }
        let held_back = self.pending.is_some() && self.buffers.holds_a_head();
        let end = loop {
            let sending = self.send()?;
            let room = self.buffers.inner.input_append_buf();
            if room.is_empty() {
                // Reading nothing would look like the end.
                let reason = "an answer does not fit into its buffer".to_owned();
                return Err(Failure::Internal(reason));
            }
            match self.stream.read(room) {
                Ok(0) if self.reset => {
                    break Err(Failure::broken(&io::ErrorKind::ConnectionReset.into()));
                }
                Ok(0) => break Ok(()),
                Ok(amount) => return Ok(Received::Bytes(amount)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let stalled = self.pending.as_ref().map(|pending| pending.taken + STALL);
                    if held_back && stalled.is_none_or(|at| at <= Instant::now()) {
                        return Ok(Received::Stall);
                    }
                    let mut wanted = PollFlags::IN;
                    if sending || self.stream.wants_write() {
                        wanted |= PollFlags::OUT;
                    }
                    acknowledge(self.stream.socket());
                    let until = stalled.filter(|_| held_back);
                    match control.wait_until(self.stream.socket(), wanted, until) {
                        // The head is here: it has come in time.
                        Err(Failure::Timeout(_)) if held_back => return Ok(Received::Stall),
                        ready => self.note_taken(ready?),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(Failure::from_io(&error)),
            }
        };
        // A cancel looks like an end, and so does a request that was not taken whole.
        control.check()?;
        if self.pending.is_some() {
            self.stop_sending(Failure::Broken(ExchangeFault::RequestCut));
        }
        self.end = Some(end.clone());
        // An alert of TLS 1.3 about the client's certificate comes only now, and says
        // more than that the request was not taken.
        let says_why = matches!(end, Err(Failure::Tls(_)));
        match &self.sending_ended {
            Some(_) if self.buffers.holds_a_head() => Ok(Received::End),
            Some(failure) if self.buffers.waits_for_head() && !says_why => Err(failure.clone()),
            _ => end.map(|()| Received::End),
        }
    }

    /// Waits for the endpoint to take the rest of the request, as long as it does.
    fn finish_sending(&mut self) -> Result<(), Failure> {
        let control = Arc::clone(self.control()?);
        let (until, _) = control.limit().instant();
        while self.send()? && Instant::now() < until {
            let stalled = self.pending.as_ref().map(|pending| pending.taken + STALL);
            let ready = control.wait_until(self.stream.socket(), PollFlags::OUT, stalled)?;
            if ready.is_empty() {
                break;
            }
            self.note_taken(ready);
        }
        Ok(())
    }

    /// Room in the socket's buffer means that the endpoint has taken something.
    fn note_taken(&mut self, ready: PollFlags) {
        if let Some(pending) = &mut self.pending
            && ready.contains(PollFlags::OUT)
        {
            pending.taken = Instant::now();
        }
    }
}

/// What [`Connection::receive`] has come back with.
enum Received {
    /// So many bytes, in the free part of the input buffer.
    Bytes(usize),
    /// An orderly end.
    End,
    /// Nothing more, but a head is there, and the endpoint takes nothing either.
    Stall,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("socket", self.stream.socket())
            .field("tls", &self.stream.is_tls())
            .finish_non_exhaustive()
    }
}
