//! Whether `tiny_http` has or gets a thread for one more connection.
//!
//! Its pool starts one where none is idle, and its accept thread panics if that fails: the
//! connection is lost then, and nothing is accepted until there is another accept thread. So it
//! gets a connection only if a thread of the pool is idle or a thread can be started. In the usual
//! case this costs two atomic numbers; a thread is started to see whether it can be only where the
//! pool is about to start one.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::bounded;

/// As many are there from the beginning, and stay.
const LEAST: usize = 4;

/// More than this must be idle: one that has just finished is not back in its pool at once.
const RETURNING: usize = 2;

thread_local! {
    /// Counts this thread in its pool.
    static MEMBER: OnceCell<Member> = const { OnceCell::new() };
}

/// The threads of the pool of one server of `tiny_http`'s.
#[derive(Debug, Default)]
pub(super) struct PoolThreads {
    /// Those that have served a connection, and have not ended.
    members: AtomicUsize,
    /// Connections that have been given to them and are not over.
    connections: AtomicUsize,
}

impl PoolThreads {
    /// Whether a thread waits for a connection, for sure.
    pub(super) fn has_idle(&self) -> bool {
        let threads = self.members.load(Ordering::Relaxed).max(LEAST);
        threads > self.connections.load(Ordering::Relaxed) + RETURNING
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

/// Whether so many threads can be started, and one more: what has ended is not gone at once, and
/// another thread may be started meanwhile.
pub(super) fn can_start(count: usize) -> bool {
    let (gate, waiting) = bounded::<()>(0);
    let threads: Vec<_> = (0..=count)
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
    started > count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_idle_for_sure_beyond_those_that_serve_and_two() {
        let pool = Arc::new(PoolThreads::default());
        let mut served = vec![pool.serve()];
        assert!(pool.has_idle());
        served.push(pool.serve());
        assert!(!pool.has_idle());
        let counted = thread::scope(|scope| {
            let threads: Vec<_> = (0..5)
                .map(|_| {
                    let (entered, leave) = (bounded(1), bounded::<()>(0));
                    let served = &served[0];
                    scope.spawn(move || {
                        served.enter_pool();
                        served.enter_pool();
                        let _ = entered.0.send(());
                        let _ = leave.1.recv();
                    });
                    entered.1.recv().unwrap();
                    leave.0
                })
                .collect();
            let counted = pool.has_idle();
            drop(threads);
            counted
        });
        assert!(counted);
        assert_eq!(pool.members.load(Ordering::Relaxed), 0);
        served.pop();
        assert!(pool.has_idle());
    }

    #[test]
    fn a_few_threads_can_be_started() {
        assert!(can_start(5));
    }
}
