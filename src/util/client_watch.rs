//! The client's side as an attempt sees it: a descriptor to poll beside its own.
//!
//! A client that ends its sending side while its request is under way has gone, as nginx,
//! Go and Envoy take it: a time-out of curl's or a browser's stop button looks no different
//! from a half-close. With `-half-close` only a reset counts. A further request in the
//! receive queue is a sign of neither: `POLLRDHUP` does not depend on what is unread.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::poll::poll_until;

/// Polled for a client that goes away. Clones watch the same connection.
#[derive(Clone, Debug)]
pub struct ClientWatch {
    socket: Arc<TcpStream>,
    events: PollFlags,
}

impl ClientWatch {
    /// Watches the client behind `socket`. With `half_close` the end of its sending side
    /// does not count.
    #[must_use]
    pub fn new(socket: Arc<TcpStream>, half_close: bool) -> Self {
        Self {
            socket,
            events: if half_close {
                // A reset or an error is reported without being asked for.
                PollFlags::empty()
            } else {
                PollFlags::RDHUP
            },
        }
    }

    /// An entry for `poll`. Any event that it returns means that the client has gone.
    #[must_use]
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.socket.as_fd(), self.events)
    }

    /// Whether the client has gone. Does not wait.
    #[must_use]
    pub fn has_gone(&self) -> bool {
        poll_until(&mut [self.poll_fd()], Instant::now()).unwrap_or(true)
    }

    /// Waits until the client sends more, or closes, at most for `timeout`. Whether it has.
    #[must_use]
    pub fn wait_for_more(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(&*self.socket, PollFlags::IN)];
        poll_until(&mut fds, Instant::now() + timeout).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    use super::*;

    fn pair() -> (TcpStream, Arc<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, Arc::new(listener.accept().unwrap().0))
    }

    fn eventually_gone(watch: &ClientWatch) {
        let until = Instant::now() + Duration::from_secs(10);
        while !watch.has_gone() {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_fin_counts_even_behind_unread_bytes() {
        let (mut client, socket) = pair();
        let watch = ClientWatch::new(socket, false);
        assert!(!watch.has_gone());
        client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(!watch.has_gone());
        client.shutdown(Shutdown::Write).unwrap();
        eventually_gone(&watch);
    }

    #[test]
    fn with_half_close_only_a_reset_counts() {
        let (client, socket) = pair();
        let watch = ClientWatch::new(Arc::clone(&socket), true);
        let strict = ClientWatch::new(socket, false);
        client.shutdown(Shutdown::Write).unwrap();
        eventually_gone(&strict);
        assert!(!watch.has_gone());
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        eventually_gone(&watch);
    }
}
