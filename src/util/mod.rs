//! What two of the other modules need and neither owns, and the ready file.

pub mod body;
pub mod client_session;
pub mod client_watch;
pub mod go_duration;
pub mod io_error;
pub mod lock;
pub mod poll;
pub mod random;
pub mod ready_file;
pub mod text;
pub mod thread_pool;
