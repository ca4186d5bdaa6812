//! What a request does to what is known of its endpoints; and what the unit tests of this folder
//! put together.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Attempt, AttemptId, AttemptResult, Attempts, Event, FinishedAttempt};
use super::budget::BURST;
use super::policy::{CooldownConfig, HedgeAfter, Hedging};
use super::*;
use crate::http::endpoint_url::EndpointUrl;
use crate::http::header::Headers;
use crate::http::request::{RequestHead, Version};
use crate::upstream::control::{AttemptControl, Limit};
use crate::upstream::endpoint::{Endpoint, Settings};
use crate::upstream::failure::{Failure, Timeout};
use crate::util::body::Body;
use crate::util::thread_pool::ThreadPool;

pub(super) const PATIENCE: Duration = Duration::from_secs(15);

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A GET that is to be put to these endpoints.
pub(super) fn run(urls: &[String], mode: Mode) -> RequestRun {
    let settings = Settings::for_tests(PATIENCE);
    let endpoints = urls.iter().enumerate().map(|(number, url)| {
        let url: EndpointUrl = url.parse().unwrap();
        Endpoint::new(number, url.into(), &settings).unwrap()
    });
    let policy = Policy {
        mode,
        terminal: "200".parse().unwrap(),
        per_try_timeout: PATIENCE,
        request_timeout: PATIENCE,
        cooldown: Some(CooldownConfig {
            max_fails: 1.try_into().unwrap(),
            length: HOUR,
        }),
        ..Policy::default()
    };
    let threads = ThreadPool::new("attempt", 8, PATIENCE);
    let dispatcher = Dispatcher::new(endpoints.collect(), 0, policy, threads, Arc::default());
    let client = "127.0.0.1".parse().unwrap();
    let request = Request {
        head: RequestHead::new("GET", b"/", Version::Http11, None, Headers::new(), client),
        body: Body::None,
        client: (client, 1).into(),
        session: Arc::default(),
    };
    let now = Instant::now();
    RequestRun {
        list: dispatcher.list(),
        hedge_after: dispatcher.hedge_after(now),
        all_at_once: mode == Mode::Fanout,
        dispatcher: Arc::new(dispatcher),
        request: Arc::new(request),
        once: false,
        tries: Tries::new(None),
        cancellation: Arc::default(),
        deadline: now + PATIENCE,
    }
}

/// An attempt that may run for long, and has begun so long ago.
pub(super) fn attempt(run: &RequestRun, endpoint: usize, ago: Duration) -> Attempt {
    let now = Instant::now();
    let limit = Limit::Until(now + PATIENCE, Timeout::Head(PATIENCE));
    Attempt {
        id: AttemptId {
            endpoint,
            hedged: false,
            started: now.checked_sub(ago).unwrap(),
        },
        endpoint: run.list.get(endpoint).unwrap(),
        control: AttemptControl::new(&run.cancellation, limit),
        permit: run.list.cooldown.permit(endpoint, now),
    }
}

/// Endpoints that are not asked.
fn urls(number: usize) -> Vec<String> {
    (0..number)
        .map(|n| format!("http://127.0.0.1:{}", n + 1))
        .collect()
}

/// Hedged after a millisecond, and once in a hundred requests.
const HEDGED: Mode = Mode::Hedged(Hedging {
    after: HedgeAfter::Fixed(MILLI),
    budget: 1,
});

/// Attempts that have been started, and go on.
#[derive(Default)]
struct Started(RefCell<Vec<Attempt>>);

impl Started {
    fn ids(&self) -> Vec<AttemptId> {
        self.0.borrow().iter().map(|attempt| attempt.id).collect()
    }
}

impl Attempts for Started {
    fn start(&self, attempt: Attempt) -> Result<(), Box<FinishedAttempt>> {
        self.0.borrow_mut().push(attempt);
        Ok(())
    }

    fn wait(&self) -> Event {
        Event::Nothing
    }
}

/// What the first attempt of a new request has started when it has taken too long.
fn hedged(run: &RequestRun) -> Vec<(usize, bool)> {
    let (mut progress, started) = (Progress::new(run), Started::default());
    progress.begin(run, &started);
    let first = started.ids()[0];
    progress.hedge(run, first, &started);
    let ids = started.ids();
    ids.iter().map(|id| (id.endpoint, id.hedged)).collect()
}

fn tokens_left(run: &RequestRun) -> u32 {
    (0..BURST * 2)
        .map(|_| u32::from(run.dispatcher.budget.take()))
        .sum()
}

#[test]
fn a_hedge_that_finds_no_endpoint_costs_no_budget() {
    let run = run(&urls(2), HEDGED);
    let permit = run.list.cooldown.permit(1, Instant::now()).unwrap();
    assert!(permit.failed(Instant::now(), Duration::ZERO).is_some());
    for _ in 0..BURST * 2 {
        assert_eq!(hedged(&run), [(0, false)]);
    }
    assert_eq!(tokens_left(&run), BURST);
}

#[test]
fn a_hedge_that_starts_takes_from_the_budget_until_there_is_none_left() {
    let run = run(&urls(3), HEDGED);
    for _ in 0..3 {
        assert_eq!(hedged(&run), [(0, false), (1, true)]);
    }
    assert_eq!(tokens_left(&run), BURST - 3);
    assert_eq!(hedged(&run), [(0, false)]);
}

#[test]
fn a_probe_that_loses_is_repeated_at_once_unless_it_has_had_the_time_of_a_hedge() {
    for (mode, after, client_has_gone, is_repeated) in [
        (
            HEDGED,
            MILLI.saturating_sub(Duration::from_nanos(1)),
            false,
            true,
        ),
        (HEDGED, MILLI, false, false),
        (HEDGED, MILLI, true, true),
        (Mode::Fanout, HOUR, false, true),
    ] {
        let run = run(&urls(1), mode);
        let cooldown = &run.list.cooldown;
        // Its time is over.
        let long_ago = Instant::now().checked_sub(HOUR).unwrap();
        let permit = cooldown.permit(0, long_ago).unwrap();
        assert!(permit.failed(long_ago, Duration::ZERO).is_some());
        let probe = attempt(&run, 0, Duration::ZERO);
        assert!(probe.permit.is_some() && cooldown.permit(0, Instant::now()).is_none());
        if client_has_gone {
            run.cancellation.cancel();
        }
        let mut ended = FinishedAttempt::new(probe, AttemptResult::failed(Failure::Cancelled));
        ended.after = after;
        run.report(&mut ended);
        let next = cooldown.permit(0, Instant::now());
        assert_eq!(
            next.is_some(),
            is_repeated,
            "{mode:?}, {after:?}, {client_has_gone}"
        );
    }
}

#[test]
fn methods_are_idempotent_as_rfc_9110_has_it() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(is_idempotent(method), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "PROPFIND", "get", ""] {
        assert!(!is_idempotent(method), "{method}");
    }
}
