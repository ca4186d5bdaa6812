//! How far a request has come: what is under way, what has ended, what is to start next.
//!
//! Always: at most one winner; nothing starts after it; it is handed out once. Hedges start on
//! the thread of the attempt that takes too long, so this is shared.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{AttemptId, AttemptResult, Attempts, FinishedAttempt};
use super::attempt_log::{AttemptLog, LOOP_DETECTED, Lost};
use super::outcome::{Dispatched, Winner};
use super::queue::{Beside, Queue};
use super::rounds::Rounds;
use super::run::{RequestRun, log_failure};
use crate::upstream::control::AttemptControl;
use crate::upstream::failure::{Failure, Timeout};
use crate::util::random;

/// What the dispatching thread does next.
pub(super) enum Next {
    /// It waits for an attempt to end.
    Wait,
    /// It waits until then, and begins the next round.
    Pause(Instant),
    /// Nothing more is to be waited for.
    Over,
}

/// How far a request has come.
pub(super) struct Progress {
    queue: Queue,
    rounds: Rounds,
    under_way: Vec<(AttemptId, Arc<AttemptControl>)>,
    won: bool,
    winner: Option<Winner>,
    /// What the request has come to has been handed out.
    is_dispatched: bool,
    /// Of the answers that are not usable.
    best: Option<Winner>,
    attempt_log: AttemptLog,
    /// An attempt was hedged.
    hedged: bool,
}

impl Progress {
    /// Nothing has been started yet.
    pub(super) fn new(run: &RequestRun) -> Self {
        let policy = run.policy();
        let sequence = run.list.ranking.sequence(Instant::now());
        Self {
            queue: Queue::new(sequence),
            rounds: Rounds::new(policy.rounds),
            under_way: Vec::new(),
            won: false,
            winner: None,
            is_dispatched: false,
            best: None,
            attempt_log: AttemptLog::default(),
            hedged: false,
        }
    }

    /// What the dispatching thread does next. Where it is a pause, that has been decided.
    pub(super) fn next(&mut self, run: &RequestRun) -> Next {
        if !self.won && !self.under_way.is_empty() {
            return Next::Wait;
        }
        self.pause_end(run).map_or(Next::Over, Next::Pause)
    }

    /// Until when to pause before the next round, if there is to be one.
    fn pause_end(&mut self, run: &RequestRun) -> Option<Instant> {
        if self.won || self.rounds.is_last() || self.queue.is_closed() || run.tries.are_used_up() {
            return None;
        }
        let pause = self.rounds.next_pause(random::number())?;
        let end = Instant::now().checked_add(pause)?;
        (end < run.deadline && !run.cancellation.is_cancelled()).then_some(end)
    }

    /// The best of the answers that are not usable, so far.
    pub(super) fn best(&mut self) -> &mut Option<Winner> {
        &mut self.best
    }

    /// There is a winner.
    pub(super) fn is_won(&self) -> bool {
        self.won
    }

    /// Starts what comes next: an attempt, or all that need not wait for another one.
    pub(super) fn begin(&mut self, run: &RequestRun, attempts: &impl Attempts) {
        loop {
            let beside = if self.under_way.is_empty() {
                Beside::Nothing
            } else {
                Beside::Others
            };
            // What has failed so far is why this one starts.
            let is_retry = self.attempt_log.decisive().is_some();
            if !self.start(run, beside, attempts) {
                return;
            }
            if is_retry {
                run.dispatcher.metrics.retries.add();
            }
            if !run.all_at_once {
                return;
            }
        }
    }

    /// The same once more, after a pause.
    pub(super) fn begin_round(&mut self, run: &RequestRun, attempts: &impl Attempts) {
        self.queue.begin_round();
        self.begin(run, attempts);
    }

    /// This attempt has taken so long that it is to be hedged, if it is still under way and the
    /// budget allows.
    pub(super) fn hedge(&mut self, run: &RequestRun, slow: AttemptId, attempts: &impl Attempts) {
        let budget = &run.dispatcher.budget;
        let metrics = &run.dispatcher.metrics;
        let is_under_way = self.under_way.iter().any(|(id, _)| *id == slow);
        if self.is_won() || !is_under_way || self.queue.has_to_wait(Beside::Slow) {
            return;
        }
        if !budget.take() {
            // It is held back only where it could have started.
            if self.queue.has_another(run.known(), Instant::now()) {
                run.dispatcher.hold_back();
            }
        } else if self.start(run, Beside::Slow, attempts) {
            self.hedged = true;
            metrics.hedges.add();
        } else {
            budget.put_back();
        }
    }

