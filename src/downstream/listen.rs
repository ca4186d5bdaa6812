//! Listening sockets, set up for many short connections.
//!
//! The sockets that are accepted inherit `TCP_NODELAY`, `SO_KEEPALIVE`, `TCP_NOTSENT_LOWAT`, the
//! size of segments and the receive time-out (see `acceptor`) from the listener (Linux), which
//! saves system calls for each connection.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::str::FromStr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::http::endpoint_url::{check_host_name, masked};
use crate::util::io_error::describe;

/// How many connections may wait to be accepted. The kernel has a limit of its own
/// (`net.core.somaxconn`, usually this) and takes the smaller one.
const BACKLOG: i32 = 4096;

/// How many bytes may wait in a connection's buffer to be sent, beyond what is on its way
/// already: a slow reader must not cost megabytes of the kernel's memory.
const UNSENT: u32 = 128 * 1024;

/// The longest segment, in bytes. A client's system acknowledges what its reader takes in
/// steps of segments: with those of the loopback interface, 64 KiB, a slow reader could not
/// be distinguished from one that has stopped.
const SEGMENT: u32 = 4 * 1024;

/// Where to listen, as `-address` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    text: String,
    /// The host without brackets; `None`: every interface, IPv4 and IPv6.
    host: Option<String>,
    port: u16,
}

impl ListenAddress {
    /// The host without brackets; `None`: every interface, IPv4 and IPv6.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The port; 0: a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same, but 127.0.0.1 where it would be every interface because no host is named.
    #[must_use]
    pub fn or_loopback(self) -> Self {
        if self.host.is_some() {
            return self;
        }
        Self {
            text: format!("127.0.0.1:{}", self.port),
            host: Some("127.0.0.1".to_owned()),
            port: self.port,
        }
    }

    /// The address as typed, with the port that was really bound: `:0` becomes `:40123`.
    #[must_use]
    pub fn with_port(&self, bound: u16) -> String {
        match self.text.rsplit_once(':') {
            Some((host, _)) if self.port == 0 => format!("{host}:{bound}"),
            _ => self.text.clone(),
        }
    }
}

/// Every interface, a free port.
impl Default for ListenAddress {
    fn default() -> Self {
        Self {
            text: ":0".to_owned(),
            host: None,
            port: 0,
        }
    }
}

/// As typed.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ListenAddress {
    /// Why the text is no address to listen on: names it, and what would be right.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let refused = |reason: &str| {
            let shown = masked(text);
            format!("{shown:?} has {reason} (write :8080, localhost:8080 or [::1]:8080)")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| refused("no port"))?;
        let bad_host = || refused("neither a host name nor an address");
        let host = if host.is_empty() {
            None
        } else if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(bad_host)?;
            inner.parse::<Ipv6Addr>().map_err(|_| bad_host())?;
            Some(inner.to_owned())
        } else {
            check_host_name(host).map_err(|_| bad_host())?;
            Some(host.to_owned())
        };
        let port = Some(port)
            .filter(|port| port.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| refused("a port that is not a number from 0 to 65535"))?;
        Ok(Self {
            text: text.to_owned(),
            host,
            port,
        })
    }
}

