//! The file from which a script learns that the proxy accepts connections, and where.
//!
//! It is written beside its place and renamed, so that a script that waits for it never
//! reads half an address, and removed at the end, unless another process has written its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

/// A ready file that exists as long as this value.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    /// The file that was written: its number, which is free again once it is removed, and when.
    identity: (u64, i64, i64),
}

impl ReadyFile {
    /// Writes the lines.
    pub fn write(path: &Path, lines: &[String]) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.tmp", process::id()));
        let beside = PathBuf::from(beside);
        let write = || {
            fs::write(&beside, lines.join("\n") + "\n")?;
            let identity = identity(&beside)?;
            fs::rename(&beside, path)?;
            Ok(identity)
        };
        match write() {
            Ok(identity) => Ok(Self {
                path: path.to_owned(),
                identity,
            }),
            Err(error) => {
                let _ = fs::remove_file(&beside);
                Err(error)
            }
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It may have been removed already, or be that of a process that has taken over.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, i64, i64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}
