//! The clients' connections: counting, condemning, cutting them.
//!
//! `tiny_http` keeps its sockets to itself; `socket` reaches them all the same.
//! [`watch`] looks after them: it finds them (`sweep`), rescues those that `tiny_http`
//! leaves unserved (`rescue`), keeps the [`limits`], decides who goes when there are too
//! many (`crowd`), and notices when a client goes away.

mod connection;
mod crowd;
mod events;
pub mod limits;
mod rescue;
mod socket;
mod sweep;
pub mod watch;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{PipeWriter, Write};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tiny_http::Request;

use crate::control::Attempts;
use crate::leniency::holds_unread_body;
use socket::Duplicates;
pub use socket::{ClientSocket, Traffic};
use watch::Lingering;

/// How long a condemned connection is remembered after it has been cut: its last
/// requests have come out of `tiny_http`'s queue by then.
const CONDEMNED_FOR: Duration = Duration::from_secs(30);

/// How long a client may go on sending after it has been refused.
const LINGER: Duration = Duration::from_secs(2);

/// How many requests behind a refused one are held back until its connection is cut.
const HELD: usize = 64;

/// How many requests of one connection may wait behind the one in flight: `tiny_http`
/// reads ahead without a limit of its own.
const PIPELINED: usize = 32;

/// `tiny_http` allocates what is left of a body, in bytes, when its request is dropped.
/// Up to this much there is always room for it.
const SAFE_TO_DROP: usize = 128 * 1024 * 1024;

/// In place of a number of bytes that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The connections that have requests in flight, and those that must get no more.
#[derive(Debug)]
pub struct Clients {
    /// The listener's port.
    port: u16,
    duplicates: Arc<Duplicates>,
    state: Mutex<State>,
    /// Refused clients, to be waited for.
    lingering: Sender<Lingering>,
    /// No request will follow the ones in flight.
    closing: AtomicBool,
    /// How many requests there have been.
    admitted: AtomicU64,
    /// How many leaked requests have left descriptors behind that could not be told from
    /// others at the time.
    orphans: AtomicUsize,
    /// Calls the watch.
    call: Arc<PipeWriter>,
}

#[derive(Debug, Default)]
struct State {
    connections: HashMap<SocketAddr, Requests>,
    condemned: HashMap<SocketAddr, Condemned>,
    /// Those that the watch has found.
    sockets: HashMap<SocketAddr, Arc<ClientSocket>>,
    /// Those of them that have the same client address, towards two addresses of ours:
    /// `tiny_http` does not tell which of them a request has come on.
    doubles: HashMap<SocketAddr, Vec<Arc<ClientSocket>>>,
}

/// A connection's requests.
#[derive(Debug)]
struct Requests {
    /// The first one's number among those of all connections.
    first: u64,
    in_flight: Vec<Arc<Flight>>,
    /// One is served after the other (RFC 9112 9.3.2): a later one may build on what an
    /// earlier one has done.
    waiting: VecDeque<Request>,
    /// How many there have been in all.
    admitted: u64,
    /// The bytes of the requests so far, where they are known.
    consumed: Option<u64>,
    /// What they add up to as clients usually write them, where there is a usual way.
    usual: Option<u64>,
    /// At the last look there was no such connection. It may have begun meanwhile.
    unseen: bool,
}

impl Requests {
    /// None so far, on a connection whose first one has this number among all.
    fn new(first: u64) -> Self {
        Self {
            first,
            in_flight: Vec::new(),
            waiting: VecDeque::new(),
            admitted: 0,
            consumed: None,
            usual: Some(0),
            unseen: false,
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }

    fn begin(&mut self) -> Arc<Flight> {
        let flight = Arc::new(Flight {
            stage: AtomicU8::new(Stage::Queued as u8),
            consumed: AtomicU64::new(UNKNOWN),
            attempts: Attempts::default(),
        });
        self.in_flight.push(Arc::clone(&flight));
        flight
    }
}

#[derive(Debug)]
struct Condemned {
    since: Instant,
    /// Once cut; known by its socket, so that a later connection from the same
    /// address is not taken for it.
    cut: Option<Inode>,
    /// Dropping a request makes `tiny_http` answer it and read its body. That must wait
    /// until the connection is cut: then both end at once.
    held: Vec<Request>,
}

type Inode = Option<u64>;

/// Where a request is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It waits for a worker.
    Queued,
    /// Its body is being received.
    Receiving,
    /// The endpoints are being asked.
    Asking,
    /// The client is being answered.
    Sending,
}

