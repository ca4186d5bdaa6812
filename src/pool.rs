//! The worker pool: threads for as many jobs as are being done, up to a limit.
//!
//! A job never waits for a busy worker while the limit allows for one more: the pool
//! counts the jobs that are not done yet, not the workers that seem to be idle. A few
//! workers always stay; the others end when they have had nothing to do for a while, so
//! that a small server pays for the requests it has and not for those it might have.
//!
//! Beyond the limit jobs wait in a bounded channel, and what does not fit is given back.
//! Cost: two uncontended locks a job.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use log::warn;

use crate::failure::describe;

/// Jobs that may wait for each worker.
const WAITING_PER_WORKER: usize = 4;

/// How many workers stay whether there is something to do or not.
const KEPT: usize = 16;

/// How long the others wait for something to do.
const IDLE: Duration = Duration::from_secs(5);

/// Threads that do jobs of one kind. Clones are the same pool.
pub struct Pool<T> {
    jobs: Sender<T>,
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    queue: Receiver<T>,
    count: Mutex<Count>,
    /// The most workers.
    most: usize,
    work: Box<dyn Fn(T) + Send + Sync>,
}

#[derive(Default)]
struct Count {
    /// Handed in, and not done yet.
    jobs: usize,
    workers: usize,
    /// How many have been started in all.
    started: usize,
}

impl<T: Send + 'static> Pool<T> {
    /// A pool of at most this many workers, each of which calls `work` for one job after
    /// the other. A panic in it ends with the job.
    ///
    /// # Errors
    /// The workers that stay could not be started.
    pub fn start(most: usize, work: impl Fn(T) + Send + Sync + 'static) -> io::Result<Self> {
        let (jobs, queue) = bounded(most.saturating_mul(WAITING_PER_WORKER));
        let pool = Self {
            jobs,
            shared: Arc::new(Shared {
                queue,
                count: Mutex::default(),
                most,
                work: Box::new(work),
            }),
        };
        for _ in 0..most.min(KEPT) {
            pool.shared.lock().workers += 1;
            pool.shared.start_worker()?;
        }
        Ok(pool)
    }

    /// Has a job done, or gives it back if too many are waiting. Never waits.
    ///
    /// # Errors
    /// The job, which nobody has touched.
    pub fn submit(&self, job: T) -> Result<(), T> {
        let mut count = self.shared.lock();
        count.jobs += 1;
        let one_more = count.jobs > count.workers && count.workers < self.shared.most;
        count.workers += usize::from(one_more);
        drop(count);
        let sent = self.jobs.try_send(job);
        if one_more && let Err(error) = self.shared.start_worker() {
            // Those that there are will come to it.
            warn!("cannot start a worker: {}", describe(&error));
        }
        sent.map_err(|error| {
            self.shared.lock().jobs -= 1;
            match error {
                TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
            }
        })
    }

    /// How many jobs wait for a worker.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Starts a worker that has been counted.
    fn start_worker(self: &Arc<Self>) -> io::Result<()> {
        let mut count = self.lock();
        let name = format!("worker-{}", count.started);
        count.started += 1;
        drop(count);
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name(name)
            .spawn(move || shared.run_worker());
        if spawned.is_err() {
            self.lock().workers -= 1;
        }
        spawned.map(drop)
    }

    fn run_worker(&self) {
        loop {
            match self.queue.recv_timeout(IDLE) {
                Ok(job) => {
                    // The hook has written it down.
                    let _ = catch_unwind(AssertUnwindSafe(|| (self.work)(job)));
                    self.lock().jobs -= 1;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let mut count = self.lock();
                    if count.workers > KEPT && count.jobs < count.workers {
                        count.workers -= 1;
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn every_job_has_a_worker_as_long_as_the_limit_allows() {
        let most = 3 * KEPT;
        // Nobody gets past it until all are there.
        let barrier = Arc::new(Barrier::new(most));
        let (done, is_done) = bounded(4 * most);
        let meet = Arc::clone(&barrier);
        let pool = Pool::start(most, move |number: usize| {
            meet.wait();
            done.send(number).unwrap();
        })
        .unwrap();
        for round in 0..4 {
            for number in 0..most {
                pool.submit(round * most + number).unwrap();
            }
        }
        let mut all: Vec<usize> = (0..4 * most)
            .map(|_| is_done.recv_timeout(DEADLINE).unwrap())
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..4 * most).collect::<Vec<_>>());
        assert_eq!(pool.shared.lock().workers, most);
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let (open, gate) = bounded::<()>(0);
        let pool = Pool::start(1, move |_: usize| {
            let _ = gate.recv();
        })
        .unwrap();
        let (mut taken, mut refused) = (0, 0);
        for number in 0..20 {
            match pool.submit(number) {
                Ok(()) => taken += 1,
                Err(given_back) => {
                    assert_eq!(given_back, number);
                    refused += 1;
                }
            }
        }
        // One may be at work already.
        let room = WAITING_PER_WORKER;
        assert!(taken == room || taken == room + 1, "{taken}");
        assert_eq!(taken + refused, 20);
        drop(open);
    }

    #[test]
    fn a_panic_costs_a_job_and_no_worker() {
        let (done, is_done) = bounded(10);
        let pool = Pool::start(1, move |good: bool| {
            assert!(good, "as the test wants it");
            done.send(()).unwrap();
        })
        .unwrap();
        pool.submit(false).unwrap();
        pool.submit(true).unwrap();
        is_done.recv_timeout(DEADLINE).unwrap();
    }
}
