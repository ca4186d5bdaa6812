//! The endpoints in force: their order, and what is known of each one.
//!
//! Always: an endpoint's number is its place here. A request keeps the list that it began with,
//! so its numbers mean the same until its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cooldown::Cooldown;
use super::order::Ranking;
use super::patience::Patience;
use super::policy::Policy;
use crate::upstream::endpoint::Endpoint;

/// Endpoints, and what is known of them.
#[derive(Debug)]
pub struct EndpointList {
    /// The backups behind all others.
    endpoints: Vec<Arc<Endpoint>>,
    backups: usize,
    pub(super) ranking: Ranking,
    pub(super) patience: Patience,
    pub(super) cooldown: Cooldown,
}

/// An endpoint, and whether it is asked.
#[derive(Debug)]
pub struct EndpointState {
    /// Its number.
    pub number: usize,
    /// It is asked only when no other one has a usable answer.
    pub is_backup: bool,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// It is passed over, at least for so long.
    pub passed_over: Option<Duration>,
}

/// An endpoint of a list that follows another one.
#[derive(Debug)]
pub struct Renewed {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its number in the list before.
    pub before: Option<usize>,
}

impl EndpointList {
    /// Of these endpoints nothing is known yet. The last `backups` of them are asked only when
    /// no other one has a usable answer.
    pub(super) fn new(
        endpoints: Vec<Endpoint>,
        backups: usize,
        policy: &Policy,
        now: Instant,
    ) -> Self {
        Self {
            ranking: Ranking::new(policy.order, endpoints.len(), backups),
            patience: Patience::new(endpoints.len(), now),
            cooldown: Cooldown::new(policy.cooldown, endpoints.len()),
            endpoints: endpoints.into_iter().map(Arc::new).collect(),
            backups,
        }
    }

    /// A list that follows this one. What is known of an endpoint that had a place here is kept.
    pub(super) fn renewed(&self, endpoints: Vec<Renewed>, backups: usize) -> Self {
        let before: Vec<_> = endpoints.iter().map(|renewed| renewed.before).collect();
        let endpoints = endpoints.into_iter();
        Self {
            ranking: self.ranking.renewed(&before, backups),
            patience: self.patience.renewed(&before),
            cooldown: self.cooldown.renewed(&before),
            endpoints: endpoints
                .map(|renewed| Arc::new(renewed.endpoint))
                .collect(),
            backups,
        }
    }

    /// How many endpoints there are.
    pub(super) fn count(&self) -> usize {
        self.endpoints.len()
    }

    /// How many of them are backups.
    #[must_use]
    pub fn backups(&self) -> usize {
        self.backups
    }

    /// The endpoint of that number.
    pub(super) fn get(&self, number: usize) -> Option<Arc<Endpoint>> {
        self.endpoints.get(number).map(Arc::clone)
    }

    /// How the endpoints do, in the order of their numbers.
    pub fn states(&self, now: Instant) -> impl Iterator<Item = EndpointState> {
        let endpoints = self.endpoints.iter().enumerate();
        endpoints.map(move |(number, endpoint)| EndpointState {
            number,
            is_backup: number + self.backups >= self.count(),
            endpoint: Arc::clone(endpoint),
            passed_over: self.cooldown.passed_over(number, now),
        })
    }

    /// The endpoints, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().map(AsRef::as_ref)
    }
}
