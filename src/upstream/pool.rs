//! Idle connections to endpoints: kept for [`MAX_IDLE`], the most recently used one is taken first.
//!
//! Each endpoint has an [`UpstreamPool`]; ureq's own pool stays empty. ureq's pool is one
//! mutex under which each check-out and each return visits all idle connections and the
//! liveness probe is made, it hands out the connection that has been idle longest, and it
//! closes connections only when it is called. Here a connection is taken and put back in
//! constant time, a burst's surplus grows old at the bottom of the stack instead of taking
//! turns, and no system call is made under the lock.
//!
//! Always: a pool holds at most its bound, the longest idle connection makes room; a
//! connection that has been idle for longer than the monitor's `max_idle` is not handed
//! out; a connection is in a pool or in use, never both.
//!
//! Expiry needs no thread. [`IdleMonitor`] knows the pools of all endpoints. One thread that
//! waits for other things anyway also waits for [`IdleMonitor::began`] and, from then on,
//! calls [`IdleMonitor::close_expired`] when that asks for it. While all pools are empty it
//! waits for nothing.
//!
//! Cost: one lock to take a connection and one to put it back, and the waiting thread wakes
//! at most twice in `max_idle` under a steady load.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::util::lock::lock;

/// How long a connection is kept that is not used.
pub const MAX_IDLE: Duration = Duration::from_secs(15);

/// Connections of a burst expire within milliseconds of each other: they are closed
/// together. So a connection is closed at most this much late.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The idle connections to one endpoint.
#[derive(Debug)]
pub struct UpstreamPool<C> {
    /// The longest idle one in front.
    idle: Mutex<VecDeque<Idle<C>>>,
    /// Changed while `idle` is locked.
    max_connections: AtomicUsize,
    max_idle: Duration,
    alarm: Arc<Alarm>,
}

#[derive(Debug)]
struct Idle<C> {
    connection: C,
    since: Instant,
}

impl<C> UpstreamPool<C> {
    /// Takes the most recently used connection. The endpoint may have closed it meanwhile.
    pub fn take(&self) -> Option<C> {
        let now = Instant::now();
        let mut idle = self.lock();
        let newest = idle.pop_back();
        let oldest = self.pop_expired(&mut idle, now);
        // Closing is a system call.
        drop(idle);
        drop(oldest);
        newest
            .filter(|newest| newest.since + self.max_idle > now)
            .map(|newest| newest.connection)
    }

    /// Puts a connection in that can be used again. Where the pool is full, the longest idle
    /// one is closed.
    pub fn put(&self, connection: C) {
        let since = Instant::now();
        let mut idle = self.lock();
        idle.push_back(Idle { connection, since });
        let oldest = if idle.len() > self.max_connections.load(Ordering::Relaxed) {
            idle.pop_front()
        } else {
            self.pop_expired(&mut idle, since)
        };
        drop(idle);
        drop(oldest);
        self.alarm.raise();
    }

    /// Closes all connections, and from now on each one that is put in.
    pub fn close(&self) {
        let mut idle = self.lock();
        self.max_connections.store(0, Ordering::Relaxed);
        let closed = std::mem::take(&mut *idle);
        drop(idle);
        drop(closed);
    }

    /// Whether it keeps no connection any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.max_connections.load(Ordering::Relaxed) == 0
    }

    /// When the first connection expires, if there is one.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        Some(self.lock().front()?.since + self.max_idle)
    }

    /// Closes the connections that have expired by `now`, and returns how many they were.
    pub fn close_expired(&self, now: Instant) -> usize {
        let mut idle = self.lock();
        let mut expired = Vec::new();
        while let Some(oldest) = self.pop_expired(&mut idle, now) {
            expired.push(oldest);
        }
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
        drop(idle);
        expired.len()
    }

    /// How many connections are idle.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no connection is idle.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn pop_expired(&self, idle: &mut VecDeque<Idle<C>>, now: Instant) -> Option<Idle<C>> {
        if idle.front()?.since + self.max_idle <= now {
            idle.pop_front()
        } else {
            None
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle<C>>> {
        lock(&self.idle)
    }
}

