//! What two of the other modules need and neither owns.

pub mod body;
pub mod client_session;
pub mod client_watch;
pub mod io_error;
pub mod lock;
pub mod poll;
pub mod thread_pool;
