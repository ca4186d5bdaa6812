//! What happens to clients, in the log: one line a second for each kind.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::info;

use super::limits::Reached;
use crate::logging::canonical;

/// At most one line in this time for each kind of event.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Events {
    /// When each kind was logged last, and how many have come since.
    last: HashMap<&'static str, (Instant, usize)>,
}

impl Events {
    pub(super) fn log(&mut self, reached: Reached, client: SocketAddr, now: Instant) {
        let what = match reached {
            // Nothing is wrong with that.
            Reached::Idle => return,
            Reached::SlowHead => "sent a request head too slowly (-header-timeout)",
            Reached::LargeHead => "sent too large a request head (-max-header)",
            Reached::SlowBody => "sent a request body too slowly (-client-timeout)",
            Reached::SlowReader => "took an answer too slowly (-client-timeout)",
        };
        self.say(what, client, now);
    }

    pub(super) fn log_crowd(&mut self, client: SocketAddr, now: Instant) {
        self.say("was one too many (-max-connections)", client, now);
    }

    pub(super) fn log_crawler(&mut self, client: SocketAddr, now: Instant) {
        self.say(
            "hardly moved while others were waiting (-workers)",
            client,
            now,
        );
    }

    fn say(&mut self, what: &'static str, client: SocketAddr, now: Instant) {
        let last = self.last.get(what).copied();
        if let Some((at, silent)) = last
            && now.saturating_duration_since(at) < INTERVAL
        {
            self.last.insert(what, (at, silent + 1));
            return;
        }
        let more = match last {
            None | Some((_, 0)) => String::new(),
            Some((_, count)) => format!(", and {count} more before"),
        };
        let client = canonical(client);
        info!("client {client} {what}: connection cut{more}");
        self.last.insert(what, (now, 0));
    }
}
