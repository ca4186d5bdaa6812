//! Serial: one endpoint after the other, and no further call once an answer is usable.
//!
//! The attempt runs on the caller's thread: no thread, no channel, no allocation for
//! the mode itself.

use std::time::Instant;

use super::{Run, Winner, log_failure};
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Timeout};

pub(super) fn dispatch<R>(
    run: &Run<'_>,
    endpoints: &[Endpoint],
    relay: impl FnOnce(Option<Winner<'_>>) -> R,
) -> R {
    for endpoint in endpoints {
        if Instant::now() >= run.deadline {
            let timeout = Timeout::Request(run.policy.request_timeout);
            log_failure(endpoint, &Failure::Timeout(timeout));
            break;
        }
        let control = run.control();
        let outcome = endpoint.attempt(run.request, &control);
        let usable = run.is_usable(&outcome);
        match outcome {
            Ok(answer) if usable => return relay(Some(Winner { endpoint, answer })),
            Ok(answer) => {
                log_failure(endpoint, &Failure::Status(answer.head.status));
                answer.discard(&control);
            }
            Err(Failure::Cancelled) => break,
            Err(failure) => log_failure(endpoint, &failure),
        }
    }
    relay(None)
}
