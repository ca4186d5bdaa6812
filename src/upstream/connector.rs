//! Finds or makes a connection to one endpoint.
//!
//! A new one goes to whichever of the endpoint's addresses answers first.
//! Addresses are tried in a staggered way (RFC 8305, "happy eyeballs"): the next one
//! when the last one has failed or has not answered for 250 ms, so a dead address
//! family costs a quarter of a second once and not a whole connect time-out.
//! Everything is non-blocking and waits in one `poll`; a cancel ends it at once.
//!
//! Reusing a connection costs one `recv` as a liveness probe. It is made however short the
//! connection was idle: it also finds bytes that came after the last answer, which would
//! be taken for the next one, and an orderly end, after which a request that must not be
//! repeated would be lost.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use ureq::unversioned::transport::{ConnectionDetails, Connector};

use super::call::{Route, outside_a_call, with_call};
use super::connection::Connection;
use super::control::AttemptControl;
use super::failure::{ConnectFault, Failure, Timeout};
use super::resolver::Resolver;
use super::stream::Tls;
use super::transport::{Lease, Pool, Private};
use crate::util::client_session::ClientSession;
use crate::util::client_watch::ClientWatch;
use crate::util::io_error::describe;
use crate::util::random;

/// Finds or makes a connection to one endpoint.
#[derive(Debug)]
pub struct EndpointConnector {
    /// Where connections wait for their next call.
    pub pool: Arc<Pool>,
    /// Finds the addresses.
    pub resolver: Arc<Resolver>,
    /// For an https endpoint.
    pub tls: Option<Tls>,
    /// Name look-up, TCP and TLS handshake together.
    pub connect_timeout: Duration,
    /// How long a connection is used at most.
    /// None: also not because the name has moved.
    pub renew_after: Option<Duration>,
}

impl Connector for EndpointConnector {
    type Out = Lease;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Lease>, ureq::Error> {
        let call = with_call(|call| {
            let (control, session) = (Arc::clone(&call.control), Arc::clone(&call.session));
            (control, session, std::mem::take(&mut call.route))
        });
        let (control, session, route) = call.ok_or_else(|| outside_a_call().into_io())?;
        let kept = match route {
            Route::Any => self.private(&session).or_else(|| self.pooled()),
            Route::Fresh | Route::Addresses(_) => None,
        };
        let connection = match kept {
            Some(connection) => connection,
            None => Box::new(self.open(&control, route).map_err(Failure::into_io)?),
        };
        Ok(Some(Lease::new(
            connection,
            Arc::clone(&self.pool),
            session,
        )))
    }
}

impl EndpointConnector {
    /// The connection on which the client has authenticated itself. It is not renewed: that
    /// would cut a handshake in two, and it ends with the client's connection anyway. Those to
    /// endpoints that are listed no more are closed.
    fn private(&self, session: &ClientSession) -> Option<Box<Connection>> {
        let is_own = |private: &Private| Arc::ptr_eq(&private.pool, &self.pool);
        loop {
            let private = session.take(|private| is_own(private) || private.pool.is_closed())?;
            let is_own = is_own(&private);
            let mut connection = private.connection;
            if is_own && connection.stream().is_idle() {
                return Some(connection);
            }
        }
    }

    /// The most recently used connection on which nothing has happened since.
    fn pooled(&self) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.pool.take()?;
            let is_due = connection.is_due(Instant::now()) || connection.has_moved(&self.resolver);
            if !is_due && connection.stream().is_idle() {
                return Some(connection);
            }
        }
    }

    fn open(&self, control: &Arc<AttemptControl>, route: Route) -> Result<Connection, Failure> {
        let outer = control.limit();
        let limit = outer.or_before(
            Instant::now() + self.connect_timeout,
            Timeout::Connect(self.connect_timeout),
        );
        let (until, timeout) = limit.instant();
        let dialled = match route {
            Route::Addresses(addresses) => dial(&addresses, control, until, timeout)?,
            Route::Any | Route::Fresh => {
                let addresses = self.resolver.resolve(control, until, timeout)?;
                dial(&addresses, control, until, timeout)?
            }
        };
        let Dialled {
            socket,
            address,
            others,
        } = dialled;
        with_call(|call| call.trace.left = others);
        // From here on the connection's drop releases the socket.
        let renew_at = self
            .renew_after
            .map(|after| Instant::now() + jittered(after));
        let mut connection = Connection::new(socket, Arc::clone(control), address, renew_at);
        if let Some(tls) = &self.tls {
            control.set_limit(limit);
            connection.stream().handshake(tls, control)?;
            control.set_limit(outer);
        }
        Ok(connection)
    }
}

