//! The file from which a script learns that the proxy accepts connections, and where.
//!
//! It is written beside its place and renamed, so that a script that waits for it never
//! reads half an address, and removed at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// A ready file that exists as long as this value.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// Writes the lines.
    pub fn write(path: &Path, lines: &[String]) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.tmp", process::id()));
        let beside = PathBuf::from(beside);
        let written =
            fs::write(&beside, lines.join("\n") + "\n").and_then(|()| fs::rename(&beside, path));
        if let Err(error) = written {
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = fs::remove_file(&self.path);
    }
}
