//! A program under test: its lines, its end, its entries in `/proc`.

use super::{DEADLINE, eventually, lock, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The lines a stream has brought so far.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub fn collect(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let collector = lines.clone();
        thread::spawn(move || {
            let (state, changed) = &*collector.0;
            let mut stream = BufReader::new(stream);
            loop {
                let mut line = Vec::new();
                let ended = matches!(stream.read_until(b'\n', &mut line), Ok(0) | Err(_));
                let mut state = lock(state);
                if ended {
                    state.ended = true;
                } else {
                    let line = String::from_utf8_lossy(&line);
                    state
                        .lines
                        .push(line.strip_suffix('\n').unwrap_or(&line).to_owned());
                }
                changed.notify_all();
                if ended {
                    return;
                }
            }
        });
        lines
    }

    pub fn all(&self) -> Vec<String> {
        lock(&self.0.0).lines.clone()
    }

    /// How many there are so far.
    pub fn number(&self) -> usize {
        lock(&self.0.0).lines.len()
    }

    /// The first line that satisfies, also one that is still to come.
    #[track_caller]
    pub fn wait(&self, what: &str, good: impl Fn(&str) -> bool) -> String {
        let at = self.find(0, what, good);
        lock(&self.0.0).lines[at].clone()
    }

    /// The lines behind the first so many, up to the first one that satisfies, also if that is
    /// still to come.
    #[track_caller]
    pub fn wait_behind(
        &self,
        number: usize,
        what: &str,
        good: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let at = self.find(number, what, good);
        lock(&self.0.0).lines[number..=at].to_vec()
    }

    /// Where the first line from there on is that satisfies.
    #[track_caller]
    fn find(&self, from: usize, what: &str, good: impl Fn(&str) -> bool) -> usize {
        let (state, changed) = &*self.0;
        let mut next = from;
        let found = wait_until(state, changed, |state| {
            while let Some(line) = state.lines.get(next) {
                if good(line) {
                    return Some(Ok(next));
                }
                next += 1;
            }
            state.ended.then_some(Err(()))
        });
        match found {
            Some(Ok(at)) => at,
            Some(Err(())) => panic!("the output ended without {what:?}: {:#?}", self.all()),
            None => panic!("no line with {what:?} came: {:#?}", self.all()),
        }
    }

    /// All lines, once the stream has ended.
    #[track_caller]
    pub fn to_the_end(&self) -> Vec<String> {
        let (state, changed) = &*self.0;
        wait_until(state, changed, |state| {
            state.ended.then(|| state.lines.clone())
        })
        .unwrap_or_else(|| panic!("the output has no end: {:#?}", self.all()))
    }
}

/// A running program; it is killed, and only it, when this is dropped.
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    pub out: Lines,
    pub err: Lines,
}

impl Process {
    /// Starts the command with both outputs collected.
    pub fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self::adopt(command.spawn().unwrap())
    }

    /// Takes over a child; outputs that are not pipes stay empty.
    pub fn adopt(mut child: Child) -> Self {
        Self {
            out: child.stdout.take().map(Lines::collect).unwrap_or_default(),
            err: child.stderr.take().map(Lines::collect).unwrap_or_default(),
            ended: None,
            child,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the program to end by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let give_up = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(
                Instant::now() < give_up,
                "it does not end: {:#?} {:#?}",
                self.out.all(),
                self.err.all()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if self.exited().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    pub fn threads(&self) -> usize {
        self.proc_entries("task")
    }

    /// How many threads have this name.
    pub fn threads_named(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|found| found.trim_end() == name).count()
    }

    pub fn descriptors(&self) -> usize {
        self.proc_entries("fd")
    }

    fn proc_entries(&self, directory: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{directory}", self.pid()))
            .unwrap()
            .count()
    }

    /// Waits until all of its threads wait, and go on waiting for a moment: one that has been woken
    /// and has not got a processor yet does not.
    #[track_caller]
    pub fn wait_until_at_rest(&self) {
        let measure = || {
            let before = self.wakeups();
            thread::sleep(Duration::from_millis(20));
            let waiting = |status: &String| status.contains("\nState:\tS ");
            (
                self.thread_statuses().iter().all(waiting),
                self.wakeups().wrapping_sub(before),
            )
        };
        eventually("threads at rest", measure, |found| *found == (true, 0));
    }

    /// `/proc/PID/task/TID/status` of each thread.
    fn thread_statuses(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
            .collect()
    }

    /// How often its threads have run again after a wait, those that have ended left out.
    pub fn wakeups(&self) -> u64 {
        let count = |status: String| -> Option<u64> {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line?.trim().parse().ok()
        };
        self.thread_statuses().into_iter().filter_map(count).sum()
    }

    /// The most memory it ever had, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
