//! A listener with its connections: start and stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Handler;
pub use super::acceptor::Queue;
use super::acceptor::{Acceptor, START_TIMEOUT};
use super::connection::NEW_GRACE;
use super::limits::Limits;
use super::seam;
use super::table::Table;

/// How long requests that have been cut off have to come to their end.
const CUT_GRACE: Duration = Duration::from_millis(250);

/// A server that accepts connections until it is stopped.
pub struct Server {
    acceptor: Arc<Acceptor>,
    address: SocketAddr,
}

impl Server {
    /// Serves on `listener`.
    ///
    /// # Errors
    /// No thread or descriptor could be had, or `tiny_http`'s calls do not pass the seam.
    pub fn start(
        listener: TcpListener,
        handler: Arc<dyn Handler>,
        limits: Limits,
    ) -> io::Result<Self> {
        seam::self_check()?;
        let address = listener.local_addr()?;
        let acceptor = Arc::new(Acceptor::new(listener, handler, limits)?);
        seam::register(&acceptor);
        acceptor.start_accepting(START_TIMEOUT)?;
        let supervised = Arc::clone(&acceptor);
        thread::Builder::new()
            .name("accept supervisor".to_owned())
            .spawn(move || supervised.supervise())?;
        Ok(Self { acceptor, address })
    }

    /// The address that is listened to, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is known of its connections, also once it has stopped.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections(Arc::clone(self.acceptor.table()))
    }

    /// Stops accepting, and waits for the requests in flight, at most for `drain`. Those that
    /// have not ended by then are cut off. Returns how many.
    #[must_use = "these requests are lost"]
    pub fn stop(self, drain: Duration, queue: Queue) -> usize {
        let deadline = Instant::now() + drain;
        let table = self.acceptor.table();
        if self.acceptor.stop(queue)
            && !table.wait_until_empty(deadline.min(Instant::now() + NEW_GRACE))
        {
            table.stop();
        }
        if table.wait_until_empty(deadline) {
            return 0;
        }
        let number = table.cut_off();
        // Their threads find out, and log it.
        table.wait_until_empty(Instant::now() + CUT_GRACE);
        number
    }
}

/// The connections of a server, counted when they are asked for.
pub struct Connections(Arc<Table>);

impl Connections {
    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open()
    }

    /// How many requests are being worked on.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.0.working()
    }
}
