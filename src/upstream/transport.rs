//! The ureq transport: what is said to an endpoint, byte by byte, and when to stop.
//!
//! ureq does the calling: message framing, parsing. Underneath, this module
//! sees to what its own transport does not:
//!
//! - **Cancelling.** A [`Connection`] in use is registered with its attempt's
//!   [`Control`]; it belongs to no attempt while it is in the pool.
//! - **Pooling.** For each call ureq asks its connector for a connection and gets a
//!   [`Lease`] of one from the endpoint's [`UpstreamPool`], or of a new one. A connection
//!   goes back when ureq has read its answer to the end and would pool it; ureq is told
//!   that it is closed, so its own pool stays empty. In all other cases the connection ends
//!   with its lease: after an error, a cancel, an answer that is dropped before its end.
//! - **Heads as they are.** ureq's header map sorts duplicates together and
//!   lower-cases names. A proxy must not: the request's head is written by
//!   [`crate::http::forward`] and put in the place of ureq's, the answer's head is kept as
//!   it came (see [`Call`]).
//! - **A strict end.** Only an orderly end is one: a reset, or TLS that ends without
//!   `close_notify`, is an error even where the body has no length (RFC 9112 6.3,
//!   RFC 8446 6.1).
//! - **Chunks as they should be.** A chunked body passes through [`Chunks`] before ureq
//!   sees it.
//! - **Both directions at once.** ureq sends first and reads then; it is told nothing
//!   of the body, which is sent from here, whenever input is waited for. An answer
//!   that comes early is taken in at once and held back while the endpoint goes on
//!   taking the body: it may be a 200 that is sent before the request is read. It is
//!   handed on when the body has been sent, when the endpoint has refused (a status
//!   from 300: then no more is sent, RFC 9112 9.5), when its head is complete and the
//!   endpoint has taken nothing for 200 ms, or when the input buffer is full. What
//!   is left of the body then goes out while the answer's body is relayed, so an
//!   endpoint may echo any amount, and nothing but these two buffers is ever held. A
//!   connection on which something remains unsent at the end is not used again.
//! - **Little cost.** Non-blocking sockets, one `poll` per real wait; reusing a
//!   connection costs one `recv` as a liveness probe. It is made however short the
//!   connection was idle: it also finds bytes that came after the last answer, which would
//!   be taken for the next one, and an orderly end, after which a request that must not be
//!   repeated would be lost.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::upstream::chunked::Chunks;
use crate::upstream::connector::dial;
use crate::upstream::control::Control;
use crate::upstream::failure::{Failure, Timeout};
use crate::upstream::pool::UpstreamPool;
use crate::upstream::resolver::Resolver;
use crate::upstream::tls;
use crate::util::body::Body;
use crate::util::io_error::describe;

/// The longest head of an answer. ureq's buffer is one byte larger, so that a head
/// that does not fit is told from one that is not complete yet.
pub const MAX_ANSWER_HEAD: usize = INPUT_BUFFER - 1;

const INPUT_BUFFER: usize = 64 * 1024;
const OUTPUT_BUFFER: usize = 32 * 1024;

/// An endpoint that has answered and has taken nothing for so long will take no more.
const STALL: Duration = Duration::from_millis(200);

/// What one call and its transport tell each other, past ureq.
#[derive(Debug)]
pub struct Call {
    /// The attempt's reins.
    pub control: Arc<Control>,
    /// The request's head, sent in place of ureq's.
    pub head: Vec<u8>,
    /// What follows the head.
    pub body: Body,
    /// Tells from an answer's head whether a chunked body follows.
    pub has_chunks: fn(&[u8]) -> bool,
    /// Dial; do not take a connection from the pool.
    pub fresh: bool,
    /// What came of it.
    pub seen: Seen,
}

