//! The log: lines are formatted where they are logged, queued as bytes, and written by a
//! thread of their own.
//!
//! A request never waits for the reader of a log. When the reader stalls and the queue is
//! full, further lines are dropped and counted, and a line in the log says how many.
//!
//! - A line is one line: control characters in a message are escaped here, also where the
//!   message did not escape them.
//! - Only this package's own records get through. Libraries log by the same façade.
//! - The offset of local time is taken once, while there is a single thread; that is the
//!   only way to read it soundly. A change to or from summer time shows after a restart.
//! - Cost: one allocation, for its place in the queue, and a short lock for each line, one
//!   thread, at most 4 MiB of lines. Each thread that logs keeps a buffer of at most 1 KiB.

mod config;
mod escape;
mod format;
mod json;
mod queue;
mod request;
mod writer;

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{RecvTimeoutError, bounded, unbounded};
use log::{LevelFilter, Log, Metadata, Record};
use simplelog::WriteLogger;

pub use config::{LogConfig, LogDestination};
use escape::{one_line, write_line};
use json::JsonLayout;
use queue::{Item, Queue};
use request::SERVED;
pub use request::{AttemptReport, NO_ATTEMPTS, RequestName, RequestReport, Target};

/// A handle on the running log, and the logger that the `log` macros call. Clones are the
/// same log.
#[derive(Clone)]
pub struct Logging {
    simplelog: Arc<WriteLogger<Queue>>,
    queue: Queue,
    has_file: bool,
    /// The log is the standard error, in JSON: nothing else may stand there.
    has_json_on_stderr: bool,
    /// Lines are JSON objects.
    json: Option<Arc<JsonLayout>>,
    without_served: bool,
}

thread_local! {
    /// In which this thread's lines are made.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// A thread keeps no larger buffer, in bytes.
const LARGEST_KEPT: usize = 1024;

impl Logging {
    /// Opens the destination and becomes the logger of the process. The error names what
    /// cannot be opened or started.
    ///
    /// To be called before any thread is started: see the offset of local time above.
    pub fn start(config: &LogConfig) -> io::Result<Self> {
        let logging = Self::to(writer::open(&config.destination)?, config)?;
        log::set_boxed_logger(Box::new(logging.clone())).map_err(io::Error::other)?;
        log::set_max_level(LevelFilter::Info);
        Ok(logging)
    }

    /// A log that is written to the file.
    fn to(file: File, config: &LogConfig) -> io::Result<Self> {
        let (items, received) = unbounded();
        let queue = Queue {
            items,
            bytes: Arc::default(),
            dropped: Arc::default(),
            line: Vec::new(),
        };
        let destination = config.destination.clone();
        let layout = format::simplelog(config);
        let logging = Self {
            simplelog: WriteLogger::new(LevelFilter::Info, layout, queue.clone()).into(),
            queue,
            json: config.json.then(|| Arc::new(format::json(config))),
            without_served: config.without_served,
            has_file: matches!(destination, LogDestination::File(_)),
            has_json_on_stderr: config.json && destination == LogDestination::Stderr,
        };
        let log = logging.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer::run((&log.queue, &received), &destination, file, &log))?;
        Ok(logging)
    }

    /// Queues a line as it is, without prefix, date and time; with `-log-json` as any other
    /// message.
    pub fn print(&self, line: &str) {
        if self.json.is_some() {
            log::info!("{line}");
        } else {
            let _ = writeln!(self.queue.clone(), "{line}");
        }
    }

    /// Opens the log file anew, after it has been renamed; soon, and without waiting. A
    /// failure is reported on the standard error, and the old file stays in use.
    pub fn reopen(&self) {
        let _ = self.queue.items.send(Item::Reopen);
    }

    /// Waits until everything that has been logged is written, or until `timeout` has
    /// passed; says which.
    #[must_use = "what is false has not been written"]
    pub fn flush(&self, timeout: Duration) -> bool {
        let (written, is_written) = bounded(0);
        let _ = self.queue.items.send(Item::Flush(written));
        is_written.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    /// How many lines since the start had no room in the queue, or could not be written.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.queue.dropped.load(Ordering::SeqCst)
    }

    /// Reports why the process has to end: on the standard error, and in the log file if
    /// there is one. Waits at most two seconds for the log.
    pub fn fatal(&self, message: impl fmt::Display) {
        let line = one_line(message);
        if !self.has_json_on_stderr {
            let _ = writeln!(io::stderr(), "{line}");
        }
        if self.has_file || self.has_json_on_stderr {
            log::error!("{line}");
        }
        let _ = self.flush(Duration::from_secs(2));
    }
}