/// Up to a tenth less, so that connections that were dialled together are not renewed together.
fn jittered(span: Duration) -> Duration {
    let percent = random::number() % 100;
    span.saturating_sub(span / 1000 * u32::try_from(percent).unwrap_or_default())
}

/// RFC 8305 section 5: "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// A new connection.
pub struct Dialled {
    /// Non-blocking, and registered with the attempt's control.
    pub socket: Arc<TcpStream>,
    /// Where it leads to.
    pub address: SocketAddr,
    /// The other addresses that have not failed.
    pub others: Vec<SocketAddr>,
}

/// Connects to whichever of `addresses` answers first.
pub fn dial(
    addresses: &[SocketAddr],
    control: &AttemptControl,
    until: Instant,
    timeout: Timeout,
) -> Result<Dialled, Failure> {
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
                Ok(socket) => pending.add(socket, *address)?,
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
                Some(error) => Failure::Connect(ConnectFault::Io((&error).into())),
                None => Failure::Connect(ConnectFault::NoAddress),
            });
        }
        let wake = if left.len() == 0 {
            until
        } else {
            next_start.min(until)
        };
        let ready = pending.wait(wake)?;
        control.check()?;
        for (socket, address) in ready {
            match connected(&socket) {
                Ok(()) => {
                    let mut others = pending.keep(&socket);
                    others.extend(left);
                    return Ok(Dialled {
                        socket,
                        address,
                        others,
                    });
                }
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
    sockets: Vec<(Arc<TcpStream>, SocketAddr)>,
    control: &'a AttemptControl,
}

impl Pending<'_> {
    fn add(&mut self, socket: TcpStream, address: SocketAddr) -> Result<(), Failure> {
        let socket = Arc::new(socket);
        self.control.register(&socket)?;
        self.sockets.push((socket, address));
        Ok(())
    }

    fn remove(&mut self, socket: &Arc<TcpStream>) {
        self.control.release(socket);
        self.sockets
            .retain(|(pending, _)| !Arc::ptr_eq(pending, socket));
    }

    /// The winner stays registered. Returns the addresses of the others.
    fn keep(mut self, socket: &Arc<TcpStream>) -> Vec<SocketAddr> {
        self.sockets
            .retain(|(pending, _)| !Arc::ptr_eq(pending, socket));
        self.sockets.iter().map(|(_, address)| *address).collect()
    }

    /// The sockets on which connecting has ended, one way or the other.
    fn wait(&self, until: Instant) -> Result<Vec<(Arc<TcpStream>, SocketAddr)>, Failure> {
        let mut fds: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|(socket, _)| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT))
            .collect();
        fds.extend(self.control.request().client().map(ClientWatch::poll_fd));
        self.control.poll(&mut fds, until)?;
        Ok(fds
            .iter()
            .zip(&self.sockets)
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, pending)| pending.clone())
            .collect())
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        for (socket, _) in &self.sockets {
            self.control.release(socket);
        }
    }
}

/// Starts connecting; does not wait.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
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

/// Whether connecting, which has ended, has worked; gets the socket ready for use then.
fn connected(socket: &TcpStream) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)
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
        let control = AttemptControl::new(&Arc::default(), Limit::Until(until, timeout));

        let other = "127.0.0.9:9".parse().unwrap();
        let addresses = [refused_address, address, other];
        let dialled = dial(&addresses, &control, until, timeout).unwrap();

        assert_eq!(dialled.socket.peer_addr().unwrap(), address);
        assert_eq!(dialled.address, address);
        assert_eq!(dialled.others, [other]);
    }

    #[test]
    fn a_shortage_of_this_machine_is_no_failure_of_the_endpoint() {
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
        let control = AttemptControl::new(&Arc::default(), Limit::Until(until, timeout));

        assert_eq!(
            dial(&[address], &control, until, timeout).err(),
            Some(Failure::Connect(ConnectFault::Io(
                io::ErrorKind::ConnectionRefused.into()
            )))
        );
    }
}
