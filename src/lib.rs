//! A reverse HTTP proxy for flaky back ends.
//!
//! `main.rs` is the plot: parse, start the log, wire, wait, stop. The folders stand in the order in
//! which first the process and then a request meets them:
//!
//! - [`cli`]: Go's flag syntax, values, messages; what a table of flags is
//! - [`config`]: the proxy's flags, one entry for each, and what they mean together
//! - [`logging`]: lines, their queue and their writer
//! - [`downstream`]: the client's side, from the socket to a whole request, and back; `tiny_http`
//!   is named only there
//! - [`http`]: HTTP/1 as bytes, without I/O: parsing, framing, header rules, answers of our own
//! - [`proxy`]: one request: dispatch, then relay or an answer of our own, then the log line
//! - [`dispatch`]: which endpoint is asked when, and which answer is taken
//! - [`upstream`]: the endpoint's side, from a request to the head of a response; `ureq` and
//!   `rustls` are named only there
//! - [`metrics`]: what is counted meanwhile
//! - [`monitor`]: what shows it: status page, metrics, health
//! - [`reload`]: the endpoints in force, at start and after SIGHUP
//! - [`systemd`]: notifications, and a listening socket from outside
//! - [`util`]: what two of the above need and neither owns
//!
//! Where a change belongs:
//!
//! | a change of | file |
//! |---|---|
//! | which statuses are usable | `dispatch/status_set.rs`; how an answer is judged: `dispatch/run.rs` |
//! | which status the client gets when no answer is usable | `dispatch/attempt_log.rs` |
//! | which requests are refused, and with which status | `http/head_rules.rs`; CONNECT: `http/request_parser.rs`; loops, `OPTIONS *`: `proxy/handler.rs`; 503: `downstream/acceptor.rs`, `downstream/session.rs`; whether there is a thread: `downstream/pool_threads.rs` |
//! | what is removed from, added to or changed in a message's headers | `http/forward.rs` |
//! | what a client may take: sizes, numbers, idle and other times | `downstream/limits.rs`; the defaults: `config/flags/clients.rs` |
//! | how long idle connections to endpoints are kept | `upstream/pool.rs` |
//! | a flag: name, default, text, check | the file of its group in `config/flags/` |
//! | a metric | held in `metrics/`, counted where it happens (`dispatch/`, `proxy/handler.rs`; see the headers of `metrics/`), read by `monitor/snapshot.rs`, shown by `monitor/prometheus.rs` |
//! | a line about a request in the log | `proxy/handler.rs`; its form: `logging/request.rs`; its attempts: `dispatch/attempt_log.rs` |
//! | how a request's body is kept | received by `downstream/body.rs`, kept by `util/body.rs` |
//! | how much freed memory the allocator keeps | `main.rs` |

pub mod cli;
pub mod config;
pub mod logging;

pub mod downstream;
pub mod http;
pub mod proxy;

pub mod dispatch;
pub mod upstream;

pub mod metrics;
pub mod monitor;

pub mod reload;
pub mod systemd;
pub mod util;