/// Wakes the thread that waits for connections to expire, unless it waits with a time-out.
#[derive(Debug)]
struct Alarm {
    /// A wake-up has been sent, or the next call of [`IdleMonitor::close_expired`] is due at
    /// some time.
    raised: AtomicBool,
    wake: Sender<()>,
}

impl Alarm {
    /// Called after a connection has been put in a pool.
    fn raise(&self) {
        // The load alone leaves the cache line shared.
        if !self.raised.load(Ordering::Acquire) && !self.raised.swap(true, Ordering::AcqRel) {
            // One wake-up is enough.
            let _ = self.wake.try_send(());
        }
    }
}

/// Makes the pools of all endpoints, and ends what expires in them.
#[derive(Debug)]
pub struct IdleMonitor<C> {
    /// A pool goes with its endpoint.
    pools: Mutex<Vec<Weak<UpstreamPool<C>>>>,
    max_idle: Duration,
    alarm: Arc<Alarm>,
    began: Receiver<()>,
}

impl<C> IdleMonitor<C> {
    /// A monitor of pools whose connections expire after `max_idle`.
    #[must_use]
    pub fn new(max_idle: Duration) -> Self {
        let (wake, began) = bounded(1);
        Self {
            pools: Mutex::default(),
            max_idle,
            alarm: Arc::new(Alarm {
                raised: AtomicBool::new(false),
                wake,
            }),
            began,
        }
    }

    /// A pool of at most `max_connections`.
    #[must_use]
    pub fn pool(&self, max_connections: usize) -> Arc<UpstreamPool<C>> {
        let pool = Arc::new(UpstreamPool {
            idle: Mutex::default(),
            max_connections: AtomicUsize::new(max_connections),
            max_idle: self.max_idle,
            alarm: Arc::clone(&self.alarm),
        });
        let mut pools = self.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        pool
    }

    /// Receives when a connection becomes idle after [`IdleMonitor::close_expired`] has
    /// returned none, and when the first one ever does. It expires `max_idle` later:
    /// [`IdleMonitor::close_expired`] is to be called then.
    #[must_use]
    pub fn began(&self) -> &Receiver<()> {
        &self.began
    }

    /// How long a connection may be idle.
    #[must_use]
    pub fn max_idle(&self) -> Duration {
        self.max_idle
    }

