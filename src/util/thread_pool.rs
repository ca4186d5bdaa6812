//! Scopes on pooled threads: what `std::thread::scope` does, without a new thread for each job.
//!
//! Always: a [`Scope`] ends when all jobs of its [`Spawner`]s have ended; a panic ends its own
//! job only; a thread that has ended its job is idle before the scope is notified. A job goes to
//! the thread that became idle last, so the stack and the allocator's arena that it finds are
//! warm. Threads are started while all are busy, up to a bound, and end when they have been idle
//! for a time. A job that finds no thread is not queued: the caller gets an error before it has
//! given the job away.
//!
//! Jobs own what they use (`Arc`). Jobs that borrow, as those of `std` do, would need `unsafe`
//! here, and would not spare the reference counts: the callbacks of an attempt need them too.
//!
//! Cost: a job is one allocation and one futex wake, of the one thread that gets it; its end
//! wakes the scope's owner only if that waits for it. An idle thread sleeps, and wakes once to
//! end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::lock::lock;

/// Threads that run the jobs of scopes.
#[derive(Debug)]
pub struct ThreadPool {
    threads: Mutex<Threads>,
    max_idle: Duration,
    name: &'static str,
}

#[derive(Debug, Default)]
struct Threads {
    /// The one that became idle last is the last one.
    idle: Vec<Arc<Worker>>,
    /// Idle and busy ones.
    count: usize,
    /// There are no more of them.
    max: usize,
}

/// A thread of the pool.
#[derive(Default)]
struct Worker {
    /// The job that it has been given and has not begun.
    job: Mutex<Option<Job>>,
    /// Set before it has been given one.
    thread: OnceLock<Thread>,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    latch: Arc<Latch>,
}

/// Counts the jobs of a scope.
#[derive(Debug)]
struct Latch {
    running: AtomicUsize,
    /// The owner waits until so many are left, and one: 0 if it does not wait.
    awaited: AtomicUsize,
    owner: Thread,
}

/// The owner's side of a scope: dropping it waits for all jobs.
#[derive(Debug)]
pub struct Scope {
    spawner: Spawner,
}

/// Starts jobs of a scope. To be used by the scope's owner and by its jobs only: what is started
/// after the scope's end is not waited for.
#[derive(Clone, Debug)]
pub struct Spawner {
    pool: Arc<ThreadPool>,
    latch: Arc<Latch>,
}

/// A thread that waits for its job. Dropped without a job, it is idle again.
#[must_use = "the thread gets no job"]
pub struct Reserved<'a> {
    spawner: &'a Spawner,
    worker: Option<Arc<Worker>>,
}

