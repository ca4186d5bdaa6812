//! How requests are put to endpoints: what the flags say, in types. No rule is here.

use std::num::NonZeroU32;
use std::time::Duration;

use super::status_set::StatusSet;
use super::unusable_body::UnusableBody;

/// How requests are put to endpoints.
#[derive(Debug, Default)]
pub struct Policy {
    /// Serial, fan-out or hedged.
    pub mode: Mode,
    /// Which status codes make an answer usable.
    pub terminal: StatusSet,
    /// Which ones have been taken out of that set.
    pub not_terminal: StatusSet,
    /// One attempt until its answer's head, or the whole of a short answer.
    pub per_try_timeout: Duration,
    /// All attempts of a request until then.
    pub request_timeout: Duration,
    /// In which order.
    pub order: Order,
    /// When an endpoint is passed over for its failures.
    pub cooldown: Option<CooldownConfig>,
    /// The most attempts of a request, hedges included; `None`: no limit.
    pub max_tries: Option<NonZeroU32>,
    /// How often all endpoints are tried.
    pub rounds: RoundsConfig,
    /// For how long an endpoint is passed over at most because it asks for it; zero: never.
    pub max_retry_after: Duration,
    /// What must not be sent twice is put to another endpoint only if nothing was sent.
    pub idempotent_only: bool,
    /// Answers of known length up to this, in bytes, are read whole before they are taken.
    pub commit_after: u64,
    /// What the beginning of a body, up to `commit_after`, looks like that makes an answer
    /// unusable in spite of its status. Not where that is 0.
    pub unusable_body: Option<UnusableBody>,
    /// Whether an answer that is not usable may be wanted in the end.
    pub on_exhausted: OnExhausted,
}

/// How the endpoints are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One after the other, no further one once an answer is usable.
    #[default]
    Serial,
    /// All at once; the first usable answer wins.
    Fanout,
    /// One after the other, but the next one does not always wait for the last one's end.
    Hedged(Hedging),
}

/// When and how often an attempt is hedged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hedging {
    /// How long the last attempt has had no usable answer; not [`HedgeAfter::Never`].
    pub after: HedgeAfter,
    /// Per cent of the requests; 100: no limit.
    pub budget: u8,
}

/// When the next attempt starts though the last one has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HedgeAfter {
    /// It does not.
    #[default]
    Never,
    /// After so long.
    Fixed(Duration),
    /// After longer than this per cent of the recent answers took; 1 to 99.
    Percentile(u8),
}

/// Which endpoint is asked first, and which one next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order of the command line.
    #[default]
    Listed,
    /// Each request begins with the next one.
    Rotate,
    /// By the recent time to the head of an answer.
    Fastest,
}

/// When an endpoint is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooldownConfig {
    /// After so many failures in a row.
    pub max_fails: NonZeroU32,
    /// For so long; not zero.
    pub length: Duration,
}

/// How often all endpoints are tried before a request counts as exhausted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundsConfig {
    /// So often; 0 means once as well.
    pub count: u32,
    /// The longest first pause between two rounds. The later ones are twice as long each.
    pub delay: Duration,
}

/// What the client gets when no answer is usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExhausted {
    /// 500.
    #[default]
    Status500,
    /// 503 if no endpoint could be reached, 504 if the last failure was a time-out, else 502.
    Gateway,
    /// The best answer that was not terminal; if there was none, as [`OnExhausted::Gateway`].
    Best,
}

impl Policy {
    pub(super) fn keeps_best(&self) -> bool {
        self.on_exhausted == OnExhausted::Best
    }
}
