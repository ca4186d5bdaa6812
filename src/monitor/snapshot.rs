//! All counters and states, read at one time for the page, its JSON and the metrics: what is new
//! is read here first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::history::{History, Outcomes, Times};
use super::process::Process;
use crate::dispatch::{Dispatcher, EndpointState};
use crate::downstream::server::Connections;
use crate::http::endpoint_url::EndpointUrl;
use crate::logging::Logging;
use crate::metrics::{Distribution, Metrics};

/// Where what is shown comes from.
pub struct Sources {
    /// What is counted for all endpoints together.
    pub metrics: Arc<Metrics>,
    /// Knows the endpoints and what is counted for each.
    pub dispatcher: Arc<Dispatcher>,
    /// The clients'.
    pub connections: Connections,
    /// Counts the lines that are lost.
    pub logging: Logging,
    /// When the process started, by both clocks: the first one may be set.
    pub started: (SystemTime, Instant),
}

/// Everything that is shown.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) is_stopping: bool,
    pub(super) started: SystemTime,
    pub(super) uptime: Duration,
    /// Method, status code, how many; none that are zero.
    pub(super) requests: Vec<(&'static str, u16, u64)>,
    pub(super) duration: Distribution,
    /// The same of the last five minutes.
    pub(super) recent: Distribution,
    pub(super) outcomes: Outcomes,
    /// What has come of requests in each interval of the last five minutes.
    pub(super) past: Vec<Outcomes>,
    pub(super) clients_gone: u64,
    /// Reason, how many.
    pub(super) refused: Vec<(&'static str, u64)>,
    pub(super) retries: u64,
    pub(super) hedges: u64,
    pub(super) originals_won: u64,
    pub(super) hedges_won: u64,
    pub(super) hedges_held_back: u64,
    /// After which the next attempt would be hedged, if any would.
    pub(super) hedge_delay: Option<Duration>,
    pub(super) endpoints: Vec<EndpointSnapshot>,
    pub(super) connections: usize,
    pub(super) in_flight: usize,
    pub(super) log_lines_dropped: usize,
    pub(super) process: Process,
}

/// What is shown of an endpoint.
#[derive(Clone, Debug)]
pub(super) struct EndpointSnapshot {
    pub(super) number: usize,
    pub(super) is_backup: bool,
    /// `host:port`
    pub(super) upstream: String,
    /// Status code, how many; none that are zero.
    pub(super) statuses: Vec<(u16, u64)>,
    pub(super) no_head: u64,
    pub(super) cancelled: u64,
    pub(super) unsent: u64,
    pub(super) resent: u64,
    pub(super) head: Distribution,
    /// Reason, how many; none that are zero.
    pub(super) failures: Vec<(&'static str, u64)>,
    pub(super) wins: u64,
    pub(super) ejections: u64,
    /// Median and 99th percentile in each interval of the last five minutes.
    pub(super) times: Vec<Times>,
    /// It is passed over, at least for so long.
    pub(super) passed_over: Option<Duration>,
}

impl Snapshot {
    /// `serving` or `stopping`.
    pub(super) fn state(&self) -> &'static str {
        if self.is_stopping {
            "stopping"
        } else {
            "serving"
        }
    }

    /// Requests by the status code of their answer.
    pub(super) fn codes(&self) -> BTreeMap<u16, u64> {
        let mut codes = BTreeMap::new();
        for (_, code, count) in &self.requests {
            *codes.entry(*code).or_default() += count;
        }
        codes
    }
}

impl EndpointSnapshot {
    /// All attempts that have ended.
    pub(super) fn attempts(&self) -> u64 {
        let answered: u64 = self.statuses.iter().map(|(_, count)| count).sum();
        answered + self.no_head + self.cancelled + self.unsent
    }
}

impl Sources {
    pub(super) fn read(&self, history: &History, is_stopping: bool) -> Snapshot {
        let now = Instant::now();
        let metrics = &self.metrics;
        let duration = metrics.duration.read();
        let list = self.dispatcher.list();
        let endpoints = list.states(now);
        Snapshot {
            is_stopping,
            started: self.started.0,
            uptime: now.duration_since(self.started.1),
            requests: metrics.requests().collect(),
            recent: history.recent(&duration),
            duration,
            outcomes: Outcomes::read(metrics),
            past: history.outcomes(),
            clients_gone: metrics.clients_gone.get(),
            refused: metrics.refused().collect(),
            retries: metrics.retries.get(),
            hedges: metrics.hedges.get(),
            originals_won: metrics.originals_won.get(),
            hedges_won: metrics.hedges_won.get(),
            hedges_held_back: metrics.hedges_held_back.get(),
            hedge_delay: self.dispatcher.hedge_after(now),
            endpoints: endpoints.map(|state| endpoint(state, history)).collect(),
            connections: self.connections.open(),
            in_flight: self.connections.requests(),
            log_lines_dropped: self.logging.dropped_lines(),
            process: Process::read(),
        }
    }

    /// Takes a reading of what is shown over time.
    pub(super) fn record(&self, history: &mut History) {
        let list = self.dispatcher.list();
        let endpoints = list.iter().map(|endpoint| Arc::clone(&endpoint.counters));
        history.read(&self.metrics, endpoints);
    }

    /// Whether no endpoint would be asked but for want of another one.
    pub(super) fn all_passed_over(&self) -> bool {
        let list = self.dispatcher.list();
        let mut states = list.states(Instant::now());
        states.all(|state| state.passed_over.is_some())
    }
}

fn endpoint(state: EndpointState, history: &History) -> EndpointSnapshot {
    let EndpointState {
        number,
        is_backup,
        endpoint,
        passed_over,
    } = state;
    let counters = &endpoint.counters;
    EndpointSnapshot {
        number,
        is_backup,
        upstream: upstream(&endpoint.url),
        statuses: counters.statuses.iter().collect(),
        no_head: counters.no_head.get(),
        cancelled: counters.cancelled.get(),
        unsent: counters.unsent.get(),
        resent: counters.resent.get(),
        head: counters.head.read(),
        failures: counters.failures().collect(),
        wins: counters.wins.get(),
        ejections: counters.ejections.get(),
        times: history.times(counters),
        passed_over,
    }
}

/// `host:port`, and nothing that may be a secret.
fn upstream(url: &EndpointUrl) -> String {
    let origin = url.origin();
    match origin.split_once("://") {
        Some((_, authority)) => authority.to_owned(),
        None => origin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_host_and_port() {
        for (url, wanted) in [
            ("http://user:word@one.example/path?key=x", "one.example:80"),
            ("https://one.example", "one.example:443"),
            ("http://[::1]:8000", "[::1]:8000"),
        ] {
            assert_eq!(upstream(&url.parse().unwrap()), wanted);
        }
    }
}
