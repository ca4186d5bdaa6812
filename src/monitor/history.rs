//! The last five minutes: what has come of requests, and how long endpoints took.
//!
//! A thread of its own takes a reading every [`INTERVAL`], also while nothing is asked for; requests
//! have nothing to do with it. What is kept of an endpoint belongs to its counters, so it stays with
//! an endpoint whose number changes.
//!
//! Cost: some microseconds for a reading; 100 KiB, and 10 KiB for each endpoint.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Distribution, EndpointCounters, Metrics};

/// Between two readings.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Readings that are kept: five minutes.
pub(super) const READINGS: usize = 60;

/// Each so many readings the times of all requests are kept, which are larger.
const STRIDE: usize = 6;

/// What requests have come to. Each is in one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    /// An endpoint's usable answer was relayed, or the proxy has answered in its place.
    pub(super) served: u64,
    /// No endpoint had a usable answer.
    pub(super) exhausted: u64,
    /// The client went away before there was one, or it was cut off.
    pub(super) gone: u64,
    /// Refused without asking an endpoint.
    pub(super) refused: u64,
}

impl Outcomes {
    /// Since the start.
    pub(super) fn read(metrics: &Metrics) -> Self {
        let (exhausted, gone) = (metrics.exhausted.get(), metrics.gone_unanswered.get());
        let all: u64 = metrics.requests().map(|(_, _, count)| count).sum();
        Self {
            // The numbers are not read at one time.
            served: all.saturating_sub(exhausted + gone),
            exhausted,
            gone,
            refused: metrics.refused().map(|(_, count)| count).sum(),
        }
    }

    pub(super) fn all(self) -> u64 {
        self.served + self.exhausted + self.gone + self.refused
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            served: self.served.saturating_sub(earlier.served),
            exhausted: self.exhausted.saturating_sub(earlier.exhausted),
            gone: self.gone.saturating_sub(earlier.gone),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }
}

/// How long the heads of an endpoint's answers took in one interval, if there were any.
pub(super) type Times = Option<(Duration, Duration)>;

/// The last five minutes.
#[derive(Debug)]
pub(super) struct History {
    /// At the last reading.
    last: Outcomes,
    outcomes: VecDeque<Outcomes>,
    /// Times of all requests at the start and at readings of the past, the oldest one first.
    durations: VecDeque<Distribution>,
    readings: usize,
    endpoints: Vec<OfEndpoint>,
}

#[derive(Debug)]
struct OfEndpoint {
    counters: Arc<EndpointCounters>,
    last: Distribution,
    times: VecDeque<Times>,
}

/// At the start.
impl Default for History {
    fn default() -> Self {
        Self {
            last: Outcomes::default(),
            outcomes: VecDeque::new(),
            durations: VecDeque::from([Distribution::default()]),
            readings: 0,
            endpoints: Vec::new(),
        }
    }
}

impl History {
    /// Takes a reading. `endpoints`: those that are in force.
    pub(super) fn read(
        &mut self,
        metrics: &Metrics,
        endpoints: impl IntoIterator<Item = Arc<EndpointCounters>>,
    ) {
        let now = Outcomes::read(metrics);
        keep(&mut self.outcomes, now.since(self.last), READINGS);
        self.last = now;
        self.readings += 1;
        if self.readings.is_multiple_of(STRIDE) {
            let most = READINGS / STRIDE + 1;
            keep(&mut self.durations, metrics.duration.read(), most);
        }
        let mut before = std::mem::take(&mut self.endpoints);
        for counters in endpoints {
            let place = before
                .iter()
                .position(|old| Arc::ptr_eq(&old.counters, &counters));
            let head = counters.head.read();
            let mut endpoint = match place {
                Some(place) => before.swap_remove(place),
                None => OfEndpoint {
                    counters,
                    // Of one that is new, all is new.
                    last: Distribution::default(),
                    times: VecDeque::new(),
                },
            };
            let times = head.since(&endpoint.last);
            let times = times.quantile(500).zip(times.quantile(990));
            keep(&mut endpoint.times, times, READINGS);
            endpoint.last = head;
            self.endpoints.push(endpoint);
        }
    }

