//! The ureq transport: what is said to an endpoint, byte by byte, and when to stop.
//!
//! ureq does the calling: pool, message framing, parsing. Underneath, this module
//! sees to what its own transport does not:
//!
//! - **Cancelling.** A [`Connection`] in use is registered with its attempt's
//!   [`Control`]; it belongs to no attempt while it is in the pool.
//! - **Heads as they are.** ureq's header map sorts duplicates together and
//!   lower-cases names. A proxy must not: the request's head is written by
//!   [`crate::forward`] and put in the place of ureq's, which is told nothing but
//!   the message's shape; the answer's head is kept as it came (see [`Call`]).
//! - **A strict end.** Only an orderly end is one: a reset, or TLS that ends without
//!   `close_notify`, is an error even where the body has no length (RFC 9112 6.3,
//!   RFC 8446 6.1).
//! - **Early answers.** While a body is being sent, an answer that comes early is
//!   read and kept, be it a 413 that is followed by a reset, or an echo that would
//!   otherwise block both sides.
//! - **Little cost.** Non-blocking sockets, one `poll` per real wait; reusing a
//!   connection costs one `recv` as a liveness probe.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tempfile::SpooledTempFile;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::control::Control;
use crate::dial::dial;
use crate::failure::{Failure, Timeout, describe};
use crate::resolver::Resolver;
use crate::tls;

/// The longest head of an answer. ureq's buffer is one byte larger, so that a head
/// that does not fit is told from one that is not complete yet.
pub const MAX_ANSWER_HEAD: usize = INPUT_BUFFER - 1;

const INPUT_BUFFER: usize = 64 * 1024;
const OUTPUT_BUFFER: usize = 32 * 1024;

/// An answer that comes while the body is still being sent is kept in memory up to
/// this size, then in an unnamed temporary file.
const EARLY_IN_MEMORY: usize = 1024 * 1024;

/// What one call and its transport tell each other, past ureq.
#[derive(Debug)]
pub struct Call {
    /// The attempt's reins.
    pub control: Arc<Control>,
    /// The request's head, sent in place of ureq's.
    pub head: Vec<u8>,
    /// Whether a body follows: then head and first piece leave together.
    pub has_body: bool,
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

/// Makes the connections of one endpoint.
#[derive(Debug)]
pub struct Dialler {
    /// Finds the addresses.
    pub resolver: Arc<Resolver>,
    /// For an https endpoint.
    pub tls: Option<Tls>,
    /// Name look-up, TCP and TLS handshake together.
    pub connect_timeout: Duration,
}

impl Connector for Dialler {
    type Out = Connection;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let control = with_call(|call| Arc::clone(&call.control)).ok_or_else(outside_a_call)?;
        Ok(Some(self.open(&control).map_err(Failure::into_io)?))
    }
}

impl Dialler {
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
            sending_ended: None,
            early: None,
            head: Vec::new(),
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
    /// Why the rest of the request was not sent. Such a connection is not reused.
    sending_ended: Option<Failure>,
    /// What came while the request was being sent.
    early: Option<Early>,
    /// The request's head, waiting for the first piece of the body.
    head: Vec<u8>,
    /// The request has just been sent: its answer can't be here yet.
    answer_due: bool,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        if let Some(has_body) = self.begin_exchange()? {
            // `amount` is ureq's head: it is small, so it comes whole and alone.
            if has_body {
                return Ok(());
            }
            return Ok(self.send(0).map_err(Failure::into_io)?);
        }
        Ok(self.send(amount).map_err(Failure::into_io)?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let amount = self.receive().map_err(Failure::into_io)?;
        self.buffers.inner.input_appended(amount);
        if amount > 0 && self.buffers.waiting_for_head {
            with_call(|call| call.seen.received = true);
            self.buffers.skip_interim();
        }
        Ok(amount > 0)
    }

    /// Called when the connection goes back to the pool, and when it is taken out.
    fn is_open(&mut self) -> bool {
        if self.control.is_some() {
            self.release();
            return self.sending_ended.is_none() && self.early.is_none();
        }
        let fresh = with_call(|call| call.fresh).unwrap_or(false);
        !fresh && self.link.is_idle()
    }

    fn is_tls(&self) -> bool {
        self.link.tls.is_some()
    }
}

