//! What became of a request's attempts: in words and in JSON for the log, in the order of their starts,
//! and as the status of a request that no answer was usable for.

use std::fmt;
use std::time::{Duration, Instant};

use super::attempt::AttemptId;
use super::policy::OnExhausted;
use crate::logging::AttemptReport;
use crate::upstream::failure::Failure;
use crate::util::go_duration::GoDuration;

/// The request has come in a loop (RFC 5842 7.2).
pub(super) const LOOP_DETECTED: u16 = 508;

/// So many attempts are shown; of the others only how many there are. They can be many with
/// `-rounds`.
const MOST_SHOWN: usize = 24;

/// The same in JSON.
const MOST_IN_JSON: usize = 256;

/// The attempts that did not win, in the order in which they were started.
#[derive(Debug, Default)]
pub struct AttemptLog {
    attempts: Vec<Lost>,
    /// The place of the one that an exhausted request reports.
    decisive: usize,
    won: Option<Won>,
}

/// The attempt that won.
#[derive(Debug)]
struct Won {
    id: AttemptId,
    status: u16,
    after: Duration,
    sendings: u32,
}

/// An attempt that did not win.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) id: AttemptId,
    pub(super) failure: Failure,
    /// Of the answer, if its head came.
    pub(super) status: Option<u16>,
    /// For how long the endpoint has asked to be left alone; zero: it has not.
    pub(super) retry_after: Duration,
    /// How long it has taken.
    pub(super) after: Duration,
    /// On how many connections at least a part of the request was sent.
    pub(super) sendings: u32,
}

/// Stands behind a failure: for how long the endpoint has asked to be left alone, if it has.
pub(super) struct Again(pub(super) Duration);

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return Ok(());
        }
        write!(f, ", again in {}", GoDuration::from(self.0))
    }
}

impl AttemptLog {
    /// An attempt has ended that did not win.
    pub(super) fn add(&mut self, lost: Lost) {
        let place = self.started_until(lost.id.started);
        let decides = !self.attempts.get(self.decisive).is_some_and(Lost::is_loop);
        if decides {
            self.decisive = place;
        } else if place <= self.decisive {
            self.decisive += 1;
        }
        self.attempts.insert(place, lost);
    }

    /// How many were started until then.
    fn started_until(&self, at: Instant) -> usize {
        self.attempts.partition_point(|lost| lost.id.started <= at)
    }

    /// An attempt has won, with an answer of this status, on the last of so many connections.
    pub(super) fn won(&mut self, id: AttemptId, status: u16, after: Duration, sendings: u32) {
        self.won = Some(Won {
            id,
            status,
            after,
            sendings,
        });
    }

    /// The member `attempts` of a JSON object: all of them, the winner included, in the order
    /// in which they were started. Beyond so many they are only counted.
    #[must_use]
    pub fn in_json(&self) -> InJson<'_> {
        InJson(self)
    }

    /// All attempts, in the order in which they were started.
    fn reports(&self) -> impl Iterator<Item = AttemptReport<'_>> {
        let won = self.won.as_ref();
        let place = won.map_or(0, |won| self.started_until(won.id.started));
        let (before, behind) = self.attempts.split_at(place);
        let before = before.iter().map(Lost::report);
        let behind = behind.iter().map(Lost::report);
        before.chain(won.map(Won::report)).chain(behind)
    }

    /// Whether an attempt was under way when another one won.
    pub(super) fn has_cancelled(&self) -> bool {
        let mut attempts = self.attempts.iter();
        attempts.any(|lost| lost.failure == Failure::Cancelled && lost.sendings > 0)
    }

    /// What an exhausted request reports: the first attempt that ended at a proxy in front (508), else
    /// the one that ended last. Why it failed, and whether the endpoint could be reached.
    #[must_use]
    pub fn decisive(&self) -> Option<(&Failure, bool)> {
        let lost = self.attempts.get(self.decisive)?;
        Some((&lost.failure, lost.reached()))
    }

    /// The status code for an exhausted request: 508 for a loop; else as a gateway has it (RFC
    /// 9110 15.6), if that is wanted: 503 if no endpoint could be reached, 504 if the last failure
    /// was a time-out, 502 for the rest.
    #[must_use]
    pub fn exhausted_status(&self, on_exhausted: OnExhausted) -> u16 {
        match self.decisive() {
            Some((Failure::Status(LOOP_DETECTED), _)) => LOOP_DETECTED,
            _ if on_exhausted == OnExhausted::Status500 => 500,
            _ if !self.attempts.iter().any(Lost::reached) => 503,
            Some((Failure::Timeout(_), _)) => 504,
            _ => 502,
        }
    }

    /// The winner, and what became of the others: `endpoint 2 (0: connection refused, 1: status
    /// 503 after 4ms)`.
    #[must_use]
    pub fn winner(&self, endpoint: usize, hedged: bool) -> Winning<'_> {
        Winning {
            attempt_log: self,
            endpoint,
            hedged,
        }
    }
}

