//! The proxy's binary: parse, set up logging, bind, serve; the only place that exits.
//!
//! Standard output and standard error are written to whether they are read or not: a closed
//! one is no reason to fail. The exit code is 0, 1 for a failure, or 2 for a bad command line.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::mem;
use std::net::TcpListener;
use std::panic;
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use balancing_reverse_proxy::cli::{self, Given};
use balancing_reverse_proxy::config::{Config, PROXY};
use balancing_reverse_proxy::dispatch::Dispatcher;
use balancing_reverse_proxy::downstream::Handler;
use balancing_reverse_proxy::downstream::descriptors;
use balancing_reverse_proxy::downstream::is_of_accept_thread;
use balancing_reverse_proxy::downstream::limits::Limits;
use balancing_reverse_proxy::downstream::listen::{self, ListenAddress};
use balancing_reverse_proxy::downstream::server::{Queue, Server};
use balancing_reverse_proxy::http::endpoint_url::shown_path;
use balancing_reverse_proxy::http::forward::ForwardRules;
use balancing_reverse_proxy::http::via::ViaEntry;
use balancing_reverse_proxy::link_seam;
use balancing_reverse_proxy::logging::{LogDestination, Logging};
use balancing_reverse_proxy::metrics::Metrics;
use balancing_reverse_proxy::monitor::{self, Monitor, Sources};
use balancing_reverse_proxy::proxy::handler::Proxy;
use balancing_reverse_proxy::reload::{self, Reload};
use balancing_reverse_proxy::systemd::{Environment, HandedOver, Notifier, Reloading, Status};
use balancing_reverse_proxy::upstream::endpoint::{ConnectionMonitor, MAX_IDLE, Settings};
use balancing_reverse_proxy::upstream::tls;
use balancing_reverse_proxy::util::body::check_storage;
use balancing_reverse_proxy::util::go_duration::GoDuration;
use balancing_reverse_proxy::util::io_error::describe;
use balancing_reverse_proxy::util::poll::poll_until;
use balancing_reverse_proxy::util::random;
use balancing_reverse_proxy::util::ready_file::ReadyFile;
use balancing_reverse_proxy::util::thread_pool::ThreadPool;
use crossbeam_channel::{Receiver, Sender, after, at, bounded, never, select};
use log::{error, info};
use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

link_seam!();

/// What `-version` prints.
const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n");

/// How long to wait at the end for a log whose reader is slow.
const LOG_FLUSH: Duration = Duration::from_secs(2);

/// The same where a second signal is not to wait.
const LAST_FLUSH: Duration = Duration::from_millis(250);

/// How long a thread for attempts waits for the next one.
const ATTEMPT_THREAD_IDLE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // Before anything is opened, and before any thread.
    let systemd = Environment::take();
    if env::args_os().len() <= 1 {
        let _ = write!(io::stderr(), "{}", PROXY.usage());
        return ExitCode::FAILURE;
    }
    let Given { options, repeated } = match cli::from_env(&PROXY) {
        Ok(given) => given,
        Err(code) => return code,
    };
    if options.version {
        return cli::print(VERSION);
    }
    let config = match options.finish() {
        Ok(config) => config,
        Err(error) => return PROXY.refuse(error),
    };
    // Before any thread: local time can be read soundly only now.
    let logging = match Logging::start(&config.log) {
        Ok(logging) => logging,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    cli::log_repeated(&repeated);
    match run(config, &logging, systemd) {
        Ok(()) => {
            let _ = logging.flush(LOG_FLUSH);
            ExitCode::SUCCESS
        }
        Err(error) => {
            logging.fatal(error);
            ExitCode::FAILURE
        }
    }
}