    /// Takes down what came of an attempt, and starts the next one where it has failed.
    pub(super) fn ended(
        &mut self,
        run: &RequestRun,
        mut ended: FinishedAttempt,
        attempts: &impl Attempts,
    ) {
        if self.is_won() {
            // It had failed before it could be cancelled.
            run.report(&mut ended);
            return;
        }
        let id = ended.attempt.id;
        self.under_way.retain(|(other, _)| *other != id);
        if let Some(failure) = ended.failure() {
            let retry_after = ended.result.retry_after;
            log_failure(&run.request, &ended.attempt.endpoint, failure, retry_after);
        }
        run.report(&mut ended);
        let FinishedAttempt {
            attempt,
            result,
            after,
        } = ended;
        let sendings = attempt.control.sendings();
        let answer = result.answer.map(|answer| Winner {
            usable: result.failure.is_none(),
            is_last_choice: !result.retry_after.is_zero()
                || result.failure == Some(Failure::UnusableBody)
                || run.policy().not_terminal.contains(answer.head.status),
            retry_after: result.retry_after,
            endpoint: attempt.endpoint,
            control: attempt.control,
            answer,
            hedged: id.hedged,
        });
        let Some(failure) = result.failure else {
            self.note_losers(run, attempts);
            if let Some(winner) = &answer {
                let status = winner.answer.head.status;
                self.attempt_log.won(id, status, after, sendings);
            }
            self.won = true;
            self.winner = answer;
            self.count_win(run);
            return;
        };
        if failure == Failure::Cancelled || (run.once && sendings > 0) {
            self.queue.close();
        }
        if failure == Failure::Status(LOOP_DETECTED) {
            // It comes back here each time.
            self.rounds.end();
        }
        self.attempt_log.add(Lost {
            id,
            failure,
            status: result.head.map(|(status, _)| status),
            retry_after: result.retry_after,
            after,
            sendings,
        });
        if let Some(answer) = answer
            && self
                .best
                .as_ref()
                .is_none_or(|best| answer.is_better_than(best))
        {
            self.best = Some(answer);
        }
        if !run.all_at_once || self.under_way.is_empty() {
            self.begin(run, attempts);
        }
    }

    /// Nothing is sent again from now on, and what has not begun does not.
    fn note_losers(&mut self, run: &RequestRun, attempts: &impl Attempts) {
        run.tries.end();
        let withdrawn = attempts.withdraw().map(|attempt| {
            let cancelled = AttemptResult::failed(Failure::Cancelled);
            FinishedAttempt::new(attempt, cancelled).attempt.id
        });
        for (loser, control) in mem::take(&mut self.under_way) {
            self.attempt_log.add(Lost {
                after: loser.started.elapsed(),
                // Those that have begun may still send it.
                sendings: control.sendings().max(u32::from(withdrawn != Some(loser))),
                ..Lost::unanswered(loser, Failure::Cancelled)
            });
        }
    }

    fn count_win(&self, run: &RequestRun) {
        let Some(winner) = &self.winner else {
            return;
        };
        winner.endpoint.counters.wins.add();
        if winner.hedged {
            run.dispatcher.metrics.hedges_won.add();
        } else if self.hedged {
            run.dispatcher.metrics.originals_won.add();
        }
    }

    /// What the request has come to; only the first time.
    pub(super) fn dispatched(&mut self, run: &RequestRun) -> Option<Dispatched> {
        if mem::replace(&mut self.is_dispatched, true) {
            return None;
        }
        let best = self.best.take();
        let best = || best.filter(|_| !run.cancellation.is_cancelled());
        let answer = self.winner.take().or_else(best);
        let retry_after = match &answer {
            Some(_) => None,
            None => run.list.cooldown.shortest_wait(Instant::now()),
        };
        Some(Dispatched {
            answer,
            attempt_log: mem::take(&mut self.attempt_log),
            retry_after,
        })
    }

    /// Starts the next attempt; false if there is none.
    fn start(&mut self, run: &RequestRun, beside: Beside, attempts: &impl Attempts) -> bool {
        let Some(attempt) = run.next(&mut self.queue, beside) else {
            return false;
        };
        if attempt.id.started >= run.deadline {
            let timeout = Failure::Timeout(Timeout::Request(run.policy().request_timeout));
            log_failure(&run.request, &attempt.endpoint, &timeout, Duration::ZERO);
            // It says that the time is over. The endpoint was not asked, so it has not failed.
            self.attempt_log.add(Lost::unanswered(attempt.id, timeout));
            self.queue.close();
            return false;
        }
        let control = Arc::clone(&attempt.control);
        self.under_way.push((attempt.id, control));
        if let Err(ended) = attempts.start(attempt) {
            self.ended(run, *ended, attempts);
        }
        true
    }
}
