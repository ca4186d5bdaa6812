//! Finding the clients' connections among this process's descriptors.
//!
//! Cost: a system call or two for each descriptor. So a sweep is made only when
//! descriptors seem to have come or gone, and once in a while.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Clients;
use super::connection::Connection;
use super::socket::{client_of, inode, is_dead_client, own_descriptors, traffic_of};

/// From one sweep to the next while nothing seems to change.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same while requests come.
const BUSY_INTERVAL: Duration = Duration::from_millis(200);

/// How long a dead connection's descriptors may stay open before they count as leaked,
/// if some have been: whoever still has a use for them is through with it by then.
const LEAKED_AFTER: Duration = Duration::from_secs(10);

/// What is remembered from one sweep to the next.
pub(super) struct Sweep {
    /// Which socket each descriptor was at the last one.
    known: HashMap<RawFd, u64>,
    last: Instant,
    /// The lowest free descriptor at the last look.
    lowest_free: RawFd,
    /// How many requests there had been at the last look.
    admitted: u64,
    /// There may be clients that have gone away before they were found.
    in_doubt: bool,
    /// Connections without a peer that are no longer watched, and when they were seen
    /// first.
    dead: HashMap<u64, Instant>,
}

impl Sweep {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            known: HashMap::new(),
            last: now,
            lowest_free: -1,
            admitted: 0,
            in_doubt: false,
            dead: HashMap::new(),
        }
    }

    /// A moment may make it clear whether a client has gone.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether it is worth looking for new connections: descriptors have come or gone,
    /// or it has been a while. The kernel gives out the lowest free number, so as long
    /// as that is the same, most likely nothing has changed.
    pub(super) fn is_due(&mut self, any: impl AsFd, admitted: u64, now: Instant) -> bool {
        let free =
            rustix::io::fcntl_dupfd_cloexec(any, 0).map_or(-1, |duplicate| duplicate.as_raw_fd());
        let changed = std::mem::replace(&mut self.lowest_free, free) != free || free == -1;
        let interval = if std::mem::replace(&mut self.admitted, admitted) == admitted {
            INTERVAL
        } else {
            BUSY_INTERVAL
        };
        changed || self.in_doubt || now.saturating_duration_since(self.last) >= interval
    }

    /// Finds the connections that are new since the last sweep, and forgets those that
    /// have ended. Tells how many descriptors each socket has.
    pub(super) fn sweep(
        &mut self,
        clients: &Clients,
        connections: &mut HashMap<u64, Connection>,
        now: Instant,
    ) -> HashMap<u64, usize> {
        self.last = now;
        let mut descriptors = HashMap::with_capacity(self.known.len());
        let mut holders: HashMap<u64, usize> = HashMap::with_capacity(connections.len());
        let mut found = HashMap::new();
        let mut open: HashSet<SocketAddr> = HashSet::with_capacity(connections.len());
        for fd in own_descriptors() {
            let Some(inode) = inode(fd) else { continue };
            descriptors.insert(fd, inode);
            *holders.entry(inode).or_default() += 1;
            let is_new = self.known.get(&fd) != Some(&inode);
            if !is_new || connections.contains_key(&inode) {
                continue;
            }
            open.extend(client_of(fd, clients.port));
            if let Some((socket, client)) = clients.inspect(fd) {
                found.insert(socket.inode(), Connection::new(socket, client, now));
            }
        }
        self.known = descriptors;
        // Of a connection that has ended only our own duplicate is left.
        connections.retain(|inode, _| holders.get(inode).is_some_and(|count| *count > 1));
        connections.extend(found);
        open.extend(connections.values().map(|connection| connection.client));
        self.in_doubt = clients.forget_ended(&open);
        let sockets = connections.values();
        let sockets = sockets.map(|connection| (connection.client, Arc::clone(&connection.socket)));
        clients.set_sockets(sockets);
        holders
    }

    /// Whether all of these sockets have bytes to be read, and nobody has read any so far.
    pub(super) fn are_waiting(&self, inodes: &[u64]) -> bool {
        let mut fds = self
            .known
            .iter()
            .filter(|(_, inode)| inodes.contains(inode));
        fds.all(|(fd, _)| traffic_of(*fd).is_some_and(|it| it.read() == 0 && it.unread > 0))
    }

    /// Closes what leaked requests have left behind, where it could not be told at the time
    /// which descriptors were theirs: their clients had reset the connections before
    /// they were found.
    pub(super) fn close_orphans(
        &mut self,
        clients: &Clients,
        connections: &HashMap<u64, Connection>,
        now: Instant,
    ) {
        let orphans = clients.orphans.load(Ordering::Relaxed);
        if orphans == 0 {
            self.dead.clear();
            return;
        }
        let dead: HashSet<u64> = self
            .known
            .iter()
            .filter(|(_, inode)| !connections.contains_key(inode))
            .filter(|(fd, _)| is_dead_client(**fd, clients.port))
            .map(|(_, inode)| *inode)
            .collect();
        self.dead.retain(|inode, _| dead.contains(inode));
        for inode in dead {
            self.dead.entry(inode).or_insert(now);
        }
        if clients.has_request_of_unknown() {
            return;
        }
        let leaked: Vec<u64> = self
            .dead
            .iter()
            .filter(|(_, seen)| now.saturating_duration_since(**seen) >= LEAKED_AFTER)
            .map(|(inode, _)| *inode)
            .take(orphans)
            .collect();
        if !leaked.is_empty() {
            clients.duplicates.close_leaked(&leaked);
            clients.orphans.fetch_sub(leaked.len(), Ordering::Relaxed);
            self.dead.retain(|inode, _| !leaked.contains(inode));
        }
    }
}
