//! systemd's protocols for services: `sd_notify(3)` and `sd_listen_fds(3)`.
//!
//! Both are a few environment variables, which are taken out of the environment at the start.
//! Without them nothing happens here. By hand: `libsystemd` and the crates for it are larger
//! than this.

mod notify;
mod socket;
mod status;

use std::env;
use std::ffi::OsString;

pub use notify::{Notifier, Reloading};
pub use socket::HandedOver;
pub use status::Status;

/// What systemd has put into the environment.
#[derive(Debug)]
pub struct Environment {
    /// Where to send notifications (`NOTIFY_SOCKET`).
    pub notifier: Notifier,
    /// The socket that the process is to use (`LISTEN_FDS`).
    pub socket: HandedOver,
}

impl Environment {
    /// Takes the variables out of the environment.
    ///
    /// To be called before any thread is started and any file is opened: that the environment
    /// is changed and descriptor 3 is free or systemd's depends on it.
    #[must_use]
    pub fn take() -> Self {
        Self {
            notifier: Notifier::to(take("NOTIFY_SOCKET").as_deref()),
            socket: HandedOver::of(
                take("LISTEN_PID").as_deref(),
                take("LISTEN_FDS").as_deref(),
                take("LISTEN_FDNAMES").as_deref(),
            ),
        }
    }
}

#[allow(unsafe_code)]
fn take(name: &str) -> Option<OsString> {
    let value = env::var_os(name)?;
    // SAFETY: there is one thread, see `Environment::take`.
    unsafe { env::remove_var(name) };
    Some(value)
}