/// What the transport saw during a call.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Each one is an observation of its own.
pub struct Seen {
    /// The connection came from the pool.
    pub pooled: bool,
    /// At least one byte of the request was sent.
    pub sent: bool,
    /// At least one byte of an answer was received.
    pub received: bool,
    /// The head of the final answer, as it came, with the empty line.
    pub head: Option<Vec<u8>>,
    /// The beginning of the body came together with the head.
    pub body_begun: bool,
}

thread_local! {
    /// The call that this thread makes just now. ureq has no other way to hand
    /// something to a connector or a transport.
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Runs `body`, in which ureq is called, as `call`.
pub fn run<T>(call: Call, body: impl FnOnce() -> T) -> (T, Option<Seen>) {
    CALL.set(Some(call));
    // Left behind by a panic, the call is overwritten by the thread's next one.
    let result = body();
    (result, CALL.take().map(|call| call.seen))
}

fn with_call<T>(f: impl FnOnce(&mut Call) -> T) -> Option<T> {
    CALL.with_borrow_mut(|call| call.as_mut().map(f))
}

/// ureq resolves on every call, also when a connection is pooled. The dialler does
/// it instead, when it has to.
#[derive(Debug)]
pub struct NoResolver;

impl UreqResolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// TLS towards an endpoint: the shared settings and the name to verify.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Roots, client certificate, ALPN.
    pub config: Arc<ClientConfig>,
    /// The endpoint's name as it must stand in its certificate.
    pub name: ServerName<'static>,
}

/// The idle connections to one endpoint.
pub type Pool = UpstreamPool<Box<Connection>>;

/// Finds or makes a connection to one endpoint.
#[derive(Debug)]
pub struct Dialler {
    /// Where connections wait for their next call.
    pub pool: Arc<Pool>,
    /// Finds the addresses.
    pub resolver: Arc<Resolver>,
    /// For an https endpoint.
    pub tls: Option<Tls>,
    /// Name look-up, TCP and TLS handshake together.
    pub connect_timeout: Duration,
}

impl Connector for Dialler {
    type Out = Lease;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Lease>, ureq::Error> {
        let call = with_call(|call| (Arc::clone(&call.control), call.fresh));
        let (control, fresh) = call.ok_or_else(outside_a_call)?;
        let pooled = if fresh { None } else { self.pooled() };
        let connection = match pooled {
            Some(connection) => connection,
            None => Box::new(self.open(&control).map_err(Failure::into_io)?),
        };
        Ok(Some(Lease {
            connection: Some(connection),
            pool: Arc::clone(&self.pool),
            no_buffers: LazyBuffers::new(1, 1),
        }))
    }
}

impl Dialler {
    /// The most recently used connection on which nothing has happened since.
    fn pooled(&self) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.pool.take()?;
            if connection.link.is_idle() {
                return Some(connection);
            }
        }
    }

    fn open(&self, control: &Arc<Control>) -> Result<Connection, Failure> {
        let outer = control.limit();
        let limit = outer.or_before(
            Instant::now() + self.connect_timeout,
            Timeout::Connect(self.connect_timeout),
        );
        let (until, timeout) = limit.instant();
        let addresses = self.resolver.resolve(control, until, timeout)?;
        let socket = dial(&addresses, control, until, timeout)?;
        // From here on the connection's drop releases the socket.
        let mut connection = Connection {
            link: Link { socket, tls: None },
            buffers: HeadTap::new(),
            control: Some(Arc::clone(control)),
            used: false,
            unsent: None,
            sending_ended: None,
            reset: false,
            end: None,
            answer_due: false,
        };
        if let Some(tls) = &self.tls {
            control.set_limit(limit);
            connection.link.handshake(tls, control)?;
            control.set_limit(outer);
        }
        Ok(connection)
    }
}

