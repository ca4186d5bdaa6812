//! Connections that `tiny_http` leaves unserved.
//!
//! It hands a new connection to a waiting thread without asking whether that thread has
//! been promised to another one. A connection that loses out waits until some other
//! connection ends, which with keep-alive may be never. It can be told from outside:
//! it has no request in flight, and bytes that nobody reads. A short connection of our
//! own makes `tiny_http` start one thread more, which then takes the one that waits.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Clients;
use super::connection::Connection;

/// How long connecting to ourselves may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// How late threads may be before more are asked for; twice as long each time.
const LATE: Duration = Duration::from_millis(100);

/// Whether a connection has a thread of `tiny_http`.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// It has been read from, so it has one.
    served: bool,
    /// At the last look it had bytes to be read, and no thread to read them.
    unserved: bool,
}

impl Service {
    /// Whether its bytes wait for a thread.
    pub(super) fn is_missing(&self) -> bool {
        self.unserved
    }

    /// A look at it. True if it has waited since the last look at least: a thread may be
    /// about to read.
    fn look(&mut self, served: bool, readable: bool) -> bool {
        self.served = served;
        std::mem::replace(&mut self.unserved, readable && !served) && self.unserved
    }
}

/// How many threads have been asked for since somebody began to wait.
///
/// The one who waits may stand behind others that have said nothing yet, and need a
/// thread as well: so it may take as many threads as there are such connections. More
/// only if they do not come, which on a busy machine need not mean that they have been
/// lost.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    /// At the last look.
    last: usize,
    /// In this round.
    in_round: usize,
    round_ends: Option<Instant>,
    rounds: u32,
}

impl Rescue {
    /// How many threads to ask for now: `waiting` connections have bytes that wait,
    /// `without` have not been read from at all.
    fn amount(&mut self, waiting: usize, without: usize, now: Instant) -> usize {
        if waiting == 0 {
            *self = Self::default();
            return 0;
        }
        if self.round_ends.is_none_or(|end| end <= now) {
            self.round_ends = Some(now + LATE * 2_u32.saturating_pow(self.rounds));
            self.rounds = (self.rounds + 1).min(6);
            (self.last, self.in_round) = (0, 0);
        }
        let amount = waiting
            .max(2 * self.last)
            .min(without.saturating_sub(self.in_round));
        self.last = amount;
        self.in_round += amount;
        amount
    }

    /// Makes `tiny_http` start threads for the connections that wait for one.
    pub(super) fn look<'a>(
        &mut self,
        clients: &Clients,
        connections: impl Iterator<Item = &'a mut Connection>,
        listener: SocketAddr,
        now: Instant,
    ) {
        let mut without: Vec<&mut Connection> = connections
            .filter(|connection| !connection.service.served)
            .collect();
        let mut fds: Vec<PollFd<'_>> = without
            .iter()
            .map(|connection| PollFd::from_borrowed_fd(connection.socket.as_fd(), PollFlags::IN))
            .collect();
        if poll(&mut fds, Some(&Timespec::default())).is_err() {
            return;
        }
        let readable: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut waiting = 0;
        for (connection, readable) in without.iter_mut().zip(readable) {
            let served = !clients.is_idle(connection.client) || connection.socket.has_been_read();
            waiting += usize::from(connection.service.look(served, readable));
        }
        for _ in 0..self.amount(waiting, without.len(), now) {
            // Nobody accepts at the moment: a later look tries again.
            if TcpStream::connect_timeout(&listener, CONNECT_TIMEOUT).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One look each millisecond: what is asked for, and when.
    fn asked_for(waiting: usize, without: usize, millis: u64) -> Vec<(u64, usize)> {
        let start = Instant::now();
        let mut rescue = Rescue::default();
        (0..millis)
            .map(|at| {
                let now = start + Duration::from_millis(at);
                (at, rescue.amount(waiting, without, now))
            })
            .filter(|(_, amount)| *amount > 0)
            .collect()
    }

    #[test]
    fn each_one_that_waits_gets_a_thread_and_soon_those_before_him() {
        assert_eq!(asked_for(12, 12, 50), [(0, 12)]);
        assert_eq!(asked_for(1, 12, 50), [(0, 1), (1, 2), (2, 4), (3, 5)]);
    }

    #[test]
    fn threads_that_do_not_come_are_asked_for_again_but_less_and_less_often() {
        assert_eq!(
            asked_for(5, 5, 1600),
            [(0, 5), (100, 5), (300, 5), (700, 5), (1500, 5)]
        );
    }

    #[test]
    fn who_is_read_from_or_says_nothing_does_not_wait() {
        let mut service = Service::default();
        for (served, readable) in [(true, true), (false, true), (false, false), (false, true)] {
            assert!(!service.look(served, readable));
        }
        assert!(service.look(false, true));
    }
}
