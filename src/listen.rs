//! Listening sockets, set up for many short connections.
//!
//! The sockets that are accepted inherit `TCP_NODELAY`, `SO_KEEPALIVE` and
//! `TCP_NOTSENT_LOWAT` from the listener (Linux), which saves system calls per connection,
//! and which `tiny_http` could not be told to do otherwise: it does not hand out its sockets.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::ListenAddress;

/// How many connections may wait to be accepted. The kernel has a limit of its own
/// (`net.core.somaxconn`, usually this) and takes the smaller one.
const BACKLOG: i32 = 4096;

/// How many bytes may wait in a connection's buffer to be sent, beyond what is on its way
/// already: a slow reader must not cost megabytes of the kernel's memory.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// The longest segment, in bytes. A client's system acknowledges what its reader takes in
/// steps of segments: with those of the loopback interface, 64 KiB, a slow reader could not
/// be told from one that has stopped.
#[cfg(target_os = "linux")]
const SEGMENT: u32 = 4 * 1024;

/// Binds and listens.
///
/// `:PORT` is one IPv6 socket that takes IPv4 as well, or an IPv4 socket where the system
/// has no IPv6. A host name is resolved, and its first address that can be bound is taken.
pub fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    let port = address.port();
    let Some(host) = address.host() else {
        return match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err(error) if no_ipv6(&error) => {
                listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            result => result,
        };
    };
    let mut failure = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A port that is taken is not a reason to fall back: half of the clients would not reach us.
fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
        || error.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // The system's default may be either.
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_notsent_lowat(UNSENT)?;
        // Over a network segments are shorter anyway.
        socket.set_tcp_mss(SEGMENT)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn bound(text: &str) -> io::Result<TcpListener> {
        bind(&text.parse().unwrap())
    }

    #[test]
    fn every_interface_takes_both_families() {
        let listener = bound(":0").unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(Socket::from(accepted).keepalive().unwrap());
        if listener.local_addr().unwrap().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn one_interface_is_that_one() {
        let listener = bound("127.0.0.1:0").unwrap();
        assert_eq!(listener.local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
        let listener = bound("localhost:0").unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
    }

    #[test]
    fn a_port_that_is_taken_is_an_error() {
        let listener = bound(":0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for text in [format!(":{port}"), format!("127.0.0.1:{port}")] {
            let error = bound(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{text}");
        }
        let only_v4 = bound("127.0.0.1:0").unwrap();
        let port = only_v4.local_addr().unwrap().port();
        // Both families or none.
        if listener.local_addr().unwrap().is_ipv6() {
            assert!(bound(&format!(":{port}")).is_err());
        }
    }

    #[test]
    fn an_address_of_somebody_else_is_an_error() {
        let error = bound("192.0.2.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }
}
