//! Requests that are answered without an endpoint.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use crate::downstream::{Responder, refusal};
use crate::http::max_forwards;
use crate::http::request::{Persistence, Rejection, RequestHead};
use crate::logging::{NO_ATTEMPTS, RequestName, RequestReport, Target};

/// Rejects a request of `client`, whose connection is closed.
pub fn reject(
    rejection: &Rejection,
    client: SocketAddr,
    received_at: Instant,
    responder: Responder,
) {
    let answer = refusal(rejection, client, received_at);
    responder.send(&answer, Persistence::Close);
}

/// Answers a request of OPTIONS or TRACE that may not be forwarded any more.
pub fn answer_finally(
    request: &RequestHead,
    client: SocketAddr,
    received_at: Instant,
    mut responder: Responder,
) {
    let persistence = responder.persistence();
    let answer = max_forwards::final_answer(request, persistence, SystemTime::now());
    let report = RequestReport {
        request: RequestName {
            method: request.method(),
            target: request.target(),
            client,
        },
        status: Some(200),
        bytes: responder.send(&answer, persistence),
        duration: received_at.elapsed(),
        endpoint: None,
        hedged: false,
        attempts: &NO_ATTEMPTS,
        reason: None,
    };
    report.log_served(format_args!(
        "request {} answered without an endpoint: Max-Forwards is 0",
        Target(request.target())
    ));
}
