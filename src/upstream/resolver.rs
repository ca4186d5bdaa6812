//! Name look-up for one endpoint: when a connection is dialled, and every [`REFRESH`] while
//! kept connections are used, so that a name that has moved is followed.
//!
//! `getaddrinfo` can neither be cancelled nor given a time-out, so it runs on a
//! thread of its own that may outlive the attempt. At most one such thread runs
//! per endpoint: attempts that dial meanwhile wait for the same result. An address
//! literal needs no thread. No answer is cached: the system's resolver does that.
//!
//! Cost while connections are kept: a look at the clock and two atomic loads for each request.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::control::AttemptControl;
use super::failure::{Failure, Timeout};
use crate::util::io_error::describe;
use crate::util::lock::lock;

/// How often a wait for a look-up looks after the client.
const CLIENT_CHECK: Duration = Duration::from_millis(20);

/// How often a name is looked up while kept connections to it are used.
const REFRESH: Duration = Duration::from_secs(5);

/// An address is the name's own until so many look-ups in a row, over so long, have not found
/// it: name servers give out some of many addresses in turn.
const MISSES: u32 = 2;
const FORGET: Duration = Duration::from_secs(8);

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
    created: Instant,
    /// When the next look-up is due, in milliseconds after `created`.
    refresh_at: AtomicU64,
    /// How many look-ups have found addresses.
    successes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    waiting: Vec<Sender<Lookup>>,
    current: CurrentAddresses,
}

/// The addresses that a name has had of late.
#[derive(Debug, Default)]
struct CurrentAddresses(Vec<CurrentAddress>);

#[derive(Debug)]
struct CurrentAddress {
    address: SocketAddr,
    /// When a look-up last found it, and how many have not since.
    found: Instant,
    misses: u32,
}

impl CurrentAddresses {
    /// A look-up has found these.
    fn found(&mut self, addresses: &[SocketAddr], now: Instant) {
        self.0.retain_mut(|current| {
            current.misses += 1;
            let is_old = now.saturating_duration_since(current.found) >= FORGET;
            !(addresses.contains(&current.address) || is_old && current.misses >= MISSES)
        });
        self.0
            .extend(addresses.iter().map(|address| CurrentAddress {
                address: *address,
                found: now,
                misses: 0,
            }));
    }

    fn contain(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|current| current.address == address)
    }
}

