//! The life of a client's connection, on its own thread.
//!
//! [`Session::advance`] is called whenever `tiny_http` reads: it serves the request whose
//! ticket has been queued, and waits for the next head. Every limit is kept where its bytes
//! are read or written. The connection ends when `advance` returns false: `tiny_http` then
//! sees an orderly end.

use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tiny_http::Request;

use super::ClientRequest;
use super::acceptor::Acceptor;
use super::body;
use super::connection::{ClientConnection, Cookie, End, Phase};
use super::limits::{StallTimer, TOO_MANY};
use super::received::{CloseReason, HEAD_READ, Received, SHUT_PAUSE};
use super::responder::{Responder, refusal, send_all};
use crate::http::request::{Rejection, RequestHead, ValidatedRequest};
use crate::http::request_parser::RequestParser;
use crate::logging::RequestName;
use crate::util::client_session::ClientSession;
use crate::util::client_watch::ClientWatch;
use crate::util::poll::poll_until;

/// How long a client that is refused whatever it asks for has time to send its request.
const REFUSED_HEAD_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a client that has been refused may go on sending.
const LINGER: Duration = Duration::from_secs(2);

/// The same while the proxy stops.
const LAST_LINGER: Duration = Duration::from_millis(250);

/// How much of that is read and dropped, in bytes.
const LINGER_BYTES: usize = 16 << 20;

/// How often a thread looks for a request that another one may have been given.
const QUEUE_CHECK: Duration = Duration::from_millis(1);

/// How long the request of a ticket may take to come out of `tiny_http`'s queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection's thread has in hand.
pub(super) struct Session {
    acceptor: Arc<Acceptor>,
    connection: Arc<ClientConnection>,
    /// Where its requests come out.
    server: Arc<tiny_http::Server>,
    /// `tiny_http` panics over a ticket of a client that had no address any more when it was
    /// accepted. One that still has an address now had one then.
    client: SocketAddr,
    watch: ClientWatch,
    /// Whatever the other parts keep for this connection.
    kept: Arc<ClientSession>,
    /// Why the connection is not to be served.
    refused: Option<Rejection>,
    received: Received,
    /// No request has been served yet.
    is_new: bool,
    /// The request that `tiny_http` has a ticket for.
    pending: Option<ValidatedRequest>,
    /// When the first byte of the last request was received.
    received_at: Instant,
}

/// The connection's entry in the table lasts as long as its session: also where `tiny_http`
/// panics and does not read again.
impl Drop for Session {
    fn drop(&mut self) {
        self.acceptor.table().remove(self.connection.cookie());
    }
}

impl Session {
    /// Begins the session of a connection that its thread has come for. `None`: the client
    /// has gone, and the connection is out of the table.
    pub(super) fn begin(
        acceptor: &Arc<Acceptor>,
        connection: Arc<ClientConnection>,
    ) -> Option<Self> {
        connection.enter_pool();
        let server = acceptor.server(connection.server());
        let client = connection.socket().peer_addr();
        let (Some(server), Ok(client)) = (server, client) else {
            acceptor.table().remove(connection.cookie());
            return None;
        };
        let half_close = acceptor.table().limits().half_close;
        Some(Self {
            watch: connection.watch(half_close),
            kept: Arc::default(),
            refused: (!connection.is_admitted()).then(|| Rejection::new(503, TOO_MANY)),
            acceptor: Arc::clone(acceptor),
            connection,
            server,
            client,
            received: Received::default(),
            is_new: true,
            pending: None,
            received_at: Instant::now(),
        })
    }

    /// Serves the request whose ticket has been queued, and waits for the next one. True: it
    /// is here, and `tiny_http` is to get its ticket. False: the connection has ended.
    pub(super) fn advance(&mut self) -> bool {
        if let Some(pending) = self.pending.take() {
            let served = self.take_from_queue(&pending.head) && self.serve(pending);
            self.connection.close_pace();
            if !served {
                return false;
            }
        }
        match self.next_request() {
            Ok(request) => {
                self.pending = Some(request);
                true
            }
            Err(CloseReason::Silent) => false,
            Err(CloseReason::Rejected(rejection)) => {
                self.refuse(&rejection);
                false
            }
        }
    }

    pub(super) fn cookie(&self) -> Cookie {
        self.connection.cookie()
    }

