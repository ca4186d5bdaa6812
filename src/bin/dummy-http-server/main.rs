//! A dummy HTTP server for trying the proxy, or any client, out: slow, wrong, silent or broken
//! by chance.
//!
//! What becomes of a request is [planned](plan) when it arrives, and [counted](counts) when it
//! comes about. Each connection has a thread of its own, so that delayed answers do not queue
//! up behind one another.

mod answer;
mod chance;
mod counts;
mod flags;
mod plan;

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use balancing_reverse_proxy::cli::{self, Given};
use balancing_reverse_proxy::downstream::descriptors;
use balancing_reverse_proxy::downstream::limits::Limits;
use balancing_reverse_proxy::downstream::listen;
use balancing_reverse_proxy::downstream::server::{Queue, Server};
use balancing_reverse_proxy::downstream::{ClientRequest, Handler, Responder};
use balancing_reverse_proxy::http::request::Persistence;
use balancing_reverse_proxy::link_seam;
use balancing_reverse_proxy::logging::{LogConfig, LogDestination, Logging, Target};
use balancing_reverse_proxy::util::body::check_storage;
use balancing_reverse_proxy::util::go_duration::GoDuration;
use balancing_reverse_proxy::util::io_error::describe;
use balancing_reverse_proxy::util::random;
use crossbeam_channel::{Receiver, after, never, select, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use answer::Answer;
use counts::Counts;
use flags::{Options, PROGRAM};
use plan::{Fault, Plan};

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
    quiet: false,
    is_origin: true,
};

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
        ..LogConfig::default()
    }) {
        Ok(logging) => logging,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    cli::log_repeated(&repeated);
    match serve(options) {
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
fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let signals =
        signals().map_err(|error| format!("cannot handle signals: {}", describe(&error)))?;
    check_storage();
    let address = &options.address;
    let (listener, shown) = listen::open("address", address, false)?;
    let seed = options.chance_seed.unwrap_or_else(random::number);
    let is_worth_a_repetition = options.has_faults();
    let stop_after = options.stop_after;
    let dummy = Arc::new(Dummy {
        address: shown.clone(),
        counts: Counts::default(),
        seed,
        options,
    });
    let handler: Arc<dyn Handler> = Arc::<Dummy>::clone(&dummy);
    let limits = descriptors::fit(limits(), 0, 0)?;
    let server = Server::start(listener, handler, limits)
        .map_err(|error| format!("cannot start: {}", describe(&error)))?;
    log::info!("serving on \"{shown}\"");
    if is_worth_a_repetition {
        log::info!("-chance-seed {seed} makes the same sequence again");
    }

    let time_is_up = stop_after.map_or_else(never, after);
    let reason = loop {
        select! {
            recv(signals) -> signal => match signal {
                Ok(SIGUSR1) => dummy.print_counts(),
                // A file that must not grow is like a full disk: writing to it fails.
                Ok(SIGXFSZ) => {}
                signal => {
                    let name = signal.ok().and_then(signal_name).unwrap_or("a signal");
                    break format!("on {name}");
                }
            },
            recv(time_is_up) -> _ => {
                break format!("after {}", GoDuration::from(stop_after.unwrap_or_default()));
            }
        }
    };
    log::info!("stopping server on \"{shown}\" {reason}");
    // Delayed answers are cut off.
    let _ = server.stop(Duration::ZERO, Queue::Serve);
    dummy.print_counts();
    Ok(())
}

/// [`LIMITS`], with fewer connections where there are no descriptors for so many. There is no
/// flag for their number that a message could name.
fn limits() -> Limits {
    let mut limits = LIMITS;
    descriptors::raise();
    while limits.max_connections > 1 && descriptors::shortage(&limits, 0, 0).is_some() {
        limits.max_connections -= limits.max_connections.div_ceil(8);
    }
    if limits.max_connections < LIMITS.max_connections {
        let fewer = limits.max_connections;
        log::warn!("there are descriptors for {fewer} clients only (ulimit -n)");
    }
    limits
}

/// SIGTERM and SIGINT, which end the process, SIGUSR1, which prints the counts so far, and SIGXFSZ.
fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGXFSZ])?;
    let (sender, receiver) = unbounded();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let _ = sender.send(signal);
            }
        })?;
    Ok(receiver)
}

/// Answers every request with the same text, late, wrong, in part or not at all by chance.
struct Dummy {
    address: String,
    options: Options,
    seed: u64,
    counts: Counts,
}

impl Dummy {
    fn print_counts(&self) {
        let _ = writeln!(io::stdout(), "{}", self.counts);
    }

    /// Sends the answer, or as much as breaks off. It is counted before the client can see it.
    fn send(
        &self,
        answer: Answer<'_>,
        fault: Option<Fault>,
        persistence: Persistence,
        mut responder: Responder,
    ) {
        if fault.is_some() {
            self.counts.broken();
            let _ = answer.write_broken(&mut responder);
            responder.abort();
            return;
        }
        self.counts.answered(answer.code);
        match answer.write(&mut responder) {
            Ok(()) => responder.finish(persistence),
            Err(_) => responder.abort(),
        }
    }
}

impl Handler for Dummy {
    fn handle(self: Arc<Self>, request: ClientRequest, mut responder: Responder) {
        let plan = Plan::new(&self.options, self.seed, self.counts.arrived());
        let span = GoDuration::from(plan.pause.unwrap_or_default());
        log::info!(
            "will serve {} after {span}, error:{}{}",
            Target(request.head.target()),
            plan.code >= 400,
            remark(plan)
        );
        if plan.fault == Some(Fault::Hangs) {
            self.counts.hung();
            request.watch.wait_for_end();
            responder.abort();
            return;
        }
        let mut after = String::new();
        if let Some(pause) = plan.pause.filter(|pause| !pause.is_zero()) {
            thread::sleep(pause);
            after = format!(" after {span}");
        }
        let (address, target) = (self.address.as_bytes(), request.head.target());
        let greeting = || {
            [
                b"Hello, world from ",
                address,
                target,
                after.as_bytes(),
                b"\n",
            ]
            .concat()
        };
        let text = self.options.body.as_deref().map(str::as_bytes);
        let text = text.map_or_else(|| Cow::Owned(greeting()), Cow::Borrowed);
        let persistence = responder.persistence();
        let answer = Answer {
            code: plan.code,
            text: &text,
            size: self.options.body_size,
            try_later: self.options.try_later,
            persistence,
            is_head: request.head.is_head(),
        };
        self.send(answer, plan.fault, persistence, responder);
    }
}

/// What stands behind a line of the log where an answer is not an ordinary one.
fn remark(plan: Plan) -> String {
    match (plan.fault, plan.code) {
        (Some(Fault::Hangs), _) => " (hangs)".to_owned(),
        (Some(Fault::Breaks), code) => format!(" ({code}, breaks off)"),
        (None, 200 | 500) => String::new(),
        (None, code) => format!(" ({code})"),
    }
}
