//! A client's connection as other threads see it: its phase, its socket, a way to end it; and
//! the waits of its own thread for the client.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use tiny_http::Request;

use super::limits::{RATE_SPAN, StallTimer, crawls};
use super::pool_threads::Served;
use super::tcp_info::traffic;
use crate::util::client_watch::ClientWatch;
use crate::util::lock::{lock, wait_timeout};
use crate::util::poll::poll_until;

/// Identifies a connection among all others, also from later ones (`SO_COOKIE`).
pub(super) type Cookie = u64;

/// Identifies a socket among all others. Where a sandbox has no cookies, the inode serves.
pub(super) fn cookie(socket: BorrowedFd<'_>) -> Cookie {
    rustix::net::sockopt::socket_cookie(socket)
        .or_else(|_| rustix::fs::fstat(socket).map(|stat| stat.st_ino))
        .unwrap_or_default()
}

/// For so long after it has connected a client's first request is waited for though the proxy
/// stops: it has not been told that there is nothing to connect to.
pub(super) const NEW_GRACE: Duration = Duration::from_millis(250);

/// What a connection's thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// It waits for the first byte of a request.
    Idle = 0,
    /// It waits for the rest of a head.
    Head,
    /// It waits for the rest of a body.
    Body,
    /// The client waits for the proxy.
    Serving,
    /// It waits for the client to take the answer.
    Sending,
    /// The client has been refused, and has some time to read the answer.
    Lingering,
    /// It is closed to make room.
    Leaving,
}

/// A client's connection, as other threads see it.
#[derive(Debug)]
pub(super) struct ClientConnection {
    cookie: Cookie,
    /// A duplicate of `tiny_http`'s socket.
    socket: Arc<TcpStream>,
    /// The number of the `tiny_http` server that it came through.
    server: usize,
    /// Counts it for the threads of that server.
    in_pool: Served,
    /// False: it is to be refused.
    is_admitted: bool,
    opened: Instant,
    /// The [`Phase`] in the lowest three bits, and since when, in µs after `opened`.
    phase: AtomicU64,
    /// See [`ClientConnection::is_shut`].
    is_shut: Arc<AtomicBool>,
    /// Its request was cut off by this process.
    is_cut_off: AtomicBool,
    /// While the client is waited for in the middle of a body or an answer: since when, and
    /// how many bytes had moved by then.
    pace: Mutex<Option<(Instant, u64)>>,
    /// How the answer that was begun has ended, an [`End`].
    end: AtomicU8,
    /// A request of this connection that another one's thread has taken out of the queue.
    inbox: Mutex<Option<Request>>,
    delivered: Condvar,
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum End {
    /// The next request is waited for.
    KeepOpen = 0,
    /// It is closed.
    Close,
    /// It is closed so that the client cannot take it for the answer's end.
    Reset,
    /// The client has gone or the answer is cut short.
    Cut,
}

impl ClientConnection {
    pub(super) fn new(
        cookie: Cookie,
        socket: TcpStream,
        server: usize,
        is_admitted: bool,
        in_pool: Served,
    ) -> Self {
        Self {
            in_pool,
            cookie,
            socket: Arc::new(socket),
            server,
            is_admitted,
            opened: Instant::now(),
            phase: AtomicU64::new(Phase::Idle as u64),
            is_shut: Arc::default(),
            is_cut_off: AtomicBool::new(false),
            pace: Mutex::default(),
            end: AtomicU8::new(End::Cut as u8),
            inbox: Mutex::default(),
            delivered: Condvar::new(),
        }
    }

    pub(super) fn cookie(&self) -> Cookie {
        self.cookie
    }

    pub(super) fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    pub(super) fn server(&self) -> usize {
        self.server
    }

