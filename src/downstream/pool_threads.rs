//! Whether `tiny_http` has or gets a thread for one more connection.
//!
//! Its pool starts one where none is idle, and its accept thread panics if that fails: the
//! connection is lost then, and nothing is accepted until there is another accept thread. So it
//! gets a connection only if a thread of the pool is idle or a thread can be started.
//!
//! Cost: some numbers for a connection. Where it is not certain that a thread is idle, some are started
//! to see whether they can be, which takes a millisecond, and longer on a busy machine: at most once a
//! second, or for each eight that the pool starts. Where none can be, that is tried again for each
//! connection that waits, and the state of each thread is looked at. Without `/proc` a thread is idle
//! some time after its connection has ended, and one that has ended is gone at once.

use std::cell::OnceCell;
use std::fs::{self, DirEntry};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::util::lock::lock;

/// With so many a pool begins. They wait until each has served for the first time.
const FIRST: usize = 4;

/// A thread whose connection has ended is back in its pool after so long, on a busy machine, too.
const RETURN_TIME: Duration = Duration::from_millis(200);

/// How many are tried to be started.
const TRIED: usize = 8;

/// For how long it is believed that they can be.
const TRUST: Duration = Duration::from_secs(1);

/// How long a new connection waits for a thread before it is refused; the second: where the one
/// before it was refused.
const TIMEOUT: Duration = Duration::from_secs(1);
const NEXT_TIMEOUT: Duration = Duration::from_millis(50);

/// How long threads that have ended are waited for.
const CLEAR_TIMEOUT: Duration = Duration::from_millis(500);

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
    /// Those of them that no thread has come for. For each the pool may be starting one.
    arriving: AtomicUsize,
    ended: Mutex<Ended>,
    /// Up to which size the pool may grow, and until when that is believed.
    trusted: Mutex<Option<(usize, Instant)>>,
    /// The last connection was refused.
    refuses: AtomicBool,
}

impl PoolThreads {
    /// Whether a thread is idle, or one can be started.
    pub(super) fn has_thread(&self, now: Instant) -> bool {
        // Read in the reverse order of the changes: what changes in between makes no thread look idle.
        // At least one is taken to be on its way: an idle thread may be about to end.
        let arriving = self.arriving.load(Ordering::Acquire);
        let members = self.members.load(Ordering::Acquire);
        let unused = FIRST.saturating_sub(self.all_members.load(Ordering::Relaxed));
        let connections = self.connections.load(Ordering::Acquire);
        let returning = lock(&self.ended).count(now).max(1);
        let size = members + unused;
        if size > connections + returning {
            return true;
        }
        let most_started = size + arriving;
        let mut trusted = lock(&self.trusted);
        if trusted.is_none_or(|(most, until)| most_started >= most || now >= until) {
            *trusted = Some((most_started + startable(TRIED), now + TRUST));
        }
        trusted.is_some_and(|(most, _)| most_started < most)
            || (size > connections && size > connections + returning.min(runnable()))
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
        self.arriving.fetch_add(1, Ordering::Relaxed);
        Served {
            pool: Arc::clone(self),
            has_arrived: AtomicBool::new(false),
        }
    }
}

/// How many connections have ended lately.
#[derive(Debug, Default)]
struct Ended {
    /// When the newer of two spans began.
    since: Option<Instant>,
    newer: usize,
    older: usize,
}

impl Ended {
    /// Counts one.
    fn add(&mut self, now: Instant) {
        self.advance(now);
        self.newer += 1;
    }

    /// At least those of the last [`RETURN_TIME`], at most those of twice that.
    fn count(&mut self, now: Instant) -> usize {
        self.advance(now);
        self.newer + self.older
    }

    fn advance(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age >= RETURN_TIME {
            let is_next = age < 2 * RETURN_TIME;
            self.older = if is_next { self.newer } else { 0 };
            self.newer = 0;
            self.since = Some(if is_next { since + RETURN_TIME } else { now });
        }
    }
}

/// Counts a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Served {
    pool: Arc<PoolThreads>,
    has_arrived: AtomicBool,
}

impl Served {
    /// The calling thread is the one that serves it.
    pub(super) fn enter_pool(&self) {
        // Of a thread that ends nothing is counted.
        let _ = MEMBER.try_with(|member| {
            member.get_or_init(|| {
                self.pool.all_members.fetch_add(1, Ordering::Relaxed);
                self.pool.members.fetch_add(1, Ordering::Release);
                Member(Arc::clone(&self.pool))
            });
        });
        self.arrive();
    }

    fn arrive(&self) {
        if !self.has_arrived.swap(true, Ordering::Relaxed) {
            self.pool.arriving.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.arrive();
        lock(&self.pool.ended).add(Instant::now());
        self.pool.connections.fetch_sub(1, Ordering::Release);
    }
}

#[derive(Debug)]
struct Member(Arc<PoolThreads>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// At most so many other threads of this process have something to do. One that waits in its pool has
/// not.
fn runnable() -> usize {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return usize::MAX;
    };
    let is_busy = |task: &DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat"));
        !stat.is_ok_and(|stat| is_asleep(&stat))
    };
    tasks.flatten().filter(is_busy).count().saturating_sub(1)
}

/// Whether a thread waits that has this in its `stat` (proc(5)): its state stands behind its name.
fn is_asleep(stat: &str) -> bool {
    let behind = stat.rsplit_once(") ");
    behind.is_some_and(|(_, state)| state.starts_with("S "))
}

