//! `TCP_INFO`: how many bytes a connection has received, and how many of ours its peer has
//! acknowledged. No safe wrapper offers it.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Bytes since the connection was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) received: u64,
    pub(super) acknowledged: u64,
}

/// The traffic of this connection so far; zeros where the kernel does not count it.
pub(super) fn traffic(socket: &TcpStream) -> Traffic {
    let mut info = [0_u8; 256];
    let length = read(socket, &mut info);
    info.get(..length).and_then(parse).unwrap_or_default()
}

#[allow(unsafe_code)]
fn read(socket: &TcpStream, info: &mut [u8; 256]) -> usize {
    let mut length = 256;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many, and the
    // descriptor is open while `socket` is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        usize::try_from(length).unwrap_or(0)
    } else {
        0
    }
}

/// Reads the kernel's `struct tcp_info`, which only ever grows at its end; the libraries'
/// declarations of it are of different ages.
fn parse(info: &[u8]) -> Option<Traffic> {
    const BYTES_ACKNOWLEDGED: usize = 120;
    const BYTES_RECEIVED: usize = 128;
    let u64_at = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
    Some(Traffic {
        received: u64_at(BYTES_RECEIVED)?,
        acknowledged: u64_at(BYTES_ACKNOWLEDGED)?,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn both_directions_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        client.write_all(b"12345").unwrap();
        accepted.read_exact(&mut [0; 5]).unwrap();
        accepted.write_all(b"abc").unwrap();
        client.read_exact(&mut [0; 3]).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while traffic(&accepted).acknowledged < 3 {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        assert_eq!(traffic(&accepted).received, 5);
    }
}
