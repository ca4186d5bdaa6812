//! The endpoint's side: from a request to a response head with the body still to be read.
//!
//! The door is [`endpoint::Endpoint::attempt`]. `ureq` and `rustls` are named in this folder
//! only, but for the types of certificates that pass through the configuration.

pub mod chunked;
pub mod connector;
pub mod control;
pub mod endpoint;
pub mod failure;
pub mod pem;
pub mod pool;
pub mod resolver;
pub mod tls;
pub mod transport;