/// How many threads can be started, at most so many. One more is tried: another thread may be started
/// meanwhile.
pub(super) fn startable(most: usize) -> usize {
    let (gate, waiting) = bounded::<()>(0);
    let threads: Vec<_> = (0..=most)
        .map_while(|_| {
            let waiting = waiting.clone();
            let wait = move || {
                let _ = waiting.recv();
                fs::read_link("/proc/thread-self").ok()
            };
            thread::Builder::new().spawn(wait).ok()
        })
        .collect();
    drop(gate);
    let started = threads.len();
    // One that has ended still counts until the kernel has cleared it away, which is a while on a busy
    // machine.
    let until = Instant::now() + CLEAR_TIMEOUT;
    for thread in threads {
        let Ok(Some(entry)) = thread.join() else {
            continue;
        };
        let entry = Path::new("/proc").join(entry);
        while entry.exists() && Instant::now() < until {
            thread::sleep(Duration::from_micros(100));
        }
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

    /// Whether it is known without a trial.
    fn is_sure(pool: &PoolThreads, now: Instant) -> bool {
        *lock(&pool.trusted) = None;
        assert!(pool.has_thread(now), "threads can be started here");
        lock(&pool.trusted).is_none()
    }

    #[test]
    fn a_thread_is_idle_beyond_those_that_serve_and_return() {
        let pool = Arc::new(PoolThreads::default());
        let mut served: Vec<_> = (2..FIRST).map(|_| pool.serve()).collect();
        assert!(is_sure(&pool, Instant::now()));
        served.push(pool.serve());
        assert!(!is_sure(&pool, Instant::now()));
        with_members(&pool, FIRST + 2, || {
            let now = Instant::now();
            assert!(!is_sure(&pool, now));
            assert!(is_sure(&pool, now + 2 * RETURN_TIME));
        });
        // All of them have ended, the first four as well.
        assert_eq!(pool.members.load(Ordering::Relaxed), 0);
        drop(served);
        assert!(!is_sure(&pool, Instant::now() + 2 * RETURN_TIME));
    }

    #[test]
    fn a_state_is_read_whatever_the_name() {
        for (stat, wanted) in [
            ("17 (pool) S 1 17", true),
            ("17 (pool) R 1 17", false),
            ("17 (a) S ) R 1 17", false),
            ("17 (a) R ) S 1 17", true),
            ("17 (pool) D 1 17", false),
            ("", false),
        ] {
            assert_eq!(is_asleep(stat), wanted, "{stat}");
        }
    }

    #[test]
    fn a_thread_that_waits_is_not_runnable() {
        let (gate, waiting) = bounded::<()>(0);
        let is_over = AtomicBool::new(false);
        let busy = || {
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let until = Instant::now() + Duration::from_secs(10);
        let mut seen = false;
        thread::scope(|scope| {
            scope.spawn(move || waiting.recv());
            scope.spawn(busy);
            while !seen && Instant::now() < until {
                // Threads of other tests are there as well.
                let all = fs::read_dir("/proc/self/task").unwrap().count();
                seen = (1..all - 1).contains(&runnable());
            }
            is_over.store(true, Ordering::Relaxed);
            drop(gate);
        });
        assert!(seen);
    }

    #[test]
    fn what_has_ended_counts_for_once_or_twice_the_time_of_a_return() {
        let (mut ended, now) = (Ended::default(), Instant::now());
        let almost = RETURN_TIME.saturating_sub(Duration::from_nanos(1));
        ended.add(now);
        ended.add(now + almost);
        assert_eq!(ended.count(now + almost), 2);
        ended.add(now + RETURN_TIME);
        assert_eq!(ended.count(now + RETURN_TIME + almost), 3);
        assert_eq!(ended.count(now + 2 * RETURN_TIME), 1);
        assert_eq!(ended.count(now + 3 * RETURN_TIME), 0);
        ended.add(now + 3 * RETURN_TIME);
        assert_eq!(ended.count(now + 5 * RETURN_TIME), 0);
        let mut asked_late = Ended::default();
        asked_late.add(now);
        assert_eq!(asked_late.count(now + RETURN_TIME + almost), 1);
        assert_eq!(asked_late.count(now + 2 * RETURN_TIME), 0);
    }

    #[test]
    fn that_threads_can_be_started_is_believed_for_eight_or_a_second() {
        const SERVED: usize = 20;
        let pool = Arc::new(PoolThreads::default());
        let served: Vec<_> = (0..SERVED).map(|_| pool.serve()).collect();
        let now = Instant::now();
        assert!(pool.has_thread(now));
        let trusted = || *lock(&pool.trusted);
        let first = trusted();
        assert_eq!(first, Some((FIRST + SERVED + TRIED, now + TRUST)));
        let before = now + TRUST.saturating_sub(Duration::from_nanos(1));
        assert!(pool.has_thread(before));
        assert_eq!(trusted(), first);
        assert!(pool.has_thread(now + TRUST));
        let second = trusted();
        assert_ne!(second, first);
        // No thread has come for them: one may be about to be started for each.
        let mut more: Vec<_> = (1..TRIED).map(|_| pool.serve()).collect();
        assert!(pool.has_thread(now + TRUST));
        assert_eq!(trusted(), second);
        more.push(pool.serve());
        assert!(pool.has_thread(now + TRUST));
        let third = trusted();
        assert_ne!(third, second);
        // One thread has come for all of them.
        let all = || served.iter().chain(&more);
        thread::scope(|scope| {
            scope.spawn(|| all().for_each(Served::enter_pool));
        });
        *lock(&pool.trusted) = Some((FIRST + 1, now + TRUST));
        assert!(pool.has_thread(now));
        assert_eq!(trusted(), Some((FIRST + 1, now + TRUST)));
    }
}
