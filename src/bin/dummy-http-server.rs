//! A dummy HTTP server for trying the proxy out: slow at random, wrong at random.
//!
//! Delay and error are independent of each other. Each connection has a thread of its own, so
//! delayed answers do not queue up behind one another.

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use balancing_reverse_proxy::cli::{self, Flag, Given, Group, Program, Takes, put, values};
use balancing_reverse_proxy::downstream::descriptors;
use balancing_reverse_proxy::downstream::limits::Limits;
use balancing_reverse_proxy::downstream::listen::{self, ListenAddress};
use balancing_reverse_proxy::downstream::server::Server;
use balancing_reverse_proxy::downstream::{ClientRequest, Handler, Responder};
use balancing_reverse_proxy::http::local_reply::{PLAIN_TEXT, Reply};
use balancing_reverse_proxy::link_seam;
use balancing_reverse_proxy::logging::{LogConfig, LogDestination, Logging, Target};
use balancing_reverse_proxy::util::body::check_storage;
use balancing_reverse_proxy::util::go_duration::GoDuration;
use balancing_reverse_proxy::util::io_error::describe;

link_seam!();

const LIMITS: Limits = Limits {
    max_connections: 4096,
    workers: 4096,
    max_header: 64 << 10,
    max_body: 1 << 30,
    idle_timeout: Duration::from_secs(60),
    header_timeout: Duration::from_secs(10),
    client_timeout: Duration::from_secs(30),
    half_close: true,
};

static PROGRAM: Program<Options> = Program {
    name: "dummy-http-server",
    about: "A dummy HTTP server for trying the proxy out: slow at random, wrong at random.",
    synopsis: "[FLAGS]",
    groups: &[Group {
        title: "",
        flags: &[
            Flag::address(":8000", |options, text| {
                put(&mut options.address, values::parsed(text))
            }),
            Flag {
                name: "-delay-responding",
                takes: Takes::Boolean,
                default: "true",
                help: "wait a random time before each answer, up to 1s",
                set: |options, text| put(&mut options.delay, values::boolean(text)),
            },
            Flag {
                name: "-random-errors",
                takes: Takes::Boolean,
                default: "true",
                help: "make one answer in four a 500",
                set: |options, text| put(&mut options.errors, values::boolean(text)),
            },
            Flag::stop_after(|options, text| {
                put(&mut options.stop_after, values::positive_duration(text))
            }),
            Flag::HELP,
        ],
    }],
};

/// What the flags say.
#[derive(Debug, Default)]
struct Options {
    address: ListenAddress,
    /// Answers are delayed at random.
    delay: bool,
    /// Answers are wrong at random.
    errors: bool,
    /// How long to serve; `None`: until it is killed.
    stop_after: Option<Duration>,
}

fn main() -> ExitCode {
    let Given { options, repeated } = match cli::from_env(&PROGRAM) {
        Ok(given) => given,
        Err(code) => return code,
    };
    let logging = match Logging::start(&LogConfig {
        prefix: PROGRAM.name.to_owned(),
        destination: LogDestination::Stderr,
        date: true,
        time: true,
        microseconds: false,
        utc: false,
    }) {
        Ok(logging) => logging,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    cli::log_repeated(&repeated);
    check_storage();
    match serve(&options) {
        Ok(()) => {
            let _ = logging.flush(Duration::from_secs(2));
            ExitCode::SUCCESS
        }
        Err(error) => {
            logging.fatal(error);
            ExitCode::FAILURE
        }
    }
}

/// Serves until it is time to stop; the process ends with the threads that still answer.
fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let address = &options.address;
    let listener = listen::bind(address)
        .map_err(|error| format!("cannot bind to address: {address}: {}", describe(&error)))?;
    let shown = address.with_port(listener.local_addr()?.port());
    let dummy = Dummy {
        address: shown.clone(),
        delay: options.delay,
        errors: options.errors,
    };
    let server = Server::start(listener, Arc::new(dummy), descriptors::fit(LIMITS, 0, 0))
        .map_err(|error| format!("cannot start: {}", describe(&error)))?;
    log::info!("serving on \"{shown}\"");

    let Some(life) = options.stop_after else {
        loop {
            thread::park();
        }
    };
    thread::sleep(life);
    log::info!(
        "stopping server on \"{shown}\" after {}",
        GoDuration::from(life)
    );
    // Delayed answers are cut off.
    let _ = server.stop(Duration::ZERO);
    Ok(())
}

/// Answers every request with the same text, late or wrong by chance.
struct Dummy {
    address: String,
    delay: bool,
    errors: bool,
}

impl Handler for Dummy {
    fn handle(&self, request: ClientRequest, mut responder: Responder) {
        let target = String::from_utf8_lossy(request.head.target());
        let delay = self
            .delay
            .then(|| Duration::from_micros(random() % 1_000_000));
        let error = self.errors && random().is_multiple_of(4);
        let span = GoDuration::from(delay.unwrap_or_default());
        log::info!(
            "will serve {} after {span}, error:{error}",
            Target(request.head.target())
        );
        let after = match delay {
            Some(delay) => {
                thread::sleep(delay);
                format!(" after {span}")
            }
            None => String::new(),
        };
        let text = format!("Hello, world from {}{target}{after}\n", self.address);
        let persistence = responder.persistence();
        let answer = Reply {
            status: if error { 500 } else { 200 },
            content_type: PLAIN_TEXT,
            content: text.as_bytes(),
            persistence,
            is_head: request.head.is_head(),
            extra: "",
        };
        responder.send(&answer.to_bytes(SystemTime::now()), persistence);
    }
}

/// Good enough dice: the hasher of each new `RandomState` has keys of its own.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_fair_enough() {
        let errors = (0..4000).filter(|_| random().is_multiple_of(4)).count();
        // Seven standard deviations either way.
        assert!((808..=1192).contains(&errors), "{errors} of 4000");
        let long = (0..4000)
            .filter(|_| random() % 1_000_000 >= 500_000)
            .count();
        assert!((1778..=2222).contains(&long), "{long} of 4000");
    }
}