impl Log for Logging {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    /// The message is formatted without `simplelog`'s lock: one that is slow or panics affects no
    /// other line.
    fn log(&self, record: &Record<'_>) {
        if self.without_served && record.target() == SERVED {
            return;
        }
        // Taken: a message may log while it is formatted.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        match &self.json {
            Some(layout) => layout.write(&mut line, record, SystemTime::now()),
            None => write_line(&mut line, record.args()),
        }
        let mut builder = Record::builder();
        builder.target(record.target()).level(record.level());
        self.simplelog
            .log(&builder.args(format_args!("{line}")).build());
        if line.capacity() <= LARGEST_KEPT {
            let _ = LINE.try_with(|place| place.set(line));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Lines, PipeReader, pipe};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::time::Instant;

    use super::queue::QUEUE_BYTES;
    use super::writer::GATHER;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn to(stream: impl Into<OwnedFd>) -> Logging {
        Logging::to(File::from(stream.into()), &config(LogDestination::Stdout)).unwrap()
    }

    /// The path exists, or can be made.
    fn to_path(path: &Path) -> Logging {
        let destination = LogDestination::File(path.to_owned());
        Logging::to(writer::open(&destination).unwrap(), &config(destination)).unwrap()
    }

    fn config(destination: LogDestination) -> LogConfig {
        LogConfig {
            prefix: String::new(),
            destination,
            date: false,
            time: false,
            microseconds: false,
            utc: true,
            json: false,
            without_served: false,
        }
    }

    fn to_pipe() -> (Logging, Lines<BufReader<PipeReader>>) {
        let (reader, writer) = pipe().unwrap();
        (to(writer), BufReader::new(reader).lines())
    }

    fn say(logging: &Logging, message: impl fmt::Display) {
        let mut record = Record::builder();
        record.target("balancing_reverse_proxy");
        logging.log(&record.args(format_args!("{message}")).build());
    }

    /// The number in a report of lost lines.
    fn lost(line: &str) -> Option<usize> {
        let number = line.strip_suffix(" log lines could not be written since the start");
        number.map(|number| number.parse().unwrap())
    }

