//! Looks after the clients' connections, on a thread of its own.
//!
//! - **Unserved ones.** `tiny_http` hands a new connection to a waiting thread without
//!   asking whether that thread has been promised to another one. A connection that
//!   loses out waits until some other connection ends, which with keep-alive may be
//!   never. It can be told from outside: it has no request in flight, and bytes that
//!   nobody reads. A short connection of our own makes `tiny_http` start one thread
//!   more, which then takes the one that waits.
//! - **Limits**, see [`super::limits`]. What HTTP has an answer for gets it.
//! - **Clients that go away** (reset, or both directions closed): their attempts are
//!   cancelled. One that has only closed its own side still gets its answer.
//! - **Refused ones** that are still sending: what they send is thrown away for a
//!   while, so that they get to see why.
//! - **Accepting.** `tiny_http`'s accept thread dies of any error, and may do so without
//!   a word: then nobody but us holds the listener any more.
//!
//! Cost: five looks a second while nothing happens, twenty-five otherwise; most of them
//! find nothing to do. Once a second, or when descriptors have come or gone, they are
//! listed; five times a second the kernel's counters of each connection are read. In
//! between the thread waits in `poll` for clients to go away.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io::{PipeReader, PipeWriter, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{info, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::limits::{Clock, Limits, Reached};
use super::socket::{ClientSocket, are_descriptors_listed, client_of, inode, own_descriptors};
use super::{Clients, LINGER, Leftover, Stage};
use crate::control::wait_until;
use crate::forward::Persistence;
use crate::own_answer::own_answer;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(40);

/// The same while nothing happens; a request on a new connection ends it.
const QUIET_INTERVAL: Duration = Duration::from_millis(200);

/// From one look to the next while something is in doubt: a connection seems to be
/// unserved, or its client seems to have gone. A moment may make it clear.
const SHORT_INTERVAL: Duration = Duration::from_millis(5);

/// From one search for new connections to the next while nothing seems to change.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The same while requests come.
const BUSY_SWEEP_INTERVAL: Duration = Duration::from_millis(200);

/// From one look at the kernel's counters to the next.
const COUNT_INTERVAL: Duration = Duration::from_millis(200);

/// How long connecting to ourselves may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// How many refused clients are waited for at the same time. The others are cut.
const LINGERING: usize = 1024;

/// How long a connection above the limit may go without a request: honest newcomers
/// have sent theirs by then, and are gone soon.
const ABOVE_THE_LIMIT: Duration = Duration::from_millis(100);

/// How long a connection counts as new.
const NEW: Duration = Duration::from_millis(500);

/// How long a client that floods us has to read why it is cut.
const TIME_TO_READ: Duration = Duration::from_millis(5);

/// How long `tiny_http` may hold a connection that has been cut, with no request left:
/// it reads an end at once, so this is far more than it needs.
const STUCK: Duration = Duration::from_secs(30);

/// How long an unserved request is waited for once it is time to stop.
const UNSERVED_AT_THE_END: Duration = Duration::from_secs(1);

/// A client that has been sending or receiving for so long goes when there are too many.
const SLOW_IN_A_CROWD: Duration = Duration::from_secs(1);

/// At most one line in this time for each kind of event.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A refused client that is still sending.
pub struct Lingering {
    pub(super) client: SocketAddr,
    pub(super) socket: Arc<ClientSocket>,
    pub(super) leftover: Leftover,
    pub(super) until: Instant,
}

/// The look-out.
pub struct Watch {
    clients: Arc<Clients>,
    listener: SocketAddr,
    limits: Limits,
    refused: Receiver<Lingering>,
    lingering: Vec<Lingering>,
    /// Which socket each descriptor was at the last sweep.
    known: HashMap<RawFd, u64>,
    last_sweep: Instant,
    last_count: Instant,
    /// The lowest free descriptor at the last look.
    lowest_free: RawFd,
    /// How many requests there had been at the last look.
    admitted: u64,
    /// A connection has ended since the last sweep.
    some_ended: bool,
    /// There may be clients that have gone away before they were found.
    in_doubt: bool,
    /// At the last sweep nobody but us held the listener.
    nobody_accepts: bool,
    connections: HashMap<u64, Connection>,
    events: Events,
}

