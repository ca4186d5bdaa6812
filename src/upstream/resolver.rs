//! Name look-up for one endpoint, done when a connection is dialled.
//!
//! `getaddrinfo` can neither be cancelled nor given a time-out, so it runs on a
//! thread of its own that may outlive the attempt. At most one such thread runs
//! per endpoint: attempts that dial meanwhile wait for the same result. An address
//! literal needs no thread. Nothing is cached: the system's resolver does that.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::control::Control;
use super::failure::{DnsFault, Failure, Timeout};
use crate::util::io_error::describe;
use crate::util::lock::lock;

/// How often a wait for a look-up looks after the client.
const CLIENT_CHECK: Duration = Duration::from_millis(20);

/// What a look-up found: at least one address, or why there is none.
pub type Lookup = Result<Arc<[SocketAddr]>, Failure>;

/// Knows or looks up one endpoint's addresses.
#[derive(Debug)]
pub struct Resolver {
    host: String,
    port: u16,
    /// Those of an address literal.
    known: Option<Arc<[SocketAddr]>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    waiting: Vec<Sender<Lookup>>,
}

impl Resolver {
    /// A resolver of `host`: a name, or an address without brackets.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Arc<Self> {
        Arc::new(Self {
            host: host.to_owned(),
            port,
            known: host
                .parse::<IpAddr>()
                .ok()
                .map(|ip| Arc::new([SocketAddr::new(ip, port)]) as Arc<[SocketAddr]>),
            state: Mutex::default(),
        })
    }

    /// A resolver of a name that has these addresses.
    #[cfg(test)]
    pub(super) fn of(addresses: &[SocketAddr]) -> Arc<Self> {
        Arc::new(Self {
            host: String::new(),
            port: 0,
            known: Some(addresses.into()),
            state: Mutex::default(),
        })
    }

    /// The host's addresses, in the order in which they are worth trying.
    pub fn resolve(
        self: &Arc<Self>,
        control: &Control,
        until: Instant,
        timeout: Timeout,
    ) -> Lookup {
        if let Some(known) = &self.known {
            return Ok(Arc::clone(known));
        }
        // Room for the result and for a cancel: neither sender may ever wait.
        let (sender, receiver) = bounded(2);
        let cancelled = sender.clone();
        control.register_waker(move || {
            let _ = cancelled.try_send(Err(Failure::Cancelled));
        })?;
        self.join(sender)?;
        let result = loop {
            let wake = control.wake_time(until.min(Instant::now() + CLIENT_CHECK));
            match receiver.recv_deadline(wake) {
                Ok(result) => break result,
                Err(_) if Instant::now() >= until => break Err(Failure::Timeout(timeout)),
                // A cancel comes out of the channel.
                Err(_) => {
                    control.ring_if_due();
                    control.request().check_client();
                }
            }
        };
        control.release_waker();
        result
    }

    /// Waits for the look-up under way, or starts one.
    fn join(self: &Arc<Self>, waiting: Sender<Lookup>) -> Result<(), Failure> {
        let mut state = self.lock();
        state.waiting.push(waiting);
        if state.running {
            return Ok(());
        }
        let resolver = Arc::clone(self);
        thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || resolver.run())
            .map_err(|error| {
                state.waiting.clear();
                Failure::Internal(format!("cannot start a thread: {}", describe(&error)))
            })?;
        state.running = true;
        Ok(())
    }

    fn run(&self) {
        let lookup = look_up(&self.host, self.port);
        let mut state = self.lock();
        state.running = false;
        for waiting in state.waiting.drain(..) {
            // Fails where the attempt has been cancelled or has timed out.
            let _ = waiting.try_send(lookup.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn look_up(host: &str, port: u16) -> Lookup {
    let addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| {
            // "failed to lookup address information: Name or service not known"
            let text = describe(&error);
            let reason = text.rsplit(": ").next().unwrap_or_default().to_lowercase();
            Failure::Dns(DnsFault::Lookup {
                host: host.to_owned(),
                reason,
            })
        })?
        .collect();
    if addresses.is_empty() {
        return Err(Failure::Dns(DnsFault::NoAddress {
            host: host.to_owned(),
        }));
    }
    Ok(alternate_families(addresses).into())
}

/// RFC 8305 section 4: the first family's addresses and the other's in turn, so
/// that a dead family costs one stagger and not one for each of its addresses.
fn alternate_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let count = addresses.len();
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(count);
    while mixed.len() < count {
        mixed.extend(first.next());
        mixed.extend(other.next());
    }
    mixed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::control::Limit;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let table: [(&[&str], &[&str]); 4] = [
            (&["1.0.0.1:1"], &["1.0.0.1:1"]),
            (
                &["[::1]:1", "[::2]:1", "1.0.0.1:1"],
                &["[::1]:1", "1.0.0.1:1", "[::2]:1"],
            ),
            (
                &["1.0.0.1:1", "1.0.0.2:1", "[::1]:1", "[::2]:1", "[::3]:1"],
                &["1.0.0.1:1", "[::1]:1", "1.0.0.2:1", "[::2]:1", "[::3]:1"],
            ),
            (&["[::1]:1", "[::2]:1"], &["[::1]:1", "[::2]:1"]),
        ];
        for (given, wanted) in table {
            assert_eq!(alternate_families(addresses(given)), addresses(wanted));
        }
    }

    fn resolve(host: &str) -> Lookup {
        let until = Instant::now() + Duration::from_secs(10);
        let timeout = Timeout::Connect(Duration::from_secs(10));
        let control = Control::new(&Arc::default(), Limit::Until(until, timeout));
        Resolver::new(host, 80).resolve(&control, until, timeout)
    }

    #[test]
    fn a_literal_is_its_own_address() {
        assert_eq!(*resolve("::1").unwrap(), *addresses(&["[::1]:80"]));
    }

    #[test]
    fn a_name_is_looked_up() {
        let found = resolve("localhost").unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn a_cancelled_attempt_does_not_wait() {
        let until = Instant::now() + Duration::from_secs(10);
        let timeout = Timeout::Connect(Duration::from_secs(10));
        let control = Control::new(&Arc::default(), Limit::Until(until, timeout));
        control.cancel();
        assert_eq!(
            Resolver::new("localhost", 80).resolve(&control, until, timeout),
            Err(Failure::Cancelled)
        );
    }
}
