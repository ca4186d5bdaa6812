//! The thread that writes the log.
//!
//! The first line wakes it. It gathers for [`GATHER`], in which a push makes no system call, and
//! writes what has come at once.
//!
//! A write that fails (a pipe without a reader, a full disk) costs the lines that were in
//! it, and nothing else. After the next write that works, a line in the log says how many
//! lines have been lost since the start.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{iter, thread};

use crossbeam_channel::Receiver;
use log::{Log, Record};

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
    while let Ok(first) = items.recv() {
        thread::sleep(GATHER);
        let mut lines = Vec::new();
        for item in iter::once(first).chain(items.try_iter()) {
            match item {
                Item::Line(line) => lines.push(line),
                Item::Flush(done) => flushes.push(done),
                Item::Reopen => match open(destination) {
                    Ok(new) => file = new,
                    Err(error) => drop(writeln!(io::stderr(), "{error}; the old one stays in use")),
                },
            }
        }
        let bytes = lines.concat();
        let written = file.write_all(&bytes);
        let failed = written.map_or(lines.len(), |()| 0);
        queue.bytes.fetch_sub(bytes.len(), Ordering::SeqCst);
        let dropped = failed + queue.dropped.fetch_add(failed, Ordering::SeqCst);
        if failed == 0 && dropped > reported {
            let lost = format_args!("{dropped} log lines could not be written since the start");
            log.log(&Record::builder().target(module_path!()).args(lost).build());
            reported = dropped;
        }
        if items.is_empty() {
            flushes.clear();
        }
    }
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