struct Connection {
    socket: Arc<ClientSocket>,
    client: SocketAddr,
    found: Instant,
    clock: Clock,
    /// It has been read from, so it has a thread of `tiny_http`.
    served: bool,
    /// At the last look it had bytes to be read, and no thread to read them.
    unserved: bool,
    /// Since then it is cut, or the client has gone away: nothing more is to be learnt
    /// from it.
    gone: Option<Instant>,
    /// When it is reset, if `tiny_http` still holds it then.
    reset_at: Option<Instant>,
}

impl Watch {
    /// A watch over the clients of the listener at this address; a byte into `call`
    /// calls for a look at once.
    #[must_use]
    pub fn new(mut listener: SocketAddr, limits: Limits, call: Arc<PipeWriter>) -> Self {
        if listener.ip().is_unspecified() {
            listener.set_ip(match listener {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        if !are_descriptors_listed() {
            info!(
                "neither /proc/self/fd nor /dev/fd can be read: the clients' connections have to \
                 be searched for"
            );
        }
        if !cfg!(target_os = "linux") {
            warn!("on this system clients are not held to their time and size limits");
        }
        let (lingering, refused) = bounded(LINGERING);
        Self {
            clients: Clients::new(listener.port(), lingering, call),
            listener,
            limits,
            refused,
            lingering: Vec::new(),
            known: HashMap::new(),
            last_sweep: Instant::now(),
            last_count: Instant::now(),
            lowest_free: -1,
            admitted: 0,
            some_ended: false,
            in_doubt: false,
            nobody_accepts: false,
            connections: HashMap::new(),
            events: Events::default(),
        }
    }

    /// The clients that are watched over.
    #[must_use]
    pub fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients)
    }

    /// Watches for ever. `listen_again` is called when nobody but us holds `listener` any more.
    /// `idle` is told once [`Clients::close`] was called and nothing is left to be done.
    pub fn run(
        mut self,
        calls: &PipeReader,
        listener: u64,
        mut listen_again: impl FnMut(),
        idle: &Sender<()>,
    ) -> ! {
        let mut next_look = Instant::now() + INTERVAL;
        loop {
            let called = self.wait(calls, next_look);
            let now = Instant::now();
            self.linger(now);
            if now < next_look && !called {
                continue;
            }
            let closing = self.clients.is_closing();
            if closing || self.may_have_changed(calls, now) {
                self.last_sweep = now;
                let holders = self.sweep(now);
                self.nobody_accepts = holders.get(&listener) == Some(&1);
                if self.nobody_accepts && !closing {
                    listen_again();
                }
            }
            if closing && self.close_idle(now) {
                // Fails where it has been told before.
                let _ = idle.try_send(());
            }
            let all = now.duration_since(self.last_count) >= COUNT_INTERVAL;
            self.keep_limits(now, all);
            if all {
                self.last_count = now;
                self.close_stuck(now);
            }
            self.rescue();
            // Looking must not take more than a third of a core, however much there is.
            let enough = now.elapsed() * 2;
            next_look = Instant::now() + self.interval(now, closing).max(enough);
        }
    }

    /// How long nothing needs to be looked at.
    fn interval(&mut self, now: Instant, closing: bool) -> Duration {
        let soon = now + INTERVAL;
        let hurry = |connection: &Connection| {
            connection.unserved || connection.reset_at.is_some_and(|at| at < soon)
        };
        let busy = |connection: &Connection| {
            now.duration_since(connection.found) < NEW || connection.clock.has_begun_a_head()
        };
        if closing || self.in_doubt || self.connections.values().any(hurry) {
            SHORT_INTERVAL
        } else if self.clients.rest(self.admitted) && !self.connections.values().any(busy) {
            QUIET_INTERVAL
        } else {
            INTERVAL
        }
    }

    /// Whether it is worth looking for new connections: descriptors have come or gone,
    /// or it has been a while. The kernel gives out the lowest free number, so as long
    /// as that is the same, most likely nothing has changed.
    fn may_have_changed(&mut self, calls: &PipeReader, now: Instant) -> bool {
        let free =
            rustix::io::fcntl_dupfd_cloexec(calls, 0).map_or(-1, |duplicate| duplicate.as_raw_fd());
        let changed = std::mem::replace(&mut self.lowest_free, free) != free || free == -1;
        let ended = std::mem::take(&mut self.some_ended);
        let admitted = self.clients.admitted();
        let interval = if std::mem::replace(&mut self.admitted, admitted) == admitted {
            SWEEP_INTERVAL
        } else {
            BUSY_SWEEP_INTERVAL
        };
        changed
            || ended
            || self.nobody_accepts
            || self.in_doubt
            || now.duration_since(self.last_sweep) >= interval
    }

    /// Waits for the next look, and looks after clients that go away meanwhile. True if
    /// the wait was ended by a call.
    fn wait(&mut self, calls: &PipeReader, until: Instant) -> bool {
        let watched: Vec<&Connection> = self
            .connections
            .values()
            .filter(|connection| connection.gone.is_none())
            .collect();
        let mut fds = vec![PollFd::from_borrowed_fd(calls.as_fd(), PollFlags::IN)];
        // No events: a hang-up and an error are told all the same.
        fds.extend(watched.iter().map(|connection| {
            PollFd::from_borrowed_fd(connection.socket.as_fd(), PollFlags::empty())
        }));
        fds.extend(
            self.lingering
                .iter()
                .map(|lingering| PollFd::from_borrowed_fd(lingering.socket.as_fd(), PollFlags::IN)),
        );
        if wait_until(&mut fds, until).is_err() {
            // The looks go on.
            thread::park_timeout(SHORT_INTERVAL);
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let called = ready.next() == Some(true);
        let gone: Vec<u64> = watched
            .iter()
            .zip(ready)
            .filter_map(|(connection, ready)| ready.then_some(connection.socket.inode()))
            .collect();
        let now = Instant::now();
        for inode in gone {
            if let Some(connection) = self.connections.get_mut(&inode) {
                connection.gone = Some(now);
                connection.reset_at = Some(now + LINGER);
                self.some_ended = true;
                self.clients.abandon(connection.client);
            }
        }
        if called {
            // Calls that have come together are one.
            let _ = (&mut &*calls).read(&mut [0; 64]);
        }
        called
    }

    /// Cuts the connections that nothing is to be done for. True if none is left.
    fn close_idle(&mut self, now: Instant) -> bool {
        for connection in self.connections.values_mut() {
            if connection.gone.is_some() || !self.clients.is_idle(connection.client) {
                continue;
            }
            let idle = connection.socket.traffic().is_none_or(|traffic| {
                // A request that comes too late to be rescued has to be given up.
                let waits = now.duration_since(connection.found) < UNSERVED_AT_THE_END;
                connection.clock.is_idle(traffic) || (connection.unserved && !waits)
            });
            if idle {
                connection.socket.cut();
                connection.gone = Some(now);
                connection.reset_at = Some(now + LINGER);
            }
        }
        let gone = |connection: &Connection| connection.gone.is_some();
        self.connections.values().all(gone)
            && self.lingering.is_empty()
            && !self.clients.has_in_flight()
    }

    /// Throws away what refused clients send, and ends those that are through.
    fn linger(&mut self, now: Instant) {
        self.lingering.extend(self.refused.try_iter());
        if self.lingering.is_empty() {
            return;
        }
        let mut waste = vec![0; 256 * 1024];
        let through = |lingering: &mut Lingering| {
            now >= lingering.until || !lingering.socket.drain(&mut waste)
        };
        for lingering in self.lingering.extract_if(.., through) {
            self.clients.end_lingering(lingering);
        }
    }

    /// Finds the connections that are new since the last look, and forgets those that
    /// have ended. Tells how many descriptors each socket has.
    fn sweep(&mut self, now: Instant) -> HashMap<u64, usize> {
        let mut descriptors = HashMap::with_capacity(self.known.len());
        let mut holders: HashMap<u64, usize> = HashMap::with_capacity(self.connections.len());
        let mut found = HashMap::new();
        let mut open = HashSet::with_capacity(self.connections.len());
        for fd in own_descriptors() {
            let Some(inode) = inode(fd) else { continue };
            descriptors.insert(fd, inode);
            *holders.entry(inode).or_default() += 1;
            let is_new = self.known.get(&fd) != Some(&inode);
            if !is_new || self.connections.contains_key(&inode) {
                continue;
            }
            open.extend(client_of(fd, self.listener.port()));
            if let Some((socket, client)) = self.clients.inspect(fd) {
                let connection = Connection {
                    socket: Arc::new(socket),
                    client,
                    found: now,
                    clock: Clock::new(now),
                    served: false,
                    unserved: false,
                    gone: None,
                    reset_at: None,
                };
                found.insert(connection.socket.inode(), connection);
            }
        }
        self.known = descriptors;
        // Of a connection that has ended only our own duplicate is left.
        self.connections
            .retain(|inode, _| holders.get(inode).is_some_and(|count| *count > 1));
        self.connections.extend(found);
        let found = self.connections.values();
        open.extend(found.map(|connection| connection.client));
        self.in_doubt = self.clients.forget_ended(&open);
        let sockets = self.connections.values();
        let sockets = sockets.map(|connection| (connection.client, Arc::clone(&connection.socket)));
        self.clients.set_sockets(sockets.collect());
        holders
    }

    /// Cuts the connections that have reached a limit. Looks at `all` of them, or at
    /// those only of which much may come in little time: new ones, and unfinished heads.
    fn keep_limits(&mut self, now: Instant, all: bool) {
        let open = self.connections.values();
        let open = open.filter(|connection| connection.gone.is_none()).count();
        let above = open.saturating_sub(self.limits.max_connections);
        if above > 0 {
            self.cut_newest(above, now);
        }
        for connection in self.connections.values_mut() {
            if connection.reset_at.is_some_and(|at| at <= now) {
                connection.reset_at = None;
                connection.socket.reset();
            }
            let is_new = now.duration_since(connection.found) < NEW;
            if connection.gone.is_some() || !(all || is_new || connection.clock.has_begun_a_head())
            {
                continue;
            }
            let client = connection.client;
            let (stage, admitted) = self.clients.progress(client);
            let Some(mut traffic) = connection.socket.traffic() else {
                continue;
            };
            if stage.is_none() && !connection.clock.is_idle(traffic) {
                // What `tiny_http` has not read yet is not slow, and may belong to a body.
                traffic.received = traffic.received.saturating_sub(connection.socket.unread());
            }
            let Some(reached) = connection
                .clock
                .look(now, stage, admitted, traffic, &self.limits)
            else {
                continue;
            };
            connection.gone = Some(now);
            connection.reset_at = Some(match reached {
                Reached::LargeHead => now + TIME_TO_READ,
                _ => now + LINGER,
            });
            let answer = match reached {
                Reached::Idle | Reached::SlowReader => None,
                Reached::SlowHead => Some((408, "request head too slow (-header-timeout)")),
                Reached::LargeHead => Some((431, "request head too large (-max-header)")),
                Reached::SlowBody => Some((408, "request body too slow (-client-timeout)")),
            };
            if let Some((status, text)) = answer {
                let answer = own_answer(status, text, Persistence::Close, false);
                connection.socket.send_now(&answer);
            }
            match reached {
                Reached::SlowReader => connection.socket.reset(),
                // An end would not be noticed where the window is shut: it is reset soon.
                Reached::LargeHead => connection.socket.finish_sending(),
                _ => connection.socket.cut(),
            }
            self.events.log(reached, client, now);
        }
    }

    /// Cuts the newest connections that have been above the limit for a while: those
    /// without a request in flight, then those whose clients are sending or receiving
    /// for so long that they must be slow.
    fn cut_newest(&mut self, count: usize, now: Instant) {
        let age = |connection: &Connection| now.duration_since(connection.found);
        let can_go = |connection: &Connection| match self.clients.progress(connection.client).0 {
            None => true,
            Some(Stage::Receiving | Stage::Sending) => age(connection) >= SLOW_IN_A_CROWD,
            Some(Stage::Queued | Stage::Asking) => false,
        };
        let mut newest: Vec<&mut Connection> = self
            .connections
            .values_mut()
            .filter(|connection| connection.gone.is_none())
            .filter(|connection| can_go(connection))
            .collect();
        // Those that have been served are established, also where they were found in the
        // same sweep.
        newest.sort_by_key(|connection| {
            let (stage, admitted) = self.clients.progress(connection.client);
            (stage.is_some(), admitted > 0, Reverse(connection.found))
        });
        for connection in newest.into_iter().take(count) {
            if age(connection) < ABOVE_THE_LIMIT {
                continue;
            }
            connection.gone = Some(now);
            connection.reset_at = Some(now + LINGER);
            connection.socket.cut();
            self.events.log_crowd(connection.client, now);
        }
    }

    /// Closes connections that were cut long ago and that `tiny_http` still holds, with
    /// no request of theirs left: after a version it does not know it waits for itself,
    /// for ever.
    fn close_stuck(&mut self, now: Instant) {
        let is_stuck = |connection: &&Connection| {
            let cut = connection.gone;
            // One that still waits for a thread will be read from some day.
            cut.is_some_and(|cut| now.duration_since(cut) >= STUCK)
                && self.clients.is_idle(connection.client)
                && connection.socket.has_been_read()
        };
        let stuck: Vec<u64> = self
            .connections
            .values()
            .filter(is_stuck)
            .map(|connection| connection.socket.inode())
            .collect();
        if !stuck.is_empty() {
            self.clients.duplicates.close_leaked(&stuck);
        }
    }

    /// Makes `tiny_http` start threads for the connections that wait for one.
    fn rescue(&mut self) {
        for _ in 0..self.unserved() {
            // Where it fails, the next look tries again.
            drop(TcpStream::connect_timeout(&self.listener, CONNECT_TIMEOUT));
        }
    }

    /// How many connections were unserved at this look and at the last one.
    fn unserved(&mut self) -> usize {
        let mut candidates: Vec<&mut Connection> = self
            .connections
            .values_mut()
            .filter(|connection| !connection.served)
            .collect();
        let mut fds: Vec<PollFd<'_>> = candidates
            .iter()
            .map(|connection| PollFd::from_borrowed_fd(connection.socket.as_fd(), PollFlags::IN))
            .collect();
        let readable: Vec<bool> = match poll(&mut fds, Some(&Timespec::default())) {
            Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
            Err(_) => return 0,
        };
        let mut twice = 0;
        for (connection, readable) in candidates.iter_mut().zip(readable) {
            connection.served =
                !self.clients.is_idle(connection.client) || connection.socket.has_been_read();
            let unserved = readable && !connection.served;
            twice += usize::from(unserved && connection.unserved);
            connection.unserved = unserved;
        }
        twice
    }
}

/// What happens to clients, one line a second for each kind.
#[derive(Default)]
struct Events {
    last: HashMap<&'static str, (Instant, usize)>,
}

impl Events {
    fn log(&mut self, reached: Reached, client: SocketAddr, now: Instant) {
        let what = match reached {
            // Nothing is wrong with that.
            Reached::Idle => return,
            Reached::SlowHead => "sent a request head too slowly (-header-timeout)",
            Reached::LargeHead => "sent too large a request head (-max-header)",
            Reached::SlowBody => "sent a request body too slowly (-client-timeout)",
            Reached::SlowReader => "took an answer too slowly (-client-timeout)",
        };
        self.say(what, client, now);
    }

    fn log_crowd(&mut self, client: SocketAddr, now: Instant) {
        self.say("was one too many (-max-connections)", client, now);
    }

    fn say(&mut self, what: &'static str, client: SocketAddr, now: Instant) {
        let (last, silent) = self.last.entry(what).or_insert((now, usize::MAX));
        if *silent != usize::MAX && now.duration_since(*last) < LOG_INTERVAL {
            *silent += 1;
            return;
        }
        let more = match *silent {
            0 | usize::MAX => String::new(),
            count => format!(", and {count} more before"),
        };
        info!("client {client} {what}: connection cut{more}");
        (*last, *silent) = (now, 0);
    }
}
