//! What the flags fill, and what they mean together.
//!
//! The only files that are read are those with endpoints, certificates and a key.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint_source::{EndpointSource, EndpointSources, Listed};
use crate::dispatch::policy::{CooldownConfig, HedgeAfter, Hedging, Mode, Policy};
use crate::downstream::limits::Limits;
use crate::downstream::listen::ListenAddress;
use crate::http::endpoint_url::shown_path;
use crate::http::forward::ForwardRules;
use crate::logging::LogConfig;
use crate::upstream::endpoint::EndpointPolicy;
use crate::upstream::pem;

/// Everything the proxy needs to know.
#[derive(Debug, Default)]
pub struct Config {
    /// Where the endpoints are listed.
    pub sources: EndpointSources,
    /// What is listed there: at least one endpoint.
    pub listed: Listed,
    /// Where to listen.
    pub address: ListenAddress,
    /// Other instances may listen there, too.
    pub reuse_port: bool,
    /// Where to show how the proxy runs, if anywhere.
    pub monitor: Option<ListenAddress>,
    /// How requests are put to endpoints.
    pub policy: Policy,
    /// How endpoints are connected to.
    pub upstream: EndpointPolicy,
    /// What is changed in heads; the entry in `Via` is made at start.
    pub rules: ForwardRules,
    /// Nothing is added to `Via`.
    pub no_via: bool,
    /// Certificates to trust for https endpoints, besides the built-in ones. Each one has
    /// been accepted by [`pem::roots`].
    pub roots: Vec<pem::Certificate>,
    /// What https endpoints are shown that ask for a certificate: a chain and its key.
    pub identity: Option<Arc<pem::Identity>>,
    /// What clients may take.
    pub limits: Limits,
    /// Every answer gets a `Proxy-Status`.
    pub proxy_status: bool,
    /// Where log lines go and what they begin with.
    pub log: LogConfig,
    /// The file that gets the bound address once connections are accepted.
    pub ready_file: Option<PathBuf>,
    /// How long to serve; `None`: until a signal.
    pub stop_after: Option<Duration>,
    /// How long requests in flight may take to end once it is time to stop.
    pub drain: Duration,
}

/// What the flags say, each for itself.
#[derive(Debug, Default)]
pub struct Options {
    /// The version is asked for, and nothing else.
    pub version: bool,
    /// What needs no second flag to be understood.
    pub(super) config: Config,
    pub(super) fanout: bool,
    pub(super) hedging: Hedging,
    pub(super) max_fails: u32,
    pub(super) cooldown: Duration,
    pub(super) workers: Option<usize>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) client_cert: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
}

impl Options {
    /// Checks what the flags mean together, and reads the files that they name.
    ///
    /// # Errors
    /// The first thing that is wrong, in one line that names the flag.
    pub fn finish(self) -> Result<Config, String> {
        let mut config = self.config;
        if config.sources.endpoints == EndpointSource::default() {
            let reason = if config.sources.backups == EndpointSource::default() {
                "-endpoints is missing (write -endpoints http://one.example,http://two.example)"
            } else {
                "-endpoints is missing (-backups are asked only when none of the endpoints has a \
                 usable answer)"
            };
            return Err(reason.to_owned());
        }
        config.policy.mode = mode(self.fanout, self.hedging)?;
        let policy = &mut config.policy;
        policy.terminal.remove(&policy.not_terminal);
        if policy.terminal.is_empty() {
            let reason = "-not-terminal takes every status out of -terminal-responses (no answer \
                          would be usable)";
            return Err(reason.to_owned());
        }
        config.rules.only_identity = policy.unusable_body.is_some();
        if policy.unusable_body.is_some() && policy.commit_after == 0 {
            let reason = "-unusable-body and -commit-after 0 exclude each other (nothing of a body \
                          would be looked at; write -commit-after 64KiB)";
            return Err(reason.to_owned());
        }
        config.policy.cooldown = NonZeroU32::new(self.max_fails).map(|max_fails| CooldownConfig {
            max_fails,
            length: self.cooldown,
        });
        config.limits.workers = self.workers.unwrap_or(config.limits.max_connections);
        if let Some(path) = self.ca_file {
            config.roots = pem::roots(&path).map_err(pem_file("-ca-file", path))?;
        }
        config.identity = identity(self.client_cert, self.client_key)?;
        config.listed = config.sources.read()?;
        Ok(config)
    }
}

fn mode(fanout: bool, hedging: Hedging) -> Result<Mode, String> {
    match (fanout, hedging.after) {
        (false, HedgeAfter::Never) => Ok(Mode::Serial),
        (true, HedgeAfter::Never) => Ok(Mode::Fanout),
        (true, _) => Err(
            "-hedge-after and -fanout exclude each other (fan-out asks all endpoints at once, so \
             nothing is left to be hedged)"
                .to_owned(),
        ),
        (false, _) => Ok(Mode::Hedged(hedging)),
    }
}

/// What is wrong with a file that a flag names.
fn pem_file(flag: &'static str, path: PathBuf) -> impl FnOnce(String) -> String {
    move |reason| format!("{flag}: {:?} {reason}", shown_path(&path))
}

fn identity(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<Arc<pem::Identity>>, String> {
    let (certificate, key) = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(_), None) => {
            let reason = "-client-key is missing (-client-cert needs it; the file may be the same)";
            return Err(reason.to_owned());
        }
        (None, Some(_)) => {
            let reason = "-client-cert is missing (-client-key needs it; the file may be the same)";
            return Err(reason.to_owned());
        }
        (Some(certificate), Some(key)) => (certificate, key),
    };
    let chain = pem::chain(&certificate).map_err(pem_file("-client-cert", certificate))?;
    pem::private_key(&key)
        .and_then(|key| pem::identity(chain, key))
        .map(Some)
        .map_err(pem_file("-client-key", key))
}