    #[test]
    fn a_message_may_log_while_it_is_formatted() {
        struct Talkative<'a>(&'a Logging);
        impl fmt::Display for Talkative<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                say(self.0, "inner");
                f.write_str("outer")
            }
        }
        let (logging, mut lines) = to_pipe();
        say(&logging, Talkative(&logging));
        assert_eq!(lines.next().unwrap().unwrap(), "inner");
        assert_eq!(lines.next().unwrap().unwrap(), "outer");
    }

    #[test]
    fn lines_are_gathered_and_written_without_a_flush() {
        const SENT: usize = 1000;
        // Each write is a datagram.
        let (reader, writer) = UnixDatagram::pair().unwrap();
        reader.set_read_timeout(Some(LIMIT)).unwrap();
        let logging = to(writer);
        let begun = Instant::now();
        for _ in 0..SENT {
            say(&logging, "line");
        }
        let mut datagram = [0; SENT * 5];
        let (mut datagrams, mut lines) = (0, 0);
        while lines < SENT {
            lines += reader.recv(&mut datagram).unwrap() / 5;
            datagrams += 1;
        }
        // The first one comes after a pause, too.
        let pauses = begun.elapsed().as_nanos() / GATHER.as_nanos();
        assert!(datagrams <= pauses, "{datagrams} writes in {pauses} pauses");
    }

    #[test]
    fn a_flush_does_not_wait_for_a_write_to_be_full() {
        let (reader, writer) = UnixDatagram::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let logging = to(writer);
        for _ in 0..5 {
            say(&logging, "line");
            assert!(logging.flush(LIMIT));
            assert_eq!(reader.recv(&mut [0; 100]).unwrap(), 5);
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_but_no_time() {
        const SENT: usize = 20_000;
        let (logging, mut lines) = to_pipe();
        let padding = "x".repeat(500);
        // The pipe fills up, then the queue, and this loop still ends.
        for number in 0..SENT {
            say(&logging, format_args!("line {number} {padding}"));
        }
        assert!(!logging.flush(Duration::from_millis(1)));

        // The lines that are here are in order; a report says how many are not.
        let (mut seen, mut next, mut missing) = (0, 0, 0);
        while seen + missing < SENT {
            let line = lines.next().unwrap().unwrap();
            if let Some(number) = lost(&line) {
                missing = number;
                continue;
            }
            let number = line.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
            assert!(number >= next, "{number}");
            assert_eq!(line, format!("line {number} {padding}"));
            (seen, next) = (seen + 1, number + 1);
        }
        assert_eq!((seen + missing, missing), (SENT, logging.dropped_lines()));
        let kept = seen * 500;
        assert!(missing > 1000 && kept > QUEUE_BYTES / 2, "{missing} lost");
        assert!(logging.flush(LIMIT));
    }

    #[test]
    fn a_reader_that_has_made_writes_return_early_gets_all_in_whole_lines() {
        const SENT: usize = 1000;
        let (reader, writer) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let logging = to(writer);
        let padding = "x".repeat(1000);
        for number in 0..SENT {
            say(&logging, format_args!("{number} {padding}"));
        }
        // The pipe is full long before that.
        assert!(!logging.flush(Duration::from_millis(50)));
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        for number in 0..SENT {
            assert_eq!(lines.next(), Some(format!("{number} {padding}")));
        }
        assert!(logging.flush(LIMIT));
        assert_eq!(logging.dropped_lines(), 0);
    }

    #[test]
    fn long_lines_do_not_fill_the_memory() {
        let (reader, writer) = pipe().unwrap();
        let logging = to(writer);
        let long = "x".repeat(100_000);
        for _ in 0..200 {
            say(&logging, &long);
        }
        assert!(logging.dropped_lines() > 100);
        let reading = thread::spawn(move || {
            let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
            let lost = lines.find_map(|line| lost(&line));
            (lost, lines.next())
        });
        assert!(logging.flush(LIMIT));
        say(&logging, "there is room again");
        let again = Some("there is room again".to_owned());
        let dropped = Some(logging.dropped_lines());
        assert_eq!(reading.join().unwrap(), (dropped, again));
    }

    #[test]
    fn a_closed_pipe_is_survived() {
        let (logging, reader) = to_pipe();
        drop(reader);
        for _ in 0..3 {
            say(&logging, "to a closed pipe");
            assert!(logging.flush(LIMIT));
        }
        assert_eq!(logging.dropped_lines(), 3);
    }

    #[test]
    fn a_full_disk_is_survived_and_reported_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let logging = to_path(&path);
        say(&logging, "one");
        say(&logging, "two");
        assert!(logging.flush(LIMIT));
        assert_eq!(logging.dropped_lines(), 2);

        fs::remove_file(&path).unwrap();
        logging.reopen();
        say(&logging, "three");
        assert!(logging.flush(LIMIT));
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        // The file may be opened before the third line comes, or with it.
        lines.sort_unstable();
        let report = "2 log lines could not be written since the start";
        assert_eq!(lines, [report, "three"]);
    }

    #[test]
    fn a_rotated_file_is_reopened_and_a_missing_directory_keeps_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/proxy.log");
        let moved = directory.path().join("moved.log");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "earlier\n").unwrap();

        let logging = to_path(&path);
        say(&logging, "one");
        assert!(logging.flush(LIMIT));
        fs::rename(&path, &moved).unwrap();
        say(&logging, "two");
        assert!(logging.flush(LIMIT));
        logging.reopen();
        say(&logging, "three");
        assert!(logging.flush(LIMIT));
        assert_eq!(fs::read_to_string(&moved).unwrap(), "earlier\none\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");

        fs::rename(path.parent().unwrap(), directory.path().join("gone")).unwrap();
        logging.reopen();
        say(&logging, "four");
        assert!(logging.flush(LIMIT));
        let old = directory.path().join("gone/proxy.log");
        assert_eq!(fs::read_to_string(old).unwrap(), "three\nfour\n");
    }
}