/// A connection to an endpoint.
pub struct Connection {
    link: Link,
    buffers: HeadTap,
    /// The attempt that uses the connection; none while it is in the pool.
    control: Option<Arc<Control>>,
    /// Whether an exchange has begun on it.
    used: bool,
    /// What is left of the request to be sent.
    unsent: Option<Unsent>,
    /// Why the rest of the request was not sent. Such a connection is not reused.
    sending_ended: Option<Failure>,
    /// A write has met a reset. The kernel tells of it only once; it is no orderly end,
    /// which would have made it a broken pipe.
    reset: bool,
    /// How the endpoint's side has ended. It is not asked again: it may have changed
    /// its mind, from an orderly end to a reset or the other way round.
    end: Option<Result<(), Failure>>,
    /// The request has just been sent: its answer can't be here yet.
    answer_due: bool,
}

/// What is left of a request.
struct Unsent {
    head: Vec<u8>,
    body: Body,
    /// What was read of the body, in bytes.
    position: u64,
    /// Where in the output buffer that stands which was read of it and not sent.
    piece: Range<usize>,
    /// When the endpoint took something for the last time.
    taken: Instant,
}

impl Unsent {
    fn take(&mut self, amount: usize) {
        let of_head = amount.min(self.head.len());
        self.head.drain(..of_head);
        self.piece.start += amount - of_head;
        self.taken = Instant::now();
    }
}

/// A connection for the length of one call: what ureq has instead of the connection.
pub struct Lease {
    /// None once it has gone back to the pool.
    connection: Option<Box<Connection>>,
    pool: Arc<Pool>,
    no_buffers: LazyBuffers,
}

impl Lease {
    fn connection(&mut self) -> Result<&mut Connection, ureq::Error> {
        self.connection.as_deref_mut().ok_or_else(outside_a_call)
    }
}

impl Transport for Lease {
    fn buffers(&mut self) -> &mut dyn Buffers {
        match &mut self.connection {
            Some(connection) => &mut connection.buffers,
            None => &mut self.no_buffers,
        }
    }

    /// `_amount` is that of ureq's head: it is small, so it comes whole and alone.
    fn transmit_output(&mut self, _amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let connection = self.connection()?;
        connection.begin_exchange()?;
        connection.send().map_err(Failure::into_io)?;
        connection.answer_due = true;
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        self.connection()?.await_input()
    }

    /// ureq asks when the exchange has ended in good order, with no input left over, and
    /// would put an open connection into its own pool. It drops this lease next.
    fn is_open(&mut self) -> bool {
        if let Some(mut connection) = self.connection.take()
            && connection.end_exchange()
        {
            self.pool.put(connection);
        }
        false
    }

    fn is_tls(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.link.tls.is_some())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.connection).finish()
    }
}

impl Connection {
    fn await_input(&mut self) -> Result<bool, ureq::Error> {
        loop {
            self.buffers.check_chunks().map_err(Failure::into_io)?;
            let amount = match self.receive().map_err(Failure::into_io)? {
                Received::Bytes(amount) => amount,
                Received::End => {
                    self.buffers.check_end().map_err(Failure::into_io)?;
                    return Ok(false);
                }
                Received::Stall => return Ok(true),
            };
            if !self.buffers.waiting_for_head {
                if self.buffers.append(amount) {
                    return Ok(true);
                }
                continue;
            }
            self.buffers.inner.input_appended(amount);
            with_call(|call| call.seen.received = true);
            self.buffers.skip_interim();
            if !self.holds_back() {
                return Ok(true);
            }
        }
    }

    /// Whether the connection can be used again. It belongs to no attempt any more.
    fn end_exchange(&mut self) -> bool {
        let sent = self.finish_sending();
        let Some(control) = self.control.take() else {
            return false;
        };
        control.release(&self.link.socket);
        // A cancel before the release has shut the socket down; a later one does not.
        let whole = sent.is_ok() && self.unsent.is_none() && self.sending_ended.is_none();
        whole && self.end.is_none() && control.check().is_ok()
    }

