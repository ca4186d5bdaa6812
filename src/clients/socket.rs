//! A client's socket, reached past `tiny_http`.
//!
//! A process's own descriptors are listed under `/proc/self/fd` (`/dev/fd` elsewhere).
//! A duplicate of a descriptor whose local port is the listener's and whose peer is the
//! client's acts on the very same connection. Duplicate first, then verify, then act:
//! that is free of races.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// A duplicate of a client's socket. Dropping it closes nothing but the duplicate.
#[derive(Debug)]
pub struct ClientSocket {
    stream: TcpStream,
    inode: u64,
    /// It has been cut or reset, or the client has gone away.
    is_ending: AtomicBool,
    /// Dropped after the stream, hence below it.
    _registered: Registered,
}

/// The descriptors that are duplicates of ours.
#[derive(Debug, Default)]
pub(super) struct Duplicates(Mutex<HashMap<RawFd, usize>>);

/// A duplicate's entry: it stays until the descriptor is closed.
#[derive(Debug)]
struct Registered {
    duplicates: Arc<Duplicates>,
    fd: RawFd,
}

impl Duplicates {
    /// A registered duplicate of this descriptor.
    fn duplicate(self: &Arc<Self>, fd: RawFd) -> io::Result<(OwnedFd, Registered)> {
        let mut duplicates = self.lock();
        let duplicate = duplicate(fd)?;
        let fd = duplicate.as_raw_fd();
        // While the last owner of this number is being dropped there are two entries.
        *duplicates.entry(fd).or_default() += 1;
        let duplicates = Arc::clone(self);
        Ok((duplicate, Registered { duplicates, fd }))
    }

