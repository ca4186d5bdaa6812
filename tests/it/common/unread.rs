//! Bytes that a process has not read from its connection yet, as the kernel counts them.
//!
//! One question to the kernel for one connection (`sock_diag(7)`), in microseconds. `/proc/net/tcp`
//! has the same numbers, but lists all sockets of the machine with them, of which a busy test run
//! leaves thousands behind: it is asked where the kernel does not answer.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

/// Waits until all that has come on these connections, each of which has its own end and that of
/// its peer, has been read at the first one.
#[track_caller]
pub fn wait_until_read(connections: &[(SocketAddr, SocketAddr)], deadline: Duration) {
    let give_up = Instant::now() + deadline;
    for &(own, peer) in connections {
        let (own, peer) = (v4(own), v4(peer));
        while unread(own, peer) > 0 {
            assert!(Instant::now() < give_up, "{own} does not read from {peer}");
            thread::sleep(Duration::from_micros(200));
        }
    }
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("the test uses IPv4"),
    }
}

/// None are unread where there is no such connection any more.
fn unread(own: SocketAddrV4, peer: SocketAddrV4) -> u32 {
    if let Some(unread) = ask_kernel(own, peer) {
        return unread;
    }
    // The peer's end is a socket of this process: not known either, it says that the kernel
    // knows none at all.
    if ask_kernel(peer, own).is_some() {
        return 0;
    }
    in_table(own, peer)
}

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`; numbers are in the machine's order but for
/// addresses and ports.
fn ask_kernel(own: SocketAddrV4, peer: SocketAddrV4) -> Option<u32> {
    const LENGTH: u32 = 72;
    const BY_FAMILY: u16 = 20;
    const IS_REQUEST: u16 = 1;
    let mut request = Vec::new();
    request.extend(LENGTH.to_ne_bytes());
    request.extend([BY_FAMILY.to_ne_bytes(), IS_REQUEST.to_ne_bytes()].concat());
    // Sequence number and sender; then family, protocol, no extensions, all states.
    request.extend([0; 8]);
    request.extend([2, 6, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    request.extend([own.port().to_be_bytes(), peer.port().to_be_bytes()].concat());
    for address in [own, peer] {
        request.extend(address.ip().octets());
        request.extend([0; 12]);
    }
    // Any interface, no cookie.
    request.extend([0; 4]);
    request.extend([0xff; 8]);

    let family = Domain::from(libc::AF_NETLINK);
    let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
    let mut socket = Socket::new(family, Type::DGRAM, Some(protocol)).ok()?;
    socket.write_all(&request).ok()?;
    let mut answer = [0; 512];
    let length = socket.read(&mut answer).ok()?;
    let answer = &answer[..length];
    // An error is shorter. A listener has no peer, and counts connections.
    let is_about_it = answer.get(22..24)? == peer.port().to_be_bytes();
    let unread = answer.get(72..76)?.try_into().ok()?;
    (u16::from_ne_bytes([answer[4], answer[5]]) == BY_FAMILY && is_about_it)
        .then(|| u32::from_ne_bytes(unread))
}

fn in_table(own: SocketAddrV4, peer: SocketAddrV4) -> u32 {
    let hex = |address: SocketAddrV4| {
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    };
    let ends = format!("{} {}", hex(own), hex(peer));
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    // NUMBER: LOCAL REMOTE STATE SENDING:RECEIVED, all of a fixed width.
    let unread = table.lines().find_map(|line| {
        let (_, rest) = line.split_once(": ")?;
        (rest.get(..27)? == ends).then(|| rest.get(40..48))?
    });
    unread.map_or(0, |unread| u32::from_str_radix(unread, 16).unwrap())
}

#[test]
fn both_ways_to_ask_give_the_number_of_bytes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let (own, peer_address) = (
        v4(stream.local_addr().unwrap()),
        v4(peer.local_addr().unwrap()),
    );
    for unread in [unread, in_table] {
        assert_eq!(unread(own, peer_address), 0);
        (&peer).write_all(b"12345").unwrap();
        assert_eq!(unread(own, peer_address), 5);
        stream.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(unread(own, peer_address), 2);
        stream.read_exact(&mut [0; 2]).unwrap();
    }
    drop((stream, listener));
    for unread in [unread, in_table] {
        assert_eq!(unread(own, peer_address), 0);
    }
}