    /// Waits for the next head.
    fn next_request(&mut self) -> Result<ValidatedRequest, CloseReason> {
        let limits = *self.acceptor.table().limits();
        let client = self.client.ip().to_canonical();
        let mut parser = RequestParser::new();
        self.received_at = Instant::now();
        let idle_until = self.received_at + limits.idle_timeout;
        loop {
            let bytes = self.received.unused();
            if let Some((request, length)) = parser.parse(bytes, client, &limits.sizes())? {
                self.received.consume(length);
                if let Some(rejection) = self.refused.take() {
                    return Err(rejection.of(&request.head).into());
                }
                self.connection.begin_request();
                return Ok(request);
            }
            if parser.has_begun() || self.refused.is_some() {
                let wait = match &self.refused {
                    Some(_) => REFUSED_HEAD_TIMEOUT,
                    None => limits.header_timeout,
                };
                self.wait_for_more_of_head(&parser, self.received_at + wait)?;
            } else {
                self.wait_for_first_byte(idle_until)?;
                self.received_at = Instant::now();
            }
        }
    }

    /// Waits for a request to begin, at most for `-idle-timeout`, which is the receive
    /// time-out of the socket. Empty lines in front of a request are none of it.
    fn wait_for_first_byte(&mut self, until: Instant) -> Result<(), CloseReason> {
        self.received.rest();
        if !self.connection.enter(Phase::Idle) {
            return Err(CloseReason::Silent);
        }
        let socket = self.connection.socket();
        // A stopping server either finds the connection idle, or is noticed here.
        let flags = if self.acceptor.table().is_stopping() {
            if let Some(until) = self.connection.first_request_until() {
                let mut fds = [PollFd::new(&**socket, PollFlags::IN)];
                let _ = poll_until(&mut fds, until);
            }
            RecvFlags::DONTWAIT
        } else if self.received.unused().is_empty() {
            RecvFlags::empty()
        } else {
            let mut fds = [PollFd::new(&**socket, PollFlags::IN)];
            if !poll_until(&mut fds, until).map_err(|_| CloseReason::Silent)? {
                return Err(CloseReason::Silent);
            }
            RecvFlags::DONTWAIT
        };
        let mut received = self.received.receive(socket, HEAD_READ, flags);
        if received == Ok(0) && self.connection.is_shut() {
            // A request may have arrived since.
            let flags = RecvFlags::DONTWAIT;
            received = self.received.receive(socket, HEAD_READ, flags);
        }
        if let Ok(1..) = received {
            return Ok(());
        }
        // The end, a reset, or a time-out: there is no request to be answered. The client
        // learns it now, before it sends one: `tiny_http` takes its time to close.
        let _ = self.connection.socket().shutdown(Shutdown::Write);
        Err(CloseReason::Silent)
    }

    fn wait_for_more_of_head(
        &mut self,
        parser: &RequestParser,
        deadline: Instant,
    ) -> Result<(), CloseReason> {
        if !self.connection.enter(Phase::Head) {
            return Err(CloseReason::Silent);
        }
        let socket = self.connection.socket();
        let mut fds = [PollFd::new(&**socket, PollFlags::IN)];
        if !poll_until(&mut fds, deadline).map_err(|_| CloseReason::Silent)? {
            let reason = "request head not complete in time (-header-timeout)";
            let late = || Rejection::new(408, reason);
            let rejection = self.refused.take().unwrap_or_else(late);
            return Err(parser.name(rejection, self.received.unused()).into());
        }
        let flags = RecvFlags::DONTWAIT;
        match self.received.receive(socket, HEAD_READ, flags) {
            Ok(1..) | Err(Errno::AGAIN) => Ok(()),
            Ok(0) if self.connection.is_shut() => {
                thread::sleep(SHUT_PAUSE);
                Ok(())
            }
            Ok(0) | Err(_) => Err(CloseReason::Silent),
        }
    }

