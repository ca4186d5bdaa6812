//! The log: lines made by `simplelog`, written by a thread of their own.
//!
//! A request must never wait for the reader of a log. So a line goes into a bounded queue,
//! and one thread writes what it finds there, in few writes. When the reader stalls and the
//! queue is full, further lines are dropped and counted; one line says how many, once lines
//! pass again. A write that fails (a pipe whose reader is gone, a full disk) costs the lines
//! that were in it, and nothing else.
//!
//! - A line is one line: control characters in a message are escaped here, whoever forgot it.
//! - Only this package's own records get through. Libraries log by the same façade.
//! - The offset of local time is taken once, while there is a single thread; that is the
//!   only way to read it soundly. A change to or from summer time shows after a restart.
//! - Cost: a lock while a line is formatted, one thread, at most 4 MiB of lines.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags};
use simplelog::{ConfigBuilder, WriteLogger, format_description};
use time::UtcOffset;
use time::format_description::BorrowedFormatItem;

use crate::config::{LogConfig, LogDestination};
use crate::failure::describe;

/// How many lines may wait to be written.
const QUEUE_LINES: usize = 4096;

/// How many bytes may wait to be written: lines carry what clients send, which may be long.
const QUEUE_BYTES: usize = 4 << 20;

/// How much is gathered for one write.
const BATCH_BYTES: usize = 64 << 10;

/// The crates whose records are ours.
const TARGETS: [&str; 2] = ["balancing_reverse_proxy", "dummy_http_server"];

const DATE: &[BorrowedFormatItem<'static>] = format_description!("[year]/[month]/[day]");
const TIME: &[BorrowedFormatItem<'static>] = format_description!("[hour]:[minute]:[second]");
const MICROSECONDS: &[BorrowedFormatItem<'static>] =
    format_description!("[hour]:[minute]:[second].[subsecond digits:6]");

/// A handle on the running log. Clones are the same log.
#[derive(Clone)]
pub struct Logging {
    queue: Queue,
    destination: LogDestination,
}

/// Why there is no log.
#[derive(Debug)]
pub enum LogError {
    /// The log file cannot be opened.
    Open(PathBuf, io::Error),
    /// The standard output or error cannot be used, or no thread can be started.
    Start(io::Error),
    /// This process has a log already.
    Twice,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path, error) => write!(
                f,
                "cannot open log file {:?}: {}",
                path.to_string_lossy(),
                describe(error)
            ),
            Self::Start(error) => write!(f, "cannot start the log: {}", describe(error)),
            Self::Twice => f.write_str("cannot start the log: it has been started before"),
        }
    }
}

impl std::error::Error for LogError {}

impl Logging {
    /// Opens the destination and becomes the logger of the process.
    ///
    /// To be called before any thread is started: see the offset of local time above.
    pub fn start(config: &LogConfig) -> Result<Self, LogError> {
        let offset = if config.utc {
            UtcOffset::UTC
        } else {
            // Fails on systems without time zones, which have UTC.
            UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC)
        };
        let sink = Sink::open(&config.destination)?;
        let (logging, front) = connect(config, offset, sink).map_err(LogError::Start)?;
        log::set_boxed_logger(Box::new(front)).map_err(|_| LogError::Twice)?;
        log::set_max_level(LevelFilter::Info);
        Ok(logging)
    }

    /// Opens the log file anew, after it has been renamed; soon, and without waiting. A
    /// failure is told on the standard error, and the old file stays in use.
    pub fn reopen(&self) {
        self.queue.state.reopen.store(true, Ordering::Release);
        // A full queue wakes the writer just as well.
        let _ = self.queue.sender.try_send(Command::Wake);
    }

    /// Waits until everything that has been logged is written, or until `timeout` has
    /// passed; says which.
    #[must_use = "what is false has not been written"]
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, written) = bounded(1);
        self.queue
            .sender
            .send_timeout(Command::Flush(done), timeout)
            .is_ok()
            && written.recv_deadline(deadline).is_ok()
    }

    /// Tells why the process has to end: on the standard error, and in the log file if
    /// there is one. Waits for that, but not for ever.
    pub fn fatal(&self, message: impl fmt::Display) {
        let message = one_line(format_args!("{message}"));
        let _ = writeln!(io::stderr(), "{message}");
        if matches!(self.destination, LogDestination::File(_)) {
            log::error!("{message}");
        }
        let _ = self.flush(Duration::from_secs(2));
    }
}