/// See [`AttemptLog::winner`].
#[derive(Clone, Copy, Debug)]
pub struct Winning<'a> {
    attempt_log: &'a AttemptLog,
    endpoint: usize,
    hedged: bool,
}

impl fmt::Display for Winning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hedged = if self.hedged { ", hedged" } else { "" };
        write!(f, "endpoint {}{hedged}", self.endpoint)?;
        if self.attempt_log.attempts.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.attempt_log)
    }
}

/// See [`AttemptLog::in_json`].
#[derive(Clone, Copy, Debug)]
pub struct InJson<'a>(&'a AttemptLog);

impl fmt::Display for InJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"attempts\":[")?;
        for (index, report) in self.0.reports().take(MOST_IN_JSON).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{report}")?;
        }
        f.write_str("]")?;
        let number = self.0.attempts.len() + usize::from(self.0.won.is_some());
        match number.saturating_sub(MOST_IN_JSON) {
            0 => Ok(()),
            more => write!(f, ",\"attempts_left_out\":{more}"),
        }
    }
}

impl Won {
    fn report(&self) -> AttemptReport<'_> {
        AttemptReport {
            endpoint: self.id.endpoint,
            outcome: "usable",
            reason: None,
            status: Some(self.status),
            duration: self.after,
            hedged: self.id.hedged,
            resent: self.sendings.saturating_sub(1),
        }
    }
}

impl Lost {
    /// One without an answer, that has sent nothing and taken no time.
    pub(super) fn unanswered(id: AttemptId, failure: Failure) -> Self {
        Self {
            id,
            failure,
            status: None,
            retry_after: Duration::ZERO,
            after: Duration::ZERO,
            sendings: 0,
        }
    }

    fn report(&self) -> AttemptReport<'_> {
        let failure = &self.failure;
        let is_cancelled = *failure == Failure::Cancelled;
        AttemptReport {
            endpoint: self.id.endpoint,
            outcome: match failure {
                Failure::Cancelled if self.sendings == 0 => "unsent",
                Failure::Cancelled => "cancelled",
                // The time was over before it began.
                Failure::Timeout(_) if self.after.is_zero() => "not_tried",
                _ => failure.error_type(),
            },
            reason: if is_cancelled { None } else { Some(failure) },
            status: self.status,
            duration: self.after,
            hedged: self.id.hedged,
            resent: self.sendings.saturating_sub(1),
        }
    }

    fn is_loop(&self) -> bool {
        self.failure == Failure::Status(LOOP_DETECTED)
    }

    /// Whichever of the time-outs it was, one that has sent nothing was still connecting.
    fn reached(&self) -> bool {
        match self.failure {
            Failure::Dns(_) | Failure::Connect(_) | Failure::Tls(_) => false,
            Failure::Timeout(_) => self.sendings > 0,
            Failure::Broken(_)
            | Failure::Status(_)
            | Failure::UnusableBody
            | Failure::Cancelled
            | Failure::Internal(_) => true,
        }
    }
}

impl fmt::Display for AttemptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, lost) in self.attempts.iter().take(MOST_SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{lost}")?;
        }
        match self.attempts.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hedged = if self.id.hedged { "hedged, " } else { "" };
        write!(f, "{}: {hedged}", self.id.endpoint)?;
        let after = GoDuration::from(rounded(self.after));
        match &self.failure {
            Failure::Status(_)
            | Failure::UnusableBody
            | Failure::Broken(_)
            | Failure::Cancelled => {
                let again = Again(self.retry_after);
                write!(f, "{} after {after}{again}", self.failure)
            }
            // Which of the time-outs, and the flag, are in the line of the endpoint.
            Failure::Timeout(_) => write!(f, "timed out after {after}"),
            Failure::Dns(_) | Failure::Connect(_) | Failure::Tls(_) | Failure::Internal(_) => {
                write!(f, "{}", self.failure)
            }
        }
    }
}