    /// The calling thread is one of the pool's that this connection came through.
    pub(super) fn enter_pool(&self) {
        self.in_pool.enter_pool();
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    /// The phase, and for how long it has lasted.
    pub(super) fn phase(&self, now: Instant) -> (Phase, Duration) {
        let word = self.phase.load(Ordering::SeqCst);
        let since = self.opened + Duration::from_micros(word >> 3);
        (phase_of(word), now.saturating_duration_since(since))
    }

    /// Enters a phase, unless the connection is being closed. A phase that lasts keeps
    /// its beginning.
    pub(super) fn enter(&self, phase: Phase) -> bool {
        let word = self.word(phase);
        let update = |old| match phase_of(old) {
            Phase::Leaving => None,
            same if same == phase => Some(old),
            _ => Some(word),
        };
        self.phase
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, update)
            .is_ok()
    }

    fn word(&self, phase: Phase) -> u64 {
        let micros = self.opened.elapsed().as_micros();
        (u64::try_from(micros).unwrap_or(u64::MAX) << 3) | phase as u64
    }

    pub(super) fn is_leaving(&self) -> bool {
        phase_of(self.phase.load(Ordering::SeqCst)) == Phase::Leaving
    }

    /// Ends the connection to make room, unless it has a whole request in hand or in its
    /// receive queue. Whether it does end. Where a head is waited for, only the receiving side
    /// is shut: the thread may have received a request just now, which is still served.
    pub(super) fn leave(&self) -> bool {
        if self.phase(self.opened).0 == Phase::Idle && self.has_unread() {
            return false;
        }
        let update = |old| (phase_of(old) != Phase::Serving).then_some(Phase::Leaving as u64);
        let left = self
            .phase
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
        let Ok(before) = left else {
            return false;
        };
        // A shutdown fails where the client was faster.
        if matches!(phase_of(before), Phase::Idle | Phase::Head) {
            self.shut();
        } else {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        true
    }

    /// A whole request has been received: from now on the connection makes no room. If it was
    /// being closed before that was known, it is shut, and this is its last request.
    pub(super) fn begin_request(&self) {
        let serving = self.word(Phase::Serving);
        self.phase.store(serving, Ordering::SeqCst);
    }

    fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// Wakes the connection's thread because the proxy stops, if it waits for a request and
    /// none has arrived, or if it lingers behind an answer. A request that arrives at this
    /// very moment is still served. True: the client has connected just now, and has some more
    /// time to send its first request.
    pub(super) fn wake(&self) -> bool {
        let (phase, _) = self.phase(self.opened);
        if phase == Phase::Idle && !self.has_unread() {
            if self.first_request_until().is_some() {
                return true;
            }
            self.shut();
        } else if phase == Phase::Lingering {
            self.shut();
        }
        false
    }

    /// Until when the first request is waited for though the proxy stops.
    pub(super) fn first_request_until(&self) -> Option<Instant> {
        let until = self.opened + NEW_GRACE;
        let is_new = self.phase.load(Ordering::SeqCst) >> 3 == 0;
        (is_new && Instant::now() < until).then_some(until)
    }

    /// This process has shut the receiving side down: an EOF does not come from the client.
    pub(super) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::SeqCst)
    }

    /// Cuts off the request that is being served, if one is; whether that is so. A reset: the
    /// client cannot take it for the end of an answer, and what waits for the client is woken.
    pub(super) fn cut_off(&self) -> bool {
        let (phase, _) = self.phase(self.opened);
        if !matches!(phase, Phase::Serving | Phase::Sending) {
            return false;
        }
        self.is_cut_off.store(true, Ordering::SeqCst);
        let _ = rustix::net::connect_unspec(&*self.socket);
        true
    }

