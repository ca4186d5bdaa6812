//! What the system says of this process.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What the system says of this process. What cannot be read (`/proc` is not there) is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// User and system time together.
    pub(super) cpu: Duration,
    /// In bytes.
    pub(super) resident: Option<u64>,
    pub(super) virtual_size: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_descriptors: Option<u64>,
    /// `None`: no limit.
    pub(super) most_descriptors: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let open = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            resident: number(&status, "VmRSS:").map(|kib| kib * 1024),
            virtual_size: number(&status, "VmSize:").map(|kib| kib * 1024),
            threads: number(&status, "Threads:"),
            // The one that is read is one of them.
            open_descriptors: open.and_then(|open| u64::try_from(open).ok()?.checked_sub(1)),
            most_descriptors: getrlimit(Resource::Nofile).current,
        }
    }
}

/// The number behind a name in `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<u64> {
    let mut lines = status.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_some_of_everything() {
        let process = Process::read();
        assert!(!process.cpu.is_zero());
        assert!(process.resident.unwrap() > 1 << 18);
        assert!(process.virtual_size > process.resident);
        assert!(process.threads.unwrap() >= 1);
        let open = process.open_descriptors.unwrap();
        assert!(open >= 1 && process.most_descriptors.is_none_or(|most| open <= most));
    }
}
