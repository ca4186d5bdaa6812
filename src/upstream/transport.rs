//! The ureq transport: what ureq gets in place of a connection.
//!
//! ureq does the calling and decodes the body. Underneath:
//!
//! - **Heads as they are.** The request's head is written by [`crate::http::forward`] and put
//!   in the place of ureq's; the answer's head is parsed here, and ureq gets a short one that
//!   says how long the body is (see [`super::capture`]).
//! - **Pooling.** For each call ureq asks its connector for a connection and gets a
//!   [`Lease`] of one from the endpoint's pool, or of a new one. A connection
//!   goes back when ureq has read its answer to the end and would pool it; to ureq it
//!   looks closed, so its own pool stays empty. In all other cases the connection ends
//!   with its lease: after an error, a cancel, an answer that is dropped before its end.

use std::fmt;
use std::sync::Arc;

use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use super::call::outside_a_call;
use super::connection::Connection;
use super::failure::Failure;
use super::pool::UpstreamPool;
use crate::util::client_session::ClientSession;

/// The idle connections to one endpoint.
pub type Pool = UpstreamPool<Box<Connection>>;

/// ureq resolves on every call, also when a connection is pooled. The connector does
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
