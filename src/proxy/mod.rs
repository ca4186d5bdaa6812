//! One request from the client's side to the endpoints' and back.

pub mod handler;
pub mod proxy_status;
mod relay;