    /// At the first I/O of a call: takes over its request and registers with its control.
    fn begin_exchange(&mut self) -> Result<(), ureq::Error> {
        let (control, head, body) = with_call(|call| {
            call.seen.pooled = self.used;
            (
                Arc::clone(&call.control),
                std::mem::take(&mut call.head),
                call.body.clone(),
            )
        })
        .ok_or_else(outside_a_call)?;
        if self.control.is_none() {
            control
                .register(&self.link.socket)
                .map_err(Failure::into_io)?;
            self.control = Some(control);
        }
        self.used = true;
        self.unsent = Some(Unsent {
            head,
            body,
            position: 0,
            piece: 0..0,
            taken: Instant::now(),
        });
        self.buffers.waiting_for_head = true;
        self.buffers.chunks = None;
        Ok(())
    }

    fn control(&self) -> Result<&Arc<Control>, Failure> {
        self.control
            .as_ref()
            .ok_or_else(|| Failure::Internal("a connection is used outside a call".to_owned()))
    }

    fn release(&mut self) {
        if let Some(control) = self.control.take() {
            control.release(&self.link.socket);
        }
    }

    /// Sends as much of the request as the endpoint takes without waiting; true while
    /// something is left. Once the endpoint takes no more, nothing is: it may have
    /// answered.
    fn send(&mut self) -> Result<bool, Failure> {
        while let Some(unsent) = &mut self.unsent {
            let output = self.buffers.inner.output();
            if unsent.piece.is_empty() {
                let amount = unsent
                    .body
                    .read_at(unsent.position, output)
                    .map_err(|error| Failure::Internal(describe(&error)))?;
                unsent.position += amount as u64;
                unsent.piece = 0..amount;
            }
            let piece = output.get(unsent.piece.clone()).unwrap_or_default();
            let result = if unsent.head.is_empty() && piece.is_empty() {
                self.link.flush().map(|()| None)
            } else {
                self.link.push(&unsent.head, piece).map(Some)
            };
            match result {
                Ok(None) => self.unsent = None,
                Ok(Some(amount)) => {
                    if !unsent.head.is_empty() {
                        with_call(|call| call.seen.sent = true);
                    }
                    unsent.take(amount);
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
        self.unsent = None;
        self.sending_ended = Some(why);
    }

    /// Whether an answer that has come early, at least in part, is still to be kept from
    /// ureq. No more is sent to an endpoint that has refused.
    fn holds_back(&mut self) -> bool {
        if self.unsent.is_none() || self.buffers.inner.input_append_buf().is_empty() {
            return false;
        }
        if refuses(self.buffers.inner.input()) {
            let reason = "answered before the whole request was sent";
            self.stop_sending(Failure::Broken(reason.to_owned()));
        }
        self.unsent.is_some()
    }

    /// Whether the head of the answer is here, and ureq has not taken it yet.
    fn holds_a_head(&self) -> bool {
        self.buffers.waiting_for_head && head_end(self.buffers.inner.input()).is_some()
    }

    /// Reads into the input buffer, and sends what is left of the request meanwhile.
    fn receive(&mut self) -> Result<Received, Failure> {
        let control = Arc::clone(self.control()?);
        if let Some(end) = &self.end {
            return end.clone().map(|()| Received::End);
        }
        if std::mem::take(&mut self.answer_due) && self.unsent.is_none() && self.link.tls.is_none()
        {
            control.wait(&self.link.socket, PollFlags::IN)?;
        }
        let held_back = self.unsent.is_some() && self.holds_a_head();
        let end = loop {
            let sending = self.send()?;
            match self.link.pull(self.buffers.inner.input_append_buf()) {
                Ok(0) if self.reset => {
                    break Err(Failure::broken(&io::ErrorKind::ConnectionReset.into()));
                }
                Ok(0) => break Ok(()),
                Ok(amount) => return Ok(Received::Bytes(amount)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let stalled = self.unsent.as_ref().map(|unsent| unsent.taken + STALL);
                    if held_back && stalled.is_none_or(|at| at <= Instant::now()) {
                        return Ok(Received::Stall);
                    }
                    let mut wanted = PollFlags::IN;
                    if sending || self.link.wants_write() {
                        wanted |= PollFlags::OUT;
                    }
                    acknowledge(&self.link.socket);
                    let until = stalled.filter(|_| held_back);
                    match control.wait_until(&self.link.socket, wanted, until) {
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
        if self.unsent.is_some() {
            let reason = "connection closed before the whole request was sent";
            self.stop_sending(Failure::Broken(reason.to_owned()));
        }
        self.end = Some(end.clone());
        // An alert of TLS 1.3 about the client's certificate comes only now, and tells
        // more than that the request was not taken.
        let says_why = matches!(end, Err(Failure::Tls(_)));
        match &self.sending_ended {
            Some(_) if self.holds_a_head() => Ok(Received::End),
            Some(failure) if self.buffers.waiting_for_head && !says_why => Err(failure.clone()),
            _ => end.map(|()| Received::End),
        }
    }

    /// Waits for the endpoint to take the rest of the request, as long as it does.
    fn finish_sending(&mut self) -> Result<(), Failure> {
        let control = Arc::clone(self.control()?);
        let (until, _) = control.limit().instant();
        while self.send()? && Instant::now() < until {
            let stalled = self.unsent.as_ref().map(|unsent| unsent.taken + STALL);
            let ready = control.wait_until(&self.link.socket, PollFlags::OUT, stalled)?;
            if ready.is_empty() {
                break;
            }
            self.note_taken(ready);
        }
        Ok(())
    }

    /// Room in the socket's buffer means that the endpoint has taken something.
    fn note_taken(&mut self, ready: PollFlags) {
        if let Some(unsent) = &mut self.unsent
            && ready.contains(PollFlags::OUT)
        {
            unsent.taken = Instant::now();
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
            .field("socket", &self.link.socket)
            .field("tls", &self.link.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Reads from a socket without libc's `recv`: no look whether it is a client's (see
/// [`crate::downstream::seam`]).
struct Receiving<'a>(&'a TcpStream);

impl Read for Receiving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::empty())?.0)
    }
}

/// The socket, with or without TLS on it. Nothing here waits: what can't be done at
/// once is [`io::ErrorKind::WouldBlock`].
struct Link {
    socket: Arc<TcpStream>,
    tls: Option<Box<ClientConnection>>,
}

impl Link {
    fn handshake(&mut self, tls: &Tls, control: &Control) -> Result<(), Failure> {
        let mut session = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone())
            .map_err(|error| tls::failure(&error))?;
        session.set_buffer_limit(Some(2 * OUTPUT_BUFFER));
        let session = self.tls.insert(Box::new(session));
        while session.is_handshaking() || session.wants_write() {
            let (result, wanted) = if session.wants_write() {
                (session.write_tls(&mut &*self.socket), PollFlags::OUT)
            } else {
                (
                    session.read_tls(&mut Receiving(&self.socket)),
                    PollFlags::IN,
                )
            };
            match result {
                Ok(0) if wanted == PollFlags::IN => {
                    control.check()?;
                    return Err(Failure::Tls(
                        "connection closed during the TLS handshake".to_owned(),
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    control.wait(&self.socket, wanted)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    control.check()?;
                    return Err(Failure::Tls(format!(
                        "{} during the TLS handshake",
                        describe(&error)
                    )));
                }
            }
            if let Err(error) = session.process_new_packets() {
                // Best effort: tell the endpoint why, as an alert.
                let _ = session.write_tls(&mut &*self.socket);
                return Err(tls::failure(&error));
            }
        }
        Ok(())
    }

    /// Takes as much of the two pieces as goes without waiting.
    fn push(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        let Some(session) = &mut self.tls else {
            return match (&*self.socket).write_vectored(&pieces) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                result => result,
            };
        };
        loop {
            match session.writer().write_vectored(&pieces)? {
                // The session's buffer is full: it has to get rid of some first.
                0 => {
                    session.write_tls(&mut &*self.socket)?;
                }
                taken => return Ok(taken),
            }
        }
    }

    /// Hands everything that was pushed to the kernel.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            while session.wants_write() {
                session.write_tls(&mut &*self.socket)?;
            }
        }
        Ok(())
    }

    fn wants_write(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|session| session.wants_write())
    }

    /// Reads what is there; 0 bytes at an orderly end.
    fn pull(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.tls else {
            return Receiving(&self.socket).read(buffer);
        };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let reason = "connection closed early (TLS without close_notify)";
                    return Err(Failure::Broken(reason.to_owned()).into_io());
                }
                result => return result,
            }
            // A session may owe the peer an answer: a key update, an alert. Where the peer
            // takes nothing more, what it said last is still to be read.
            if session.wants_write() {
                let _ = session.write_tls(&mut &*self.socket);
            }
            session.read_tls(&mut Receiving(&self.socket))?;
            session
                .process_new_packets()
                .map_err(|error| tls::failure(&error).into_io())?;
        }
    }