    /// Whether this process has cut the request off.
    pub(super) fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::SeqCst)
    }

    /// What attempts poll on behalf of the client.
    pub(super) fn watch(&self, half_close: bool) -> ClientWatch {
        let socket = Arc::clone(&self.socket);
        ClientWatch::new(socket, half_close, Arc::clone(&self.is_shut))
    }

    /// Whether something is in its receive queue.
    pub(super) fn has_unread(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        matches!(
            rustix::net::recv(&self.socket, &mut [0], flags),
            Ok((_, 1..))
        )
    }

    /// While the client is waited for in the middle of a transfer: for how long its pace has
    /// been watched.
    pub(super) fn watched_for(&self, now: Instant) -> Option<Duration> {
        let (phase, _) = self.phase(now);
        if !matches!(phase, Phase::Body | Phase::Sending) {
            return None;
        }
        let (since, _) = (*lock(&self.pace))?;
        Some(now.saturating_duration_since(since))
    }

    /// How many bytes have moved in that time. Asks the kernel.
    pub(super) fn moved_since_watched(&self, now: Instant) -> u64 {
        let (phase, _) = self.phase(now);
        let before = lock(&self.pace).map_or(0, |(_, before)| before);
        self.moved(phase).saturating_sub(before)
    }

    pub(super) fn restart_pace(&self, now: Instant) {
        let (phase, _) = self.phase(now);
        let moved = self.moved(phase);
        *lock(&self.pace) = Some((now, moved));
    }

    fn moved(&self, phase: Phase) -> u64 {
        let traffic = traffic(&self.socket);
        match phase {
            Phase::Body => traffic.received,
            _ => traffic.acknowledged,
        }
    }

    /// The answer ends, and with it what is to end of the connection. That does not wait for
    /// the connection's thread, which losers may hold for a while.
    pub(super) fn end_answer(&self, end: End) {
        self.end.store(end as u8, Ordering::Relaxed);
        // Each fails where the client was faster.
        match end {
            End::KeepOpen => {}
            End::Close => {
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            // The kernel sends a reset. Lingering would not do: `tiny_http` ends its sockets in
            // order.
            End::Reset => {
                let _ = rustix::net::connect_unspec(&*self.socket);
            }
            End::Cut => {
                let _ = self.socket.shutdown(Shutdown::Both);
            }
        }
    }

    pub(super) fn end(&self) -> End {
        let end = self.end.load(Ordering::Relaxed);
        [End::KeepOpen, End::Close, End::Reset]
            .into_iter()
            .find(|known| *known as u8 == end)
            .unwrap_or(End::Cut)
    }

    /// Hands over a request of this connection that came out of the queue elsewhere.
    pub(super) fn deliver(&self, request: Request) {
        *lock(&self.inbox) = Some(request);
        self.delivered.notify_one();
    }

    /// A request that was handed over; one that is not there yet is waited for.
    pub(super) fn take_delivered(&self, at_most: Duration) -> Option<Request> {
        let mut inbox = lock(&self.inbox);
        if inbox.is_none() && !at_most.is_zero() {
            inbox = wait_timeout(&self.delivered, inbox, at_most).0;
        }
        inbox.take()
    }

    /// Waits for more of a body, until `timer` is over.
    ///
    /// # Errors
    /// `TimedOut`: the client makes no progress. `ConnectionAborted`: the connection is
    /// being closed.
    pub(super) fn wait_for_body(&self, timer: &mut StallTimer) -> io::Result<()> {
        if !self.enter(Phase::Body) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let result = self.wait_in(Phase::Body, PollFlags::IN, timer);
        if self.is_leaving() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        result.map(drop)
    }

    /// Waits until the client takes more of an answer, until `timer` is over.
    ///
    /// # Errors
    /// As [`ClientConnection::wait_for_body`]; `BrokenPipe`: the client has gone.
    pub(super) fn wait_for_reader(
        &self,
        timer: &mut StallTimer,
        half_close: bool,
    ) -> io::Result<()> {
        if !self.enter(Phase::Sending) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let end_counts = || !half_close && !self.is_shut();
        let events = if end_counts() {
            PollFlags::OUT | PollFlags::RDHUP
        } else {
            PollFlags::OUT
        };
        let result = self.wait_in(Phase::Sending, events, timer);
        if !self.enter(Phase::Serving) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let ready = result?;
        if ready.contains(PollFlags::ERR) || (ready.contains(PollFlags::RDHUP) && end_counts()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    fn wait_in(
        &self,
        phase: Phase,
        events: PollFlags,
        timer: &mut StallTimer,
    ) -> io::Result<PollFlags> {
        /// What is on its way when a transfer stalls has arrived after this long.
        const SETTLED: Duration = Duration::from_millis(100);
        let mut begun = Instant::now();
        let settled = begun + SETTLED.min(timer.most() / 10);
        if phase == Phase::Body {
            self.open_pace(begun, phase);
        }
        let mut before = None;
        loop {
            let deadline = timer.deadline(begun);
            let until = match before {
                None => settled.min(deadline),
                Some(_) => deadline,
            };
            let mut fds = [PollFd::new(&*self.socket, events)];
            if poll_until(&mut fds, until)? {
                timer.add_ready(begun.elapsed());
                return Ok(fds[0].revents());
            }
            // The kernel reports room only when a good part of its buffer is free: what
            // counts is what the client has acknowledged.
            let moved = self.moved(phase);
            let Some(before) = before.replace(moved) else {
                self.open_pace(Instant::now(), phase);
                continue;
            };
            timer.add(begun.elapsed(), moved.saturating_sub(before));
            if timer.is_over() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            begun = Instant::now();
        }
    }

    /// Begins to watch the transfer's pace, or begins anew where it has been good.
    fn open_pace(&self, now: Instant, phase: Phase) {
        let mut pace = lock(&self.pace);
        let begins = pace.is_none_or(|(since, before)| {
            let elapsed = now.saturating_duration_since(since);
            elapsed >= RATE_SPAN && !crawls(elapsed, self.moved(phase).saturating_sub(before))
        });
        if begins {
            *pace = Some((now, self.moved(phase)));
        }
    }

    /// The transfer has ended.
    pub(super) fn close_pace(&self) {
        *lock(&self.pace) = None;
    }
}

fn phase_of(word: u64) -> Phase {
    [
        Phase::Idle,
        Phase::Head,
        Phase::Body,
        Phase::Serving,
        Phase::Sending,
        Phase::Lingering,
    ]
    .into_iter()
    .find(|phase| *phase as u64 == word & 7)
    .unwrap_or(Phase::Leaving)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::downstream::pool_threads::PoolThreads;

    fn pair() -> (TcpStream, ClientConnection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let (socket, _) = listener.accept().unwrap();
        (
            client,
            ClientConnection::new(1, socket, 0, true, Arc::<PoolThreads>::default().serve()),
        )
    }

    #[test]
    fn a_request_that_was_received_just_before_room_is_made_is_the_last_one() {
        let (mut client, connection) = pair();
        client.write_all(b"request").unwrap();
        let mut request = [0; 7];
        (&**connection.socket()).read_exact(&mut request).unwrap();
        // The thread has not said yet that it has received anything.
        assert!(connection.leave());
        assert!(!connection.enter(Phase::Head));
        connection.begin_request();
        assert!(connection.is_shut());
        assert!(connection.enter(Phase::Serving) && !connection.leave());
        (&**connection.socket()).write_all(b"answer").unwrap();
        connection.end_answer(End::Close);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }

    #[test]
    fn a_connection_with_a_request_in_its_queue_makes_no_room() {
        let (mut client, connection) = pair();
        client.write_all(b"request").unwrap();
        while !connection.has_unread() {
            std::thread::yield_now();
        }
        assert!(!connection.leave());
        connection.begin_request();
        assert!(!connection.is_shut() && !connection.leave());
    }

    #[test]
    fn the_end_of_an_answer_is_seen_while_the_connection_still_exists() {
        for (end, wanted) in [
            (End::Close, Some(0)),
            (End::Cut, Some(0)),
            (End::Reset, None),
        ] {
            let (mut client, connection) = pair();
            connection.end_answer(end);
            assert_eq!(client.read(&mut [0]).ok(), wanted, "{end:?}");
        }
    }
}
