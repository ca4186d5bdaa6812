//! The ureq transport: what a call of ureq and the connection below tell each other.
//!
//! ureq does the calling and decodes the body. Underneath:
//!
//! - **Heads as they are.** The request's head is written by [`crate::http::forward`] and put
//!   in the place of ureq's; the answer's head is parsed here, and ureq gets a short one that
//!   says how long the body is (see [`super::capture`]).
//! - **Pooling.** For each call ureq asks its connector for a connection and gets a
//!   [`Lease`] of one from the endpoint's pool, or of a new one. A connection
//!   goes back when ureq has read its answer to the end and would pool it; ureq is told
//!   that it is closed, so its own pool stays empty. In all other cases the connection ends
//!   with its lease: after an error, a cancel, an answer that is dropped before its end.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use super::connection::Connection;
use super::connector::Pool;
use super::control::Control;
use super::failure::Failure;
use crate::http::response::{BodyLength, ResponseHead};
use crate::util::body::Body;
use crate::util::client_session::ClientSession;

/// What one call and its transport tell each other, past ureq.
#[derive(Debug)]
pub struct Call {
    /// The attempt's reins.
    pub control: Arc<Control>,
    /// The request's head, sent in place of ureq's.
    pub head: Vec<u8>,
    /// What follows the head.
    pub body: Body,
    /// The request is a HEAD: whatever the answer's head says, no body follows.
    pub is_head: bool,
    /// The request authenticates the connection that it is sent on.
    pub authenticates: bool,
    /// Keeps private connections.
    pub session: Arc<ClientSession>,
    /// Where the connection is to come from.
    pub route: Route,
    /// What came of it.
    pub trace: CallTrace,
}

/// Where a connection comes from.
#[derive(Debug, Default)]
pub enum Route {
    /// From the pool, or from any address where there is none.
    #[default]
    Any,
    /// From any address.
    Fresh,
    /// From one of these.
    Addresses(Vec<SocketAddr>),
}

/// What the transport saw during a call.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Each one is an observation of its own.
pub struct CallTrace {
    /// The connection came from the pool.
    pub pooled: bool,
    /// The endpoint's addresses beside the one that was dialled, without those that failed.
    pub left: Vec<SocketAddr>,
    /// At least one byte of the request was sent.
    pub sent: bool,
    /// At least one byte of an answer was received.
    pub received: bool,
    /// The head of the final answer, as it came, and how long its body is.
    pub head: Option<(ResponseHead, BodyLength)>,
    /// The beginning of the body came together with the head.
    pub body_begun: bool,
}

thread_local! {
    /// The call that this thread makes just now. ureq has no other way to hand
    /// something to a connector or a transport.
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Runs `body`, in which ureq is called, as `call`.
pub fn run<T>(call: Call, body: impl FnOnce() -> T) -> (T, Option<CallTrace>) {
    CALL.set(Some(call));
    // Left behind by a panic, the call is overwritten by the thread's next one.
    let result = body();
    (result, CALL.take().map(|call| call.trace))
}

pub(super) fn with_call<T>(f: impl FnOnce(&mut Call) -> T) -> Option<T> {
    CALL.with_borrow_mut(|call| call.as_mut().map(f))
}

/// ureq resolves on every call, also when a connection is pooled. The dialler does
/// it instead, when it has to.
#[derive(Debug)]
pub struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// A connection for the length of one call: what ureq has instead of the connection.
pub struct Lease {
    /// None once it has gone back to the pool.
    connection: Option<Box<Connection>>,
    pool: Arc<Pool>,
    session: Arc<ClientSession>,
    no_buffers: LazyBuffers,
}

/// A connection that only one client connection may use: it is authenticated as that user.
pub(super) struct Private {
    /// That of the endpoint.
    pub(super) pool: Arc<Pool>,
    pub(super) connection: Box<Connection>,
}

impl Lease {
    pub(super) fn new(
        connection: Box<Connection>,
        pool: Arc<Pool>,
        session: Arc<ClientSession>,
    ) -> Self {
        Self {
            connection: Some(connection),
            pool,
            session,
            no_buffers: LazyBuffers::new(1, 1),
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, ureq::Error> {
        self.connection
            .as_deref_mut()
            .ok_or_else(|| outside_a_call().into_io().into())
    }
}

impl Transport for Lease {
    fn buffers(&mut self) -> &mut dyn Buffers {
        match &mut self.connection {
            Some(connection) => connection.buffers(),
            None => &mut self.no_buffers,
        }
    }

    /// `_amount` is that of ureq's head: it is small, so it comes whole and alone.
    fn transmit_output(&mut self, _amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        Ok(self.connection()?.begin().map_err(Failure::into_io)?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        Ok(self.connection()?.await_input().map_err(Failure::into_io)?)
    }

    /// ureq asks when the exchange has ended in good order, with no input left over, and
    /// would put an open connection into its own pool. It drops this lease next.
    fn is_open(&mut self) -> bool {
        if let Some(mut connection) = self.connection.take()
            && connection.end_exchange()
        {
            if connection.is_private() {
                let pool = Arc::clone(&self.pool);
                self.session.put(Private { pool, connection });
            } else {
                self.pool.put(connection);
            }
        }
        false
    }

    fn is_tls(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.is_tls())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.connection).finish()
    }
}

pub(super) fn outside_a_call() -> Failure {
    Failure::Internal("a connection is used outside a call".to_owned())
}
