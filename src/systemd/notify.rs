//! Notifications of the service's state: `READY=1` and the like, a datagram each.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::warn;
use rustix::time::{ClockId, clock_gettime};

use crate::util::io_error::describe;
use crate::util::lock::lock;

/// How long a notification may wait for room in systemd's socket.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where notifications go. Clones send to the same place.
#[derive(Clone, Debug)]
pub struct Notifier(Option<Arc<Channel>>);

#[derive(Debug)]
struct Channel {
    socket: UnixDatagram,
    address: SocketAddr,
    is_ready: AtomicBool,
    /// Reloads that have not ended.
    reloads: Mutex<usize>,
    has_failed: AtomicBool,
}

impl Notifier {
    /// To the socket that `NOTIFY_SOCKET` names: a path, or behind an `@` a name in the
    /// abstract namespace. Anything else is as if there were none, as in systemd's own library.
    pub(super) fn to(name: Option<&OsStr>) -> Self {
        let open = |name: &OsStr| -> io::Result<Channel> {
            let address = match name.as_bytes() {
                [b'@', rest @ ..] if !rest.is_empty() => SocketAddr::from_abstract_name(rest),
                [b'/', ..] => SocketAddr::from_pathname(name),
                _ => Err(io::ErrorKind::Unsupported.into()),
            }?;
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Channel {
                socket,
                address,
                is_ready: AtomicBool::default(),
                reloads: Mutex::default(),
                has_failed: AtomicBool::default(),
            })
        };
        Self(name.and_then(|name| open(name).ok()).map(Arc::new))
    }

    /// Whether there is anything to send to.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.0.is_some()
    }

    /// Sends the state: connections are accepted.
    pub fn ready(&self) {
        self.send("READY=1");
        if let Some(channel) = &self.0 {
            channel.is_ready.store(true, Ordering::SeqCst);
        }
    }

    /// Sends a line for people.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// Sends the state: what the process reads is read anew, until what is returned is dropped, and
    /// so is that of every other reload. Nothing is sent before the process is ready.
    #[must_use = "dropping it says that the process has reloaded"]
    pub fn reloading(&self) -> Reloading {
        let channel = self.0.as_deref();
        let is_ready = |channel: &&Channel| channel.is_ready.load(Ordering::SeqCst);
        let Some(channel) = channel.filter(is_ready) else {
            return Reloading(Self(None));
        };
        let mut reloads = lock(&channel.reloads);
        *reloads += 1;
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        Reloading(self.clone())
    }

    /// Sends the state: the process ends as soon as its requests have.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    fn send(&self, state: &str) {
        let Some(channel) = self.0.as_deref() else {
            return;
        };
        let sent = channel
            .socket
            .send_to_addr(state.as_bytes(), &channel.address);
        // Once is enough: the status changes often.
        if let Err(error) = sent
            && !channel.has_failed.swap(true, Ordering::SeqCst)
        {
            warn!("cannot notify systemd: {}", describe(&error));
        }
    }
}

/// A reload. Once dropped, it has ended.
#[derive(Debug)]
pub struct Reloading(Notifier);

impl Drop for Reloading {
    fn drop(&mut self) {
        let Some(channel) = self.0.0.as_deref() else {
            return;
        };
        let mut reloads = lock(&channel.reloads);
        *reloads -= 1;
        if *reloads == 0 {
            self.0.send("READY=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_is_told_only_once_the_process_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let received = || {
            let mut state = [0; 256];
            let length = systemd.recv(&mut state).ok()?;
            Some(String::from_utf8_lossy(&state[..length]).into_owned())
        };
        let notifier = Notifier::to(Some(path.as_os_str()));
        drop(notifier.reloading());
        assert_eq!(received(), None);
        notifier.ready();
        assert_eq!(received().as_deref(), Some("READY=1"));
        let reloading = notifier.reloading();
        assert!(
            received()
                .unwrap()
                .starts_with("RELOADING=1\nMONOTONIC_USEC=")
        );
        assert_eq!(received(), None);
        drop(reloading);
        assert_eq!(received().as_deref(), Some("READY=1"));
    }
}
