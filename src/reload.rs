//! The endpoints in force: made at start, and anew when their files have changed (SIGHUP).
//!
//! Files are read on a thread of its own: one that is slow, such as a pipe, holds up nothing else.
//! They are checked as a whole first; with one that is wrong everything stays as it was. Names are
//! not looked up.
//!
//! An endpoint stays if its URL does, whatever its place and its header lines: its connections,
//! times and failures are kept. Of one that is gone the idle connections are closed at once, the
//! others with their answers.
//!
//! Cost: a thread where there is such a file. Requests never wait for it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::Receiver;
use log::{info, warn};

use crate::config::{EndpointSources, Listed};
use crate::dispatch::{Dispatcher, EndpointList, Renewed};
use crate::downstream::descriptors::{self, Shortage};
use crate::downstream::limits::Limits;
use crate::http::endpoint_config::EndpointConfig;
use crate::http::endpoint_url::EndpointUrl;
use crate::upstream::endpoint::{Endpoint, Settings};
use crate::util::thread_pool::ThreadPool;

/// More threads than this are more than most systems allow a process.
const MAX_ATTEMPT_THREADS: usize = 16_384;

/// The endpoints as they are listed at start.
///
/// # Errors
/// One cannot be used, in words for the user.
pub fn first(listed: &Listed, settings: &Settings) -> Result<Vec<Endpoint>, String> {
    for path in &listed.exposed {
        warn_of_exposed(path);
    }
    log_endpoints(listed);
    let endpoints = listed.endpoints.iter().cloned().enumerate();
    endpoints
        .map(|(number, endpoint)| Endpoint::new(number, endpoint, settings))
        .collect()
}

/// How many threads for attempts that overlap all connections can need at once. Losers go on when
/// their request counts towards `-workers` no more, and a long relay takes one more.
#[must_use]
pub fn attempt_threads(limits: &Limits, endpoints: usize) -> usize {
    let of_a_connection = endpoints.saturating_add(1);
    let most = limits.max_connections.saturating_mul(of_a_connection);
    most.min(MAX_ATTEMPT_THREADS)
}

/// Descriptors that a request takes: a connection to each endpoint, in use or idle, and a file for
/// the body.
#[must_use]
pub fn descriptors_of_request(endpoints: usize) -> usize {
    endpoints.saturating_add(1)
}

/// What a new list is made with.
#[derive(Debug)]
pub struct Reload {
    /// Where the endpoints are listed.
    pub sources: EndpointSources,
    /// How they are connected to.
    pub settings: Settings,
    /// Has the list in force.
    pub dispatcher: Arc<Dispatcher>,
    /// Where attempts run.
    pub threads: Arc<ThreadPool>,
    /// What clients may take.
    pub limits: Limits,
    /// Descriptors that are needed for something else.
    pub other_descriptors: usize,
    /// Files of which it has been said that others may read them.
    pub exposed: BTreeSet<String>,
}

impl Reload {
    /// Reads the files anew whenever something is received, on a thread of its own. It is dropped
    /// when that is done.
    pub fn start<T: Send + 'static>(mut self, requests: Receiver<T>) -> io::Result<()> {
        let run = move || {
            for _request in requests {
                self.reload();
            }
        };
        thread::Builder::new()
            .name("reload".to_owned())
            .spawn(run)?;
        Ok(())
    }

    fn reload(&mut self) {
        let listed = self.sources.read();
        let outcome = listed.and_then(|listed| self.put_in_force(&listed));
        if let Err(reason) = outcome {
            warn!("endpoints not reloaded, the list in force stays: {reason}");
        }
    }

    fn put_in_force(&mut self, listed: &Listed) -> Result<(), String> {
        for path in &listed.exposed {
            if self.exposed.insert(path.clone()) {
                warn_of_exposed(path);
            }
        }
        let list = self.dispatcher.list();
        if is_in_force(listed, &list) {
            info!("endpoints not reloaded: nothing has changed");
            return Ok(());
        }
        let before: Vec<&Endpoint> = list.iter().collect();
        let places = places_before(&listed.endpoints, &before);
        let endpoints = self.renewed(listed, &places, &before)?;
        log_endpoints(listed);
        let count = endpoints.len();
        self.threads
            .raise_max_threads(attempt_threads(&self.limits, count));
        self.dispatcher.renew(endpoints, listed.backups);
        let kept: BTreeSet<usize> = places.iter().copied().flatten().collect();
        let gone = (0..)
            .zip(&before)
            .filter(|(place, _)| !kept.contains(place));
        gone.for_each(|(_, endpoint)| endpoint.close_connections());
        info!(
            "endpoints reloaded: {} new, {} gone, {} kept",
            count - kept.len(),
            before.len() - kept.len(),
            kept.len()
        );
        self.warn_of_shortage(count);
        Ok(())
    }

    fn renewed(
        &self,
        listed: &Listed,
        places: &[Option<usize>],
        before: &[&Endpoint],
    ) -> Result<Vec<Renewed>, String> {
        let renewed = |(number, (config, place)): (usize, (&EndpointConfig, &Option<usize>))| {
            let kept = place.and_then(|place| before.get(place));
            let endpoint = match kept {
                Some(endpoint) => endpoint.renewed(number, config.lines.clone()),
                None => Endpoint::new(number, config.clone(), &self.settings)?,
            };
            Ok(Renewed {
                endpoint,
                before: *place,
            })
        };
        let endpoints = listed.endpoints.iter().zip(places).enumerate();
        endpoints.map(renewed).collect()
    }

    fn warn_of_shortage(&self, endpoints: usize) {
        let of_request = descriptors_of_request(endpoints);
        let shortage = descriptors::shortage(&self.limits, of_request, self.other_descriptors);
        if let Some(Shortage {
            needed,
            descriptors,
        }) = shortage
        {
            warn!(
                "{endpoints} endpoints need {needed} descriptors with -max-connections {}, but there \
                 are only {descriptors} (ulimit -n): attempts may fail under load until a restart",
                self.limits.max_connections
            );
        }
    }
}

