//! Requests that are answered without an endpoint.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use crate::downstream::Responder;
use crate::http::max_forwards;
use crate::http::request::RequestHead;
use crate::logging::{RequestName, RequestReport, Target};

/// Answers a request of OPTIONS or TRACE that may not be forwarded any more.
pub fn answer_finally(
    request: &RequestHead,
    client: SocketAddr,
    received_at: Instant,
    mut responder: Responder,
) {
    let persistence = responder.persistence();
    let answer = max_forwards::final_answer(request, persistence, SystemTime::now());
    let name = RequestName::of(request, client);
    let bytes = responder.send(&answer, persistence);
    let after = received_at.elapsed();
    let report = RequestReport::without_endpoint(name, Some(200), bytes, after);
    report.log_served(format_args!(
        "request {} answered without an endpoint: Max-Forwards is 0",
        Target(request.target())
    ));
}
