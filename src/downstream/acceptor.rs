//! A listener and what its threads share; what keeps `tiny_http` accepting.
//!
//! `tiny_http`'s accept thread comes to [`Acceptor::accept`] for each connection. It may die: a
//! thread or a descriptor could not be had. A supervisor then starts another one on the same
//! socket; it sleeps until that happens.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::catch_unwind;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use log::{info, warn};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{RecvFlags, SendFlags};

use super::Handler;
use super::connection::{ClientConnection, Cookie, cookie};
use super::limits::{Limits, RATE_SPAN, TOO_FEW_THREADS, TOO_MANY};
use super::pool_threads::{self, PoolThreads};
use super::responder::refusal;
use super::table::{Admission, Table};
use crate::http::request::Rejection;
use crate::util::io_error::describe;
use crate::util::lock::{lock, wait, wait_timeout_while};
use crate::util::poll::poll_until;

/// How long an accept thread may take to come for its first connection: at start, and when
/// another one has died.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(5);
const RESTART_TIMEOUT: Duration = Duration::from_millis(250);

/// The first pause before another accept thread is started, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(320);

/// Those that a server of `tiny_http`'s begins with: its accept thread and four of its pool.
const TINY_HTTP_THREADS: usize = 5;

/// How long the accept thread rests when there are too few descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A shortage is over when there has been none for so long.
const SHORTAGE_END: Duration = Duration::from_secs(1);

/// For so long after the server stops, connections are taken that the kernel has queued.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// The lowest number of a duplicate: 0 to 2 are the standard streams.
const LOWEST_DESCRIPTOR: RawFd = 3;

/// What becomes of the connections in the kernel's queue when the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// They are accepted and served: the listener goes with this process.
    Serve,
    /// They stay where they are: another process has the listener, too.
    Leave,
}

/// What the accept thread, the connections' threads and the supervisor share.
pub(super) struct Acceptor {
    listener: Mutex<Option<TcpListener>>,
    cookie: Cookie,
    /// Readable once the server stops.
    stop: OwnedFd,
    table: Arc<Table>,
    handler: Arc<dyn Handler>,
    accepting: Mutex<Accepting>,
    /// Notified of every change of `accepting`.
    changed: Condvar,
}

/// The accept threads so far.
#[derive(Default)]
struct Accepting {
    /// Each with the descriptor that its thread accepts on: both end together. A server is
    /// never dropped: its drop connects to the listener, which may hang.
    servers: Vec<(RawFd, Option<Arc<tiny_http::Server>>)>,
    /// What is known of the last one's thread.
    thread: AcceptThread,
    /// Those of the last one.
    pool: Arc<PoolThreads>,
    stopped_at: Option<Instant>,
    /// No connection is accepted any more.
    closed: bool,
    /// When threads or descriptors were short last, if it has been logged, and is not over.
    short: Option<Instant>,
}

/// What is known of an accept thread.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum AcceptThread {
    #[default]
    Starting,
    /// It has come for a connection.
    Accepts,
    Ended,
}

impl Accepting {
    fn is_in_charge(&self, number: usize) -> bool {
        number + 1 == self.servers.len()
    }

    fn pool(&self, number: usize) -> Option<Arc<PoolThreads>> {
        self.is_in_charge(number).then(|| Arc::clone(&self.pool))
    }
}