impl Connection {
    /// At the first I/O of a call: takes over its head and registers with its
    /// control. Tells whether a body follows; nothing in the middle of an exchange.
    fn begin_exchange(&mut self) -> Result<Option<bool>, ureq::Error> {
        if self.control.is_some() && self.used {
            return Ok(None);
        }
        let (control, head, has_body) = with_call(|call| {
            call.seen.pooled = self.used;
            (
                Arc::clone(&call.control),
                std::mem::take(&mut call.head),
                call.has_body,
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
        self.head = head;
        self.buffers.waiting_for_head = true;
        Ok(Some(has_body))
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

    /// Sends what is left of the head and `amount` bytes of the output buffer.
    ///
    /// Once the endpoint takes no more, the rest is swallowed: it may have answered.
    fn send(&mut self, amount: usize) -> Result<(), Failure> {
        self.answer_due = true;
        if self.sending_ended.is_some() {
            return Ok(());
        }
        let control = Arc::clone(self.control()?);
        let head = std::mem::take(&mut self.head);
        let mut sent = 0;
        loop {
            let output = self.buffers.inner.output();
            let first = head.get(sent..).unwrap_or_default();
            let second = output
                .get(sent.saturating_sub(head.len())..amount)
                .unwrap_or_default();
            let result = if first.is_empty() && second.is_empty() {
                match self.link.flush() {
                    Ok(()) => return Ok(()),
                    Err(error) => Err(error),
                }
            } else {
                self.link.push(first, second)
            };
            match result {
                Ok(pushed) => {
                    if sent == 0 {
                        with_call(|call| call.seen.sent = true);
                    }
                    sent += pushed;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let wanted = PollFlags::OUT | PollFlags::IN;
                    let ready = control.wait(&self.link.socket, wanted)?;
                    if ready.contains(PollFlags::IN) && self.take_early()? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    control.check()?;
                    self.sending_ended = Some(Failure::from_io(&error));
                    return Ok(());
                }
            }
        }
    }

    /// Reads what the endpoint says while it is being talked to. True when there is
    /// no point in sending on: it has refused, or it has gone.
    fn take_early(&mut self) -> Result<bool, Failure> {
        let mut piece = vec![0; OUTPUT_BUFFER];
        let reason = match self.link.pull(&mut piece) {
            Ok(0) => "connection closed before the whole request was sent",
            Ok(amount) => {
                let early = self.early.get_or_insert_with(Early::new);
                early
                    .append(piece.get(..amount).unwrap_or_default())
                    .map_err(|error| Failure::Internal(describe(&error)))?;
                if !early.refuses() {
                    return Ok(false);
                }
                "answered before the whole request was sent"
            }
            Err(error) if is_transient(&error) => return Ok(false),
            Err(error) => {
                self.control()?.check()?;
                self.sending_ended = Some(Failure::from_io(&error));
                return Ok(true);
            }
        };
        self.sending_ended = Some(Failure::Broken(reason.to_owned()));
        Ok(true)
    }

    /// Reads into the input buffer; 0 bytes at an orderly end.
    fn receive(&mut self) -> Result<usize, Failure> {
        let control = Arc::clone(self.control()?);
        let buffer = self.buffers.inner.input_append_buf();
        if let Some(early) = &mut self.early {
            let amount = early
                .take(buffer)
                .map_err(|error| Failure::Internal(describe(&error)))?;
            if amount > 0 {
                return Ok(amount);
            }
            self.early = None;
        }
        if std::mem::take(&mut self.answer_due) && self.link.tls.is_none() {
            control.wait(&self.link.socket, PollFlags::IN)?;
        }
        loop {
            match self.link.pull(buffer) {
                Ok(0) => break,
                Ok(amount) => return Ok(amount),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanted = PollFlags::IN;
                    if self.link.wants_write() {
                        wanted |= PollFlags::OUT;
                    }
                    acknowledge(&self.link.socket);
                    control.wait(&self.link.socket, wanted)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    control.check()?;
                    let failure = Failure::from_io(&error);
                    // An alert of TLS 1.3 about the client's certificate comes only now,
                    // and tells more than that the request was not taken.
                    let says_why = matches!(failure, Failure::Tls(_));
                    let unsent = self.sending_ended.is_some() && self.buffers.waiting_for_head;
                    if unsent && !says_why {
                        break;
                    }
                    return Err(failure);
                }
            }
        }
        // A cancel looks like an end, and so does a request that was not taken whole.
        control.check()?;
        match &self.sending_ended {
            Some(failure) if self.buffers.waiting_for_head => Err(failure.clone()),
            _ => Ok(0),
        }
    }
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
            .field("tls", &self.is_tls())
            .finish_non_exhaustive()
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
                (session.read_tls(&mut &*self.socket), PollFlags::IN)
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
            return (&*self.socket).read(buffer);
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
            session.read_tls(&mut &*self.socket)?;
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

/// What an endpoint said while it was still being talked to.
struct Early {
    file: SpooledTempFile,
    written: u64,
    taken: u64,
    /// `HTTP/1.1 NNN`, as far as it has come.
    status_line: Vec<u8>,
}

impl Early {
    fn new() -> Self {
        Self {
            file: SpooledTempFile::new(EARLY_IN_MEMORY),
            written: 0,
            taken: 0,
            status_line: Vec::new(),
        }
    }

    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        const WANTED: usize = "HTTP/1.1 NNN".len();
        let missing = WANTED - self.status_line.len();
        self.status_line.extend(piece.iter().take(missing));
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(piece)?;
        self.written += piece.len() as u64;
        Ok(())
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.taken))?;
        let amount = self.file.read(buffer)?;
        self.taken += amount as u64;
        Ok(amount)
    }

    /// A final answer that is no success: the endpoint does not want the body
    /// (RFC 9112 9.5: a client that is told so stops sending).
    fn refuses(&self) -> bool {
        matches!(self.status_line.get(9), Some(b'3'..=b'9'))
    }
}

/// ureq's buffers, and a look at the answer's head as ureq takes it out.
struct HeadTap {
    inner: LazyBuffers,
    waiting_for_head: bool,
}

impl HeadTap {
    fn new() -> Self {
        Self {
            inner: LazyBuffers::new(INPUT_BUFFER, OUTPUT_BUFFER),
            waiting_for_head: false,
        }
    }

