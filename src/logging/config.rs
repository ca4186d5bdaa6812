//! Where log lines go and what they begin with.

use std::path::PathBuf;

/// Where log lines go and what they begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each one is a flag; every combination means something.
pub struct LogConfig {
    /// The first word; empty: none.
    pub prefix: String,
    /// Where lines go.
    pub destination: LogDestination,
    /// `2026/11/23` in front of the message.
    pub date: bool,
    /// `14:11:38` in front of the message.
    pub time: bool,
    /// `14:12:20.363613` in front of the message, whatever `time` says.
    pub microseconds: bool,
    /// Date and time in UTC instead of local time.
    pub utc: bool,
}

/// Where log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogDestination {
    /// The standard output.
    #[default]
    Stdout,
    /// The standard error.
    Stderr,
    /// A file that is appended to.
    File(PathBuf),
}