impl Acceptor {
    /// Nothing is accepted yet.
    pub(super) fn new(
        listener: TcpListener,
        handler: Arc<dyn Handler>,
        limits: Limits,
    ) -> io::Result<Self> {
        // Accepted sockets inherit it: a read on an idle connection ends by itself.
        socket2::SockRef::from(&listener).set_read_timeout(Some(limits.idle_timeout))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            cookie: cookie(listener.as_fd()),
            listener: Mutex::new(Some(listener)),
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            table: Arc::new(Table::new(limits)),
            handler,
            accepting: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(super) fn handler(&self) -> &Arc<dyn Handler> {
        &self.handler
    }

    pub(super) fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// The server with this number. Its accept thread may be faster than its start.
    pub(super) fn server(&self, number: usize) -> Option<Arc<tiny_http::Server>> {
        let find = |accepting: &Accepting| accepting.servers.get(number)?.1.clone();
        let (accepting, _) = wait_timeout_while(
            &self.changed,
            lock(&self.accepting),
            START_TIMEOUT,
            |accepting| find(accepting).is_none(),
        );
        find(&accepting)
    }

    /// Starts an accept thread, and waits until it has come for its first connection.
    pub(super) fn start_accepting(&self, timeout: Duration) -> io::Result<()> {
        let listener = match &*lock(&self.listener) {
            Some(listener) => listener.try_clone()?,
            None => return Ok(()),
        };
        let mut accepting = lock(&self.accepting);
        accepting.thread = AcceptThread::Starting;
        accepting.pool = Arc::default();
        let number = accepting.servers.len();
        accepting.servers.push((listener.as_raw_fd(), None));
        drop(accepting);
        // Panics where there is no thread to be had.
        let server = catch_unwind(|| tiny_http::Server::from_listener(listener, None));
        let server = server
            .map_err(|_| io::Error::other("no thread can be started"))?
            .map_err(io::Error::other)?;
        let mut accepting = lock(&self.accepting);
        if let Some((_, place)) = accepting.servers.get_mut(number) {
            *place = Some(Arc::new(server));
        }
        self.changed.notify_all();
        let starts = |accepting: &mut Accepting| accepting.thread == AcceptThread::Starting;
        let (accepting, _) = wait_timeout_while(&self.changed, accepting, timeout, starts);
        match accepting.thread {
            AcceptThread::Accepts => Ok(()),
            _ => Err(io::Error::other("no thread accepts connections")),
        }
    }

    /// Starts another accept thread whenever one has ended, until the server stops.
    pub(super) fn supervise(&self) {
        loop {
            let mut accepting = lock(&self.accepting);
            while accepting.thread != AcceptThread::Ended && !accepting.closed {
                accepting = wait(&self.changed, accepting);
            }
            let is_over = accepting.closed;
            drop(accepting);
            if is_over || self.table.is_stopping() {
                return;
            }
            warn!("too few threads or descriptors: no connection is accepted for the time being");
            let mut pause = FIRST_PAUSE;
            // The threads of a start that fails half way last for some seconds: first it is tried
            // without.
            while pool_threads::startable(TINY_HTTP_THREADS) < TINY_HTTP_THREADS
                || self.start_accepting(RESTART_TIMEOUT).is_err()
            {
                self.table.wait_for_change(pause);
                if self.table.is_stopping() {
                    return;
                }
                pause = (pause * 2).min(MAX_PAUSE);
            }
            info!("connections are accepted again");
        }
    }

    /// An accept thread has come for connections on `fd`. Returns its server's number.
    pub(super) fn enter(&self, fd: RawFd) -> usize {
        let mut accepting = lock(&self.accepting);
        let mut servers = accepting.servers.iter();
        let number = servers.rposition(|(known, _)| *known == fd).unwrap_or(0);
        if accepting.is_in_charge(number) {
            accepting.thread = AcceptThread::Accepts;
            self.changed.notify_all();
        }
        number
    }

    /// The accept thread of the server with this number ends. Called while its thread-locals
    /// are dropped: nothing may be started here.
    pub(super) fn leave(&self, number: usize) {
        let mut accepting = lock(&self.accepting);
        if accepting.is_in_charge(number) {
            accepting.thread = AcceptThread::Ended;
            self.changed.notify_all();
            drop(accepting);
            self.table.forget_handed_out();
        }
    }

    /// The next connection for the accept thread of the server with this `number`.
    /// `accept` takes one from the kernel's queue without waiting.
    ///
    /// # Errors
    /// `EINVAL`: the server stops, or another thread accepts in place of this one, which had
    /// been given up for lost. No other error ends the wait, for it would end the thread.
    pub(super) fn accept(
        &self,
        number: usize,
        listener: BorrowedFd<'_>,
        mut accept: impl FnMut() -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Errno> {
        loop {
            self.table.wait_for_pickup();
            if self.is_closed() {
                return Err(Errno::INVAL);
            }
            let Some(pool) = lock(&self.accepting).pool(number) else {
                return Err(Errno::INVAL);
            };
            let mut admission = Admission::Admit;
            if !self.table.has_room() {
                // Only a newcomer that is there is worth a connection. One that was there
                // already has waited with those before it.
                if !has_newcomer(listener) {
                    self.table.end_wait();
                    self.wait_for_newcomer(listener);
                }
                admission = self.table.admit();
            }
            let socket = match accept() {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => {
                    if self.table.is_stopping() {
                        self.close();
                    } else {
                        self.wait_for_newcomer(listener);
                    }
                    continue;
                }
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(errno) => {
                    self.rest_after(errno);
                    continue;
                }
            };
            if admission == Admission::Drop {
                self.turn_away(socket, TOO_MANY);
                continue;
            }
            if !self.wait_for_thread(&pool) {
                self.turn_away(socket, TOO_FEW_THREADS);
                continue;
            }
            let duplicate = match fcntl_dupfd_cloexec(&socket, LOWEST_DESCRIPTOR) {
                Ok(duplicate) => TcpStream::from(duplicate),
                Err(errno) => {
                    drop(socket);
                    self.rest_after(errno);
                    continue;
                }
            };
            self.end_shortage();
            let is_admitted = admission == Admission::Admit;
            let cookie = cookie(socket.as_fd());
            let connection =
                ClientConnection::new(cookie, duplicate, number, is_admitted, pool.serve());
            self.table.insert(Arc::new(connection));
            return Ok(socket);
        }
    }

    /// Waits until a connection is in the kernel's queue, or the server stops.
    fn wait_for_newcomer(&self, listener: BorrowedFd<'_>) {
        let mut fds = [
            PollFd::from_borrowed_fd(listener, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        // An error ends the wait early, and shows again in what is tried next.
        let _ = poll(&mut fds, None);
    }

    /// Waits until a thread can be had for one more connection. `tiny_http`'s accept thread would
    /// panic without.
    fn wait_for_thread(&self, pool: &PoolThreads) -> bool {
        let begun = Instant::now();
        loop {
            let has_thread = pool.has_thread(Instant::now());
            let waited = begun.elapsed();
            if has_thread || self.table.is_stopping() || waited >= pool.timeout() {
                pool.note(has_thread);
                return has_thread;
            }
            self.rest(TOO_FEW_THREADS, Some(waited));
        }
    }

    /// Accepting has failed with this error.
    fn rest_after(&self, errno: Errno) {
        let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        // As if a newcomer had waited long enough.
        let waited = shortages.contains(&errno).then_some(RATE_SPAN);
        self.rest(&describe(&errno.into()), waited);
    }

    /// Some time passes in which nothing can be accepted. Room is made for a newcomer that has waited
    /// for so long, if that helps.
    fn rest(&self, reason: &str, waited: Option<Duration>) {
        if lock(&self.accepting)
            .short
            .replace(Instant::now())
            .is_none()
        {
            warn!("cannot accept connections for the time being: {reason}");
        }
        if let Some(waited) = waited {
            self.table.shed_one(waited);
        }
        self.table.wait_for_change(SHORTAGE_PAUSE);
    }

    /// Logs that a shortage is over, if there was one.
    fn end_shortage(&self) {
        let is_over = |at: &mut Instant| at.elapsed() >= SHORTAGE_END;
        if lock(&self.accepting).short.take_if(is_over).is_some() {
            info!("connections are accepted again");
        }
    }

    /// Returns what [`Table::stop`] does.
    pub(super) fn stop(&self, queue: Queue) -> bool {
        lock(&self.accepting).stopped_at = Some(Instant::now());
        if queue == Queue::Leave {
            self.close();
        }
        let has_new = self.table.stop();
        // Cannot fail: the counter is far from its end.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        let is_open = |accepting: &mut Accepting| {
            !accepting.closed && accepting.thread != AcceptThread::Ended
        };
        let accepting = lock(&self.accepting);
        let waited = wait_timeout_while(&self.changed, accepting, 2 * STOP_GRACE, is_open);
        drop(waited);
        lock(&self.listener).take();
        has_new
    }

    /// No connection is accepted any more.
    fn close(&self) {
        lock(&self.accepting).closed = true;
        lock(&self.listener).take();
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        let accepting = lock(&self.accepting);
        if accepting.closed {
            return true;
        }
        let is_over = accepting
            .stopped_at
            .is_some_and(|at| at.elapsed() > STOP_GRACE);
        drop(accepting);
        if is_over {
            self.close();
        }
        is_over
    }

    /// Refuses a connection without a thread for it: as well as that goes without waiting.
    fn turn_away(&self, socket: OwnedFd, reason: &'static str) {
        let socket = TcpStream::from(socket);
        let Ok(client) = socket.peer_addr() else {
            return;
        };
        // What has come is read: a close would be a reset otherwise, which may destroy the answer.
        let mut request = [0; 16 * 1024];
        let _ = rustix::net::recv(&socket, &mut request, RecvFlags::DONTWAIT);
        let rejection = Rejection::new(503, reason);
        let (now, answer) = (Instant::now(), refusal(&rejection, self.table.limits()));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::send(&socket, &answer, flags).unwrap_or_default();
        self.handler.refused(&rejection, client, now, sent as u64);
    }
}

/// Whether a connection is in the kernel's queue.
fn has_newcomer(listener: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    poll_until(&mut fds, Instant::now()).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::{ClientRequest, Responder};
    use crossbeam_channel::bounded;
    use std::thread;

    struct Nothing;

    impl Handler for Nothing {
        fn handle(self: Arc<Self>, _: ClientRequest, _: Responder) {}
    }

    #[test]
    fn the_supervisor_ends_when_no_connection_is_to_be_accepted_though_the_table_goes_on() {
        for thread in [AcceptThread::Accepts, AcceptThread::Ended] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let acceptor = Acceptor::new(listener, Arc::new(Nothing), Limits::default());
            let acceptor = Arc::new(acceptor.unwrap());
            acceptor.close();
            lock(&acceptor.accepting).thread = thread;
            let (ended, end) = bounded(1);
            thread::spawn(move || {
                acceptor.supervise();
                let _ = ended.send(());
            });
            assert_eq!(end.recv_timeout(Duration::from_secs(10)), Ok(()));
        }
    }
}
