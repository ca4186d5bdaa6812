//! A reverse HTTP proxy for flaky back ends.
//!
//! The binary `balancing-reverse-proxy` is a thin shell around this library; the
//! modules are listed here in the order in which a request meets them.

pub mod cli;
pub mod config;
pub mod logging;

pub mod downstream;
pub mod http;
pub mod proxy;

pub mod dispatch;
pub mod upstream;

pub mod util;