impl ThreadPool {
    /// A pool without threads. They get this name, are at most so many, and end after
    /// `max_idle` without a job.
    #[must_use]
    pub fn new(name: &'static str, max_threads: usize, max_idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            threads: Mutex::new(Threads {
                max: max_threads,
                ..Threads::default()
            }),
            max_idle,
            name,
        })
    }

    /// A scope whose owner is the calling thread.
    #[must_use]
    pub fn scope(self: &Arc<Self>) -> Scope {
        Scope {
            spawner: Spawner {
                pool: Arc::clone(self),
                latch: Arc::new(Latch {
                    running: AtomicUsize::new(0),
                    awaited: AtomicUsize::new(0),
                    owner: thread::current(),
                }),
            },
        }
    }

    /// From now on there may be so many threads. Where there might be more, that stays: what is
    /// under way may still need them.
    pub fn raise_max_threads(&self, max_threads: usize) {
        let mut threads = lock(&self.threads);
        threads.max = threads.max.max(max_threads);
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        lock(&self.threads).count
    }

    /// The thread that became idle last, or a new one.
    fn reserve(self: &Arc<Self>) -> io::Result<Arc<Worker>> {
        let mut threads = lock(&self.threads);
        if let Some(worker) = threads.idle.pop() {
            return Ok(worker);
        }
        if threads.count >= threads.max {
            let most = threads.max;
            return Err(io::Error::other(format!("all {most} are busy")));
        }
        threads.count += 1;
        drop(threads);
        let spawned = self.spawn();
        if spawned.is_err() {
            lock(&self.threads).count -= 1;
        }
        spawned
    }

    fn spawn(self: &Arc<Self>) -> io::Result<Arc<Worker>> {
        let worker = Arc::new(Worker::default());
        let (pool, own) = (Arc::clone(self), Arc::clone(&worker));
        let handle = thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(move || pool.work(&own))?;
        // The thread does not look at it, and gets no job before this.
        let _ = worker.thread.set(handle.thread().clone());
        Ok(worker)
    }

    /// What a thread of the pool does.
    fn work(&self, worker: &Arc<Worker>) {
        loop {
            let Some(job) = worker.next_job(self.max_idle) else {
                if self.retire(worker) {
                    return;
                }
                // A job is about to come.
                continue;
            };
            let Job { run, latch } = job;
            // A panic has been logged by the hook.
            let _ = catch_unwind(AssertUnwindSafe(run));
            lock(&self.threads).idle.push(Arc::clone(worker));
            latch.count_down();
        }
    }

    /// Takes an idle thread out, which ends then. False if it has just been reserved.
    fn retire(&self, worker: &Arc<Worker>) -> bool {
        let mut threads = lock(&self.threads);
        // Those that have been idle for longest are in front.
        let place = threads
            .idle
            .iter()
            .position(|idle| Arc::ptr_eq(idle, worker));
        let Some(place) = place else {
            return false;
        };
        threads.idle.remove(place);
        threads.count -= 1;
        true
    }
}

impl Worker {
    /// Waits for a job, at most for `max_idle`.
    fn next_job(&self, max_idle: Duration) -> Option<Job> {
        let mut deadline = None;
        loop {
            if let Some(job) = lock(&self.job).take() {
                return Some(job);
            }
            let now = Instant::now();
            let left = *deadline.get_or_insert(now + max_idle) - now;
            if left.is_zero() {
                return None;
            }
            thread::park_timeout(left);
        }
    }

    fn give(&self, job: Job) {
        *lock(&self.job) = Some(job);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Worker").field(&self.thread).finish()
    }
}

impl Scope {
    /// Starts jobs of this scope.
    #[must_use]
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Whether all jobs have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.spawner.latch.running.load(Ordering::SeqCst) == 0
    }

    /// Waits until no more than `remaining()` jobs are left, or until `deadline`. To be called
    /// by the owner. `remaining` is asked anew whenever jobs have ended.
    pub fn wait_until(&self, deadline: Option<Instant>, remaining: impl Fn() -> usize) {
        self.spawner.latch.wait_until(deadline, remaining);
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.wait_until(None, || 0);
    }
}

impl Spawner {
    /// A thread for a job.
    ///
    /// # Errors
    /// All threads are busy and there can be no more of them.
    pub fn reserve(&self) -> io::Result<Reserved<'_>> {
        Ok(Reserved {
            worker: Some(self.pool.reserve()?),
            spawner: self,
        })
    }

    /// Wakes the owner, if it has called `std::thread::park` or does so next.
    pub fn wake_owner(&self) {
        self.latch.owner.unpark();
    }
}

impl Reserved<'_> {
    /// Runs the job on the thread.
    pub fn run(mut self, job: impl FnOnce() + Send + 'static) {
        let latch = Arc::clone(&self.spawner.latch);
        latch.running.fetch_add(1, Ordering::SeqCst);
        let run = Box::new(job);
        if let Some(worker) = self.worker.take() {
            worker.give(Job { run, latch });
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            lock(&self.spawner.pool.threads).idle.push(worker);
        }
    }
}

impl Latch {
    /// Sequentially consistent with [`Latch::wait_until`]: either this sees that the owner
    /// waits, or the owner sees that the job has ended.
    fn count_down(&self) {
        let left = self.running.fetch_sub(1, Ordering::SeqCst) - 1;
        if left < self.awaited.load(Ordering::SeqCst) {
            self.owner.unpark();
        }
    }