/// How far a connection's requests have come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The stage of the foremost one; none is in flight without it.
    pub stage: Option<Stage>,
    /// The first one's number among those of all connections.
    pub first: Option<u64>,
    /// How many there have been.
    pub admitted: u64,
    /// How many bytes they had, heads and bodies, where that is known.
    pub consumed: Option<u64>,
}

/// What is known of a request in flight.
#[derive(Debug)]
pub struct Flight {
    stage: AtomicU8,
    /// The bytes of this request and those before it on its connection, or [`UNKNOWN`].
    consumed: AtomicU64,
    /// Its attempts, to be cancelled when the client goes away.
    pub attempts: Attempts,
}

impl Flight {
    /// Says how far the request has come.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn stage(&self) -> Stage {
        [Stage::Queued, Stage::Receiving, Stage::Asking]
            .into_iter()
            .find(|stage| *stage as u8 == self.stage.load(Ordering::Relaxed))
            .unwrap_or(Stage::Sending)
    }

    fn set_consumed(&self, consumed: Option<u64>) {
        let consumed = consumed.unwrap_or(UNKNOWN);
        self.consumed.store(consumed, Ordering::Relaxed);
    }

    fn consumed(&self) -> Option<u64> {
        Some(self.consumed.load(Ordering::Relaxed)).filter(|consumed| *consumed != UNKNOWN)
    }
}

/// A request in flight; ends with its drop, which must come after that of the request
/// or its writer.
#[derive(Debug)]
pub struct InFlight {
    clients: Arc<Clients>,
    client: SocketAddr,
    /// What is known of it.
    pub flight: Arc<Flight>,
}

impl Clients {
    fn new(port: u16, lingering: Sender<Lingering>, call: Arc<PipeWriter>) -> Arc<Self> {
        Arc::new(Self {
            port,
            duplicates: Arc::default(),
            state: Mutex::default(),
            lingering,
            closing: AtomicBool::new(false),
            admitted: AtomicU64::new(0),
            orphans: AtomicUsize::new(0),
            call,
        })
    }

    /// Counts a request in, if it is its turn. If another one of its connection is in
    /// flight it waits for [`Clients::next`]; if its connection is condemned it is gone.
    #[must_use]
    pub fn admit(
        self: &Arc<Self>,
        request: Request,
        client: SocketAddr,
    ) -> Option<(Request, InFlight)> {
        let mut state = self.lock();
        if let Some(condemned) = state.condemned.get_mut(&client) {
            let Some(inode) = condemned.cut else {
                condemned.held.push(request);
                if condemned.held.len() > HELD {
                    drop(state);
                    self.cut(client);
                }
                return None;
            };
            drop(state);
            let now = self.socket(client).map(|socket| socket.inode());
            state = self.lock();
            if now.is_none() || now == inode {
                if let Some(condemned) = state.condemned.get_mut(&client) {
                    condemned.held.push(request);
                }
                drop(state);
                self.drop_held(client);
                return None;
            }
            state.condemned.remove(&client);
        }
        let number = self.admitted.fetch_add(1, Ordering::Relaxed);
        let requests = state.connections.entry(client);
        let requests = requests.or_insert_with(|| Requests::new(number));
        requests.admitted += 1;
        requests.unseen = false;
        if requests.is_idle() {
            let flight = requests.begin();
            drop(state);
            return Some((request, self.in_flight(client, flight)));
        }
        requests.waiting.push_back(request);
        let too_many = requests.waiting.len() > PIPELINED;
        let foremost = requests.in_flight.first().cloned();
        drop(state);
        if too_many {
            self.cut(client);
        } else if let Some(flight) = foremost {
            flight.set_consumed(self.read_from(client));
        }
        None
    }

    /// The request that has waited longest on this connection, now counted in. To be
    /// called whenever a request has been served.
    #[must_use]
    pub fn next(self: &Arc<Self>, client: SocketAddr) -> Option<(Request, InFlight)> {
        let mut state = self.lock();
        if state.condemned.contains_key(&client) {
            return None;
        }
        let requests = state.connections.get_mut(&client)?;
        if !requests.in_flight.is_empty() {
            // One has come between the end of the last one and now: it will ask again.
            return None;
        }
        let request = requests.waiting.pop_front()?;
        let flight = requests.begin();
        drop(state);
        Some((request, self.in_flight(client, flight)))
    }

    fn in_flight(self: &Arc<Self>, client: SocketAddr, flight: Arc<Flight>) -> InFlight {
        InFlight {
            clients: Arc::clone(self),
            client,
            flight,
        }
    }

