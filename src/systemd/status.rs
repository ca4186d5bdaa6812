//! The line that `systemctl status` shows: how many of the endpoints are asked.
//!
//! Cost: nothing without a socket to send to; else a look at the endpoints when one of them begins or
//! ceases to be passed over.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, after, never};

use super::notify::Notifier;
use crate::dispatch::Dispatcher;

/// The line, kept up to date.
#[derive(Debug)]
pub struct Status {
    notifier: Notifier,
    dispatcher: Arc<Dispatcher>,
    /// An endpoint has begun or ceased to be passed over.
    changed: Receiver<()>,
    /// An endpoint ceases to be passed over by itself.
    changes_at: Receiver<Instant>,
    shown: String,
}

impl Status {
    /// Reports that connections are accepted.
    #[must_use]
    pub fn ready(notifier: Notifier, dispatcher: Arc<Dispatcher>) -> Self {
        let mut status = Self {
            changed: if notifier.is_active() {
                dispatcher.changed().clone()
            } else {
                never()
            },
            changes_at: never(),
            shown: String::new(),
            notifier,
            dispatcher,
        };
        status.update();
        status.notifier.ready();
        status
    }

    /// Receives something when an endpoint has begun or ceased to be passed over.
    #[must_use]
    pub fn changed(&self) -> &Receiver<()> {
        &self.changed
    }

    /// Receives something when an endpoint ceases to be passed over because its time is over.
    #[must_use]
    pub fn changes_at(&self) -> &Receiver<Instant> {
        &self.changes_at
    }

    /// Sends the line if it has changed. To be called when one of the two receives.
    pub fn update(&mut self) {
        if !self.notifier.is_active() {
            return;
        }
        let list = self.dispatcher.list();
        let states: Vec<_> = list.states(Instant::now()).collect();
        let passed_over = states.iter().filter_map(|state| state.passed_over);
        let serving = states.len() - passed_over.clone().count();
        let next = passed_over.filter(|left| !left.is_zero()).min();
        self.changes_at = next.map_or_else(never, after);
        let shown = format!("serving, {serving} of {} endpoints", states.len());
        if shown != self.shown {
            self.notifier.status(&shown);
            self.shown = shown;
        }
    }
}
