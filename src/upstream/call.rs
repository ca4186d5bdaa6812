//! What a call of ureq and the connection below it share.
//!
//! ureq has no way to hand anything to a connector or a transport, so the call is in a
//! thread-local for its length. Cost: one thread-local access for each thing that is passed.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use super::authentication;
use super::control::AttemptControl;
use super::failure::Failure;
use crate::http::response::{BodyLength, ResponseHead};
use crate::util::body::Body;
use crate::util::client_session::ClientSession;

/// What one call and its transport share, past ureq. Not `Debug`: keys stand in the head.
pub struct Call {
    /// Deadline and cancellation of the attempt.
    pub control: Arc<AttemptControl>,
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

impl Call {
    /// A part of the request was sent.
    pub(super) fn note_sent(&mut self) {
        if !std::mem::replace(&mut self.trace.sent, true) {
            self.control.note_sending();
        }
    }
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

/// Whether the answer is a 408 with which the endpoint closes a kept connection. Then nothing was
/// received.
pub(super) fn is_idle_timeout() -> bool {
    with_call(|call| {
        let trace = &mut call.trace;
        let says_so = |(head, _): &(ResponseHead, _)| head.status == 408 && !head.is_persistent();
        let is_idle_timeout = trace.pooled && trace.head.as_ref().is_some_and(says_so);
        trace.received &= !is_idle_timeout;
        is_idle_timeout
    }) == Some(true)
}

/// Whether the answer asks the client to authenticate the connection.
pub(super) fn offers_authentication() -> bool {
    with_call(|call| {
        let head = call.trace.head.as_ref().map(|(head, _)| head);
        head.is_some_and(|head| {
            head.status == 401
                && authentication::is_of_connection(&head.headers, "WWW-Authenticate")
        })
    }) == Some(true)
}

pub(super) fn outside_a_call() -> Failure {
    Failure::Internal("a connection is used outside a call".to_owned())
}
