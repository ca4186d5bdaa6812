//! A listening socket that systemd, or whatever follows its protocol, has opened: it outlives
//! the process, so that connections wait in it while the process restarts.

use std::ffi::OsStr;
use std::fmt;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// The socket, if there is one, or what is wrong with it.
#[derive(Debug)]
pub struct HandedOver(Result<Option<OwnedFd>, HandOverError>);

/// Why what was handed over cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandOverError {
    /// There are so many of them, or it is no number, with these names.
    Several(String, String),
    /// The descriptor is not open.
    Closed,
    /// It is no socket, or none for TCP that listens.
    Kind,
}

impl fmt::Display for HandOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Several(number, names) if names.is_empty() => {
                write!(
                    f,
                    "LISTEN_FDS hands over {number} sockets, and one is wanted"
                )
            }
            Self::Several(number, names) => write!(
                f,
                "LISTEN_FDS hands over {number} sockets ({names:?}), and one is wanted"
            ),
            Self::Closed => write!(f, "LISTEN_FDS is set, but descriptor {FIRST} is not open"),
            Self::Kind => write!(
                f,
                "descriptor {FIRST}, which LISTEN_FDS hands over, is not a listening TCP socket"
            ),
        }
    }
}

impl std::error::Error for HandOverError {}

impl HandedOver {
    /// What `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` say. Those of another process, which
    /// has started this one, are none.
    pub(super) fn of(pid: Option<&OsStr>, number: Option<&OsStr>, names: Option<&OsStr>) -> Self {
        let pid = pid.and_then(|pid| pid.to_str()?.parse().ok());
        let number = number.filter(|_| pid == Some(process::id()));
        let text = |text: Option<&OsStr>| text.unwrap_or_default().to_string_lossy().into_owned();
        Self(match &*text(number) {
            "" | "0" => Ok(None),
            "1" => adopt().ok_or(HandOverError::Closed).map(Some),
            other => Err(HandOverError::Several(other.to_owned(), text(names))),
        })
    }

    /// The listener, if there is one.
    ///
    /// # Errors
    /// Something was handed over that cannot be used.
    pub fn listener(self) -> Result<Option<TcpListener>, HandOverError> {
        let Some(socket) = self.0? else {
            return Ok(None);
        };
        let family = socket_domain(&socket);
        let listens = socket_type(&socket) == Ok(SocketType::STREAM)
            && [Ok(AddressFamily::INET), Ok(AddressFamily::INET6)].contains(&family)
            && socket_acceptconn(&socket) == Ok(true);
        if listens {
            Ok(Some(socket.into()))
        } else {
            Err(HandOverError::Kind)
        }
    }
}

/// The descriptor, which programs that this process may start do not get. `None`: it is not open.
#[allow(unsafe_code)]
fn adopt() -> Option<OwnedFd> {
    // SAFETY: asks for flags, of a number that may be no descriptor.
    if unsafe { libc::fcntl(FIRST, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and this process's to close: it has opened nothing itself yet (see
    // `Environment::take`).
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    fcntl_setfd(&socket, FdFlags::CLOEXEC).ok()?;
    Some(socket)
}
