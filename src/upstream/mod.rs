//! The endpoint's side: from a request to a response head with the body still to be read.
//!
//! The door is [`endpoint::Endpoint::attempt`]. `ureq` and `rustls` are named in this folder
//! only.

mod authentication;
mod buffers;
mod call;
mod capture;
mod chunked;
mod connection;
mod connector;
pub mod control;
pub mod endpoint;
pub mod failure;
pub mod pem;
mod pool;
mod resolver;
pub mod response;
mod stream;
pub mod tls;
mod transport;
