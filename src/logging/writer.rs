//! The thread that writes the log.
//!
//! A write that fails (a pipe without a reader, a full disk) costs the lines that were in
//! it, and nothing else. After the next write that works, a line in the log says how many
//! lines are missing. Lines that had no room in the queue are reported where they would be.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use super::config::LogDestination;
use super::format::Format;
use super::queue::Queue;
use crate::util::io_error::describe;

/// The body of the thread. Does not return.
pub(super) fn run(queue: &Queue, format: &Format, mut file: File, destination: &LogDestination) {
    let mut batch = Vec::new();
    let mut reported = 0;
    loop {
        let (reopen, dropped) = queue.take(&mut batch);
        if reopen {
            match open(destination) {
                Ok(new) => file = new,
                Err(error) => {
                    let _ = writeln!(io::stderr(), "{error}; the old one stays in use");
                }
            }
        }
        let failed = write(&file, &batch);
        let lost = dropped - reported;
        if failed == 0 && lost > 0 {
            let mut line = String::new();
            let message = format_args!("{lost} log lines could not be written and are lost");
            format.append(&mut line, message);
            if write(&file, line.as_bytes()) == 0 {
                reported = dropped;
            }
        }
        queue.finish(&mut batch, failed);
    }
}

/// Opens a file, or a duplicate of a standard stream. That has neither the buffer nor the
/// lock of std's: the rest of the process can use those while a write here blocks.
pub(super) fn open(destination: &LogDestination) -> io::Result<File> {
    let (opened, name) = match destination {
        LogDestination::Stdout => (duplicate(io::stdout()), "standard output".to_owned()),
        LogDestination::Stderr => (duplicate(io::stderr()), "standard error".to_owned()),
        LogDestination::File(path) => {
            let mut options = OpenOptions::new();
            let opened = options.append(true).create(true).mode(0o644).open(path);
            (opened, format!("log file {:?}", path.to_string_lossy()))
        }
    };
    opened.map_err(|error| {
        let reason = describe(&error);
        io::Error::other(format!("cannot open {name}: {reason}"))
    })
}

fn duplicate(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// Writes lines. Returns how many of them an error has cost.
fn write(mut file: &File, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match file.write(lines) {
            Ok(0) => break,
            Ok(written) => lines = lines.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines.split(|byte| *byte == b'\n').count() as u64 - 1
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