    /// Closes all descriptors of these sockets but our duplicates.
    ///
    /// Only for sockets whose owners are known never to touch them again.
    pub(super) fn close_leaked(&self, inodes: &[u64]) {
        let duplicates = self.lock();
        for fd in own_descriptors().collect::<Vec<_>>() {
            let is_leaked = inode(fd).is_some_and(|inode| inodes.contains(&inode));
            if is_leaked && !duplicates.contains_key(&fd) {
                close(fd);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RawFd, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut duplicates = self.duplicates.lock();
        if let Some(count) = duplicates.get_mut(&self.fd) {
            *count -= 1;
            if *count == 0 {
                duplicates.remove(&self.fd);
            }
        }
    }
}

impl ClientSocket {
    /// A duplicate of this descriptor and its client's address, if it is a connection
    /// of a listener on `port`.
    pub(super) fn of(
        fd: RawFd,
        port: u16,
        duplicates: &Arc<Duplicates>,
    ) -> Option<(Self, SocketAddr)> {
        let (fd, registered) = duplicates.duplicate(fd).ok()?;
        let inode = rustix::fs::fstat(&fd).ok()?.st_ino;
        let stream = TcpStream::from(fd);
        if stream.local_addr().ok()?.port() != port {
            return None;
        }
        let client = stream.peer_addr().ok()?;
        let socket = Self {
            stream,
            inode,
            is_ending: AtomicBool::new(false),
            _registered: registered,
        };
        Some((socket, client))
    }

    /// Whether the connection still has a peer.
    pub(super) fn is_connected(&self) -> bool {
        self.stream.peer_addr().is_ok()
    }

    /// Whether it has been cut or reset, or its client has gone away, since it was found.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Its client has gone away, or will soon.
    pub(super) fn set_ending(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Tells the socket from every other one, also from later ones.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Ends the connection in an orderly way: what has been sent arrives.
    pub(super) fn cut(&self) {
        self.set_ending();
        // Fails where the client was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection so that the client can't take it for a clean end (RST).
    pub(super) fn reset(&self) {
        self.set_ending();
        // Disconnecting acts on the connection whoever else has descriptors of it. The
        // kernel denies it while somebody waits to read: then an end wakes him, and it
        // is his closing that resets the connection.
        let linger = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        if rustix::net::connect_unspec(&self.stream).is_err() || linger.is_err() {
            self.cut();
        }
    }

    /// What has happened on the connection so far, as the kernel counts it: unlike
    /// reading, this does not depend on who has read what.
    ///
    /// `None` where the system does not tell.
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        traffic(self.stream.as_fd())
    }

    /// Whether anything that the client has sent has been read.
    pub(super) fn has_been_read(&self) -> bool {
        self.traffic().is_some_and(|traffic| traffic.read() > 0)
    }

    /// Sends as much of `bytes` as goes without waiting: a short answer fits into the
    /// socket's buffer, or nobody reads it.
    pub(super) fn send_now(&self, bytes: &[u8]) {
        let _ = send(
            &self.stream,
            bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
    }

    /// Nothing more will be sent.
    pub(super) fn finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Throws away what the client has sent. False once it will send nothing more.
    pub(super) fn drain(&self, waste: &mut [u8]) -> bool {
        loop {
            match recv(&self.stream, &mut *waste, RecvFlags::DONTWAIT) {
                // One piece for each look: others want to be looked after, too.
                Ok((1.., _)) | Err(Errno::WOULDBLOCK) => return true,
                Err(Errno::INTR) => {}
                _ => return false,
            }
        }
    }
}

/// What has happened on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The client will send nothing more.
    pub finished: bool,
    /// Bytes received since the connection began.
    pub received: u64,
    /// How many of them nobody has read yet.
    pub unread: u64,
    /// Bytes sent and acknowledged since the connection began.
    pub acknowledged: u64,
    /// Something that was to be sent has not been acknowledged yet.
    pub pending: bool,
}

impl Traffic {
    /// Bytes read since the connection began.
    #[must_use]
    pub fn read(self) -> u64 {
        self.received.saturating_sub(self.unread)
    }
}

/// The numbers of this process's descriptors. Where the system does not list them, or
/// there is no descriptor left to read the list with, numbers that may be ones.
pub(super) fn own_descriptors() -> impl Iterator<Item = RawFd> {
    let listed = list_descriptors();
    let probed = if listed.is_none() {
        probe_descriptors()
    } else {
        Vec::new()
    };
    let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    listed
        .into_iter()
        .flatten()
        .filter_map(number)
        .chain(probed)
}

/// Whether the system lists a process's own descriptors.
pub(super) fn are_descriptors_listed() -> bool {
    list_descriptors().is_some()
}

fn list_descriptors() -> Option<fs::ReadDir> {
    ["/proc/self/fd", "/dev/fd"]
        .iter()
        .find_map(|directory| fs::read_dir(directory).ok())
}

/// Tries one number after the other. The kernel gives out the lowest free one, so a
/// long gap means that there are hardly any more.
fn probe_descriptors() -> Vec<RawFd> {
    const GAP: RawFd = 1024;
    let mut found = Vec::new();
    let mut last = 0;
    let mut fd = 0;
    while fd - last < GAP {
        if inode(fd).is_some() {
            found.push(fd);
            last = fd;
        }
        fd += 1;
    }
    found
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The client's address, if this descriptor is a connection of a listener on `port`.
/// Needs no descriptor of its own, but may be out of date at once.
#[allow(unsafe_code)]
pub(super) fn client_of(fd: RawFd, port: u16) -> Option<SocketAddr> {
    // SAFETY: the number is only handed to `getsockname` and `getpeername`, which are
    // defined for every number.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = socket2::SockRef::from(&borrowed);
    let local = socket.local_addr().ok()?.as_socket()?;
    let client = socket.peer_addr().ok()?.as_socket()?;
    (local.port() == port).then_some(client)
}

/// Whether this descriptor is a connection of a listener on `port`, be it that its peer has
/// gone.
#[allow(unsafe_code)]
pub(super) fn is_accepted(fd: RawFd, port: u16) -> bool {
    // SAFETY: the number is only handed to functions that ask for a socket's state, which
    // are defined for every number.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = socket2::SockRef::from(&borrowed);
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    local.is_some_and(|local| local.port() == port)
        && socket.is_listener().is_ok_and(|listens| !listens)
}

/// Whether this descriptor is such a connection that has been read from and has no peer
/// any more.
#[allow(unsafe_code)]
pub(super) fn is_dead_client(fd: RawFd, port: u16) -> bool {
    // SAFETY: as above.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    is_accepted(fd, port)
        && socket2::SockRef::from(&borrowed).peer_addr().is_err()
        && traffic(borrowed).is_some_and(|traffic| traffic.read() > 0)
}

/// What has happened on the connection of this descriptor, if it is one.
#[allow(unsafe_code)]
pub(super) fn traffic_of(fd: RawFd) -> Option<Traffic> {
    // SAFETY: as above.
    traffic(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Ends the connection of this descriptor. Only for one whose owner is known to hold it.
#[allow(unsafe_code)]
pub(super) fn cut_by_number(fd: RawFd) {
    // SAFETY: the number is only handed to `shutdown`, which is defined for every number,
    // and the caller sees to it that it is the connection's.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    // Fails where the client was faster.
    let _ = rustix::net::shutdown(borrowed, rustix::net::Shutdown::Both);
}

/// The inode of this descriptor, if it is open.
#[allow(unsafe_code)]
pub(super) fn inode(fd: RawFd) -> Option<u64> {
    // SAFETY: the number is only handed to `fstat`, which is defined for every number.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Some(rustix::fs::fstat(borrowed).ok()?.st_ino)
}

#[allow(unsafe_code)]
fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is only handed to `fcntl(F_DUPFD_CLOEXEC)`, which is defined
    // for every number: a descriptor that has been closed meanwhile is an error, and
    // one that has been reused is duplicated and then found not to be the client's.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

#[allow(unsafe_code)]
fn close(fd: RawFd) {
    // SAFETY: the callers see to it that the descriptor's owner has been leaked, so
    // nobody else will use or close this number.
    unsafe { rustix::io::close(fd) }
}

fn traffic(socket: BorrowedFd<'_>) -> Option<Traffic> {
    let traffic = tcp_info(socket)?;
    // Asked for last: what has come in between must not count as read.
    let unread = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    Some(Traffic { unread, ..traffic })
}

/// `TCP_INFO`, which the safe wrappers do not offer.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn tcp_info(socket: BorrowedFd<'_>) -> Option<Traffic> {
    let mut info = [0_u8; 256];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many,
    // and the descriptor is open while it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    parse_tcp_info(info.get(..usize::try_from(length).ok()?)?)
}

/// Reads the kernel's `struct tcp_info`, which only ever grows at its end; the
/// libraries' declarations of it are of different ages.
#[cfg(target_os = "linux")]
fn parse_tcp_info(info: &[u8]) -> Option<Traffic> {
    /// `tcpi_state`: those in which no FIN has been received yet.
    const RECEIVING: [u8; 5] = [1, 2, 3, 4, 5];
    /// `tcpi_unacked`, in segments.
    const UNACKNOWLEDGED: usize = 24;
    const BYTES_ACKNOWLEDGED: usize = 120;
    const BYTES_RECEIVED: usize = 128;
    const BYTES_NOT_SENT: usize = 144;
    let u32_at = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
    let finished = !RECEIVING.contains(info.first()?);
    Some(Traffic {
        finished,
        // A FIN counts as a byte (RFC 9293 3.4).
        received: u64_at(BYTES_RECEIVED)?.saturating_sub(finished.into()),
        unread: 0,
        acknowledged: u64_at(BYTES_ACKNOWLEDGED)?,
        pending: u32_at(UNACKNOWLEDGED)? > 0 || u32_at(BYTES_NOT_SENT)? > 0,
    })
}

#[cfg(not(target_os = "linux"))]
fn tcp_info(_: BorrowedFd<'_>) -> Option<Traffic> {
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn descriptors_are_found_with_and_without_a_list() {
        let file = fs::File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        assert!(own_descriptors().any(|found| found == fd));
        assert!(probe_descriptors().contains(&fd));
    }

    #[test]
    fn a_client_is_told_from_other_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, address) = listener.accept().unwrap();
        let duplicates = Arc::default();
        let of = |fd| ClientSocket::of(fd, port, &duplicates);
        assert!(of(listener.as_raw_fd()).is_none());
        assert!(of(client.as_raw_fd()).is_none());
        let (socket, found) = of(accepted.as_raw_fd()).unwrap();
        assert_eq!(found, address);
        assert_eq!(Some(socket.inode()), inode(accepted.as_raw_fd()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_s_counters_are_read_where_they_are() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        client.write_all(b"12345").unwrap();
        accepted.read_exact(&mut [0; 2]).unwrap();
        let found = traffic(accepted.as_fd()).unwrap();
        assert_eq!((found.finished, found.received), (false, 5));
        assert_eq!((found.unread, found.read()), (3, 2));
        client.shutdown(Shutdown::Write).unwrap();
        accepted.read_to_end(&mut Vec::new()).unwrap();
        let found = traffic(accepted.as_fd()).unwrap();
        assert_eq!((found.finished, found.received), (true, 5));
        assert_eq!((found.unread, found.read()), (0, 5));
        accepted.write_all(b"123").unwrap();
        client.read_exact(&mut [0; 3]).unwrap();
        // The acknowledgement is on its way.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while tcp_info(accepted.as_fd()).unwrap().pending {
            assert!(std::time::Instant::now() < until);
            std::thread::yield_now();
        }
        assert_eq!(tcp_info(accepted.as_fd()).unwrap().acknowledged, 3);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_client_that_has_reset_its_connection_is_dead_once_it_has_been_read_from() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let fd = accepted.as_raw_fd();
        client.write_all(b"a head").unwrap();
        accepted.read_exact(&mut [0; 5]).unwrap();
        assert!(!is_dead_client(fd, port));
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        // The reset is on its way.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while !is_dead_client(fd, port) {
            assert!(std::time::Instant::now() < until);
            std::thread::yield_now();
        }
        assert!(!is_dead_client(listener.as_raw_fd(), port));
        assert!(!is_dead_client(fd, port + 1));
    }

    #[test]
    fn what_is_leaked_is_closed_and_what_is_ours_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let leaked = accepted.as_raw_fd();
        let duplicates = Arc::default();
        let (socket, _) = ClientSocket::of(leaked, port, &duplicates).unwrap();
        std::mem::forget(accepted);
        let ours = socket.as_fd().as_raw_fd();
        duplicates.close_leaked(&[socket.inode()]);
        assert_ne!(inode(leaked), Some(socket.inode()));
        assert_eq!(inode(ours), Some(socket.inode()));
    }
}
