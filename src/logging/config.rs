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
    /// A line is a JSON object. Its time does not depend on `date`, `time` and `microseconds`.
    pub json: bool,
    /// The lines of requests that were served are left out.
    pub without_served: bool,
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