    fn wait_until(&self, deadline: Option<Instant>, remaining: impl Fn() -> usize) {
        loop {
            let most = remaining();
            if self.running.load(Ordering::SeqCst) <= most {
                break;
            }
            self.awaited.store(most + 1, Ordering::SeqCst);
            if self.running.load(Ordering::SeqCst) <= most {
                break;
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    thread::park_timeout(left);
                }
            }
        }
        self.awaited.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::thread::ThreadId;

    use crossbeam_channel::{Receiver, Sender, bounded};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DEADLINE: Duration = Duration::from_secs(15);

    fn spawn(scope: &Scope, job: impl FnOnce() + Send + 'static) {
        scope.spawner().reserve().unwrap().run(job);
    }

    /// Jobs that send their thread's id and end when the gate opens.
    fn held(scope: &Scope, jobs: usize) -> (Vec<ThreadId>, Vec<Sender<()>>) {
        let (ids, received) = bounded(jobs);
        let mut ends = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..jobs {
            let (end, ended): (Sender<()>, Receiver<()>) = bounded(0);
            let ids = ids.clone();
            spawn(scope, move || {
                ids.send(thread::current().id()).unwrap();
                let _ = ended.recv();
            });
            threads.push(received.recv_timeout(DEADLINE).unwrap());
            ends.push(end);
        }
        (threads, ends)
    }

