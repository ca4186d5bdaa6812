//! Requests that are answered without an endpoint.

use std::net::SocketAddr;
use std::time::SystemTime;

use log::info;

use crate::downstream::{Responder, refusal};
use crate::http::max_forwards;
use crate::http::request::{Persistence, Rejection, RequestHead};
use crate::logging::Target;

/// Rejects a request of `client`, whose connection is closed.
pub fn reject(rejection: &Rejection, client: SocketAddr, responder: Responder) {
    responder.send(&refusal(rejection, client), Persistence::Close);
}

/// Answers a request of OPTIONS or TRACE that may not be forwarded any more.
pub fn answer_finally(request: &RequestHead, mut responder: Responder) {
    let persistence = responder.persistence();
    let answer = max_forwards::final_answer(request, persistence, SystemTime::now());
    responder.send(&answer, persistence);
    info!(
        "request {} answered without an endpoint: Max-Forwards is 0",
        Target(request.target())
    );
}
