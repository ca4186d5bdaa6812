//! One request from the client's side to the endpoints' and back.

pub mod handler;
mod local;
pub mod proxy_status;
mod relay;