fn log_endpoints(listed: &Listed) {
    for (number, endpoint) in listed.endpoints.iter().enumerate() {
        let mark = listed.mark(number);
        info!("configuring endpoint {number}: \"{}\"{mark}", endpoint.url);
    }
}

fn warn_of_exposed(path: &str) {
    warn!("{path:?} holds keys, and others may read it (chmod o-r makes it private)");
}

fn is_in_force(listed: &Listed, list: &EndpointList) -> bool {
    let is_same = |(endpoint, config): (&Endpoint, &EndpointConfig)| endpoint.is(config);
    list.iter().count() == listed.endpoints.len()
        && list.backups() == listed.backups
        && list.iter().zip(&listed.endpoints).all(is_same)
}

/// The place that each endpoint had before, if its URL was there. Where a URL is there several
/// times, one with the same header lines is preferred.
fn places_before(listed: &[EndpointConfig], before: &[&Endpoint]) -> Vec<Option<usize>> {
    let mut free: HashMap<&EndpointUrl, Vec<usize>> = HashMap::new();
    for (place, endpoint) in before.iter().enumerate().rev() {
        free.entry(&endpoint.url).or_default().push(place);
    }
    let mut places = vec![None; listed.len()];
    for with_same_lines in [true, false] {
        for (config, place) in listed.iter().zip(&mut places) {
            let Some(free) = free.get_mut(&config.url).filter(|_| place.is_none()) else {
                continue;
            };
            let is_wanted = |place: &usize| {
                !with_same_lines
                    || before
                        .get(*place)
                        .is_some_and(|endpoint| endpoint.is(config))
            };
            *place = free.iter().rposition(is_wanted).map(|at| free.remove(at));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::endpoint_config::HeaderLines;
    use std::time::Duration;

    /// A letter is a host, a digit behind it the value of a header line.
    fn configs(text: &str) -> Vec<EndpointConfig> {
        let config = |word: &str| {
            let (host, value) = word.split_at(1);
            let url = format!("http://{host}").parse().unwrap();
            let mut lines = HeaderLines::default();
            if !value.is_empty() {
                lines.add(format!("X-Key: {value}").as_bytes()).unwrap();
            }
            EndpointConfig { url, lines }
        };
        text.split_whitespace().map(config).collect()
    }

    #[test]
    fn an_endpoint_that_stays_is_found_by_its_url_and_then_by_its_lines() {
        let settings = Settings::for_tests(Duration::ZERO);
        for (before, now, wanted) in [
            ("a b c", "a b c", &[Some(0), Some(1), Some(2)][..]),
            ("a b c", "c d a", &[Some(2), None, Some(0)]),
            ("a1 b", "b a2", &[Some(1), Some(0)]),
            ("a1 a2 a3", "a3 a4 a1", &[Some(2), Some(1), Some(0)]),
            ("a a", "a", &[Some(0)]),
            ("a", "a a", &[Some(0), None]),
            ("a1", "a2 a1", &[None, Some(0)]),
        ] {
            let endpoints: Vec<Endpoint> = configs(before)
                .into_iter()
                .map(|config| Endpoint::new(0, config, &settings).unwrap())
                .collect();
            let endpoints: Vec<&Endpoint> = endpoints.iter().collect();
            assert_eq!(
                places_before(&configs(now), &endpoints),
                wanted,
                "{before} -> {now}"
            );
        }
    }
}