    /// Whether more requests of this connection wait for the one in flight.
    #[must_use]
    pub fn has_waiting(&self, client: SocketAddr) -> bool {
        let state = self.lock();
        let requests = state.connections.get(&client);
        requests.is_some_and(|requests| !requests.waiting.is_empty())
    }

    /// No further request of this connection is served, though some may be queued:
    /// where one message's end is in doubt, so is the next one's beginning. The
    /// connection is to be cut soon, in one of the ways below.
    pub fn condemn(&self, client: SocketAddr) {
        let mut state = self.lock();
        state
            .condemned
            .retain(|_, entry| entry.cut.is_none() || entry.since.elapsed() < CONDEMNED_FOR);
        state.condemned.entry(client).or_insert(Condemned {
            since: Instant::now(),
            cut: None,
            held: Vec::new(),
        });
    }

    /// How far the connection's requests have come.
    fn progress(&self, client: SocketAddr) -> Progress {
        let connections = &self.lock().connections;
        let Some(requests) = connections.get(&client) else {
            return Progress::default();
        };
        let (stage, consumed) = match requests.in_flight.first() {
            Some(flight) => (Some(flight.stage()), flight.consumed()),
            None if requests.waiting.is_empty() => (None, requests.consumed.or(requests.usual)),
            None => (Some(Stage::Queued), None),
        };
        Progress {
            stage,
            first: Some(requests.first),
            admitted: requests.admitted,
            consumed,
        }
    }

    /// Notes that a request has been read with its body, and nothing behind it: what is
    /// read from now on is the next one's head.
    ///
    /// `usual` is the request's length in bytes as clients usually write it, if there is
    /// a usual way. It has to do where the connection has not been found yet.
    pub fn has_been_read(&self, client: SocketAddr, flight: &Flight, usual: Option<u64>) {
        let read = self.read_from(client);
        let mut state = self.lock();
        let Some(requests) = state.connections.get_mut(&client) else {
            return;
        };
        requests.usual = requests.usual.zip(usual).map(|(sum, usual)| sum + usual);
        flight.set_consumed(read.or(requests.usual));
    }

    /// The sockets of all clients, found or not, whether they have a peer or not.
    fn all_inodes(&self) -> HashSet<u64> {
        socket::own_descriptors()
            .filter(|fd| socket::is_accepted(*fd, self.port))
            .filter_map(socket::inode)
            .collect()
    }

    /// How many bytes have been read from the client, if its connection has been found.
    fn read_from(&self, client: SocketAddr) -> Option<u64> {
        let state = self.lock();
        let socket = state.sockets.get(&client).cloned();
        let socket = socket.filter(|_| !state.doubles.contains_key(&client));
        drop(state);
        let traffic = socket?.traffic()?;
        // One that has ended may be known still, and another one have its address.
        (!traffic.finished).then(|| traffic.read())
    }

    /// Makes the watch look at once.
    pub fn call_watch(&self) {
        // Where the watch has ended, nobody has to be called.
        let _ = (&*self.call).write_all(&[0]);
    }

    /// How many requests there have been on all connections.
    fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    fn is_idle(&self, client: SocketAddr) -> bool {
        self.progress(client).stage.is_none()
    }

    /// Forgets the connections that are not among `open` at two sweeps in a row. What
    /// is being done for their clients is cancelled: they have gone away before their
    /// connections were found. True if there may be some such client.
    fn forget_ended(&self, open: &HashSet<SocketAddr>) -> bool {
        let mut in_doubt = false;
        let mut cancelled = Vec::new();
        self.lock().connections.retain(|client, requests| {
            let unseen = !open.contains(client);
            let twice = std::mem::replace(&mut requests.unseen, unseen) && unseen;
            if requests.is_idle() {
                return !twice;
            }
            in_doubt |= unseen && !twice;
            if twice {
                cancelled.extend(requests.in_flight.iter().cloned());
            }
            true
        });
        for flight in cancelled {
            flight.attempts.cancel();
        }
        in_doubt
    }

    fn has_in_flight(&self) -> bool {
        let state = self.lock();
        let mut all = state.connections.values();
        all.any(|requests| !requests.is_idle())
    }

    /// Cancels what is being done for a client that has gone away.
    fn abandon(&self, client: SocketAddr) {
        let state = self.lock();
        if state.doubles.contains_key(&client) {
            // It may be the other one that is still there. A relay will notice.
            return;
        }
        let requests = state.connections.get(&client);
        let flights = requests.map(|requests| requests.in_flight.clone());
        drop(state);
        for flight in flights.into_iter().flatten() {
            flight.attempts.cancel();
        }
    }

