//! One request on its way through the endpoints: which is next, and how each answer is judged: by
//! its status (`status_set`), then by its body (`unusable_body`).

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::info;

use super::attempt::{Attempt, AttemptId, AttemptResult, FinishedAttempt};
use super::attempt_log::Again;
use super::dispatcher::Dispatcher;
use super::endpoint_list::EndpointList;
use super::policy::Policy;
use super::queue::{Beside, Known, Queue, Tries};
use super::unusable_body::{MAX_QUIET, MAX_WAIT, UnusableBody};
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::logging::RequestName;
use crate::upstream::control::{AttemptControl, Limit, RequestCancellation};
use crate::upstream::endpoint::{Endpoint, UpstreamRequest};
use crate::upstream::failure::{Failure, Timeout};
use crate::upstream::response::Response;
use crate::util::body::Body;
use crate::util::client_session::ClientSession;

/// A request as its client has sent it. Attempts share it.
#[derive(Debug)]
pub struct Request {
    /// Request line and headers.
    pub head: RequestHead,
    /// The body, whole.
    pub body: Body,
    /// The client's address.
    pub client: SocketAddr,
    /// What is kept for the client's connection.
    pub session: Arc<ClientSession>,
}

impl Request {
    /// What names it in the log.
    #[must_use]
    pub fn name(&self) -> RequestName<'_> {
        RequestName::of(&self.head, self.client)
    }
}

/// One request on its way.
pub(super) struct RequestRun {
    pub(super) dispatcher: Arc<Dispatcher>,
    /// The endpoints that were in force when the request came.
    pub(super) list: Arc<EndpointList>,
    pub(super) request: Arc<Request>,
    /// No endpoint must get it twice.
    pub(super) once: bool,
    /// Taken by each attempt, and where an attempt sends the request once more.
    pub(super) tries: Tries,
    /// The client's going away cancels all attempts.
    pub(super) cancellation: Arc<RequestCancellation>,
    pub(super) deadline: Instant,
    /// No attempt waits for another one.
    pub(super) all_at_once: bool,
    /// The next attempt starts, too, when the last one has taken so long.
    pub(super) hedge_after: Option<Duration>,
}

impl RequestRun {
    pub(super) fn policy(&self) -> &Policy {
        &self.dispatcher.policy
    }

    /// How many endpoints there are.
    pub(super) fn endpoints(&self) -> usize {
        self.list.count()
    }

    /// The next attempt, that starts now.
    pub(super) fn next(&self, queue: &mut Queue, beside: Beside) -> Option<Attempt> {
        if queue.has_to_wait(beside) {
            return None;
        }
        // The first attempt finds out when it waits, at the cost of a call. A request with a
        // body is more likely to have an effect at the endpoint.
        let matters = if queue.has_begun() {
            !self.all_at_once
        } else {
            self.request.body.length().is_some()
        };
        if matters && self.cancellation.check_client() {
            return None;
        }
        let now = Instant::now();
        let (index, permit) = queue.next(self.known(), now, beside)?;
        let endpoint = self.list.get(index)?;
        let per_try = self.policy().per_try_timeout;
        let limit = Limit::Until(now + per_try, Timeout::Head(per_try));
        let request_timeout = Timeout::Request(self.policy().request_timeout);
        let limit = limit.or_before(self.deadline, request_timeout);
        let control = AttemptControl::new(&self.cancellation, limit);
        Some(Attempt {
            id: AttemptId {
                endpoint: endpoint.index,
                hedged: beside == Beside::Slow,
                started: now,
            },
            endpoint,
            control,
            permit: Some(permit),
        })
    }