impl Resolver {
    /// A resolver of `host`: a name, or an address without brackets.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Arc<Self> {
        let address = host.parse::<IpAddr>().ok();
        let known = address.map(|ip| Arc::from([SocketAddr::new(ip, port)]));
        Self::with(host, port, known)
    }

    fn with(host: &str, port: u16, known: Option<Arc<[SocketAddr]>>) -> Arc<Self> {
        Arc::new(Self {
            host: host.to_owned(),
            port,
            known,
            state: Mutex::default(),
            created: Instant::now(),
            refresh_at: AtomicU64::new(0),
            successes: AtomicU64::new(0),
        })
    }

    /// A resolver of a name that has these addresses.
    #[cfg(test)]
    pub(super) fn of(addresses: &[SocketAddr]) -> Arc<Self> {
        Self::with("", 0, Some(addresses.into()))
    }

    /// The host's addresses, in the order in which they are worth trying.
    pub fn resolve(
        self: &Arc<Self>,
        control: &AttemptControl,
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
                Err(_) if Instant::now() >= until => {
                    break Err(Failure::Timeout(match timeout {
                        Timeout::Connect(after) => Timeout::Lookup(after),
                        other => other,
                    }));
                }
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

    /// Whether a connection to `address` may go on: the name still has this address. `seen` is
    /// what was known at the connection's last call. Has the name looked up, if that is due.
    pub fn still_has(self: &Arc<Self>, address: SocketAddr, seen: &mut u64) -> bool {
        if self.known.is_some() {
            return true;
        }
        let now = self.millis();
        let due = self.refresh_at.load(Ordering::Relaxed);
        if now >= due && self.put_off_refresh(due, now) {
            let mut state = self.lock();
            if !state.running {
                // Where no thread can be had, the next request tries again in due time.
                state.running = self.start().is_ok();
            }
        }
        let successes = self.successes.load(Ordering::Acquire);
        if *seen == successes {
            return true;
        }
        *seen = successes;
        self.lock().current.contain(address)
    }

    /// Of several threads one gets true.
    fn put_off_refresh(&self, due: u64, now: u64) -> bool {
        let next = now + u64::try_from(REFRESH.as_millis()).unwrap_or(u64::MAX / 2);
        self.refresh_at
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// Waits for the look-up under way, or starts one.
    fn join(self: &Arc<Self>, waiting: Sender<Lookup>) -> Result<(), Failure> {
        let mut state = self.lock();
        state.waiting.push(waiting);
        if state.running {
            return Ok(());
        }
        self.start().map_err(|error| {
            state.waiting.clear();
            Failure::Internal(format!("cannot start a thread: {}", describe(&error)))
        })?;
        state.running = true;
        Ok(())
    }

    /// Starts the look-up's thread. `state` is locked.
    fn start(self: &Arc<Self>) -> io::Result<()> {
        let resolver = Arc::clone(self);
        thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || resolver.run())
            .map(drop)
    }

    fn run(&self) {
        let lookup = look_up(&self.host, self.port);
        let mut state = self.lock();
        state.running = false;
        if let Ok(addresses) = &lookup {
            state.current.found(addresses, Instant::now());
            self.successes.fetch_add(1, Ordering::Release);
            let due = self.refresh_at.load(Ordering::Relaxed);
            self.put_off_refresh(due, self.millis());
        }
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
            Failure::Dns(format!("cannot look up \"{host}\": {reason}"))
        })?
        .collect();
    if addresses.is_empty() {
        return Err(Failure::Dns(format!("\"{host}\" has no address")));
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

    #[test]
    fn an_address_is_forgotten_when_no_look_up_has_found_it_for_a_while() {
        let [old, new] = [addresses(&["10.0.0.1:80"]), addresses(&["10.0.0.2:80"])];
        let start = Instant::now();
        let mut current = CurrentAddresses::default();
        current.found(&old, start);
        current.found(&new, start + REFRESH);
        assert!(current.contain(old[0]) && current.contain(new[0]));
        current.found(&new, start + REFRESH * 2);
        assert!(!current.contain(old[0]) && current.contain(new[0]));
        // A name server that gives out one of two in turn.
        for round in 3..10 {
            let found = if round % 2 == 0 { &old } else { &new };
            current.found(found, start + Duration::from_secs(2) * round);
        }
        assert!(current.contain(old[0]) && current.contain(new[0]));
        assert_eq!(current.0.len(), 2);
        // One absence is none, however much later.
        current.found(&old, start + Duration::from_secs(60));
        assert!(current.contain(new[0]));
    }

    fn resolve(host: &str) -> Lookup {
        let until = Instant::now() + Duration::from_secs(10);
        let timeout = Timeout::Connect(Duration::from_secs(10));
        let control = AttemptControl::new(&Arc::default(), Limit::Until(until, timeout));
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
    fn a_connection_goes_on_while_its_name_has_its_address() {
        let elsewhere = addresses(&["192.0.2.1:80"])[0];
        let resolver = Resolver::new("localhost", 80);
        let mut seen = 0;
        // Nothing is known yet; the look-up has begun.
        assert!(resolver.still_has(elsewhere, &mut seen));
        let until = Instant::now() + Duration::from_secs(10);
        let timeout = Timeout::Connect(Duration::from_secs(10));
        let control = AttemptControl::new(&Arc::default(), Limit::Until(until, timeout));
        let found = resolver.resolve(&control, until, timeout).unwrap();
        assert!(resolver.still_has(found[0], &mut seen.clone()));
        assert!(!resolver.still_has(elsewhere, &mut seen));
        let literal = Resolver::new("127.0.0.1", 80);
        assert!(literal.still_has(elsewhere, &mut 0));
    }

    #[test]
    fn a_look_up_that_hangs_is_named() {
        let resolver = Resolver::new("localhost", 80);
        // The look-up that this attempt joins never ends.
        resolver.lock().running = true;
        let until = Instant::now() + Duration::from_millis(1);
        let timeout = Timeout::Connect(Duration::from_secs(3));
        let control = AttemptControl::new(&Arc::default(), Limit::Until(until, timeout));
        let failure = resolver.resolve(&control, until, timeout).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "timed out: the name was not looked up within 3s (-connect-timeout)"
        );
        assert_eq!(failure.error_type(), "dns_timeout");
    }

    #[test]
    fn a_cancelled_attempt_does_not_wait() {
        let until = Instant::now() + Duration::from_secs(10);
        let timeout = Timeout::Connect(Duration::from_secs(10));
        let control = AttemptControl::new(&Arc::default(), Limit::Until(until, timeout));
        control.cancel();
        assert_eq!(
            Resolver::new("localhost", 80).resolve(&control, until, timeout),
            Err(Failure::Cancelled)
        );
    }
}