    /// The client's connection, if it is still there, and no other one has its address.
    ///
    /// Cost: nothing if the watch has found it, else a few system calls for each
    /// descriptor of the process.
    #[must_use]
    pub fn socket(&self, client: SocketAddr) -> Option<Arc<ClientSocket>> {
        let mut sockets = self.sockets(client).sockets;
        let socket = sockets.pop();
        socket.filter(|_| sockets.is_empty())
    }

    /// The connections of this client's address, as far as they are known, or else can be
    /// found: more than one only towards several addresses of ours.
    fn sockets(&self, client: SocketAddr) -> Found {
        let state = self.lock();
        if let Some(doubles) = state.doubles.get(&client) {
            return Found::of(doubles.clone());
        }
        let known = state.sockets.get(&client).cloned();
        drop(state);
        // One that has ended may be known still, and another one have its address; unless it
        // has ended just now.
        if let Some(socket) = known.filter(|socket| socket.is_ending() || socket.is_connected()) {
            return Found::of(vec![socket]);
        }
        let mut found = Found::of(Vec::new());
        for fd in socket::own_descriptors() {
            if socket::client_of(fd, self.port) != Some(client) {
                continue;
            }
            match self.inspect(fd) {
                Some((socket, peer)) if peer == client => found.sockets.push(Arc::new(socket)),
                _ => found.out_of_reach = Some(fd),
            }
        }
        found.sockets.sort_by_key(|socket| socket.inode());
        found.sockets.dedup_by_key(|socket| socket.inode());
        found
    }

    fn set_sockets(&self, found: impl Iterator<Item = (SocketAddr, Arc<ClientSocket>)>) {
        let mut sockets = HashMap::new();
        let mut doubles: HashMap<SocketAddr, Vec<Arc<ClientSocket>>> = HashMap::new();
        for (client, socket) in found {
            if let Some(other) = sockets.insert(client, Arc::clone(&socket)) {
                let all = doubles.entry(client).or_insert_with(|| vec![other]);
                all.push(socket);
            }
        }
        let mut state = self.lock();
        let old = (
            std::mem::replace(&mut state.sockets, sockets),
            std::mem::replace(&mut state.doubles, doubles),
        );
        drop(state);
        // Closes descriptors: not under the lock.
        drop(old);
    }

    /// The client's connection behind this descriptor, if it is one.
    fn inspect(&self, fd: RawFd) -> Option<(ClientSocket, SocketAddr)> {
        ClientSocket::of(fd, self.port, &self.duplicates)
    }

    /// Cuts the client's connection: what has been sent arrives, nothing else will.
    pub fn cut(&self, client: SocketAddr) {
        self.end(client, ClientSocket::cut);
    }

    /// Cuts the client's connection so that it can't be taken for a clean end (RST).
    pub fn reset(&self, client: SocketAddr) {
        self.end(client, ClientSocket::reset);
    }

    fn end(&self, client: SocketAddr, how: impl FnOnce(&ClientSocket)) {
        self.condemn(client);
        let found = self.sockets(client);
        if let [socket] = found.sockets.as_slice() {
            how(socket);
            self.has_been_cut(client, Some(socket.inode()));
        } else {
            self.has_been_cut(client, found.end());
        }
    }

    fn has_been_cut(&self, client: SocketAddr, inode: Inode) {
        if let Some(condemned) = self.lock().condemned.get_mut(&client) {
            condemned.cut = Some(inode);
        }
        self.drop_held(client);
    }

    /// Drops the requests of a connection that has been cut, once none is in flight:
    /// `tiny_http` answers what is dropped, and that has to wait for its turn.
    fn drop_held(&self, client: SocketAddr) {
        let mut state = self.lock();
        let State {
            connections,
            condemned,
            ..
        } = &mut *state;
        let Some(condemned) = condemned.get_mut(&client) else {
            return;
        };
        let Some(inode) = condemned.cut else { return };
        let mut dropped = Vec::new();
        if let Some(requests) = connections.get_mut(&client) {
            if !requests.in_flight.is_empty() {
                return;
            }
            dropped.extend(requests.waiting.drain(..));
        }
        dropped.append(&mut condemned.held);
        drop(state);
        for request in dropped {
            self.drop_request(request, inode);
        }
    }