    /// Drops complete interim answers (RFC 9110 15.2), which nobody asked for. ureq
    /// would do it too, but fails on a `100 Continue` with headers. A 101 stays: it
    /// is an answer to the `Upgrade` that is never sent, and no usable one.
    fn skip_interim(&mut self) {
        while let Some(length) = interim_head(self.inner.input()) {
            self.inner.input_consume(length);
        }
    }
}

/// The length of the complete interim head at the start of `input`.
fn interim_head(input: &[u8]) -> Option<usize> {
    let is_interim = input.starts_with(b"HTTP/1.")
        && input.get(8..10) == Some(b" 1")
        && input.get(10..12) != Some(b"01");
    if !is_interim {
        return None;
    }
    let end = input.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
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
        if self.waiting_for_head && amount > 0 {
            self.waiting_for_head = false;
            let (head, rest) = self
                .inner
                .input()
                .split_at_checked(amount)
                .unwrap_or_default();
            with_call(|call| {
                call.seen.head = Some(head.to_vec());
                call.seen.body_begun = !rest.is_empty();
            });
        }
        self.inner.input_consume(amount);
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

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_head_is_told_from_an_answer() {
        let table: [(&[u8], Option<usize>); 7] = [
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", Some(25)),
            (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Some(37)),
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
    fn an_early_answer_comes_out_as_it_came_in() {
        let mut early = Early::new();
        early.append(b"HTTP/1.1 ").unwrap();
        assert!(!early.refuses());
        early.append(b"413 Too").unwrap();
        assert!(early.refuses());
        let mut buffer = [0; 10];
        assert_eq!(early.take(&mut buffer).unwrap(), 10);
        assert_eq!(&buffer, b"HTTP/1.1 4");
        early.append(b" Large").unwrap();
        let mut rest = Vec::new();
        while let Ok(amount @ 1..) = early.take(&mut buffer) {
            rest.extend_from_slice(&buffer[..amount]);
        }
        assert_eq!(rest, b"13 Too Large");
    }

    #[test]
    fn a_success_that_comes_early_is_no_refusal() {
        for status in ["100", "200", "299"] {
            let mut early = Early::new();
            early
                .append(format!("HTTP/1.1 {status} X").as_bytes())
                .unwrap();
            assert!(!early.refuses());
        }
    }
}