    /// What has come of requests in each interval, the latest one last.
    pub(super) fn outcomes(&self) -> Vec<Outcomes> {
        self.outcomes.iter().copied().collect()
    }

    /// Median and 99th percentile of an endpoint in each interval, the latest one last.
    pub(super) fn times(&self, counters: &Arc<EndpointCounters>) -> Vec<Times> {
        let mut endpoints = self.endpoints.iter();
        let endpoint = endpoints.find(|known| Arc::ptr_eq(&known.counters, counters));
        let times = endpoint.into_iter().flat_map(|endpoint| &endpoint.times);
        times.copied().collect()
    }

    /// Of all requests those of the last five minutes, or half a minute more.
    pub(super) fn recent(&self, now: &Distribution) -> Distribution {
        match self.durations.front() {
            Some(earlier) => now.since(earlier),
            None => now.clone(),
        }
    }
}

fn keep<T>(kept: &mut VecDeque<T>, new: T, most: usize) {
    while kept.len() >= most {
        kept.pop_front();
    }
    kept.push_back(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{AttemptOutcome, CLIENT_GONE, Refusal};

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn each_request_is_in_one_outcome_of_its_interval() {
        let (metrics, mut history) = (Metrics::default(), History::default());
        // The second one is an endpoint's own.
        for status in [200, CLIENT_GONE, 503, CLIENT_GONE] {
            metrics.request("GET", status, MILLI);
        }
        metrics.exhausted.add();
        metrics.gone_unanswered.add();
        metrics.refuse(Refusal::Malformed);
        history.read(&metrics, []);
        history.read(&metrics, []);
        metrics.request("GET", 200, MILLI);
        history.read(&metrics, []);
        let one_of_each = Outcomes {
            served: 2,
            exhausted: 1,
            gone: 1,
            refused: 1,
        };
        let served = Outcomes {
            served: 1,
            ..Outcomes::default()
        };
        let wanted = [one_of_each, Outcomes::default(), served];
        assert_eq!(history.outcomes(), wanted);
    }

    #[test]
    fn an_endpoint_keeps_its_times_whatever_its_place() {
        let (metrics, mut history) = (Metrics::default(), History::default());
        let endpoints: [Arc<EndpointCounters>; 2] = Default::default();
        let [one, two] = &endpoints;
        one.attempt(AttemptOutcome::Head(200, MILLI * 10));
        history.read(&metrics, endpoints.clone());
        two.attempt(AttemptOutcome::Head(200, MILLI * 20));
        history.read(&metrics, [Arc::clone(two), Arc::clone(one)]);
        let is_about = |times: &Times, millis: u128| {
            let (median, most) = times.unwrap();
            median.as_millis().abs_diff(millis) <= 1 && most == median
        };
        let times = history.times(one);
        assert!(is_about(&times[0], 10) && times[1].is_none(), "{times:?}");
        let times = history.times(two);
        assert!(times[0].is_none() && is_about(&times[1], 20), "{times:?}");
        history.read(&metrics, [Arc::clone(one)]);
        assert_eq!(history.times(one).len(), 3);
        assert!(history.times(two).is_empty());
    }

    #[test]
    fn five_minutes_are_kept_and_no_more() {
        let (metrics, mut history) = (Metrics::default(), History::default());
        let endpoint: Arc<EndpointCounters> = Arc::default();
        let recent =
            |history: &History, metrics: &Metrics| history.recent(&metrics.duration.read()).count();
        let readings = u64::try_from(READINGS).unwrap();
        for reading in 1..readings * 3 {
            metrics.request("GET", 200, MILLI);
            history.read(&metrics, [Arc::clone(&endpoint)]);
            let counted = recent(&history, &metrics);
            assert!(
                (reading.min(readings)..readings + 6).contains(&counted),
                "{counted}"
            );
        }
        assert_eq!(history.outcomes().len(), READINGS);
        assert_eq!(history.times(&endpoint).len(), READINGS);
    }
}