/// Binds and listens.
///
/// `:PORT` is one IPv6 socket that takes IPv4 as well, or an IPv4 socket where the system
/// has no IPv6. A host name is resolved, and its first address that can be bound is taken.
///
/// With `reuse_port` other processes of the same user may listen on the same port, if they say so
/// as well (`SO_REUSEPORT`); the kernel then gives each of them a part of the connections.
pub fn bind(address: &ListenAddress, reuse_port: bool) -> io::Result<TcpListener> {
    let listen = |address| listen(address, reuse_port);
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

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
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
    socket.set_reuse_port(reuse_port)?;
    set_up(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener, and its real address as [`ListenAddress::with_port`] shows it. `what`: what the
/// address is for.
///
/// # Errors
/// [`bind`] fails: in words for the user.
pub fn open(
    what: &str,
    address: &ListenAddress,
    reuse_port: bool,
) -> Result<(TcpListener, String), String> {
    let bound = bind(address, reuse_port).and_then(|listener| {
        let port = listener.local_addr()?.port();
        Ok((listener, address.with_port(port)))
    });
    bound.map_err(|error| {
        let reason = describe(&error);
        format!("cannot bind to {what}: {address}: {reason}")
    })
}

/// Sets what the sockets that are accepted are to inherit.
fn set_up(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    // Over a network segments are shorter anyway.
    socket.set_tcp_mss(SEGMENT)
}

/// Sets up a socket that another process has opened and that listens already.
pub fn adopt(listener: TcpListener) -> io::Result<TcpListener> {
    set_up(&SockRef::from(&listener))?;
    Ok(listener)
}

/// The address of a socket that another process has opened, as `-address` would have it.
#[must_use]
pub fn shown(address: SocketAddr) -> String {
    if address.is_ipv6() && address.ip().is_unspecified() {
        format!(":{}", address.port())
    } else {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn bound(text: &str) -> io::Result<TcpListener> {
        bind(&text.parse().unwrap(), false)
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
    fn a_port_can_be_shared_by_those_that_agree() {
        let sharing = |text: &str| bind(&text.parse().unwrap(), true);
        let first = sharing("127.0.0.1:0").unwrap();
        let text = first.local_addr().unwrap().to_string();
        sharing(&text).unwrap();
        assert_eq!(bound(&text).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn an_address_of_another_machine_is_an_error() {
        let error = bound("192.0.2.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn reads_listen_addresses() {
        for (text, host, port) in [
            (":8080", None, 8080),
            (":0", None, 0),
            ("localhost:80", Some("localhost"), 80),
            ("127.0.0.1:65535", Some("127.0.0.1"), 65535),
            ("[::1]:80", Some("::1"), 80),
            ("[::]:80", Some("::"), 80),
            (" :80 ", None, 80),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string(), text.trim());
        }
        for (text, bound, shown) in [
            (":0", 9, ":9"),
            ("[::1]:0", 9, "[::1]:9"),
            ("localhost:0", 9, "localhost:9"),
            (":8080", 9, ":8080"),
            ("a:00", 9, "a:9"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.with_port(bound), shown);
        }
    }

    #[test]
    fn a_port_alone_can_mean_loopback() {
        for (text, wanted) in [
            (":9", "127.0.0.1:9"),
            (":0", "127.0.0.1:0"),
            ("[::1]:9", "[::1]:9"),
            ("0.0.0.0:9", "0.0.0.0:9"),
            ("a:9", "a:9"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            let address = address.or_loopback();
            let shown = (address.to_string(), address.host().unwrap().to_owned());
            let host = wanted.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
            assert_eq!(shown, (wanted.to_owned(), host.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_would_be_typed() {
        for (address, wanted) in [
            ("[::]:80", ":80"),
            ("[::1]:80", "[::1]:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
        ] {
            assert_eq!(shown(address.parse().unwrap()), wanted);
        }
    }

    #[test]
    fn a_key_that_has_gone_astray_is_not_printed() {
        for text in ["KEY@a", "http://KEY@a", "http://me:KEY@a/x"] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(!error.contains("KEY"), "{error}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_listen_address() {
        let message = |text: &str| text.parse::<ListenAddress>().unwrap_err();
        for text in ["", "8080", "localhost", "http"] {
            assert!(message(text).contains(" has no port "), "{text}");
        }
        for text in [
            ":", ":http", ":65536", ":-1", ":+1", "a:", "[::1]:x", ":8 0",
        ] {
            assert!(message(text).contains(" has a port that is not "), "{text}");
        }
        for text in [
            "::1:80",
            "[]:80",
            "[::1:80",
            "[a]:80",
            "a b:80",
            "http://a:80",
            "*:80",
            "[::1]",
        ] {
            assert!(message(text).contains(" has neither a host "), "{text}");
        }
        assert_eq!(
            message("8080"),
            "\"8080\" has no port (write :8080, localhost:8080 or [::1]:8080)"
        );
    }
}
