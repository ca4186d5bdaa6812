//! Whether `tiny_http` has or gets a thread for one more connection.
//!
//! Its pool starts one where none is idle, and its accept thread panics if that fails: the
//! connection is lost then, and nothing is accepted until there is another accept thread. So it
//! gets a connection only if a thread of the pool is idle or a thread can be started.
//!
//! Cost: some atomic numbers for a connection. Where the pool may be about to start threads, some
//! are started to see whether they can be, at most once a second or for each eight that it starts.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::util::lock::lock;

/// With so many a pool begins. They wait until each has served for the first time.
const FIRST: usize = 4;

/// More than this must be idle: one that has just finished is not back in its pool at once.
const RETURNING: usize = 2;

/// How many are tried to be started.
const TRIED: usize = 8;

/// For how long it is believed that they can be.
const TRUST: Duration = Duration::from_secs(1);

/// How long a new connection waits for a thread before it is refused; the second: where the one
/// before it was refused.
const TIMEOUT: Duration = Duration::from_secs(1);
const NEXT_TIMEOUT: Duration = Duration::from_millis(50);

thread_local! {
    /// Counts this thread in its pool.
    static MEMBER: OnceCell<Member> = const { OnceCell::new() };
}

/// The threads of the pool of one server of `tiny_http`'s.
#[derive(Debug, Default)]
pub(super) struct PoolThreads {
    /// Those that have served a connection, and have not ended.
    members: AtomicUsize,
    /// Those that have ever served one.
    all_members: AtomicUsize,
    /// Connections that have been given to them and are not over.
    connections: AtomicUsize,
    /// Up to which size the pool may grow, and until when that is believed.
    trusted: Mutex<Option<(usize, Instant)>>,
    /// The last connection was refused.
    refuses: AtomicBool,
}

impl PoolThreads {
    /// Whether a thread is idle, or one can be started.
    pub(super) fn has_thread(&self, now: Instant) -> bool {
        let unused = FIRST.saturating_sub(self.all_members.load(Ordering::Relaxed));
        let size = self.members.load(Ordering::Relaxed) + unused;
        if size > self.connections.load(Ordering::Relaxed) + RETURNING {
            return true;
        }
        let mut trusted = lock(&self.trusted);
        if trusted.is_none_or(|(most, until)| size >= most || now >= until) {
            *trusted = Some((size + startable(TRIED), now + TRUST));
        }
        trusted.is_some_and(|(most, _)| size < most)
    }

    /// How long a new connection may wait for a thread.
    pub(super) fn timeout(&self) -> Duration {
        if self.refuses.load(Ordering::Relaxed) {
            NEXT_TIMEOUT
        } else {
            TIMEOUT
        }
    }

    /// Whether there was a thread for the last connection.
    pub(super) fn note(&self, had_thread: bool) {
        self.refuses.store(!had_thread, Ordering::Relaxed);
    }

    /// A connection is about to be given to one of them.
    pub(super) fn serve(self: &Arc<Self>) -> Served {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Served(Arc::clone(self))
    }
}

/// Counts a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Served(Arc<PoolThreads>);

impl Served {
    /// The calling thread is the one that serves it.
    pub(super) fn enter_pool(&self) {
        // Of a thread that ends nothing is counted.
        let _ = MEMBER.try_with(|member| {
            member.get_or_init(|| {
                self.0.all_members.fetch_add(1, Ordering::Relaxed);
                self.0.members.fetch_add(1, Ordering::Relaxed);
                Member(Arc::clone(&self.0))
            });
        });
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Member(Arc<PoolThreads>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many threads can be started, at most so many. One more is tried: what has ended is not gone
/// at once, and another thread may be started meanwhile.
pub(super) fn startable(most: usize) -> usize {
    let (gate, waiting) = bounded::<()>(0);
    let threads: Vec<_> = (0..=most)
        .map_while(|_| {
            let waiting = waiting.clone();
            let wait = move || waiting.recv().is_ok();
            thread::Builder::new().spawn(wait).ok()
        })
        .collect();
    drop(gate);
    let started = threads.len();
    for thread in threads {
        let _ = thread.join();
    }
    started.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With threads that have served a connection, while these last.
    fn with_members(pool: &Arc<PoolThreads>, number: usize, then: impl FnOnce()) {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..number)
                .map(|_| {
                    let (entered, leave) = (bounded(1), bounded::<()>(0));
                    let served = pool.serve();
                    let thread = scope.spawn(move || {
                        served.enter_pool();
                        served.enter_pool();
                        drop(served);
                        let _ = entered.0.send(());
                        let _ = leave.1.recv();
                    });
                    entered.1.recv().unwrap();
                    (leave.0, thread)
                })
                .collect();
            then();
            for (leave, thread) in threads {
                drop(leave);
                // Only this waits for its thread-locals, too.
                thread.join().unwrap();
            }
        });
    }

    /// Whether it is believed without a trial.
    fn is_sure(pool: &PoolThreads) -> bool {
        let now = Instant::now();
        *lock(&pool.trusted) = Some((0, now));
        let sure = pool.has_thread(now);
        let tried = lock(&pool.trusted).is_some_and(|(most, _)| most > 0);
        assert!(sure, "threads can be started here");
        !tried
    }

    #[test]
    fn a_thread_is_idle_beyond_those_that_serve_and_two() {
        let pool = Arc::new(PoolThreads::default());
        let first = pool.serve();
        assert!(is_sure(&pool));
        let second = pool.serve();
        assert!(!is_sure(&pool));
        with_members(&pool, 5, || assert!(is_sure(&pool)));
        // All of them have ended, the first four as well.
        assert_eq!(pool.members.load(Ordering::Relaxed), 0);
        drop((first, second));
        assert!(!is_sure(&pool));
    }

    #[test]
    fn that_threads_can_be_started_is_believed_for_eight_or_a_second() {
        let pool = Arc::new(PoolThreads::default());
        let _served: Vec<_> = (0..20).map(|_| pool.serve()).collect();
        let now = Instant::now();
        assert!(pool.has_thread(now));
        let first = *lock(&pool.trusted);
        assert_eq!(first, Some((FIRST + TRIED, now + TRUST)));
        let before = now + TRUST.saturating_sub(Duration::from_nanos(1));
        assert!(pool.has_thread(before));
        assert_eq!(*lock(&pool.trusted), first);
        assert!(pool.has_thread(now + TRUST));
        assert_ne!(*lock(&pool.trusted), first);
        let second = *lock(&pool.trusted);
        with_members(&pool, FIRST + TRIED, || {
            assert!(pool.has_thread(now + TRUST));
            assert_ne!(*lock(&pool.trusted), second);
        });
    }
}
