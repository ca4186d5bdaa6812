//! A dummy HTTP server for trying the proxy out: slow at random, wrong at random.
//!
//! Delay and error are independent of each other. Each request sleeps on a thread of its
//! own, [`THREADS`] at most, so delayed answers do not queue up behind one another.

use std::env;
use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use argh::FromArgs;
use balancing_reverse_proxy::cli::{self, Flag, Parsed, Program, boolean};
use balancing_reverse_proxy::config::ListenAddress;
use balancing_reverse_proxy::failure::describe;
use balancing_reverse_proxy::go_duration::GoDuration;
use balancing_reverse_proxy::listen;
use balancing_reverse_proxy::logging::{LogConfig, LogDestination, Logging, escaped};
use tiny_http::{Header, Request, Response, Server};

const THREADS: usize = 256;

/// The threads do next to nothing.
const STACK_BYTES: usize = 256 << 10;

const PROGRAM: Program = Program {
    name: "dummy-http-server",
    about: "A dummy HTTP server for trying the proxy out: slow at random, wrong at random.",
    synopsis: "[FLAGS]",
    flags: &[
        Flag {
            name: "address",
            value: "ADDRESS",
            default: ":8000",
            help: "where to listen: :PORT is every interface, IPv4 and IPv6; HOST:PORT or \
                   [::1]:PORT is one; port 0 takes a free one",
        },
        Flag {
            name: "delay-responding",
            value: "",
            default: "true",
            help: "wait a random time before each answer, up to 1s",
        },
        Flag {
            name: "random-errors",
            value: "",
            default: "true",
            help: "make one answer in four a 500",
        },
        Flag {
            name: "stop-after",
            value: "DURATION",
            default: "0",
            help: "stop after this long; zero or negative: never",
        },
        Flag {
            name: "help",
            value: "",
            default: "",
            help: "print this text and exit",
        },
    ],
};

/// The dummy server's flags.
#[derive(Debug, FromArgs)]
struct Args {
    /// where to listen
    #[argh(option, default = "\":8000\".to_owned()")]
    address: String,

    /// random delay
    #[argh(option, default = "true", from_str_fn(boolean))]
    delay_responding: bool,

    /// random errors
    #[argh(option, default = "true", from_str_fn(boolean))]
    random_errors: bool,

    /// time to live
    #[argh(option, default = "GoDuration::from_nanos(0)")]
    stop_after: GoDuration,
}

fn main() -> ExitCode {
    let args = match cli::parse::<Args>(&PROGRAM, env::args_os().skip(1)) {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Help) => {
            let _ = write!(io::stdout(), "{}", PROGRAM.usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&error.to_string()),
    };
    let address: ListenAddress = match args.address.parse() {
        Ok(address) => address,
        Err(error) => return refuse(&format!("-address: {error}")),
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
    match serve(&args, &address) {
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

fn refuse(reason: &str) -> ExitCode {
    let _ = write!(io::stderr(), "{reason}\n\n{}", PROGRAM.usage());
    ExitCode::FAILURE
}

/// Returns when it is time to stop; the process ends with the threads that still answer.
fn serve(args: &Args, address: &ListenAddress) -> Result<(), Box<dyn Error>> {
    let listener = listen::bind(address)
        .map_err(|error| format!("cannot bind to address: {address}: {}", describe(&error)))?;
    let shown: Arc<str> = address.with_port(listener.local_addr()?.port()).into();
    let server =
        Arc::new(Server::from_listener(listener, None).map_err(|error| error.to_string())?);
    log::info!("serving on \"{shown}\"");

    let (delay, errors) = (args.delay_responding, args.random_errors);
    for _ in 0..THREADS {
        let (server, shown) = (Arc::clone(&server), Arc::clone(&shown));
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // An error here is one connection's, say that there was no descriptor
                // left for it.
                loop {
                    match server.recv() {
                        Ok(request) => answer(request, &shown, delay, errors),
                        Err(error) => {
                            log::warn!("cannot accept: {}", describe(&error));
                            thread::sleep(Duration::from_millis(100));
                        }
                    }
                }
            })?;
    }

    let Some(life) = args.stop_after.positive() else {
        loop {
            thread::park();
        }
    };
    thread::sleep(life);
    log::info!(
        "stopping server on \"{shown}\" after {}",
        GoDuration::from(life)
    );
    Ok(())
}

fn answer(request: Request, address: &str, delay: bool, errors: bool) {
    // `tiny_http` allocates what is left of a body when it has answered; if that fails, the
    // process ends. Such a request is leaked, with its connection: nobody means it.
    let length = request.body_length().unwrap_or(0);
    if Vec::<u8>::new().try_reserve_exact(length).is_err() {
        log::warn!("will not serve a request with a body of {length} bytes");
        std::mem::forget(request);
        return;
    }
    let delay = delay.then(|| Duration::from_micros(random() % 1_000_000));
    let error = errors && random().is_multiple_of(4);
    let span = GoDuration::from(delay.unwrap_or_default());
    log::info!(
        "will serve {} after {span}, error:{error}",
        escaped(request.url())
    );
    let after = match delay {
        Some(delay) => {
            thread::sleep(delay);
            format!(" after {span}")
        }
        None => String::new(),
    };
    let text = format!("Hello, world from {address}{}{after}\n", request.url());
    let mut response = Response::from_string(text).with_status_code(if error { 500 } else { 200 });
    if let Ok(header) = Header::from_bytes("Content-Type", "text/plain; charset=utf-8") {
        response.add_header(header);
    }
    // A client that has gone away is no news here.
    let _ = request.respond(response);
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
