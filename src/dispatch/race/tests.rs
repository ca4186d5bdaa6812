use std::io::Write;
use std::net::TcpListener;

use super::super::policy::Mode;
use super::super::tests::{PATIENCE, attempt, run};
use super::*;

const MILLI: Duration = Duration::from_millis(1);

/// A race of a fan-out to endpoints that take connections and do not answer.
struct Silent {
    race: Arc<Race>,
    _listeners: Vec<TcpListener>,
    // Last: it waits for all attempts.
    _scope: Scope,
}

impl Silent {
    fn new(endpoints: usize) -> Self {
        let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<_> = (0..endpoints).map(bind).collect();
        let (race, scope) = fanout(&listeners);
        Self {
            race,
            _listeners: listeners,
            _scope: scope,
        }
    }

    fn start(&self, endpoint: usize) {
        let attempt = attempt(&self.race.run, endpoint, Duration::ZERO);
        assert!(self.race.start(attempt).is_ok());
    }

    fn slow_losers(&self) -> usize {
        self.race.slow_losers.load(Ordering::SeqCst)
    }

    fn is_own(&self) -> bool {
        matches!(*lock(&self.race.own), OwnAttempt::Next(_))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.race.cancel_losers();
    }
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

/// A race of a fan-out to these. The scope waits for all attempts.
fn fanout(listeners: &[TcpListener]) -> (Arc<Race>, Scope) {
    let run = run(&listeners.iter().map(url).collect::<Vec<_>>(), Mode::Fanout);
    let scope = run.dispatcher.threads.scope();
    let race = Race::new(run, Box::new(|_| ()), scope.spawner().clone());
    (race, scope)
}

#[test]
fn an_attempt_that_panics_has_failed() {
    let result = caught(|| std::panic::resume_unwind(Box::new("on purpose")));
    let reason = "the attempt panicked".to_owned();
    assert_eq!(result.failure(), Some(&Failure::Internal(reason)));
}

#[test]
fn an_attempt_that_has_not_begun_when_another_one_wins_is_unsent() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let (race, _scope) = fanout(&listeners);
    lock(&race.progress).begin(&race.run, &*race);
    let (mut stream, _) = listeners[1].accept().unwrap();
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let won = race.received.recv_timeout(PATIENCE).unwrap();
    let mut progress = lock(&race.progress);
    progress.ended(&race.run, won, &*race);
    let attempts = progress.dispatched(&race.run).unwrap().attempt_log;
    let attempts = attempts.in_json().to_string();
    assert!(
        attempts.contains("{\"endpoint\":0,\"outcome\":\"unsent\","),
        "{attempts}"
    );
    assert!(matches!(*lock(&race.own), OwnAttempt::Free));
    assert_eq!(race.run.list.get(0).unwrap().counters.unsent.get(), 1);
}

#[test]
fn an_endpoint_that_is_much_slower_than_others_is_not_waited_for() {
    let silent = Silent::new(3);
    let patience = &silent.race.run.list.patience;
    patience.ended(0, Some(MILLI));
    patience.ended(1, Some(MILLI * 2));
    patience.ended(2, Some(MILLI * 500));
    // The slow one does not get the dispatching thread, which the next request waits for.
    silent.start(2);
    assert_eq!((silent.slow_losers(), silent.is_own()), (1, false));
    silent.start(1);
    assert_eq!((silent.slow_losers(), silent.is_own()), (1, true));
    silent.start(0);
    assert_eq!(silent.slow_losers(), 1);
}

#[test]
fn losers_have_as_long_as_attempts_take_on_the_average() {
    for (usual, least, most) in [
        (None, GRACE, GRACE),
        (Some(MILLI * 500), MAX_GRACE, MAX_GRACE),
    ] {
        let silent = Silent::new(1);
        if usual.is_some() {
            silent.race.run.list.patience.ended(0, usual);
        }
        let before = Instant::now();
        let grace = silent.race.grace();
        assert!(before + least <= grace && grace <= Instant::now() + most);
    }
}

#[test]
fn what_came_of_an_attempt_is_known_when_the_next_one_starts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (race, _scope) = fanout(std::slice::from_ref(&listener));
    let patience = &race.run.list.patience;
    let long_ago = Instant::now();
    let later = long_ago + PATIENCE;
    // It has been asked, and nothing was heard of it.
    assert!(patience.is_prompt(0, long_ago));
    assert!(!patience.is_prompt(0, later));

    // Cancelled: nothing has been heard, and it takes longer.
    let cancelled = attempt(&race.run, 0, MILLI * 400);
    cancelled.control.cancel();
    let ended = race.perform(cancelled).unwrap();
    assert_eq!(ended.failure(), Some(&Failure::Cancelled));
    assert!(!patience.is_prompt(0, later));
    assert!(patience.average(long_ago) >= MILLI * 50);

    // It has failed by itself.
    drop(listener);
    let ended = race.perform(attempt(&race.run, 0, Duration::ZERO)).unwrap();
    assert!(!ended.is_usable() && ended.failure() != Some(&Failure::Cancelled));
    assert!(patience.is_prompt(0, later));
}

#[test]
fn a_usable_answer_makes_the_average_and_a_client_that_goes_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (race, _scope) = fanout(std::slice::from_ref(&listener));
    let patience = &race.run.list.patience;
    let now = Instant::now();
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        stream
    });
    let ended = race.perform(attempt(&race.run, 0, MILLI * 400)).unwrap();
    assert!(ended.is_usable());
    answering.join().unwrap();
    let average = patience.average(now);
    assert!(average >= MILLI * 400, "{average:?}");

    race.run.cancellation.cancel();
    let _ = race.perform(attempt(&race.run, 0, PATIENCE));
    assert_eq!(patience.average(now), average);
}