    /// Whether nothing at all has happened since the last exchange. TLS 1.3 sends
    /// its session tickets when it likes: they are taken in.
    fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&*self.socket, &mut byte, flags) {
            Err(rustix::io::Errno::WOULDBLOCK) => true,
            Ok((1.., _)) if self.tls.is_some() => {
                matches!(self.pull(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            _ => false,
        }
    }
}

/// ureq's buffers, and a look at the answer's head as ureq takes it out.
struct HeadTap {
    inner: LazyBuffers,
    waiting_for_head: bool,
    /// How far a chunked body has come.
    chunks: Option<Chunks>,
}

impl HeadTap {
    fn new() -> Self {
        Self {
            inner: LazyBuffers::new(INPUT_BUFFER, OUTPUT_BUFFER),
            waiting_for_head: false,
            chunks: None,
        }
    }

    /// Appends the first `amount` bytes of the free part, or what is left of them when
    /// chunk extensions and trailers have been cut out. False if that is nothing: ureq
    /// would take it for the end.
    fn append(&mut self, amount: usize) -> bool {
        let free = self.inner.input_append_buf();
        let left = match (&mut self.chunks, free.get_mut(..amount)) {
            (Some(chunks), Some(piece)) => chunks.pass(piece),
            _ => amount,
        };
        self.inner.input_appended(left);
        left > 0
    }

    /// All that was right with the chunks has been taken out before this is asked.
    fn check_chunks(&self) -> Result<(), Failure> {
        match self.chunks.as_ref().and_then(Chunks::fault) {
            Some(fault) => Err(Failure::Broken(fault.to_owned())),
            None => Ok(()),
        }
    }

    /// The endpoint has closed: a chunked body must have ended.
    fn check_end(&self) -> Result<(), Failure> {
        if self.chunks.as_ref().is_none_or(Chunks::have_ended) {
            return Ok(());
        }
        self.check_chunks()?;
        let reason = "connection closed in the middle of the answer";
        Err(Failure::Broken(reason.to_owned()))
    }

    /// Drops complete interim answers (RFC 9110 15.2), which nobody asked for. ureq
    /// would do it too, but fails on a `100 Continue` with headers. A 101 stays: it
    /// is an answer to the `Upgrade` that is never sent, and no usable one.
    fn skip_interim(&mut self) {
        loop {
            let input = self.inner.input();
            // RFC 9112 2.2: empty lines in front are tolerated, in front of any head.
            let blank = input.iter().take_while(|byte| b"\r\n".contains(byte));
            match (blank.count(), interim_head(input)) {
                (0, None) => return,
                (0, Some(length)) | (length, _) => self.inner.input_consume(length),
            }
        }
    }
}

/// The length of the head at the start of `input`, if it is complete. As in ureq's
/// parser, a bare LF ends a line, too (RFC 9112 2.2).
fn head_end(input: &[u8]) -> Option<usize> {
    let mut line_ends = (1..).zip(input).filter(|(_, byte)| **byte == b'\n');
    line_ends.find_map(|(end, _)| match input.get(end..) {
        Some([b'\n', ..]) => Some(end + 1),
        Some([b'\r', b'\n', ..]) => Some(end + 2),
        _ => None,
    })
}

/// A final answer that is no success: the endpoint does not want the body.
fn refuses(input: &[u8]) -> bool {
    matches!(input.get(9), Some(b'3'..=b'9'))
}

/// The length of the complete interim head at the start of `input`.
fn interim_head(input: &[u8]) -> Option<usize> {
    let is_interim = input.starts_with(b"HTTP/1.")
        && input.get(8..10) == Some(b" 1")
        && input.get(10..12) != Some(b"01");
    if !is_interim {
        return None;
    }
    head_end(input)
}

impl Buffers for HeadTap {
    fn output(&mut self) -> &mut [u8] {
        self.inner.output()
    }

    fn input(&self) -> &[u8] {
        self.inner.input()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.inner.input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.inner.input_appended(amount);
    }

    /// The first bytes that ureq takes are the head of the final answer, whole.
    fn input_consume(&mut self, amount: usize) {
        if !self.waiting_for_head || amount == 0 {
            return self.inner.input_consume(amount);
        }
        self.waiting_for_head = false;
        let input = self.inner.input();
        let (head, rest) = input.split_at_checked(amount).unwrap_or_default();
        let has_chunks = with_call(|call| {
            call.seen.head = Some(head.to_vec());
            call.seen.body_begun = !rest.is_empty();
            (call.has_chunks)(head)
        });
        if has_chunks != Some(true) {
            return self.inner.input_consume(amount);
        }
        // What came together with the head goes the way of what follows.
        self.chunks = Some(Chunks::new());
        let rest = rest.to_vec();
        self.inner.input_consume(amount + rest.len());
        let free = self.inner.input_append_buf();
        if let Some(free) = free.get_mut(..rest.len()) {
            free.copy_from_slice(&rest);
            self.append(rest.len());
        }
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.inner.tmp_and_output()
    }

    fn can_use_input(&self) -> bool {
        self.inner.can_use_input()
    }
}

/// Acknowledges at once what has come so far. An endpoint that writes head and body
/// separately, with Nagle's algorithm on, sends the body only when the head has been
/// acknowledged, which the kernel would put off for 40 ms.
fn acknowledge(socket: &TcpStream) {
    // Where it does not work, it is just slower.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_quickack(socket, true);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

fn outside_a_call() -> ureq::Error {
    Failure::Internal("a connection is used outside a call".to_owned())
        .into_io()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_head_is_told_from_an_answer() {
        let table: [(&[u8], Option<usize>); 10] = [
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", Some(25)),
            (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Some(37)),
            (b"HTTP/1.1 102 P\n\nHTTP/1.1 200 OK\r\n\r\n", Some(16)),
            (b"HTTP/1.1 103 P\nLink: x\r\n\nHTTP", Some(25)),
            (b"HTTP/1.1 103 P\r\nLink: x\n\r\nHTTP", Some(26)),
            (b"HTTP/1.1 100 Continue\r\n", None),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", None),
            (b"HTTP/1.1 200 OK\r\n\r\n", None),
            (b"HTTP/1.1", None),
            (b"garbage 1\r\n\r\n", None),
        ];
        for (input, wanted) in table {
            assert_eq!(interim_head(input), wanted);
        }
    }

    #[test]
    fn a_success_or_half_a_status_is_no_refusal() {
        for status in ["100", "200", "299", "413", "503"] {
            let head = format!("HTTP/1.1 {status} X");
            assert_eq!(refuses(head.as_bytes()), status > "300");
        }
        assert!(!refuses(b"HTTP/1.1 "));
    }
}
