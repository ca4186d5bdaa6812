//! The thread that writes the log.
//!
//! The first line wakes it. It gathers for [`GATHER`], in which a push makes no system call, and
//! writes what has come at once.
//!
//! A write that fails (a pipe without a reader, a full disk) costs the lines of which nothing has
//! gone out, and no others: one that has begun is ended first thing with the next write. After the
//! next write that works, a line in the log says how many lines have been lost since the start.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{iter, thread};

use crossbeam_channel::Receiver;
use log::{Log, Record};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;

use super::config::LogDestination;
use super::queue::{Item, Queue};
use crate::http::endpoint_url::shown_path;
use crate::util::io_error::describe;

/// How long lines are gathered for one write.
pub(super) const GATHER: Duration = Duration::from_millis(5);

/// The body of the thread. Reports go to `log`.
pub(super) fn run(
    (queue, items): (&Queue, &Receiver<Item>),
    destination: &LogDestination,
    mut file: File,
    log: &dyn Log,
) {
    let (mut reported, mut flushes) = (0, Vec::new());
    // The rest of a line that has begun in the file.
    let mut begun = Vec::new();
    while let Ok(first) = items.recv() {
        thread::sleep(GATHER);
        let (mut lines, mut failed) = (Vec::new(), 0);
        for item in iter::once(first).chain(items.try_iter()) {
            match item {
                Item::Line(line) => lines.push(line),
                Item::Flush(done) => flushes.push(done),
                Item::Reopen => match open(destination) {
                    Ok(new) => {
                        if !is_same(&file, &new) {
                            failed += ends(&mem::take(&mut begun));
                        }
                        file = new;
                    }
                    Err(error) => drop(writeln!(io::stderr(), "{error}; the old one stays in use")),
                },
            }
        }
        let lines = lines.concat();
        let bytes = [&*begun, &lines].concat();
        let (out, rest) = bytes.split_at(write(&mut file, &bytes));
        let is_begun = out.last().map_or(!begun.is_empty(), |last| *last != b'\n');
        let end = rest.split_inclusive(|byte| *byte == b'\n').next();
        begun = end.filter(|_| is_begun).unwrap_or_default().to_vec();
        failed += ends(rest) - ends(&begun);
        queue.bytes.fetch_sub(lines.len(), Ordering::SeqCst);
        let dropped = failed + queue.dropped.fetch_add(failed, Ordering::SeqCst);
        if rest.is_empty() && !out.is_empty() && dropped > reported {
            // In one statement: Rust 1.88 drops the arguments at its end.
            log.log(
                &Record::builder()
                    .target(module_path!())
                    .args(format_args!(
                        "{dropped} log lines could not be written since the start"
                    ))
                    .build(),
            );
            reported = dropped;
        }
        if items.is_empty() {
            flushes.clear();
        }
    }
}

/// Whether both are the same file, or it can't be told.
fn is_same(old: &File, new: &File) -> bool {
    match (fstat(old), fstat(new)) {
        (Ok(old), Ok(new)) => (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino),
        _ => true,
    }
}

/// How many lines end in these bytes.
fn ends(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// Writes as much as can be, and waits for room where the other end of a pipe has made writes
/// return without it. Returns how many bytes that was.
fn write(file: &mut File, bytes: &[u8]) -> usize {
    let mut out = 0;
    while let Some(rest) = bytes.get(out..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(amount @ 1..) => out += amount,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(&*file, PollFlags::OUT)], None);
            }
            Ok(_) | Err(_) => break,
        }
    }
    out
}

/// Opens a file, or a duplicate of a standard stream. That has neither the buffer nor the
/// lock of std's: the rest of the process can use those while a write here blocks.
pub(super) fn open(destination: &LogDestination) -> io::Result<File> {
    let path = match destination {
        LogDestination::Stdout => return Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        LogDestination::Stderr => return Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        LogDestination::File(path) => path,
    };
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o644).open(path);
    opened.map_err(|error| {
        let (path, reason) = (shown_path(path), describe(&error));
        io::Error::other(format!("cannot open log file {path:?}: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let destination = LogDestination::File("/no/such/dir/x.log".into());
        assert_eq!(
            open(&destination).unwrap_err().to_string(),
            "cannot open log file \"/no/such/dir/x.log\": no such file or directory"
        );
    }
}
