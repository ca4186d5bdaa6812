//! The proxy under test: the real binary, on a port of its own.

use super::{
    backend::Endpoint,
    client::{Client, Response},
    process::Process,
};
use std::{
    net::{SocketAddr, ToSocketAddrs},
    ops,
    process::Command,
    thread,
};

const BINARY: &str = env!("CARGO_BIN_EXE_balancing-reverse-proxy");

/// The command with nothing of the caller's environment that could matter.
pub fn command() -> Command {
    let mut command = Command::new(BINARY);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("TZ", "UTC");
    command
}

/// What `-endpoints` takes.
pub fn list(endpoints: &[&dyn Endpoint]) -> String {
    let urls: Vec<_> = endpoints.iter().map(|endpoint| endpoint.url()).collect();
    urls.join(",")
}

pub struct Builder {
    command: Command,
    address: String,
}

impl Builder {
    pub fn flag(mut self, name: &str, value: impl AsRef<str>) -> Self {
        if name == "-address" {
            self.address = value.as_ref().into();
        } else {
            self.command.arg(format!("{name}={}", value.as_ref()));
        }
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With so few descriptors. Must come after the flags.
    pub fn descriptors(self, limit: usize) -> Self {
        self.within(&[
            "sh",
            "-c",
            &format!("ulimit -n {limit}; exec \"$0\" \"$@\""),
        ])
    }

    /// Started by another program, which gets the command behind its own words. Must come
    /// after the flags; the program has to replace itself with the proxy.
    pub fn within(mut self, words: &[&str]) -> Self {
        let mut outer = Command::new(words[0]);
        outer.args(&words[1..]);
        outer.arg(self.command.get_program());
        outer.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        self.command = outer;
        self
    }

    /// The command line, for a test that starts it in its own way.
    pub fn command(mut self) -> Command {
        self.command.args(["-address", &self.address]);
        self.command
    }

    /// Starts it, and returns when it listens.
    #[track_caller]
    pub fn start(self) -> Proxy {
        let process = Process::start(self.command());
        let line = process
            .out
            .wait("starting on", |line| line.contains("starting on: \""));
        Proxy {
            address: started_on(&line),
            process,
            ended_well: false,
        }
    }
}

/// The address in the `starting on: "…"` line; a client on this machine can connect to it.
pub fn started_on(line: &str) -> SocketAddr {
    let (_, address) = line.split_once("starting on: \"").unwrap();
    let address = address.trim_end_matches('"');
    if let Some(port) = address.strip_prefix(':') {
        return SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    }
    let address = address.to_socket_addrs().unwrap().next().unwrap();
    if address.ip().is_unspecified() {
        return SocketAddr::from(([127, 0, 0, 1], address.port()));
    }
    address
}

/// A running proxy.
///
/// At the end it must still be alive and must not have panicked; a test that ends it says so
/// with [`Proxy::wait_for_exit`].
pub struct Proxy {
    pub address: SocketAddr,
    process: Process,
    ended_well: bool,
}

impl ops::Deref for Proxy {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Proxy {
    pub fn serial(endpoints: &[&dyn Endpoint]) -> Builder {
        let mut command = command();
        command.args(["-endpoints", &list(endpoints)]);
        Builder {
            command,
            address: "127.0.0.1:0".into(),
        }
    }

    /// As a command line says that a shell understands, and that begins with the program's name.
    pub fn of_command_line(line: &str) -> Builder {
        let words = line.strip_prefix("balancing-reverse-proxy ").unwrap();
        let mut command = Command::new("sh");
        let script = format!("exec \"$0\" {words} \"$@\"");
        command.args(["-c", &script, BINARY]);
        command.env("TZ", "UTC");
        Builder {
            command,
            address: "127.0.0.1:0".into(),
        }
    }

    pub fn fanout(endpoints: &[&dyn Endpoint]) -> Builder {
        let mut builder = Self::serial(endpoints);
        builder.command.arg("-fanout");
        builder
    }

    /// Hedged after 50 ms, with budget for each request.
    pub fn hedged(endpoints: &[&dyn Endpoint]) -> Builder {
        Self::serial(endpoints)
            .flag("-hedge-after", "50ms")
            .flag("-hedge-budget", "100")
    }

    /// A new connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// One POST on a connection of its own.
    #[track_caller]
    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.client().post(target, body)
    }

    /// The log so far, without prefix, date and time.
    pub fn log(&self) -> Vec<String> {
        self.out.all().iter().map(|line| message(line)).collect()
    }

    /// The log messages so far that contain the words.
    pub fn log_with(&self, words: &str) -> Vec<String> {
        let mut log = self.log();
        log.retain(|line| line.contains(words));
        log
    }

    /// Waits for the line about a request of this client that was refused.
    #[track_caller]
    pub fn wait_for_refusal(&self, client: SocketAddr) -> String {
        self.wait_for_log(&format!("refused a request of {client}: "))
    }

    /// Waits for a log message that contains the words.
    #[track_caller]
    pub fn wait_for_log(&self, words: &str) -> String {
        message(&self.out.wait(words, |line| line.contains(words)))
    }

    /// One GET, of which nothing is left to do for the proxy when this returns: its line is in
    /// the log, so the connection to the endpoint is back in the pool.
    #[track_caller]
    pub fn get_and_settle(&self, target: &str) -> Response {
        let response = self.get(target);
        self.wait_for_log(&format!("request {target} served in "));
        response
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> std::process::ExitStatus {
        self.ended_well = true;
        self.process.wait_for_exit()
    }

    /// Kills it and returns the whole log.
    #[track_caller]
    pub fn stop(&mut self) -> Vec<String> {
        self.check_alive();
        self.ended_well = true;
        self.process.stop();
        self.out.to_the_end().iter().map(|l| message(l)).collect()
    }

    #[track_caller]
    fn check_alive(&mut self) {
        if let Some(status) = self.process.exited() {
            panic!("the proxy died: {status}; {:#?}", self.process.err.all());
        }
        let errors = self.process.err.all();
        assert!(
            !errors.iter().any(|line| line.contains("panicked")),
            "the proxy panicked: {errors:#?}"
        );
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            // A proxy that has died resets its connections, and logs nothing.
            eprintln!("exit status so far: {:?}", self.process.exited());
            eprintln!("log: {:#?}", self.process.out.all());
            eprintln!("stderr: {:#?}", self.process.err.all());
        } else if !self.ended_well {
            self.check_alive();
        }
    }
}

/// A log line without its first three words (prefix, date, time).
pub fn message(line: &str) -> String {
    line.splitn(4, ' ').nth(3).unwrap_or(line).to_owned()
}