    /// Closes all connections that have expired by `now`. Returns when to call it again;
    /// none until [`IdleMonitor::began`] receives.
    #[must_use = "connections stay open if it is not called again"]
    pub fn close_expired(&self, now: Instant) -> Option<Instant> {
        let pools: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        for pool in &pools {
            pool.close_expired(now);
        }
        let next = || pools.iter().filter_map(|pool| pool.next_expiry()).min();
        let next = next().or_else(|| {
            self.alarm.raised.store(false, Ordering::Release);
            // A connection put in before that has raised nothing.
            let next = next()?;
            self.alarm.raised.store(true, Ordering::Release);
            Some(next)
        })?;
        Some(next.max(now + MIN_INTERVAL))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<UpstreamPool<C>>>> {
        lock(&self.pools)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_most_recently_used_connection_is_taken_first() {
        let pool = IdleMonitor::new(HOUR).pool(8);
        for connection in 1..=3 {
            pool.put(connection);
        }
        assert_eq!(pool.take(), Some(3));
        pool.put(4);
        let taken: Vec<i32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken, [4, 2, 1]);
    }

    #[test]
    fn the_longest_idle_connection_makes_room() {
        let pool = IdleMonitor::new(HOUR).pool(2);
        let connections: Vec<Arc<i32>> = (0..4).map(Arc::new).collect();
        for connection in &connections {
            pool.put(Arc::clone(connection));
            assert!(pool.len() <= 2);
        }
        let open = |connection| Arc::strong_count(connection) == 2;
        let open: Vec<bool> = connections.iter().map(open).collect();
        assert_eq!(open, [false, false, true, true]);
        let none = IdleMonitor::new(HOUR).pool(0);
        none.put(1);
        assert!(none.is_empty());
    }

    #[test]
    fn a_closed_pool_keeps_no_connection_and_one_that_is_gone_none_either() {
        let monitor = IdleMonitor::new(HOUR);
        let pool = monitor.pool(8);
        let connection = Arc::new(1);
        pool.put(Arc::clone(&connection));
        pool.close();
        assert_eq!(Arc::strong_count(&connection), 1);
        pool.put(Arc::clone(&connection));
        assert_eq!((Arc::strong_count(&connection), pool.len()), (1, 0));
        let open = monitor.pool(8);
        open.put(Arc::clone(&connection));
        drop((pool, open));
        assert_eq!(Arc::strong_count(&connection), 1);
        assert_eq!(monitor.close_expired(Instant::now()), None);
        drop(monitor.pool(8));
        assert_eq!(monitor.lock().len(), 1);
    }

    #[test]
    fn an_expired_connection_is_not_handed_out() {
        let pool = IdleMonitor::new(Duration::ZERO).pool(8);
        let connection = Arc::new(1);
        pool.put(Arc::clone(&connection));
        assert_eq!(pool.take(), None);
        assert_eq!(Arc::strong_count(&connection), 1);
    }

    #[test]
    fn connections_are_closed_in_the_order_in_which_they_expire() {
        let monitor = IdleMonitor::new(HOUR);
        let pools = [monitor.pool(8), monitor.pool(8)];
        assert_eq!(monitor.close_expired(Instant::now()), None);
        let before = Instant::now();
        pools[1].put('a');
        let between = Instant::now();
        pools[0].put('b');
        let after = Instant::now();
        let first = monitor.close_expired(after).unwrap();
        assert!(before + HOUR <= first && first <= between + HOUR);
        assert_eq!(Some(first), pools[1].next_expiry());
        assert_eq!(pools[1].close_expired(before), 0);
        // What expires a moment later is not woken for at once.
        assert_eq!(monitor.close_expired(first), Some(first + MIN_INTERVAL));
        assert_eq!([pools[0].len(), pools[1].len()], [1, 0]);
        assert_eq!(monitor.close_expired(after + HOUR), None);
        assert!(pools[0].is_empty());
        assert_eq!(pools[0].next_expiry(), None);
    }

    #[test]
    fn one_wake_up_is_sent_until_all_pools_are_empty_again() {
        let monitor = IdleMonitor::new(HOUR);
        let pools = [monitor.pool(8), monitor.pool(8)];
        for _ in 0..2 {
            assert!(monitor.began().is_empty());
            for pool in &pools {
                pool.put(());
                assert_eq!(monitor.began().len(), 1);
            }
            monitor.began().recv().unwrap();
            let now = Instant::now();
            for _ in 0..3 {
                // The pool runs empty for a moment with each request.
                assert!(pools[0].take().is_some());
                pools[0].put(());
                assert!(monitor.close_expired(now).is_some());
                assert!(monitor.began().is_empty());
            }
            assert_eq!(monitor.close_expired(Instant::now() + HOUR), None);
        }
    }

    #[test]
    fn no_connection_becomes_idle_unnoticed() {
        const ROUNDS: usize = 2_000;
        let monitor = IdleMonitor::new(HOUR);
        let pool = monitor.pool(1);
        let barrier = Barrier::new(2);
        let mut missed: Vec<usize> = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    barrier.wait();
                    pool.put(());
                    barrier.wait();
                }
            });
            for round in 0..ROUNDS {
                // The pool has been emptied since the call that is now due was asked for.
                pool.put(());
                monitor.began().recv().unwrap();
                assert!(pool.take().is_some());
                barrier.wait();
                let next = monitor.close_expired(Instant::now());
                barrier.wait();
                let noticed = next.is_some() || !monitor.began().is_empty();
                // Not yet: the other thread would wait for this one.
                if !noticed {
                    missed.push(round);
                }
                pool.take();
                assert_eq!(monitor.close_expired(Instant::now()), None);
                let _ = monitor.began().try_recv();
            }
        });
        assert!(missed.is_empty(), "{missed:?}");
    }
}