/// Serves until it is time to stop.
fn run(
    mut config: Config,
    logging: &Logging,
    Environment { notifier, socket }: Environment,
) -> Result<(), Box<dyn Error>> {
    let started = (SystemTime::now(), Instant::now());
    log_panics();
    let (hang_up, hang_ups) = bounded(1);
    let stop_signals = handle_signals(logging, hang_up, notifier.clone())
        .map_err(|error| format!("cannot handle signals: {}", describe(&error)))?;
    let limits = fitting_limits(&config)?;
    check_storage();
    limit_allocator();
    let idle_monitor = Arc::new(ConnectionMonitor::new(MAX_IDLE));
    let rules = Arc::new(forward_rules(&config));
    let metrics: Arc<Metrics> = Arc::default();
    let settings = Settings {
        tls: tls::client_config(config.roots.iter().cloned(), config.identity.clone())?,
        policy: config.upstream,
        rules: Arc::clone(&rules),
        idle_connections: limits.max_connections,
        idle_monitor: Arc::clone(&idle_monitor),
    };
    let dispatcher = dispatcher(&mut config, limits, settings, &metrics, hang_ups)?;
    let proxy = Proxy {
        dispatcher: Arc::clone(&dispatcher),
        proxy_status: config.proxy_status,
        half_close: limits.half_close,
        rules,
        metrics: Arc::clone(&metrics),
    };
    if let Some(path) = &config.ready_file {
        // Left by a run that was killed. It must not be taken for this one's.
        let _ = fs::remove_file(path);
    }
    let bind_monitor = |address| listen::open("-monitor address", address, config.reuse_port);
    let monitor = config.monitor.as_ref().map(bind_monitor).transpose()?;
    let (listener, address, queue) = listener(&config.address, config.reuse_port, socket)?;
    let server = Server::start(listener, Arc::new(proxy), limits)
        .map_err(|error| format!("cannot start: {}", describe(&error)))?;
    info!("starting on: \"{address}\"");
    let mut ready = vec![address];
    let monitor = match monitor {
        Some((listener, address)) => {
            let sources = Sources {
                metrics,
                dispatcher: Arc::clone(&dispatcher),
                connections: server.connections(),
                logging: logging.clone(),
                started,
            };
            let typed = config.monitor.as_ref().and_then(ListenAddress::host);
            let monitor = start_monitor(listener, typed.unwrap_or_default(), sources)?;
            info!("monitor on: \"{address}\"");
            ready.push(address);
            Some(monitor)
        }
        None => None,
    };
    let ready_file = config.ready_file.as_deref();
    let ready_file = ready_file.map(|path| write_ready_file(path, &ready));
    let ready_file = ready_file.transpose()?;

    let mut status = Status::ready(notifier.clone(), Arc::clone(&dispatcher));
    let stop = wait(&stop_signals, config.stop_after, &idle_monitor, &mut status);
    announce(&stop, logging, &config.log.destination);
    drop(ready_file);
    notifier.stopping();
    if let Some(monitor) = monitor {
        // It goes on until the process ends.
        monitor.stopping();
    }
    let cut_off = server.stop(config.drain, queue);
    dispatcher.stopping();
    if cut_off > 0 {
        let drain = GoDuration::from(config.drain);
        info!("requests that were cut off: {cut_off}, not ended within {drain} (-drain)");
    }
    Ok(())
}

/// Those of `tiny_http`'s accept thread are no errors of this program, and seen to elsewhere.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        if !panic.location().is_some_and(is_of_accept_thread) {
            error!("internal error: {panic}");
        }
    }));
}

/// The listener that systemd hands over, else that of `-address`, and its address.
fn listener(
    address: &ListenAddress,
    reuse_port: bool,
    socket: HandedOver,
) -> Result<(TcpListener, String, Queue), Box<dyn Error>> {
    if let Some(listener) = socket.listener()? {
        let shown = listen::shown(listener.local_addr()?);
        info!("using the socket of LISTEN_FDS in place of -address: \"{shown}\"");
        return Ok((listen::adopt(listener)?, shown, Queue::Leave));
    }
    let (listener, shown) = listen::open("address", address, reuse_port)?;
    Ok((listener, shown, Queue::Serve))
}

fn start_monitor(
    listener: TcpListener,
    typed: &str,
    sources: Sources,
) -> Result<Arc<Monitor>, String> {
    let start = || {
        let address = listener.local_addr()?.ip().to_canonical();
        let monitor = Monitor::start(sources, address, typed.to_owned())?;
        let handler: Arc<dyn Handler> = Arc::clone(&monitor) as Arc<_>;
        let _ = Server::start(listener, handler, monitor::LIMITS)?;
        Ok(monitor)
    };
    start().map_err(|error: io::Error| format!("cannot start -monitor: {}", describe(&error)))
}

fn write_ready_file(path: &Path, lines: &[String]) -> Result<ReadyFile, String> {
    ReadyFile::write(path, lines).map_err(|error| {
        let reason = describe(&error);
        format!("cannot write -ready-file {}: {reason}", shown_path(path))
    })
}