/// The front (a logger) and the back (a thread) of a log, connected by a queue.
fn connect(config: &LogConfig, offset: UtcOffset, sink: Sink) -> io::Result<(Logging, Front)> {
    let shape = shape(config, offset);
    let (sender, commands) = bounded(QUEUE_LINES);
    let queue = Queue {
        sender,
        state: Arc::default(),
    };
    let writer = Writer {
        commands,
        state: Arc::clone(&queue.state),
        sink,
        shape: shape.clone(),
        torn: false,
    };
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.run())?;
    let lines = Lines {
        queue: queue.clone(),
        line: Vec::new(),
    };
    let logging = Logging {
        queue,
        destination: config.destination.clone(),
    };
    Ok((
        logging,
        Front(WriteLogger::new(LevelFilter::Info, shape, lines)),
    ))
}

/// Makes `simplelog` write `PREFIX DATE TIME message`.
///
/// It puts a time and a space in front of each message, so the prefix becomes part of the
/// time's format, and where there is neither prefix nor date nor time there is no space.
fn shape(config: &LogConfig, offset: UtcOffset) -> simplelog::Config {
    let mut items: Vec<BorrowedFormatItem<'static>> = Vec::new();
    let mut add = |item| {
        if !items.is_empty() {
            items.push(BorrowedFormatItem::StringLiteral(" "));
        }
        items.push(item);
    };
    if !config.prefix.is_empty() {
        // simplelog wants a static format. The prefix lives as long as the process anyway.
        let prefix: &'static str = one_line(format_args!("{}", config.prefix)).leak();
        add(BorrowedFormatItem::StringLiteral(prefix));
    }
    if config.date {
        add(BorrowedFormatItem::Compound(DATE));
    }
    if config.microseconds {
        add(BorrowedFormatItem::Compound(MICROSECONDS));
    } else if config.time {
        add(BorrowedFormatItem::Compound(TIME));
    }

    let mut builder = ConfigBuilder::new();
    builder
        .set_max_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .set_time_offset(offset);
    if items.is_empty() {
        builder.set_time_level(LevelFilter::Off);
    } else {
        // simplelog compares this with the level of the record: Error is "always".
        builder
            .set_time_level(LevelFilter::Error)
            .set_time_format_custom(items.leak());
    }
    builder.build()
}

/// The logger that the `log` macros talk to.
struct Front(Box<WriteLogger<Lines>>);

impl Log for Front {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let krate = target.split_once("::").map_or(target, |(krate, _)| krate);
        TARGETS.contains(&krate) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Formatted before simplelog takes its lock: whatever a message's `Display` does,
        // a panic included, cannot harm the lines of others.
        let message = one_line(*record.args());
        self.0.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .args(format_args!("{message}"))
                .build(),
        );
    }

    fn flush(&self) {}
}