    /// What is known of all endpoints.
    pub(super) fn known(&self) -> Known<'_> {
        Known {
            ranking: &self.list.ranking,
            cooldown: &self.list.cooldown,
            tries: &self.tries,
        }
    }

    /// Asks the endpoint, waits for its answer, and takes down how that went.
    pub(super) fn perform(&self, attempt: &mut Attempt) -> AttemptResult {
        let policy = self.policy();
        let control = Arc::clone(&attempt.control);
        let (resends, given_up) = (Cell::new(0), Cell::new(false));
        let request = UpstreamRequest {
            head: &self.request.head,
            body: &self.request.body,
            session: &self.request.session,
            again: &|| {
                let may_be = !self.once && self.tries.take();
                resends.set(resends.get() + u32::from(may_be));
                given_up.set(self.tries.have_ended());
                may_be
            },
        };
        let mut result = attempt.endpoint.attempt(request, &control);
        if given_up.get() && result.is_err() {
            // A kept connection was closed, which is no failure; but an answer is not wanted any more.
            result = Err(Failure::Cancelled);
        }
        // Where no connection could be had for it, nothing was sent again.
        let resent = control.sendings().saturating_sub(1);
        self.tries.give_back(resends.get().saturating_sub(resent));
        let head_after = attempt.id.started.elapsed();
        let head = result.as_ref().ok().map(|answer| answer.head.status);
        let (mut answer, mut failure) = match result {
            Ok(answer) => {
                let status = answer.head.status;
                let usable = policy.terminal.contains(status);
                (Some(answer), (!usable).then_some(Failure::Status(status)))
            }
            Err(failure) => (None, Some(failure)),
        };
        let mut retry_after = match (&answer, &failure) {
            (Some(answer), Some(_)) => self.retry_after(&answer.head),
            _ => Duration::ZERO,
        };
        let pattern = match (&answer, &failure) {
            (Some(answer), None) => self.pattern_for(answer),
            _ => None,
        };
        // The time of an answer whose body is looked at counts only if it is usable.
        if pattern.is_none() {
            self.record_latency(attempt.id, failure.as_ref(), head_after);
        }
        if let Some(found) = answer.as_mut()
            && (failure.is_none() || policy.keeps_best())
        {
            match self.read(found, pattern, failure.is_some(), &control) {
                Ok(true) => {}
                Ok(false) => {
                    retry_after = self.retry_after(&found.head);
                    failure = Some(Failure::UnusableBody);
                }
                Err(broken) => {
                    answer = None;
                    // A bad answer is one for its status, however slow its body is.
                    if failure.is_none() || !matches!(broken, Failure::Timeout(_)) {
                        failure = Some(broken);
                    }
                }
            }
        }
        if pattern.is_some() {
            self.record_latency(attempt.id, failure.as_ref(), head_after);
        }
        AttemptResult {
            answer,
            failure,
            retry_after,
            head: head.map(|status| (status, head_after)),
        }
    }

    /// What makes this answer's body unusable, if it is to be looked at.
    fn pattern_for(&self, answer: &Response) -> Option<&UnusableBody> {
        let pattern = self.policy().unusable_body.as_ref()?;
        let concerns = pattern.concerns(&answer.head, answer.length);
        concerns.then_some(pattern)
    }

    /// Reads a short body, or the beginning of any one where it is looked at. False if that makes
    /// the answer unusable. Of an answer that `is_bad` the body must come soon: the next attempt
    /// waits for it.
    fn read(
        &self,
        answer: &mut Response,
        pattern: Option<&UnusableBody>,
        is_bad: bool,
        control: &AttemptControl,
    ) -> Result<bool, Failure> {
        let policy = self.policy();
        let mut limit = control.limit();
        if let Limit::Until(at, Timeout::Head(after)) = limit {
            limit = Limit::Until(at, Timeout::Whole(after));
        }
        if is_bad {
            limit = limit.or_before(Instant::now() + MAX_WAIT, Timeout::Whole(MAX_WAIT));
        }
        control.set_limit(limit);
        let most = policy.commit_after;
        let usable = match pattern {
            None => answer.read_whole(most).map(|()| true),
            Some(pattern) => answer
                .read_beginning(most, MAX_QUIET, MAX_WAIT, control)
                .map(|beginning| !pattern.matches(beginning)),
        };
        control.set_limit(Limit::Each(policy.per_try_timeout));
        usable
    }

    /// For how long the endpoint asks to be left alone with an answer that is not usable, as far
    /// as that is heeded.
    fn retry_after(&self, head: &ResponseHead) -> Duration {
        let most = self.policy().max_retry_after;
        if most.is_zero() {
            return most;
        }
        let asked = head.retry_after(SystemTime::now());
        asked.unwrap_or_default().min(most)
    }

    /// See [`Dispatcher::record_latency`](super::dispatcher::Dispatcher::record_latency). An attempt that
    /// has had no time says nothing of its endpoint.
    fn record_latency(&self, id: AttemptId, failure: Option<&Failure>, after: Duration) {
        let measured = match failure {
            Some(failure) if has_had_no_time(failure, after) => Some(&Failure::Cancelled),
            failure => failure,
        };
        self.dispatcher
            .record_latency(&self.list, id.endpoint, measured, Instant::now(), after);
    }

    /// Counts the failure, or the success. A cancel is neither; nor is it the endpoint's
    /// failure if this process could not ask it, or if earlier attempts have left it no time.
    pub(super) fn report(&self, ended: &mut FinishedAttempt) {
        let Some(permit) = ended.attempt.permit.take() else {
            return;
        };
        let endpoint = &ended.attempt.endpoint;
        match ended.failure() {
            // A probe that a hedge had to overtake has not brought the endpoint back.
            Some(Failure::Cancelled)
                if !self.cancellation.is_cancelled()
                    && self.hedge_after.is_some_and(|after| ended.after >= after) =>
            {
                permit.superseded(Instant::now());
            }
            Some(Failure::Cancelled | Failure::Internal(_)) => drop(permit),
            Some(failure) if has_had_no_time(failure, ended.after) => drop(permit),
            Some(_) => {
                if let Some(passed_over) = permit.failed(Instant::now(), ended.result.retry_after) {
                    endpoint.counters.ejections.add();
                    self.dispatcher.note_change();
                    info!(
                        "endpoint {}: {}: {passed_over}",
                        endpoint.index, endpoint.url
                    );
                }
            }
            None => {
                if permit.succeeded() {
                    self.dispatcher.note_change();
                    info!(
                        "endpoint {}: {}: not passed over any more",
                        endpoint.index, endpoint.url
                    );
                }
            }
        }
    }
}

/// Whether the attempt began when most of the request's time was over, and that was its
/// end.
fn has_had_no_time(failure: &Failure, after: Duration) -> bool {
    matches!(failure, Failure::Timeout(Timeout::Request(all)) if after < *all / 2)
}

/// Writes down why an attempt gave no usable answer. A cancel is not the endpoint's
/// failure.
pub(super) fn log_failure(
    request: &Request,
    endpoint: &Endpoint,
    failure: &Failure,
    retry_after: Duration,
) {
    if *failure == Failure::Cancelled {
        return;
    }
    let Endpoint { index, url, .. } = endpoint;
    let again = Again(retry_after);
    request
        .name()
        .log(format_args!("endpoint {index}: {url}: {failure}{again}"));
}
