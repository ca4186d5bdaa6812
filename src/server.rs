//! Listener, accept loop, admission, worker pool, stopping.
//!
//! The accept loop takes requests from `tiny_http` and does nothing slow: it checks the
//! head and hands the request to the worker pool. What does not fit there is answered
//! 503 at once, by a thread of its own: queueing for ever helps nobody.
//!
//! Stopping closes the listener at once. Each connection ends with the request that it
//! has in flight, or at once if it has none.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::warn;
use tiny_http::Request;

use crate::clients::limits::Limits;
use crate::clients::watch::{self, Watch};
use crate::clients::{Clients, Leftover};
use crate::exchange::Refusal;
use crate::failure::describe;
use crate::pool::Pool;
use crate::worker::{Job, Proxy, Worker};

/// Requests that may wait for being refused. Beyond that connections are just cut.
const REFUSALS: usize = 256;

/// How many descriptors must be free where connections are to be accepted.
const ROOM: usize = 8;

/// How often an accept loop asks whether it is over.
const OVER_INTERVAL: Duration = Duration::from_secs(1);

/// A proxy that accepts connections.
pub struct Server {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    clients: Arc<Clients>,
    /// Told once nothing is left to be done after a stop.
    idle: Receiver<()>,
}

impl Server {
    /// Serves on `listener` with this many workers.
    ///
    /// # Errors
    /// No thread or descriptor could be had.
    pub fn start(
        listener: TcpListener,
        proxy: Proxy,
        workers: usize,
        limits: Limits,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (calls, call) = io::pipe()?;
        let watch = Watch::new(address, limits, Arc::new(call));
        let clients = watch.clients();
        let worker = Arc::new(Worker::new(proxy, Arc::clone(&clients)));
        let shared = Arc::clone(&worker);
        let pool = Pool::start(workers, move |job| shared.work(job))?;
        let (refusals, refused) = bounded(REFUSALS);
        let shared = Arc::clone(&worker);
        spawn("refuser".to_owned(), move || {
            for job in refused {
                shared.work(job);
            }
        })?;
        let listener = Arc::new(listener);
        let gate = Arc::new(Gate {
            listener: Arc::clone(&listener),
            clients: Arc::clone(&clients),
            pool: pool.clone(),
            refusals,
            worker,
            over: Mutex::default(),
        });
        gate.listen()?;
        let (idle, is_idle) = bounded(1);
        let watched = Arc::clone(&listener);
        let inode = rustix::fs::fstat(&watched)?.st_ino;
        spawn("watch".to_owned(), move || {
            let gate = Reopening {
                gate,
                last_error: String::new(),
            };
            let waiting = || pool.waiting();
            watch.run(&calls, (&watched, inode), gate, waiting, &idle);
        })?;
        Ok(Self {
            address,
            listener,
            clients,
            idle: is_idle,
        })
    }

    /// The address that is listened to, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and waits for the requests in flight, at most for `drain`.
    /// Tells whether all of them have ended.
    #[must_use = "what is false has lost requests"]
    pub fn stop(self, drain: Duration) -> bool {
        self.clients.close();
        // `tiny_http`'s accept thread dies of this; it can't be told otherwise without
        // losing the requests that it has queued.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.clients.call_watch();
        self.idle.recv_timeout(drain).is_ok()
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).spawn(body).map(drop)
}

/// A gate that is opened again whenever `tiny_http` has shut it.
struct Reopening {
    gate: Arc<Gate>,
    /// What has been logged: each error once.
    last_error: String,
}

impl watch::Gate for Reopening {
    fn retire(&mut self) -> Option<Arc<AtomicBool>> {
        self.gate.over().take()
    }

    fn listen_again(&mut self) {
        self.last_error = match self.gate.listen() {
            Ok(()) => String::new(),
            Err(error) => {
                let error = describe(&error);
                if error != self.last_error {
                    warn!("cannot accept connections for the time being: {error}");
                }
                error
            }
        };
    }
}

/// Takes requests from `tiny_http` and hands them to the workers.
struct Gate {
    /// `tiny_http` works on duplicates: its accept thread dies of any accept error.
    listener: Arc<TcpListener>,
    clients: Arc<Clients>,
    pool: Pool<Job>,
    refusals: Sender<Job>,
    worker: Arc<Worker>,
    /// Ends the accept loop that gets new connections, once it does not any more and the
    /// last one that it has got has ended.
    over: Mutex<Option<Arc<AtomicBool>>>,
}

impl Gate {
    /// Starts to accept connections.
    ///
    /// # Errors
    /// There is no thread to be had, or not enough descriptors: the next connection would
    /// end it.
    fn listen(self: &Arc<Self>) -> io::Result<()> {
        let room: io::Result<Vec<TcpListener>> =
            (0..ROOM).map(|_| self.listener.try_clone()).collect();
        drop(room?);
        let server = tiny_http::Server::from_listener(self.listener.try_clone()?, None)
            .map_err(io::Error::other)?;
        let over = Arc::new(AtomicBool::new(false));
        let (gate, is_over) = (Arc::clone(self), Arc::clone(&over));
        spawn("accept".to_owned(), move || gate.accept(&server, &is_over))?;
        *self.over() = Some(over);
        Ok(())
    }

    fn over(&self) -> MutexGuard<'_, Option<Arc<AtomicBool>>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The accept loop. When `tiny_http`'s accept thread has ended, the watch starts another
    /// one, while this loop goes on for the connections it has.
    fn accept(&self, server: &tiny_http::Server, over: &AtomicBool) {
        loop {
            match server.recv_timeout(OVER_INTERVAL) {
                Ok(Some(request)) => {
                    // Nobody would take this loop's place. The hook has written it down.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.admit(request)));
                }
                Ok(None) if over.load(Ordering::Acquire) => return,
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn admit(&self, request: Request) {
        let Some(client) = request.remote_addr().copied() else {
            // Only a listener on a Unix socket has clients without an address.
            return;
        };
        let Some((request, in_flight)) = self.clients.admit(request, client) else {
            return;
        };
        let job = self.worker.job(request, client, in_flight);
        let Err(overflow) = self.pool.submit(job) else {
            return;
        };
        self.clients.condemn(client);
        let refusal = Refusal::new(503, "too many requests are waiting");
        let job = Job {
            checked: overflow.checked.and(Err(refusal)),
            ..overflow
        };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.refusals.try_send(job)
        {
            let leftover = Leftover::Request(job.request, job.in_flight);
            self.clients.answer_and_cut(client, &[], leftover);
        }
    }
}