/// What `simplelog` writes to: gathers the pieces of a line and puts it into the queue.
struct Lines {
    queue: Queue,
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        // A line has one newline, its last byte: see `one_line`.
        if piece.ends_with(b"\n") {
            self.queue.offer(std::mem::take(&mut self.line));
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Command {
    Line(Vec<u8>),
    /// Nothing to do but to look at `State::reopen`.
    Wake,
    /// To be answered once all lines before it are written.
    Flush(Sender<()>),
}

/// What the front and the back know of each other besides the lines.
#[derive(Default)]
struct State {
    bytes: AtomicUsize,
    lost: AtomicU64,
    reopen: AtomicBool,
}

#[derive(Clone)]
struct Queue {
    sender: Sender<Command>,
    state: Arc<State>,
}

impl Queue {
    /// Queues a line, or counts it as lost. Never waits.
    fn offer(&self, line: Vec<u8>) {
        let length = line.len();
        let queued = self.state.bytes.fetch_add(length, Ordering::Relaxed);
        if queued + length <= QUEUE_BYTES && self.sender.try_send(Command::Line(line)).is_ok() {
            return;
        }
        self.state.bytes.fetch_sub(length, Ordering::Relaxed);
        self.state.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The back: takes lines out of the queue and writes them.
struct Writer {
    commands: Receiver<Command>,
    state: Arc<State>,
    sink: Sink,
    shape: simplelog::Config,
    /// The last thing that was written is a part of a line.
    torn: bool,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Ok(first) = self.commands.recv() {
            let mut to_answer = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Line(line) => batch.extend_from_slice(&line),
                    Command::Wake => {}
                    Command::Flush(done) => to_answer.push(done),
                }
                next = if batch.len() < BATCH_BYTES {
                    self.commands.try_recv().ok()
                } else {
                    None
                };
            }
            if self.state.reopen.swap(false, Ordering::Acquire) {
                self.reopen();
            }
            let written = self.write(&batch);
            self.state.bytes.fetch_sub(batch.len(), Ordering::Relaxed);
            if written {
                self.tell_what_was_lost();
            }
            batch.clear();
            batch.shrink_to(BATCH_BYTES);
            for done in to_answer {
                let _ = done.send(());
            }
        }
    }

    fn reopen(&mut self) {
        let Err(error) = self.sink.reopen() else {
            self.torn = false;
            return;
        };
        let _ = writeln!(io::stderr(), "{error}; the old one stays in use");
    }

    /// Writes whole lines; counts those that failed as lost. Says whether none did.
    fn write(&mut self, lines: &[u8]) -> bool {
        if lines.is_empty() {
            return true;
        }
        if self.torn {
            self.torn = self.sink.write(b"\n") == 0;
        }
        let written = if self.torn { 0 } else { self.sink.write(lines) };
        let (done, failed) = lines.split_at(written);
        if failed.is_empty() {
            return true;
        }
        self.torn = self.torn || !(done.is_empty() || done.ends_with(b"\n"));
        let lost = failed.split_inclusive(|&byte| byte == b'\n').count();
        self.state.lost.fetch_add(lost as u64, Ordering::Relaxed);
        false
    }

    fn tell_what_was_lost(&mut self) {
        let lost = self.state.lost.load(Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let message = format!("{lost} log lines could not be written and are lost");
        let line = rendered(&self.shape, &message);
        if self.sink.write(&line) == line.len() {
            self.state.lost.fetch_sub(lost, Ordering::Relaxed);
        }
    }
}

/// One line as the front makes it, for the thread that must not wait for its own queue.
fn rendered(shape: &simplelog::Config, message: &str) -> Vec<u8> {
    #[derive(Clone, Default)]
    struct Scratch(Arc<Mutex<Vec<u8>>>);

    impl Write for Scratch {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            line.extend_from_slice(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let scratch = Scratch::default();
    WriteLogger::new(LevelFilter::Info, shape.clone(), scratch.clone()).log(
        &Record::builder()
            .level(Level::Info)
            .args(format_args!("{message}"))
            .build(),
    );
    let mut line = scratch.0.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut line)
}

/// The open destination. Written to without the buffer and the lock that std's streams
/// have: other parts of the process must be able to use those while this one is stalled.
struct Sink {
    file: File,
    path: Option<PathBuf>,
}

impl Sink {
    fn open(destination: &LogDestination) -> Result<Self, LogError> {
        let duplicate = match destination {
            LogDestination::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            LogDestination::Stderr => io::stderr().as_fd().try_clone_to_owned(),
            LogDestination::File(path) => {
                return Ok(Self {
                    file: open(path)?,
                    path: Some(path.clone()),
                });
            }
        };
        Ok(Self {
            file: File::from(duplicate.map_err(LogError::Start)?),
            path: None,
        })
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        if let Some(path) = &self.path {
            self.file = open(path)?;
        }
        Ok(())
    }

    /// Writes all of it, waiting as long as it takes, and returns how much could be
    /// written before an error.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process that shares the stream has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut poll = [PollFd::new(&self.file, PollFlags::OUT)];
                    if let Err(error) = rustix::event::poll(&mut poll, None)
                        && error != rustix::io::Errno::INTR
                    {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        bytes.len() - rest.len()
    }
}

fn open(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .map_err(|error| LogError::Open(path.to_owned(), error))
}

/// A client's address, fit for a log line: an IPv4 one as such, also on a listener for both
/// families.
#[must_use]
pub fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

/// What a client or an endpoint has sent, fit for a log line: control characters and bytes
/// that are not UTF-8 are escaped as in `\n` and `\x1b`, and a backslash is doubled, so
/// that the text can be told from an escape.
#[must_use]
pub fn escaped<T: AsRef<[u8]> + ?Sized>(text: &T) -> Escaped<'_> {
    Escaped {
        text: text.as_ref(),
        backslash: true,
    }
}

/// Prints a text with its control characters escaped; see [`escaped`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    text: &'a [u8],
    /// Whether a backslash is doubled.
    backslash: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.text.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\\' if self.backslash => f.write_str("\\\\")?,
                    '\0'..=' ' | '\x7f' if c != ' ' => write!(f, "\\x{:02x}", u32::from(c))?,
                    c if is_unfit(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that move the cursor, end a line or turn the direction of writing.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A message without anything that is not part of a line. Backslashes stay: what they mean
/// has been decided by whoever made the message.
fn one_line(message: fmt::Arguments<'_>) -> String {
    let text = message.to_string();
    if !text.contains(is_unfit) {
        return text;
    }
    let escaped = Escaped {
        text: text.as_bytes(),
        backslash: false,
    };
    escaped.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, Read, pipe};
    use std::os::fd::OwnedFd;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn config(prefix: &str, flags: &str) -> LogConfig {
        LogConfig {
            prefix: prefix.to_owned(),
            destination: LogDestination::Stdout,
            date: flags.contains('d'),
            time: flags.contains('t'),
            microseconds: flags.contains('m'),
            utc: true,
        }
    }

    fn to(file: impl Into<OwnedFd>) -> (Logging, Front) {
        let sink = Sink {
            file: File::from(file.into()),
            path: None,
        };
        connect(&config("", ""), UtcOffset::UTC, sink).unwrap()
    }

    fn to_pipe() -> (Logging, Front, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        let (logging, front) = to(writer);
        (logging, front, reader)
    }

    fn say(front: &Front, message: &str) {
        say_as(front, "balancing_reverse_proxy", message);
    }

    fn say_as(front: &Front, target: &str, message: &str) {
        front.log(
            &Record::builder()
                .level(Level::Info)
                .target(target)
                .args(format_args!("{message}"))
                .build(),
        );
    }

    /// Digits become 9, so that times can be compared.
    fn nines(line: &[u8]) -> String {
        let nine = |c: char| if c.is_ascii_digit() { '9' } else { c };
        String::from_utf8_lossy(line).chars().map(nine).collect()
    }

    #[test]
    fn every_combination_of_flags_has_its_exact_line() {
        for (flags, stamp) in [
            ("", ""),
            ("d", "9999/99/99"),
            ("t", "99:99:99"),
            ("dt", "9999/99/99 99:99:99"),
            ("m", "99:99:99.999999"),
            ("tm", "99:99:99.999999"),
            ("dm", "9999/99/99 99:99:99.999999"),
            ("dtm", "9999/99/99 99:99:99.999999"),
        ] {
            for prefix in ["", "proxy", "my proxy:", "a\nb"] {
                let shape = shape(&config(prefix, flags), UtcOffset::UTC);
                let prefix = prefix.replace('\n', "\\n");
                let words = [prefix.as_str(), stamp, "starting on: \":x\""];
                let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
                let line = rendered(&shape, "starting on: \":x\"");
                assert_eq!(nines(&line), format!("{}\n", words.join(" ")), "{flags}");
            }
        }
    }

    #[test]
    fn the_offset_moves_the_clock() {
        let hour = |hours: i8| {
            let offset = UtcOffset::from_hms(hours, 0, 0).unwrap();
            let line = rendered(&shape(&config("", "t"), offset), "");
            String::from_utf8_lossy(&line)[..2].parse::<i8>().unwrap()
        };
        // Ten hours apart, also when an hour ends between the two calls.
        let apart = (hour(5) - hour(-5)).rem_euclid(24);
        assert!(apart == 10 || apart == 9, "{apart}");
    }

    #[test]
    fn records_of_other_crates_do_not_show() {
        let (logging, front, reader) = to_pipe();
        for target in [
            "tiny_http",
            "ureq::run",
            "rustls",
            "balancing_reverse_proxyx",
            "",
        ] {
            say_as(&front, target, "no");
        }
        say_as(&front, "balancing_reverse_proxy::dispatch::serial", "yes");
        say_as(&front, "dummy_http_server", "yes, too");
        assert!(logging.flush(LIMIT));
        drop((logging, front));
        assert_eq!(io::read_to_string(reader).unwrap(), "yes\nyes, too\n");
    }

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let (logging, front, reader) = to_pipe();
        say(&front, "a\nb\r\x1b[31m\u{85}\u{2028}c\\d \u{e9}");
        drop((logging, front));
        assert_eq!(
            io::read_to_string(reader).unwrap(),
            "a\\nb\\r\\x1b[31m\\u{85}\\u{2028}c\\d \u{e9}\n"
        );
    }

    #[test]
    fn escapes_what_others_sent() {
        for (text, shown) in [
            (&b"/plain/path?q=%20&r='\""[..], "/plain/path?q=%20&r='\""),
            (b"a\nb\rc\td", "a\\nb\\rc\\td"),
            (b"\0\x1b\x7f", "\\x00\\x1b\\x7f"),
            (b"\\n", "\\\\n"),
            (b"\xff\xc3x", "\\xff\\xc3x"),
            ("\u{fc}\u{4e2d}".as_bytes(), "\u{fc}\u{4e2d}"),
            ("\u{9b}\u{202e}".as_bytes(), "\\u{9b}\\u{202e}"),
        ] {
            assert_eq!(escaped(text).to_string(), shown);
        }
        assert_eq!(escaped("a b").to_string(), "a b");
    }

    #[test]
    fn a_stalled_reader_costs_lines_but_no_time() {
        const SENT: usize = 20_000;
        let (logging, front, reader) = to_pipe();
        // Nobody reads: the pipe fills up, then the queue, and this loop must still end.
        for number in 0..SENT {
            say(&front, &format!("line {number}"));
        }
        assert!(!logging.flush(Duration::from_millis(1)));
        drop((logging, front));

        let mut received = 0;
        let mut lost = 0;
        for line in BufReader::new(reader).lines() {
            let line = line.unwrap();
            if let Some(number) = line.strip_suffix(" log lines could not be written and are lost")
            {
                lost += number.parse::<usize>().unwrap();
            } else {
                assert!(line.starts_with("line "), "{line}");
                received += 1;
            }
        }
        assert_eq!(received + lost, SENT);
        assert!(lost > 1000 && received > QUEUE_LINES, "{received} + {lost}");
    }

    #[test]
    fn long_lines_do_not_fill_the_memory() {
        let (logging, front, mut reader) = to_pipe();
        let long = "x".repeat(100_000);
        for _ in 0..200 {
            say(&front, &long);
        }
        assert!(logging.queue.state.bytes.load(Ordering::Relaxed) <= QUEUE_BYTES);
        assert!(logging.queue.state.lost.load(Ordering::Relaxed) > 100);
        let reading = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        assert!(logging.flush(LIMIT));
        assert_eq!(logging.queue.state.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(logging.queue.state.lost.load(Ordering::Relaxed), 0);
        drop((logging, front));
        reading.join().unwrap().unwrap();
    }

    #[test]
    fn a_closed_pipe_is_survived() {
        let (logging, front, reader) = to_pipe();
        drop(reader);
        for _ in 0..3 {
            say(&front, "to nobody");
            assert!(logging.flush(LIMIT));
        }
        assert_eq!(logging.queue.state.lost.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_full_disk_is_survived() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (logging, front) = to(full);
        say(&front, "one");
        say(&front, "two");
        assert!(logging.flush(LIMIT));
        assert_eq!(logging.queue.state.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_pipe_that_does_not_block_loses_nothing() {
        let (reader, writer) = pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        let (logging, front) = to(writer);
        let long = "x".repeat(1000);
        for _ in 0..1000 {
            say(&front, &long);
        }
        drop((logging, front));
        assert_eq!(BufReader::new(reader).lines().count(), 1000);
    }

    #[test]
    fn a_rotated_file_is_reopened_and_a_missing_directory_keeps_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/proxy.log");
        let moved = directory.path().join("moved.log");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "earlier\n").unwrap();

        let destination = LogDestination::File(path.clone());
        let sink = Sink::open(&destination).unwrap();
        let (logging, front) = connect(&config("", ""), UtcOffset::UTC, sink).unwrap();
        say(&front, "one");
        assert!(logging.flush(LIMIT));
        std::fs::rename(&path, &moved).unwrap();
        say(&front, "two");
        assert!(logging.flush(LIMIT));
        logging.reopen();
        say(&front, "three");
        assert!(logging.flush(LIMIT));
        assert_eq!(
            std::fs::read_to_string(&moved).unwrap(),
            "earlier\none\ntwo\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");

        std::fs::rename(path.parent().unwrap(), directory.path().join("gone")).unwrap();
        logging.reopen();
        say(&front, "four");
        assert!(logging.flush(LIMIT));
        let old = directory.path().join("gone/proxy.log");
        assert_eq!(std::fs::read_to_string(old).unwrap(), "three\nfour\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let destination = LogDestination::File("/no/such/dir/x.log".into());
        let error = Sink::open(&destination).err().unwrap();
        assert_eq!(
            error.to_string(),
            "cannot open log file \"/no/such/dir/x.log\": no such file or directory"
        );
    }
}