/// To whole milliseconds, or to microseconds where that would be nothing.
fn rounded(span: Duration) -> Duration {
    match u64::try_from(span.as_millis()) {
        Ok(0) => Duration::from_micros(span.subsec_micros().into()),
        Ok(millis) => Duration::from_millis(millis),
        Err(_) => span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::NO_ATTEMPTS;
    use crate::upstream::failure::{ConnectFault, ExchangeFault, Timeout, TlsFault};
    use std::io;

    const MILLI: Duration = Duration::from_millis(1);

    /// They were started in this order, and have ended in it.
    fn attempt_log(attempts: &[(Failure, bool)]) -> AttemptLog {
        ended(attempts, 0..attempts.len())
    }

    /// They were started in this order, and have ended in another one.
    fn ended(attempts: &[(Failure, bool)], order: impl IntoIterator<Item = usize>) -> AttemptLog {
        let begin = Instant::now();
        let mut attempt_log = AttemptLog::default();
        for endpoint in order {
            let (failure, hedged) = &attempts[endpoint];
            let id = AttemptId {
                endpoint,
                hedged: *hedged,
                started: begin + MILLI * u32::try_from(endpoint).unwrap(),
            };
            let connecting = matches!(failure, Failure::Timeout(Timeout::Connect(_)));
            let after = Duration::from_micros(4_321);
            attempt_log.add(Lost {
                status: match failure {
                    Failure::Status(status) => Some(*status),
                    Failure::UnusableBody => Some(200),
                    _ => None,
                },
                after,
                sendings: u32::from(!connecting),
                ..Lost::unanswered(id, failure.clone())
            });
        }
        attempt_log
    }

    fn refused() -> Failure {
        Failure::Connect(ConnectFault::Io(io::ErrorKind::ConnectionRefused.into()))
    }

    fn head() -> Failure {
        Failure::Timeout(Timeout::Head(MILLI))
    }

    #[test]
    fn the_text_is_short_and_says_what_and_when() {
        type Row<'a> = (&'a [(Failure, bool)], bool, &'a str);
        let table: [Row<'_>; 5] = [
            (&[], false, "endpoint 9"),
            (
                &[(refused(), false), (Failure::Status(503), false)],
                false,
                "endpoint 9 (0: connection refused, 1: status 503 after 4ms)",
            ),
            (
                &[(Failure::Cancelled, false)],
                true,
                "endpoint 9, hedged (0: cancelled after 4ms)",
            ),
            (
                &[(head(), false), (Failure::Cancelled, true)],
                false,
                "endpoint 9 (0: timed out after 4ms, 1: hedged, cancelled after 4ms)",
            ),
            (
                &[(
                    Failure::Broken(ExchangeFault::Io(io::ErrorKind::ConnectionReset.into())),
                    false,
                )],
                false,
                "endpoint 9 (0: connection reset after 4ms)",
            ),
        ];
        for (attempts, hedged, wanted) in table {
            assert_eq!(attempt_log(attempts).winner(9, hedged).to_string(), wanted);
        }
    }

    #[test]
    fn it_is_in_the_order_of_the_starts_whatever_ended_first() {
        let attempts = [
            (refused(), false),
            (Failure::Status(500), false),
            (head(), false),
        ];
        for (order, last) in [([2, 1, 0], 0), ([2, 0, 1], 1), ([1, 0, 2], 2)] {
            let attempt_log = ended(&attempts, order);
            assert_eq!(
                attempt_log.to_string(),
                "0: connection refused, 1: status 500 after 4ms, 2: timed out after 4ms"
            );
            let (failure, _) = attempt_log.decisive().unwrap();
            assert_eq!(failure, &attempts[last].0);
        }
    }

    #[test]
    fn of_many_attempts_the_first_ones_are_shown_and_the_others_counted() {
        let shown = |count| attempt_log(&vec![(refused(), false); count]).to_string();
        assert!(shown(MOST_SHOWN).ends_with(", 23: connection refused"));
        assert!(shown(MOST_SHOWN + 7).ends_with(", 23: connection refused, and 7 more"));
        assert!(shown(100_000).len() < 1_000);
    }

    #[test]
    fn what_an_endpoint_asks_for_stands_behind_its_failure() {
        let mut attempt_log =
            attempt_log(&[(Failure::Status(429), false), (Failure::Status(500), false)]);
        attempt_log.attempts[0].retry_after = Duration::from_secs(30);
        assert_eq!(
            attempt_log.to_string(),
            "0: status 429 after 4ms, again in 30s, 1: status 500 after 4ms"
        );
    }

    #[test]
    fn in_json_all_attempts_stand_in_the_order_of_the_starts() {
        assert_eq!(AttemptLog::default().in_json().to_string(), NO_ATTEMPTS);
        let attempts = [(Failure::Cancelled, false), (Failure::Status(500), true)];
        let mut attempt_log = ended(&attempts, [1, 0]);
        let id = AttemptId {
            endpoint: 7,
            hedged: false,
            // At the same time as another one.
            ..attempt_log.attempts[0].id
        };
        attempt_log.won(id, 200, MILLI, 3);
        assert_eq!(
            attempt_log.in_json().to_string(),
            "\"attempts\":[{\"endpoint\":0,\"outcome\":\"cancelled\",\"duration_s\":0.004321,\"hedged\":false,\
             \"status\":null},\
             {\"endpoint\":7,\"outcome\":\"usable\",\"duration_s\":0.001000,\"hedged\":false,\
             \"status\":200,\"resent\":2},\
             {\"endpoint\":1,\"outcome\":\"destination_unavailable\",\"duration_s\":0.004321,\
             \"hedged\":true,\"status\":500,\"reason\":\"status 500\"}]"
        );
        let many = self::attempt_log(&vec![(refused(), false); MOST_IN_JSON + 5]);
        let shown = many.in_json().to_string();
        assert_eq!(shown.matches("\"outcome\"").count(), MOST_IN_JSON);
        assert!(shown.ends_with("}],\"attempts_left_out\":5"), "{shown}");
    }

    #[test]
    fn spans_are_rounded_to_what_is_worth_reading() {
        for (micros, shown) in [
            (0, "0s"),
            (999, "999µs"),
            (1_000, "1ms"),
            (1_999, "1ms"),
            (12_345_678, "12.345s"),
        ] {
            let span = GoDuration::from(rounded(Duration::from_micros(micros)));
            assert_eq!(span.to_string(), shown);
        }
    }

    #[test]
    fn a_status_says_loop_unreachable_or_too_slow() {
        let status = || Failure::Status(503);
        let dns = || Failure::Dns("no address".to_owned());
        let tls = || Failure::Tls(TlsFault::Closed);
        let connect = || Failure::Timeout(Timeout::Connect(MILLI));
        let table: [(&[Failure], u16); 10] = [
            (&[refused(), Failure::Status(508)], 508),
            (&[Failure::Status(508), head()], 508),
            (&[refused(), dns(), tls(), connect()], 503),
            (&[refused()], 503),
            (&[refused(), status()], 502),
            (&[status(), refused()], 502),
            (&[status(), head()], 504),
            (&[status(), connect()], 504),
            (&[head(), status()], 502),
            (&[refused(), Failure::Timeout(Timeout::Request(MILLI))], 504),
        ];
        for (failures, wanted) in table {
            let attempts: Vec<_> = failures.iter().cloned().map(|f| (f, false)).collect();
            let attempt_log = attempt_log(&attempts);
            let status = attempt_log.exhausted_status(OnExhausted::Gateway);
            assert_eq!(status, wanted, "{failures:?}");
            let status = attempt_log.exhausted_status(OnExhausted::Status500);
            assert_eq!(status, if wanted == 508 { 508 } else { 500 });
        }
        // The first answer that reports a loop, whatever ends later and was started before.
        let attempts = [
            refused(),
            Failure::Status(508),
            head(),
            Failure::Status(508),
        ];
        let attempts = attempts.map(|failure| (failure, false));
        for order in [[1, 0, 2, 3], [2, 1, 3, 0], [0, 1, 2, 3]] {
            let attempt_log = ended(&attempts, order);
            assert_eq!(attempt_log.decisive, 1, "{order:?}");
            assert_eq!(attempt_log.exhausted_status(OnExhausted::Gateway), 508);
        }
        assert_eq!(ended(&attempts, [3, 2, 1, 0]).decisive, 3);
    }
}
