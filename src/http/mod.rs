//! HTTP/1 messages as bytes: parsing, framing, forwarding rules, answers of our own.
//!
//! Everything here is pure: bytes and limits come in, bytes and decisions go out. There is
//! no socket, no file and no clock, so each rule is tested with a table.

pub mod chunked;
pub mod endpoint_config;
pub mod endpoint_url;
pub mod forward;
mod head_rules;
pub mod header;
pub mod local_reply;
pub mod location;
pub mod max_forwards;
pub mod request;
pub mod request_parser;
pub mod response;
mod target;
pub mod via;

#[cfg(test)]
mod fuzz;