    /// Drops a request of a connection that has been cut.
    ///
    /// `tiny_http` then allocates what is left of its body, and an allocation that fails
    /// would cost the process. A request for whose body this machine has no room is leaked
    /// instead. That costs a thread that waits for ever; its descriptors are closed behind
    /// its back.
    fn drop_request(&self, request: Request, inode: Inode) {
        /// One at a time: the room that was found must still be there.
        static ROOM: Mutex<()> = Mutex::new(());
        let unread = request.body_length().unwrap_or(0);
        if unread <= SAFE_TO_DROP || !holds_unread_body(&request) {
            return;
        }
        let guard = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
        if Vec::<u8>::new().try_reserve_exact(unread).is_ok() {
            drop(request);
            return;
        }
        drop(guard);
        std::mem::forget(request);
        match inode {
            Some(inode) => self.duplicates.close_leaked(&[inode]),
            None => {
                self.orphans.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether there is a request whose connection has not been found.
    fn has_request_of_unknown(&self) -> bool {
        let state = self.lock();
        let in_flight = state
            .connections
            .iter()
            .filter(|(_, requests)| !requests.is_idle())
            .map(|(client, _)| client);
        let held = state
            .condemned
            .iter()
            .filter(|(_, condemned)| !condemned.held.is_empty())
            .map(|(client, _)| client);
        in_flight
            .chain(held)
            .any(|client| !state.sockets.contains_key(client))
    }

    /// Sends `answer` past `tiny_http` and cuts the connection, without waiting: so that
    /// the client gets to see an answer though it is still sending, what it sends is
    /// read and thrown away until it stops, at most for two seconds (the lingering
    /// close of RFC 9112 9.6). `leftover` is dropped after that.
    pub fn answer_and_cut(&self, client: SocketAddr, answer: &[u8], leftover: Leftover) {
        self.condemn(client);
        let found = self.sockets(client);
        let [socket] = found.sockets.as_slice() else {
            let inode = found.end();
            self.discard(leftover, inode);
            return self.has_been_cut(client, inode);
        };
        let socket = Arc::clone(socket);
        socket.send_now(answer);
        socket.finish_sending();
        let lingering = Lingering {
            client,
            socket,
            leftover,
            until: Instant::now() + LINGER,
        };
        if let Err(error) = self.lingering.try_send(lingering) {
            self.end_lingering(error.into_inner());
        }
    }

    fn end_lingering(&self, lingering: Lingering) {
        // A client that is still sending would go on for ever if nobody told it.
        if lingering
            .socket
            .traffic()
            .is_some_and(|traffic| traffic.finished)
        {
            lingering.socket.cut();
        } else {
            lingering.socket.reset();
        }
        let inode = Some(lingering.socket.inode());
        self.discard(lingering.leftover, inode);
        self.has_been_cut(lingering.client, inode);
    }

    fn discard(&self, leftover: Leftover, inode: Inode) {
        match leftover {
            Leftover::Request(request, _) => self.drop_request(request, inode),
            Leftover::Writer(writer, _) => drop(writer),
        }
    }

    /// From now on each connection ends with the request that it has in flight.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether each connection ends with the request that it has in flight.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of a client's address.
struct Found {
    sockets: Vec<Arc<ClientSocket>>,
    /// There was no descriptor left to duplicate this one with.
    out_of_reach: Option<RawFd>,
}

impl Found {
    fn of(sockets: Vec<Arc<ClientSocket>>) -> Self {
        Self {
            sockets,
            out_of_reach: None,
        }
    }

    /// Ends them where there is not just one that can be acted on. Which one is meant can't
    /// be told of several, and none may get what is meant for another: all are reset. Where
    /// there is none, its client is gone, or it is cut by its number: that can't have become
    /// somebody else's, as the request at hand holds the connection.
    fn end(&self) -> Inode {
        for socket in &self.sockets {
            socket.reset();
        }
        let fd = self.out_of_reach.filter(|_| self.sockets.is_empty())?;
        socket::cut_by_number(fd);
        socket::inode(fd)
    }
}

/// What is left of a refused request, to be dropped once its connection is cut.
pub enum Leftover {
    /// Its body has not been read.
    Request(Request, InFlight),
    /// It has been answered; the next one's answer waits for this writer's end.
    Writer(Box<dyn Write + Send>, InFlight),
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.clients.lock();
        if let Some(requests) = state.connections.get_mut(&self.client) {
            requests
                .in_flight
                .retain(|flight| !Arc::ptr_eq(flight, &self.flight));
            requests.consumed = self.flight.consumed();
        }
        let condemned = state.condemned.contains_key(&self.client);
        drop(state);
        if condemned {
            self.clients.drop_held(self.client);
        }
    }
}