    #[test]
    fn threads_are_reused() {
        let pool = ThreadPool::new("test", 8, HOUR);
        let seen = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..100 {
            let scope = pool.scope();
            let seen = Arc::clone(&seen);
            spawn(&scope, move || lock(&seen).push(thread::current().id()));
        }
        let seen = lock(&seen);
        assert_eq!(seen.len(), 100);
        assert!(seen.iter().all(|id| *id == seen[0]));
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn the_thread_that_became_idle_last_gets_the_next_job() {
        let pool = ThreadPool::new("test", 8, HOUR);
        let scope = pool.scope();
        let (threads, ends) = held(&scope, 3);
        let mut left = 3;
        let mut ends: Vec<_> = ends.into_iter().map(Some).collect();
        for index in [1, 2, 0] {
            ends[index] = None;
            left -= 1;
            scope.wait_until(None, || left);
        }
        let (again, _ends) = held(&scope, 3);
        assert_eq!(again, [threads[0], threads[2], threads[1]]);
        assert_eq!(pool.threads(), 3);
    }

    #[test]
    fn a_job_beyond_the_bound_is_refused_and_one_thread_free_is_enough() {
        let pool = ThreadPool::new("test", 2, HOUR);
        let scope = pool.scope();
        let (_, ends) = held(&scope, 2);
        let refused = scope.spawner().reserve().err().unwrap();
        assert_eq!(refused.to_string(), "all 2 are busy");
        // A bound that is raised is never lowered.
        for (raised_to, most) in [(1, 2), (3, 3)] {
            pool.raise_max_threads(raised_to);
            let reserved: Vec<_> = (2..most).map(|_| scope.spawner().reserve()).collect();
            assert!(reserved.iter().all(Result::is_ok));
            let refused = scope.spawner().reserve().err().unwrap();
            assert_eq!(refused.to_string(), format!("all {most} are busy"));
        }
        drop(ends);
        drop(scope);

        let pool = ThreadPool::new("test", 2, HOUR);
        let scope = pool.scope();
        let (_, mut ends) = held(&scope, 2);
        ends.pop();
        scope.wait_until(None, || 1);
        let (_, _ends) = held(&scope, 1);
        assert_eq!(pool.threads(), 2);
    }

    #[test]
    fn a_reserved_thread_without_a_job_is_idle_again() {
        let pool = ThreadPool::new("test", 1, HOUR);
        let scope = pool.scope();
        for _ in 0..10 {
            let reserved = scope.spawner().reserve().unwrap();
            assert!(scope.spawner().reserve().is_err());
            drop(reserved);
        }
        let (threads, _ends) = held(&scope, 1);
        assert_eq!(threads.len(), 1);
    }

    #[test]
    fn a_panic_ends_its_job_only() {
        let pool = ThreadPool::new("test", 1, HOUR);
        let scope = pool.scope();
        let (threads, _) = held(&scope, 1);
        scope.wait_until(None, || 0);
        spawn(&scope, || std::panic::resume_unwind(Box::new("on purpose")));
        // The scope ends, and the thread lives on.
        drop(scope);
        let scope = pool.scope();
        assert_eq!(held(&scope, 1).0, threads);
    }

    #[test]
    fn a_scope_ends_when_its_jobs_have_ended_those_that_jobs_start_included() {
        let pool = ThreadPool::new("test", 8, HOUR);
        for _ in 0..200 {
            let ended = Arc::new(AtomicUsize::new(0));
            let other = pool.scope();
            let (_, _other_ends) = held(&other, 1);
            let scope = pool.scope();
            for _ in 0..3 {
                let (spawner, ended) = (scope.spawner().clone(), Arc::clone(&ended));
                spawn(&scope, move || {
                    let inner = Arc::clone(&ended);
                    let count = move || {
                        thread::yield_now();
                        inner.fetch_add(1, Ordering::Relaxed);
                    };
                    spawner.reserve().unwrap().run(count);
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
            drop(scope);
            assert_eq!(ended.load(Ordering::Relaxed), 6);
        }
        // All jobs of a scope found an idle thread if there was one.
        assert!(pool.threads() <= 7, "{}", pool.threads());
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_with_the_last_awaited_job() {
        let pool = ThreadPool::new("test", 8, HOUR);
        let scope = pool.scope();
        let (_, mut ends) = held(&scope, 2);
        let begun = Instant::now();
        let span = Duration::from_millis(30);
        scope.wait_until(Some(begun + span), || 0);
        assert!(begun.elapsed() >= span);
        assert_eq!(scope.spawner().latch.running.load(Ordering::SeqCst), 2);
        // One ends while the owner waits, and one may go on.
        let end = ends.pop();
        let ender = thread::spawn(move || drop(end));
        scope.wait_until(Some(Instant::now() + HOUR), || 1);
        ender.join().unwrap();
        assert_eq!(scope.spawner().latch.running.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn idle_threads_end_and_busy_ones_do_not() {
        let pool = ThreadPool::new("test", 8, Duration::from_millis(20));
        let scope = pool.scope();
        let (threads, mut ends) = held(&scope, 5);
        ends.truncate(1);
        let until = Instant::now() + DEADLINE;
        while pool.threads() > 1 {
            assert!(Instant::now() < until, "{}", pool.threads());
            thread::sleep(Duration::from_millis(1));
        }
        drop(ends);
        scope.wait_until(None, || 0);
        // The bound counts those that are there.
        let (again, _ends) = held(&scope, 8);
        assert!(again.len() == 8 && threads.len() == 5);
    }

    #[test]
    fn a_job_that_comes_as_its_thread_is_about_to_end_is_run() {
        // Threads expire all the time.
        let pool = ThreadPool::new("test", 64, Duration::from_micros(1));
        let stop = Arc::new(AtomicBool::new(false));
        let begin = Arc::new(Barrier::new(4));
        let owners: Vec<_> = (0..4)
            .map(|_| {
                let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
                let begin = Arc::clone(&begin);
                thread::spawn(move || {
                    begin.wait();
                    let ran = Arc::new(AtomicUsize::new(0));
                    let mut wanted = 0;
                    while wanted < 2_000 && !stop.load(Ordering::Relaxed) {
                        let scope = pool.scope();
                        for _ in 0..3 {
                            let ran = Arc::clone(&ran);
                            spawn(&scope, move || {
                                ran.fetch_add(1, Ordering::Relaxed);
                            });
                            wanted += 1;
                        }
                        drop(scope);
                        if ran.load(Ordering::Relaxed) != wanted {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                    (ran.load(Ordering::Relaxed), wanted)
                })
            })
            .collect();
        for owner in owners {
            let (ran, wanted) = owner.join().unwrap();
            assert_eq!(ran, wanted);
        }
    }
}
