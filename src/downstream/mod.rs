//! The client's side: from the listening socket to a request with its body, and back.
//!
//! The door is [`Handler`], which gets a [`ClientRequest`] and answers through a
//! [`Responder`]; a [`server::Server`] calls it. `tiny_http` accepts connections, runs a
//! thread for each, and queues their requests; what it leaves undone is done between it and
//! the kernel (see [`seam`]). It is named in this folder only.

mod acceptor;
mod body;
mod connection;
pub mod descriptors;
pub mod limits;
pub mod listen;
mod pool_threads;
mod received;
mod responder;
mod room;
pub mod seam;
pub mod server;
mod session;
mod table;
mod tcp_info;

use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use crate::http::request::{Rejection, RequestHead};
use crate::util::body::Body;
use crate::util::client_session::ClientSession;
use crate::util::client_watch::ClientWatch;
pub use responder::{Responder, log_refusal};

/// Whether a panic at this place is `tiny_http`'s: its accept thread panics when threads or
/// descriptors run out, which is logged and seen to here. It alone starts threads by the function
/// of `std` that panics.
#[must_use]
pub fn is_of_accept_thread(place: &Location<'_>) -> bool {
    // The second file is the third one's, before Rust 1.91 or so.
    let places = [
        "/tiny_http-",
        "/std/src/thread/mod.rs",
        "/std/src/thread/functions.rs",
    ];
    places.iter().any(|part| place.file().contains(part))
}

/// Answers requests. Called on the thread of the client's connection, for one request of it
/// after the other.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request` through `responder`. A panic costs the request a 500.
    fn handle(self: Arc<Self>, request: ClientRequest, responder: Responder);

    /// Takes note of a request of `client` that was refused before it came to `handle`. Its first
    /// byte was received then, and so many bytes of the answer have gone out.
    fn refused(&self, rejection: &Rejection, client: SocketAddr, received_at: Instant, sent: u64) {
        log_refusal(rejection, client, received_at, sent);
    }
}

/// A whole request whose head is valid.
#[derive(Debug)]
pub struct ClientRequest {
    /// As the client wrote it.
    pub head: RequestHead,
    /// Whole; without transfer coding and trailers.
    pub body: Body,
    /// The client's address.
    pub client: SocketAddr,
    /// When its first byte was received.
    pub received_at: Instant,
    /// To be polled by whatever waits on behalf of the client.
    pub watch: ClientWatch,
    /// What is kept for the client's connection.
    pub session: Arc<ClientSession>,
}