/// Why the proxy stops.
enum Stop {
    Signal(&'static str),
    After(Duration),
}

/// Waits until it is time to stop, and closes idle connections to endpoints meanwhile.
fn wait(
    stop_signals: &Receiver<i32>,
    stop_after: Option<Duration>,
    idle_monitor: &ConnectionMonitor,
    status: &mut Status,
) -> Stop {
    let time_is_up = stop_after.map_or_else(never, after);
    let mut expiry = never();
    loop {
        select! {
            recv(stop_signals) -> signal => {
                return Stop::Signal(signal.ok().and_then(signal_name).unwrap_or("a signal"));
            }
            recv(time_is_up) -> _ => return Stop::After(stop_after.unwrap_or_default()),
            recv(idle_monitor.began()) -> _ => expiry = after(idle_monitor.max_idle()),
            recv(status.changed()) -> _ => status.update(),
            recv(status.changes_at()) -> _ => status.update(),
            recv(expiry) -> _ => {
                expiry = idle_monitor.close_expired(Instant::now()).map_or_else(never, at);
            }
        }
    }
}

/// Logs why the proxy stops. Where that is `-stop-after`, the line stands on the standard output,
/// and in the log where that is elsewhere. A standard output that is full is not waited for.
fn announce(stop: &Stop, logging: &Logging, log: &LogDestination) {
    let name = PROXY.name;
    let span = match stop {
        Stop::Signal(signal) => return info!("stopping {name} on {signal}"),
        Stop::After(span) => GoDuration::from(*span),
    };
    let line = format!("stopping {name} after {span}");
    if *log == LogDestination::Stdout {
        // Behind what has been logged.
        return logging.print(&line);
    }
    info!("{line}");
    let mut stdout = io::stdout();
    let is_writable = poll_until(&mut [PollFd::new(&stdout, PollFlags::OUT)], Instant::now());
    if is_writable.unwrap_or(false) {
        let _ = writeln!(stdout, "{line}");
    }
}

/// What is changed in heads. The id in `Via` is this process's own.
fn forward_rules(config: &Config) -> ForwardRules {
    ForwardRules {
        via: (!config.no_via).then(|| ViaEntry::new(random::number())),
        ..config.rules.clone()
    }
}

/// The dispatcher of the endpoints that are listed. They are read anew on SIGHUP, which comes out of
/// the channel, if they are listed in a file.
fn dispatcher(
    config: &mut Config,
    limits: Limits,
    settings: Settings,
    metrics: &Arc<Metrics>,
    hang_ups: Receiver<Reloading>,
) -> Result<Arc<Dispatcher>, Box<dyn Error>> {
    let listed = &config.listed;
    let most = reload::attempt_threads(&limits, listed.endpoints.len());
    let threads = ThreadPool::new("attempt", most, ATTEMPT_THREAD_IDLE);
    let dispatcher = Arc::new(Dispatcher::new(
        reload::first(listed, &settings)?,
        listed.backups,
        mem::take(&mut config.policy),
        Arc::clone(&threads),
        Arc::clone(metrics),
    ));
    if config.sources.has_file() {
        let reload = Reload {
            sources: config.sources.clone(),
            settings,
            dispatcher: Arc::clone(&dispatcher),
            threads,
            limits,
            other_descriptors: descriptors_of_monitor(config),
            exposed: listed.exposed.iter().cloned().collect(),
        };
        reload
            .start(hang_ups)
            .map_err(|error| format!("cannot start: {}", describe(&error)))?;
    }
    Ok(dispatcher)
}

/// The limits that there are descriptors for.
fn fitting_limits(config: &Config) -> Result<Limits, String> {
    let of_request = reload::descriptors_of_request(config.listed.endpoints.len());
    descriptors::fit(config.limits, of_request, descriptors_of_monitor(config))
}

fn descriptors_of_monitor(config: &Config) -> usize {
    let monitored = config.monitor.as_ref();
    monitored.map_or(0, |_| descriptors::of_server(&monitor::LIMITS))
}

/// SIGTERM and SIGINT come out of the channel; the second one ends the process at once.
/// SIGHUP and SIGUSR1 mean that the log file has been renamed, and SIGHUP, which `hang_up` gets, that
/// the endpoints may be others; without such files they mean nothing.
/// SIGUSR2, which would end the process, does nothing.
fn handle_signals(
    logging: &Logging,
    hang_up: Sender<Reloading>,
    notifier: Notifier,
) -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXFSZ])?;
    let (stop, stop_signals) = bounded(1);
    let logging = logging.clone();
    let handle = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => logging.reopen(),
                SIGHUP => {
                    let reloading = notifier.reloading();
                    // What is logged of it is in the new file.
                    logging.reopen();
                    // One that waits already reads what is there then.
                    let _ = hang_up.try_send(reloading);
                }
                // A file that must not grow is like a full disk: writing to it fails.
                SIGUSR2 | SIGXFSZ => {}
                _ if stopping => {
                    let signal = signal_name(signal).unwrap_or("a signal");
                    error!("ending at once: another {signal} while stopping");
                    let _ = logging.flush(LAST_FLUSH);
                    process::exit(1);
                }
                _ => {
                    stopping = true;
                    let _ = stop.try_send(signal);
                }
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(handle)?;
    Ok(stop_signals)
}

/// Makes the allocator keep little of what has been freed.
///
/// Large pieces of memory go back to the system at once, and grow in place: by default glibc gives
/// that up once a piece has been freed, and heads without an end would stay in memory long after
/// they have been cut off. There are two arenas for each processor, not eight: each one keeps what
/// its threads have freed, and no more threads than processors allocate at a time.
#[allow(unsafe_code)]
fn limit_allocator() {
    #[cfg(target_env = "gnu")]
    {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let arenas = i32::try_from(2 * processors).unwrap_or(i32::MAX);
        // SAFETY: sets numbers inside the allocator, under its lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
            libc::mallopt(libc::M_ARENA_MAX, arenas);
        }
    }
}
