//! How requests are put to endpoints, as the flags have it.

use std::time::Duration;

use crate::config::{CooldownConfig, Mode, OnExhausted, Order, TerminalSet};

/// How requests are put to endpoints.
#[derive(Debug)]
pub struct Policy {
    /// Serial, fan-out or hedged.
    pub mode: Mode,
    /// Which status codes make an answer usable.
    pub terminal: TerminalSet,
    /// One attempt until its answer's head, or the whole of a short answer.
    pub per_try_timeout: Duration,
    /// All attempts of a request until then.
    pub request_timeout: Duration,
    /// In which order.
    pub order: Order,
    /// When an endpoint is passed over.
    pub cooldown: Option<CooldownConfig>,
    /// What must not be sent twice is put to another endpoint only if nothing was sent.
    pub idempotent_only: bool,
    /// Answers of known length up to this, in bytes, are read whole before they are taken.
    pub commit_after: u64,
    /// Whether an answer that is not usable may be wanted in the end.
    pub on_exhausted: OnExhausted,
}

impl Policy {
    pub(super) fn keeps_best(&self) -> bool {
        self.on_exhausted == OnExhausted::Best
    }
}
