//! The harness: the real proxy, scripted back ends, a client that sees bytes.
//!
//! Everything is on loopback, on ports the kernel chose. Order is made with [`Gate`]s and by
//! waiting for a state; the deadlines only keep a broken proxy from hanging the suite.

pub mod backend;
pub mod certificates;
pub mod client;
pub mod process;
pub mod proxy;
pub mod refusing;
pub mod scrape;
pub mod unread;

use std::{
    io,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long anything that must happen may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Closed until a test opens it; then it stays open.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn closed() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        let (open, changed) = &*self.0;
        *lock(open) = true;
        changed.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Waits until the gate is open; false if that did not happen in time.
    pub fn wait(&self) -> bool {
        let (open, changed) = &*self.0;
        wait_until(open, changed, |open| open.then_some(())).is_some()
    }
}

/// A test may have panicked with the lock held; what it protects is still worth reading.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `look` finds what it looks for in the state; `None` after the deadline.
pub fn wait_until<T, R>(
    state: &Mutex<T>,
    changed: &Condvar,
    mut look: impl FnMut(&mut T) -> Option<R>,
) -> Option<R> {
    let give_up = Instant::now() + DEADLINE;
    let mut guard = lock(state);
    loop {
        if let Some(found) = look(&mut guard) {
            return Some(found);
        }
        let left = give_up.checked_duration_since(Instant::now())?;
        guard = changed
            .wait_timeout(guard, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// Waits for a state that nothing announces, such as the threads listed in `/proc`.
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut measure: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    let give_up = Instant::now() + DEADLINE;
    loop {
        let now = measure();
        if good(&now) {
            return now;
        }
        assert!(Instant::now() < give_up, "{what}: still {now:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The measure once it has stopped changing.
pub fn settled<T: PartialEq>(measure: impl Fn() -> T) -> T {
    let mut last = measure();
    loop {
        thread::sleep(Duration::from_millis(50));
        let now = measure();
        if now == last {
            return now;
        }
        last = now;
    }
}

/// A long body that can be made and checked piece by piece, without being held anywhere.
///
/// Its period is a prime, so that lost, doubled and swapped blocks of any usual size show.
#[derive(Clone, Default)]
pub struct Pattern {
    at: usize,
}

const PERIOD: usize = 251;
static TILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..=u8::MAX)
        .take(PERIOD)
        .cycle()
        .take(PERIOD * 262)
        .collect()
});

impl Pattern {
    /// The next piece, not longer than `most`.
    pub fn next(&mut self, most: u64) -> &'static [u8] {
        let from = self.at % PERIOD;
        let longest = TILE.len() - PERIOD;
        let length = usize::try_from(most).map_or(longest, |most| most.min(longest));
        self.at += length;
        &TILE[from..from + length]
    }

    /// Whether `bytes` are the next ones.
    pub fn continues_with(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.next(bytes.len() as u64);
            if bytes[..expected.len()] != *expected {
                return false;
            }
            bytes = &bytes[expected.len()..];
        }
        true
    }

    /// The first `length` bytes.
    pub fn bytes(length: usize) -> Vec<u8> {
        let mut bytes = TILE[..PERIOD].repeat(length / PERIOD + 1);
        bytes.truncate(length);
        bytes
    }
}

/// Reads again where a signal has interrupted the read: one that has a time-out is not
/// restarted by the kernel. Each child of a test that ends sends one, to any thread.
pub fn uninterrupted<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Byte strings of HTTP as text: each byte one character, so that nothing is lost.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The bytes of such a text; a character beyond Latin-1 is its UTF-8.
pub fn latin1(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The middle one of some measurements.
pub fn median<T: Ord + Copy>(mut measured: Vec<T>) -> T {
    measured.sort_unstable();
    measured[measured.len() / 2]
}

/// Checks that something takes less than the limit in the middle of five tries. Where the machine
/// was too busy for it, five more are made, some times: what is late by itself is late each time.
#[track_caller]
pub fn is_soon(what: &str, limit: Duration, mut measure: impl FnMut() -> Duration) {
    let mut seen = Vec::new();
    for _ in 0..10 {
        let took: Vec<_> = (0..5).map(|_| measure()).collect();
        if median(took.clone()) < limit {
            return;
        }
        seen.push(took);
    }
    panic!("{what}, not within {limit:?}: {seen:?}");
}

/// An entry of the proxy's in `Via` without the comment, which must have an id.
#[track_caller]
pub fn without_id(entry: &str) -> &str {
    let parts = entry.split_once(" (x");
    let digits = parts.and_then(|(_, rest)| rest.strip_suffix(')'));
    let is_id = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(digits.is_some_and(is_id), "{entry:?}");
    parts.unwrap().0
}