    /// Takes the request of the ticket out of `tiny_http`'s queue. What comes out may be
    /// another connection's: that one's thread gets it.
    fn take_from_queue(&self, head: &RequestHead) -> bool {
        let deadline = Instant::now() + QUEUE_TIMEOUT;
        loop {
            if let Some(request) = self.connection.take_delivered(Duration::ZERO) {
                return discard(request);
            }
            // `Err` is an old failure to accept, `None` may be a token: neither says that
            // the request is not there.
            if let Ok(Some(request)) = self.server.try_recv() {
                let cookie = request.url().get(1..).and_then(|text| text.parse().ok());
                if cookie == Some(self.connection.cookie()) {
                    return discard(request);
                }
                match cookie.and_then(|cookie| self.acceptor.table().get(cookie)) {
                    Some(other) => other.deliver(request),
                    None => {
                        discard(request);
                    }
                }
                continue;
            }
            if let Some(request) = self.connection.take_delivered(QUEUE_CHECK) {
                return discard(request);
            }
            if Instant::now() >= deadline {
                RequestName::of(head, self.client).log_error(format_args!(
                    "internal error: a request was lost between two threads"
                ));
                return false;
            }
        }
    }

    /// Serves a request. False: the connection ends with it.
    fn serve(&mut self, request: ValidatedRequest) -> bool {
        let ValidatedRequest {
            head,
            framing,
            persistence,
            expects_continue,
        } = request;
        // A flood of connections that are reset at once costs neither a call nor a line in the log
        // each. Later on, an attempt finds out when it waits.
        if mem::take(&mut self.is_new) && self.watch.has_reset() {
            return false;
        }
        let is_head = head.is_head();
        let body = body::receive(
            &self.connection,
            &mut self.received,
            framing,
            expects_continue,
            self.acceptor.table().limits(),
        );
        self.connection.close_pace();
        let body = match body {
            Ok(body) => body,
            Err(CloseReason::Rejected(rejection)) => {
                self.refuse(&rejection.of(&head));
                return false;
            }
            Err(CloseReason::Silent) => return false,
        };
        let Some(work) = self.acceptor.table().begin_work() else {
            let reason = "too many requests are being worked on (-workers)";
            self.refuse(&Rejection::new(503, reason).of(&head));
            return false;
        };
        if !self.connection.enter(Phase::Serving) {
            return false;
        }
        let request = ClientRequest {
            head,
            body,
            client: self.client,
            received_at: self.received_at,
            watch: self.watch.clone(),
            session: Arc::clone(&self.kept),
        };
        let responder = Responder::new(
            Arc::clone(&self.connection),
            Arc::clone(self.acceptor.table()),
            work,
            persistence,
            is_head,
        );
        let handler = Arc::clone(self.acceptor.handler());
        // The hook logs a panic, and the responder's drop answers.
        let _ = catch_unwind(AssertUnwindSafe(|| handler.handle(request, responder)));
        match self.connection.end() {
            End::KeepOpen => true,
            End::Close => {
                self.close();
                false
            }
            End::Reset | End::Cut => false,
        }
    }

    /// Answers a request that is not served. What follows on the connection is in doubt.
    fn refuse(&self, rejection: &Rejection) {
        let answer = refusal(rejection, self.acceptor.table().limits());
        let (mut timer, mut sent) = (StallTimer::new(LINGER), 0);
        let result = send_all(&self.connection, &answer, &mut timer, true, &mut sent);
        let handler = self.acceptor.handler();
        handler.refused(rejection, self.client, self.received_at, sent);
        if result.is_ok() {
            self.linger();
        }
    }

    /// Closes after an answer. A close with something unread would be a reset, which may
    /// destroy the answer on its way.
    fn close(&self) {
        if !self.received.unused().is_empty() || self.connection.has_unread() {
            self.linger();
        }
    }

    /// Ends the sending side, and drops what comes until the client closes.
    fn linger(&self) {
        let socket = self.connection.socket();
        if socket.shutdown(Shutdown::Write).is_err() || !self.connection.enter(Phase::Lingering) {
            return;
        }
        let linger = if self.acceptor.table().is_stopping() {
            LAST_LINGER
        } else {
            LINGER
        };
        let deadline = Instant::now() + linger;
        let mut left = LINGER_BYTES;
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let mut fds = [PollFd::new(&**socket, PollFlags::IN)];
            if !poll_until(&mut fds, deadline).unwrap_or(false) {
                return;
            }
            match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, amount @ 1..)) => left = left.saturating_sub(amount),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Ends a request of `tiny_http`'s: its answer goes out past it. (Dropped as it is, it would
/// answer 500.)
fn discard(request: Request) -> bool {
    drop(request.into_writer());
    true
}
