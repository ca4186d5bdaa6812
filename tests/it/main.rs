//! The integration tests: one binary that runs the real proxy against scripted back ends.
//!
//! One file per hazard; each test is a scenario. `common` is the harness.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the report, and its names say what it is for"
)]
// Counts are whole numbers, also where metrics have them as floating-point numbers.
#![allow(clippy::float_cmp)]

mod common;

mod accounting;
mod backups;
mod chunks;
mod cli;
mod command_line;
mod commands;
mod commit;
mod completion;
mod connections;
mod cooldown;
mod descriptors;
mod dummy;
mod early;
mod exhausted;
mod expect;
mod failures;
mod fanout;
mod figures;
mod forwarded;
mod gone_clients;
mod half_close;
mod harness;
mod hedge;
mod hostile;
mod house;
mod idempotent;
mod intake;
mod json_log;
mod lifecycle;
mod lists;
mod location;
mod logging;
mod loops;
mod max_forwards;
mod memory;
mod messages;
mod metrics;
mod monitor;
mod obs_text;
mod order;
mod overload;
mod pipelining;
mod pool;
mod proxy_status;
mod readme;
mod recipes;
mod refusals;
mod relay;
mod request_body;
mod request_headers;
mod request_names;
mod rounds;
mod serial;
mod slow_clients;
mod status_page;
mod stopping;
mod systemd;
mod tls;
mod urls;
mod usable;
mod usable_body;
mod usable_model;
