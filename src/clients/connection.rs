//! One client's connection, as the watch knows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LINGER;
use super::limits::Clock;
use super::rescue::Service;
use super::socket::ClientSocket;

/// How long a connection counts as new.
const NEW: Duration = Duration::from_millis(500);

pub(super) struct Connection {
    pub(super) socket: Arc<ClientSocket>,
    pub(super) client: SocketAddr,
    pub(super) found: Instant,
    pub(super) clock: Clock,
    pub(super) service: Service,
    /// Since then it is cut, or the client has gone away: nothing more is to be learnt
    /// from it.
    pub(super) gone: Option<Instant>,
    /// When it is reset, if `tiny_http` still holds it then.
    pub(super) reset_at: Option<Instant>,
}

impl Connection {
    pub(super) fn new(socket: ClientSocket, client: SocketAddr, now: Instant) -> Self {
        Self {
            socket: Arc::new(socket),
            client,
            found: now,
            clock: Clock::new(now),
            service: Service::default(),
            gone: None,
            reset_at: None,
        }
    }

    pub(super) fn inode(&self) -> u64 {
        self.socket.inode()
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.found)
    }

    /// Whether much may come of it in little time: it is new, or a head has begun.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.age(now) < NEW || self.clock.head_begun_for(now).is_some()
    }

    /// From now on it is only waited for its end.
    pub(super) fn has_gone(&mut self, now: Instant) {
        self.socket.set_ending();
        self.gone = Some(now);
        self.reset_at = Some(now + LINGER);
    }

    /// Ends it in an orderly way.
    pub(super) fn cut(&mut self, now: Instant) {
        self.socket.cut();
        self.has_gone(now);
    }
}
