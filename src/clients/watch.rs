//! Looks after the clients' connections, on a thread of its own.
//!
//! - **Finding** them, see `sweep`, and those that are left **unserved**, see `rescue`.
//! - **Limits**, see [`super::limits`], and who goes when there are too many, see `crowd`.
//!   What HTTP has an answer for gets it. While all workers are taken, clients that hardly
//!   move do not keep theirs.
//! - **Clients that go away** (reset, or both directions closed): their attempts are
//!   cancelled. One that has only closed its own side still gets its answer.
//! - **Refused ones** that are still sending: what they send is thrown away for a
//!   while, so that they get to see why.
//! - **Accepting.** `tiny_http`'s accept thread dies of any error, and may do so without
//!   a word: then nobody but us holds the listener any more.
//!
//! Cost: five looks a second while nothing happens, and then the thread waits in `poll`
//! for new connections, for bytes and for clients to go away; twenty-five looks a second
//! otherwise. A look reads the kernel's counters of each connection.

use std::collections::{HashMap, HashSet};
use std::io::{PipeReader, PipeWriter, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{info, warn};
use rustix::event::{PollFd, PollFlags};

use super::connection::Connection;
use super::crowd::{Member, beyond};
use super::events::Events;
use super::limits::{Limits, Reached};
use super::rescue::Rescue;
use super::socket::{ClientSocket, are_descriptors_listed};
use super::sweep::Sweep;
use super::{Clients, Leftover, Stage};
use crate::control::wait_until;
use crate::forward::Persistence;
use crate::own_answer::own_answer;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(40);

/// The same while nothing happens.
const QUIET_INTERVAL: Duration = Duration::from_millis(200);

/// The longest pause between two tries to listen again.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a connection waits for a thread of a pool that has been given up.
const NO_THREAD_COMES: Duration = Duration::from_secs(1);

/// How long all that are left of such a pool's connections must have waited: a thread that
/// is about to read has done so by then.
const ABANDONED_AFTER: Duration = Duration::from_secs(3);

/// From one look to the next while something is in doubt: a connection seems to be
/// unserved, its client seems to have gone, or a head grows fast. A moment may make it
/// clear.
const SHORT_INTERVAL: Duration = Duration::from_millis(5);

/// How many refused clients are waited for at the same time. The others are cut.
const LINGERING: usize = 1024;

/// How long a client that floods us has to read why it is cut.
const TIME_TO_READ: Duration = Duration::from_millis(5);

/// How long `tiny_http` may hold a connection that has been cut, with no request left:
/// it reads an end at once, so this is far more than it needs.
const STUCK: Duration = Duration::from_secs(30);

/// How long a request that has begun to come is waited for once it is time to stop.
const UNSERVED_AT_THE_END: Duration = Duration::from_secs(1);

// Answers past `tiny_http`, to clients that have reached a limit.
const LARGE_HEAD: (u16, &str) = (431, "request head too large (-max-header)");
const SLOW_HEAD: (u16, &str) = (408, "request head too slow (-header-timeout)");
const SLOW_BODY: (u16, &str) = (408, "request body too slow (-client-timeout)");

/// A refused client that is still sending.
pub struct Lingering {
    pub(super) client: SocketAddr,
    pub(super) socket: Arc<ClientSocket>,
    pub(super) leftover: Leftover,
    pub(super) until: Instant,
}

/// The look-out.
#[allow(clippy::struct_excessive_bools)] // What was seen last: any of them may be, with any other.
pub struct Watch {
    clients: Arc<Clients>,
    listener: SocketAddr,
    limits: Limits,
    refused: Receiver<Lingering>,
    lingering: Vec<Lingering>,
    sweep: Sweep,
    /// Somebody has connected since the last sweep.
    has_arrived: bool,
    /// Connections have ended since the last sweep.
    some_ended: bool,
    /// At the last sweep nobody but us held the listener.
    nobody_accepts: bool,
    /// When listening again may be tried, and the pause after that.
    listen_at: Instant,
    listen_pause: Duration,
    retired: Vec<Retired>,
    /// Requests were waiting for a worker at the last look.
    some_waited: bool,
    /// Nothing happens: the first byte is news.
    is_quiet: bool,
    connections: HashMap<u64, Connection>,
    rescue: Rescue,
    events: Events,
}

/// An accept loop of `tiny_http`'s that gets no further connections.
struct Retired {
    /// All connections that there were when it was found to have ended; some of them are its.
    clients: HashSet<u64>,
    /// None is left.
    over: Arc<AtomicBool>,
    /// Since when all that are left have been waiting for a thread: none will come.
    abandoned: Option<Instant>,
}

/// What accepts connections.
pub trait Gate {
    /// Nobody accepts any more. Returns what is to be set once the last connection that was
    /// accepted has ended; nothing if that was told before.
    fn retire(&mut self) -> Option<Arc<AtomicBool>>;

    /// To accept connections again, if that is possible now.
    fn listen_again(&mut self);
}

/// What has ended a wait, besides time.
#[derive(Clone, Copy, Default)]
struct Woken {
    /// The watch was called.
    called: bool,
    /// Something has begun to happen.
    active: bool,
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
            sweep: Sweep::new(Instant::now()),
            has_arrived: false,
            some_ended: false,
            nobody_accepts: false,
            listen_at: Instant::now(),
            listen_pause: INTERVAL,
            retired: Vec::new(),
            some_waited: false,
            is_quiet: false,
            connections: HashMap::new(),
            rescue: Rescue::default(),
            events: Events::default(),
        }
    }

    /// The clients that are watched over.
    #[must_use]
    pub fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients)
    }

    /// Watches for ever. Where nobody but us holds `listener`, whose inode comes with it, any
    /// more, `gate` has to see to it. `waiting` tells how many requests wait for a worker.
    /// `idle` is told once [`Clients::close`] was called and
    /// nothing is left to be done.
    pub fn run(
        mut self,
        calls: &PipeReader,
        (listener, inode): (&TcpListener, u64),
        mut gate: impl Gate,
        waiting: impl Fn() -> usize,
        idle: &Sender<()>,
    ) -> ! {
        let mut last_look = Instant::now();
        let mut next_look = last_look + INTERVAL;
        loop {
            let woken = self.wait(calls, listener, next_look);
            let now = Instant::now();
            self.linger(now);
            if woken.active {
                let soon = (last_look + INTERVAL).max(now + SHORT_INTERVAL);
                next_look = next_look.min(soon);
            }
            if now < next_look && !woken.called {
                continue;
            }
            let begun = cpu_time();
            let closing = self.clients.is_closing();
            let admitted = self.clients.admitted();
            let due = self.sweep.is_due(calls, admitted, now);
            if due || closing || self.has_arrived || self.some_ended || self.nobody_accepts {
                self.has_arrived = false;
                self.some_ended = false;
                let holders = self.sweep.sweep(&self.clients, &mut self.connections, now);
                self.nobody_accepts = holders.get(&inode) == Some(&1);
                if self.nobody_accepts
                    && let Some(over) = gate.retire()
                {
                    let clients = self.clients.all_inodes();
                    let abandoned = None;
                    self.retired.push(Retired {
                        clients,
                        over,
                        abandoned,
                    });
                }
                self.end_retired(&holders, now);
                if self.nobody_accepts && !closing && now >= self.listen_at {
                    self.listen_at = now + self.listen_pause;
                    self.listen_pause = (2 * self.listen_pause).min(LONGEST_PAUSE);
                    gate.listen_again();
                } else if now >= self.listen_at + LONGEST_PAUSE {
                    self.listen_pause = INTERVAL;
                }
            }
            if closing && self.close_idle(now) {
                // Fails where it has been told before.
                let _ = idle.try_send(());
            }
            self.thin_out(now);
            self.keep_limits(now);
            self.free_workers(waiting(), now);
            self.close_leaked(now);
            let connections = self.connections.values_mut();
            self.rescue
                .look(&self.clients, connections, self.listener, now);
            self.is_quiet = !closing && self.clients.admitted() == admitted && self.is_calm(now);
            // Looking must not take more than a third of a core, however much there is.
            let enough = (2 * cpu_time().saturating_sub(begun)).min(QUIET_INTERVAL);
            last_look = now;
            next_look = Instant::now() + self.interval(now, closing).max(enough);
        }
    }

    /// Tells the accept loops whose last connection has ended.
    ///
    /// With an accept thread `tiny_http` also gives up its pool of threads: those that are
    /// still there go on, but no thread comes for a connection that waits for one. If all
    /// threads wait for ever, for what has been leaked, its descriptors would never be
    /// closed.
    fn end_retired(&mut self, holders: &HashMap<u64, usize>, now: Instant) {
        for connection in self.connections.values_mut() {
            let inode = connection.inode();
            if connection.gone.is_none()
                && connection.service.is_missing()
                && connection.age(now) >= NO_THREAD_COMES
                && self
                    .retired
                    .iter()
                    .any(|retired| retired.clients.contains(&inode))
            {
                connection.cut(now);
            }
        }
        let connections = &self.connections;
        // One holder may be our own duplicate.
        let is_open = |inode: &u64| {
            let ours = usize::from(connections.contains_key(inode));
            holders.get(inode).is_some_and(|count| *count > ours)
        };
        self.retired.retain_mut(|retired| {
            retired.clients.retain(is_open);
            let over = retired.clients.is_empty();
            retired.over.store(over, Ordering::Release);
            // The counters of one that has been reset tell nothing any more.
            let (known, unknown): (Vec<u64>, Vec<u64>) = retired
                .clients
                .iter()
                .partition(|inode| connections.contains_key(inode));
            let waits = |inode: &u64| {
                let connection = connections.get(inode);
                connection.is_some_and(|connection| connection.service.is_missing())
            };
            if !over && known.iter().all(waits) && self.sweep.are_waiting(&unknown) {
                let since = *retired.abandoned.get_or_insert(now);
                if now.saturating_duration_since(since) >= ABANDONED_AFTER {
                    let inodes: Vec<u64> = retired.clients.iter().copied().collect();
                    self.clients.duplicates.close_leaked(&inodes);
                }
            } else {
                retired.abandoned = None;
            }
            !over
        });
    }

    /// How long nothing needs to be looked at.
    fn interval(&self, now: Instant, closing: bool) -> Duration {
        let soon = now + INTERVAL;
        let hurry = |connection: &Connection| {
            connection.gone.is_none()
                && (connection.service.is_missing() || connection.clock.grows_fast())
                || connection.reset_at.is_some_and(|at| at < soon)
        };
        if closing || self.sweep.is_in_doubt() || self.connections.values().any(hurry) {
            SHORT_INTERVAL
        } else if self.is_quiet {
            QUIET_INTERVAL
        } else {
            INTERVAL
        }
    }

    /// Whether nothing is about to happen on any connection.
    fn is_calm(&self, now: Instant) -> bool {
        let mut all = self.connections.values();
        !all.any(|connection| connection.gone.is_some() || connection.is_busy(now))
    }

    /// Waits for the next look, and looks after clients that go away meanwhile.
    fn wait(&mut self, calls: &PipeReader, listener: &TcpListener, until: Instant) -> Woken {
        let watched: Vec<&Connection> = self
            .connections
            .values()
            .filter(|connection| connection.gone.is_none())
            .collect();
        // A hang-up and an error are told in any case.
        let news = if self.is_quiet {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        // Once is enough: it may take a moment until somebody accepts.
        let arrivals = if self.has_arrived || self.clients.is_closing() {
            PollFlags::empty()
        } else {
            PollFlags::IN
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(calls.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), arrivals),
        ];
        fds.extend(
            watched
                .iter()
                .map(|connection| PollFd::from_borrowed_fd(connection.socket.as_fd(), news)),
        );
        fds.extend(
            self.lingering
                .iter()
                .map(|lingering| PollFd::from_borrowed_fd(lingering.socket.as_fd(), PollFlags::IN)),
        );
        if wait_until(&mut fds, until).is_err() {
            // The looks go on.
            thread::park_timeout(SHORT_INTERVAL);
        }
        let mut events = fds.iter().map(PollFd::revents);
        let called = events.next().is_some_and(|events| !events.is_empty());
        let has_arrived = events
            .next()
            .is_some_and(|events| events.contains(PollFlags::IN));
        let mut has_news = false;
        let mut gone = Vec::new();
        for (connection, events) in watched.iter().zip(events) {
            has_news |= !events.is_empty();
            if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                gone.push(connection.inode());
            }
        }
        let now = Instant::now();
        for inode in gone {
            if let Some(connection) = self.connections.get_mut(&inode) {
                connection.has_gone(now);
                self.some_ended = true;
                self.clients.abandon(connection.client);
            }
        }
        if called {
            // Calls that have come together are one.
            let _ = (&mut &*calls).read(&mut [0; 64]);
        }
        self.has_arrived |= has_arrived;
        let active = self.is_quiet && (has_arrived || has_news);
        self.is_quiet &= !active;
        Woken { called, active }
    }

    /// Cuts the connections that nothing is to be done for. True if none is left.
    fn close_idle(&mut self, now: Instant) -> bool {
        for connection in self.connections.values_mut() {
            if connection.gone.is_some() || !self.clients.is_idle(connection.client) {
                continue;
            }
            let idle = connection.socket.traffic().is_none_or(|traffic| {
                // A request that comes too late, be it to be rescued, has to be given up.
                let waits = if connection.service.is_missing() {
                    Some(connection.age(now))
                } else {
                    connection.clock.head_begun_for(now)
                };
                connection.clock.is_idle(traffic)
                    || waits.is_some_and(|waits| waits >= UNSERVED_AT_THE_END)
            });
            if idle {
                connection.cut(now);
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

    /// Cuts the newest connections where there are too many.
    fn thin_out(&mut self, now: Instant) {
        let open = || {
            let connections = self.connections.values();
            connections.filter(|connection| connection.gone.is_none())
        };
        let limit = self.limits.max_connections;
        if open().count() <= limit {
            return;
        }
        let member = |connection: &Connection| {
            let progress = self.clients.progress(connection.client);
            let clock = &connection.clock;
            Member {
                inode: connection.inode(),
                established: progress.first,
                age: connection.age(now),
                stage: progress.stage,
                in_stage_for: clock.in_stage_for(now),
                has_begun: connection.service.is_missing() || clock.head_begun_for(now).is_some(),
            }
        };
        for inode in beyond(limit, open().map(member).collect()) {
            if let Some(connection) = self.connections.get_mut(&inode) {
                connection.cut(now);
                self.some_ended = true;
                self.events.log_crowd(connection.client, now);
            }
        }
    }

    /// Cuts the connections that have reached a limit.
    fn keep_limits(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            if connection.reset_at.is_some_and(|at| at <= now) {
                connection.reset_at = None;
                connection.socket.reset();
            }
            if connection.gone.is_some() {
                continue;
            }
            let client = connection.client;
            // In this order: what is read in between must not count as a head.
            let Some(traffic) = connection.socket.traffic() else {
                continue;
            };
            let progress = self.clients.progress(client);
            let clock = &mut connection.clock;
            let Some(reached) = clock.look(now, progress, traffic, &self.limits) else {
                continue;
            };
            connection.has_gone(now);
            self.some_ended = true;
            self.events.log(reached, client, now);
            match reached {
                Reached::SlowReader => connection.socket.reset(),
                // It floods us while it is being served: no answer fits in between.
                Reached::LargeHead if progress.stage.is_some() => {
                    self.clients.abandon(client);
                    self.clients.reset(client);
                }
                Reached::LargeHead => {
                    say(&connection.socket, LARGE_HEAD);
                    // An end would not be noticed where the window is shut: it is reset soon.
                    connection.reset_at = Some(now + TIME_TO_READ);
                    connection.socket.finish_sending();
                }
                Reached::SlowHead => {
                    say(&connection.socket, SLOW_HEAD);
                    connection.socket.cut();
                }
                Reached::SlowBody => {
                    say(&connection.socket, SLOW_BODY);
                    connection.socket.cut();
                }
                Reached::Idle => connection.socket.cut(),
            }
        }
    }

    /// Where requests wait for a worker, those clients go that keep one for nothing: a
    /// client that gets on is never held up for long by those that do not.
    fn free_workers(&mut self, waiting: usize, now: Instant) {
        let still_waiting = std::mem::replace(&mut self.some_waited, waiting > 0) && waiting > 0;
        if !still_waiting {
            return;
        }
        let crawlers = self
            .connections
            .values_mut()
            .filter(|connection| connection.gone.is_none() && connection.clock.crawls());
        for connection in crawlers.take(waiting) {
            if self.clients.progress(connection.client).stage == Some(Stage::Receiving) {
                say(&connection.socket, SLOW_BODY);
                connection.cut(now);
            } else {
                connection.socket.reset();
                connection.has_gone(now);
            }
            self.some_ended = true;
            self.events.log_crawler(connection.client, now);
        }
    }

    /// Closes connections that were cut long ago and that `tiny_http` still holds, with
    /// no request of theirs left: after a version it does not know it waits for itself,
    /// for ever. And what has been leaked.
    fn close_leaked(&mut self, now: Instant) {
        let is_stuck = |connection: &&Connection| {
            let cut = connection.gone;
            // One that still waits for a thread will be read from some day.
            cut.is_some_and(|cut| now.saturating_duration_since(cut) >= STUCK)
                && self.clients.is_idle(connection.client)
                && connection.socket.has_been_read()
        };
        let stuck: Vec<u64> = self
            .connections
            .values()
            .filter(is_stuck)
            .map(Connection::inode)
            .collect();
        if !stuck.is_empty() {
            self.clients.duplicates.close_leaked(&stuck);
        }
        self.sweep
            .close_orphans(&self.clients, &self.connections, now);
    }
}

/// The processor time that this thread has taken.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Answers past `tiny_http`, on a connection that is about to be cut.
fn say(socket: &ClientSocket, (status, text): (u16, &str)) {
    socket.send_now(&own_answer(status, text, Persistence::Close, false));
}
