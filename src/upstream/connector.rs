//! Dialling: one TCP connection to whichever of an endpoint's addresses answers first.
//!
//! Addresses are tried in a staggered way (RFC 8305, "happy eyeballs"): the next one
//! when the last one has failed or has not answered for 250 ms, so a dead address
//! family costs a quarter of a second once and not a whole connect time-out.
//! Everything is non-blocking and waits in one `poll`; a cancel ends it at once.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::upstream::control::Control;
use crate::upstream::failure::{Failure, Timeout};
use crate::util::client_watch::ClientWatch;
use crate::util::io_error::describe;

/// RFC 8305 section 5: "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// A connected, non-blocking socket, registered with `control`.
pub fn dial(
    addresses: &[SocketAddr],
    control: &Control,
    until: Instant,
    timeout: Timeout,
) -> Result<Arc<TcpStream>, Failure> {
    let mut pending = Pending {
        sockets: Vec::new(),
        control,
    };
    let mut left = addresses.iter();
    let mut next_start = Instant::now();
    let mut last_error = None;
    loop {
        while pending.sockets.is_empty() || Instant::now() >= next_start {
            let Some(address) = left.next() else { break };
            match connect(*address) {
                Ok(socket) => pending.add(socket)?,
                Err(error) => {
                    last_error = Some(error);
                    continue;
                }
            }
            next_start = Instant::now() + STAGGER;
        }
        if pending.sockets.is_empty() {
            return Err(match last_error {
                Some(error) if is_shortage(&error) => Failure::Internal(describe(&error)),
                Some(error) => Failure::Connect(describe(&error)),
                None => Failure::Connect("no address".to_owned()),
            });
        }
        let wake = if left.len() == 0 {
            until
        } else {
            next_start.min(until)
        };
        let ready = pending.wait(wake)?;
        control.check()?;
        for socket in ready {
            match connected(&socket) {
                Ok(()) => return Ok(pending.keep(&socket)),
                Err(error) => {
                    pending.remove(&socket);
                    last_error = Some(error);
                    next_start = Instant::now();
                }
            }
        }
        if Instant::now() >= until {
            return Err(Failure::Timeout(timeout));
        }
    }
}

/// The sockets that are connecting. All of them are registered; those that are
/// still here at the end are released again.
struct Pending<'a> {
    sockets: Vec<Arc<TcpStream>>,
    control: &'a Control,
}

impl Pending<'_> {
    fn add(&mut self, socket: TcpStream) -> Result<(), Failure> {
        let socket = Arc::new(socket);
        self.control.register(&socket)?;
        self.sockets.push(socket);
        Ok(())
    }

    fn remove(&mut self, socket: &Arc<TcpStream>) {
        self.control.release(socket);
        self.sockets.retain(|pending| !Arc::ptr_eq(pending, socket));
    }

    /// The winner stays registered.
    fn keep(mut self, socket: &Arc<TcpStream>) -> Arc<TcpStream> {
        self.sockets.retain(|pending| !Arc::ptr_eq(pending, socket));
        Arc::clone(socket)
    }

    /// The sockets on which connecting has ended, one way or the other.
    fn wait(&self, until: Instant) -> Result<Vec<Arc<TcpStream>>, Failure> {
        let mut fds: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT))
            .collect();
        fds.extend(self.control.request().client().map(ClientWatch::poll_fd));
        self.control.poll(&mut fds, until)?;
        Ok(fds
            .iter()
            .zip(&self.sockets)
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, socket)| Arc::clone(socket))
            .collect())
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        for socket in &self.sockets {
            self.control.release(socket);
        }
    }
}

/// Starts connecting; does not wait.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket.into()),
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Ok(socket.into())
        }
        Err(error) => Err(error),
    }
}

/// Whether it is this process or this machine that has run out of something: that is no
/// failure of the endpoint.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        // No local port is left.
        Errno::ADDRNOTAVAIL,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether connecting, which has ended, has worked.
fn connected(socket: &TcpStream) -> io::Result<()> {
    match socket.take_error()? {
        Some(error) => Err(error),
        None => socket.peer_addr().map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::upstream::control::Limit;

    fn limits() -> (Instant, Timeout) {
        let timeout = Duration::from_secs(10);
        (Instant::now() + timeout, Timeout::Connect(timeout))
    }

    #[test]
    fn a_refused_address_gives_way_to_the_next_at_once() {
        let refused = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused_address = refused.local_addr().unwrap();
        drop(refused);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (until, timeout) = limits();
        let control = Control::new(&Arc::default(), Limit::Until(until, timeout));

        let socket = dial(&[refused_address, address], &control, until, timeout).unwrap();

        assert_eq!(socket.peer_addr().unwrap(), address);
    }

    #[test]
    fn a_shortage_of_ours_is_told_from_the_endpoint_s_failure() {
        use rustix::io::Errno;
        let table = [
            (Errno::MFILE, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::HOSTUNREACH, false),
        ];
        for (errno, ours) in table {
            assert_eq!(is_shortage(&errno.into()), ours, "{errno:?}");
        }
    }

    #[test]
    fn all_refused_is_a_connect_failure() {
        let refused = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = refused.local_addr().unwrap();
        drop(refused);
        let (until, timeout) = limits();
        let control = Control::new(&Arc::default(), Limit::Until(until, timeout));

        assert_eq!(
            dial(&[address], &control, until, timeout).unwrap_err(),
            Failure::Connect("connection refused".to_owned())
        );
    }
}
