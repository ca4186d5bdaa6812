//! The client's side as an attempt sees it: a descriptor to poll beside its own.
//!
//! A client that ends its sending side while its request is under way has gone, as nginx,
//! Go and Envoy take it: a time-out of curl's or a browser's stop button looks no different
//! from a half-close. With `-half-close` only a reset counts. A further request in the
//! receive queue is a sign of neither: `POLLRDHUP` does not depend on what is unread.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::poll::poll_until;

/// Polled for a client that goes away. Clones watch the same connection.
#[derive(Clone, Debug)]
pub struct ClientWatch {
    socket: Arc<TcpStream>,
    half_close: bool,
    is_shut: Arc<AtomicBool>,
}

impl ClientWatch {
    /// Watches the client behind `socket`. With `half_close` the end of its sending side
    /// does not count, nor does it once `is_shut`: then this process has made that end.
    #[must_use]
    pub fn new(socket: Arc<TcpStream>, half_close: bool, is_shut: Arc<AtomicBool>) -> Self {
        Self {
            socket,
            half_close,
            is_shut,
        }
    }

    fn end_counts(&self) -> bool {
        !self.half_close && !self.is_shut.load(Ordering::SeqCst)
    }

    /// An entry for `poll`; see [`ClientWatch::is_gone`].
    #[must_use]
    pub fn poll_fd(&self) -> PollFd<'_> {
        let events = if self.end_counts() {
            PollFlags::RDHUP
        } else {
            // A reset or an error is reported without being asked for.
            PollFlags::empty()
        };
        PollFd::from_borrowed_fd(self.socket.as_fd(), events)
    }

    /// Whether these events of the entry mean that the client has gone.
    #[must_use]
    pub fn is_gone(&self, events: PollFlags) -> bool {
        events.intersects(PollFlags::ERR | PollFlags::HUP)
            || (events.contains(PollFlags::RDHUP) && self.end_counts())
    }

    /// Whether the client has gone. Does not wait.
    #[must_use]
    pub fn has_gone(&self) -> bool {
        self.wait_until_gone(Instant::now())
    }

    /// Waits until the client has gone, at most until `end`. Whether it has.
    #[must_use]
    pub fn wait_until_gone(&self, end: Instant) -> bool {
        loop {
            let mut fds = [self.poll_fd()];
            match poll_until(&mut fds, end) {
                Ok(true) if self.is_gone(fds[0].revents()) => return true,
                // This process has made that end meanwhile; it is not polled for again.
                Ok(true) => {}
                Ok(false) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Whether the client has reset the connection. Does not wait.
    #[must_use]
    pub fn has_reset(&self) -> bool {
        // A reset is reported without being asked for; an end of one side is none.
        let mut fds = [PollFd::new(&*self.socket, PollFlags::empty())];
        poll_until(&mut fds, Instant::now()).unwrap_or(true)
    }

    /// Waits until the client has closed its sending side, or the connection is no more. What it
    /// sends before that stays unread.
    pub fn wait_for_end(&self) {
        const LONG: Duration = Duration::from_secs(3600);
        let mut fds = [PollFd::new(&*self.socket, PollFlags::RDHUP)];
        while let Ok(false) = poll_until(&mut fds, Instant::now() + LONG) {}
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
        let watch = ClientWatch::new(socket, false, Arc::default());
        assert!(!watch.has_gone());
        client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(!watch.has_gone());
        client.shutdown(Shutdown::Write).unwrap();
        eventually_gone(&watch);
    }

    #[test]
    fn waiting_ends_when_the_client_goes_or_when_it_is_time() {
        let (client, socket) = pair();
        let watch = ClientWatch::new(Arc::clone(&socket), false, Arc::default());
        let begun = Instant::now();
        let end = begun + Duration::from_millis(20);
        assert!(!watch.wait_until_gone(end));
        assert!(Instant::now() >= end);
        let waiting = std::thread::spawn({
            let watch = watch.clone();
            move || watch.wait_until_gone(begun + Duration::from_secs(60))
        });
        client.shutdown(Shutdown::Write).unwrap();
        assert!(waiting.join().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn an_end_that_this_process_has_made_does_not_count() {
        let (_client, socket) = pair();
        let is_shut = Arc::new(AtomicBool::new(true));
        let watch = ClientWatch::new(Arc::clone(&socket), false, Arc::clone(&is_shut));
        socket.shutdown(Shutdown::Read).unwrap();
        assert!(!watch.has_gone());
        is_shut.store(false, Ordering::SeqCst);
        assert!(watch.has_gone());
    }

    #[test]
    fn with_half_close_only_a_reset_counts() {
        let (client, socket) = pair();
        let watch = ClientWatch::new(Arc::clone(&socket), true, Arc::default());
        let strict = ClientWatch::new(socket, false, Arc::default());
        client.shutdown(Shutdown::Write).unwrap();
        eventually_gone(&strict);
        assert!(!watch.has_gone() && !watch.has_reset());
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        eventually_gone(&watch);
        assert!(watch.has_reset());
    }
}
