//! The command line: Go's flag syntax on the outside, `argh` on the inside.
//!
//! The program took over its flags from a Go program, and people's scripts write them as
//! Go reads them: one dash or two, a space or `=`, any unambiguous prefix of a name.
//! [`rewrite`] turns such words into the `--name value` pairs that `argh` parses; it knows
//! of a flag only its name and whether it is a boolean. Values, their types and defaults
//! are `argh`'s business ([`Args`]), and what they mean together is `config`'s.
//!
//! Each program has one table of [`Flag`]s, from which both the rewriting and the usage
//! are made. The defaults stand there as text and in [`Args`] as values; a test keeps the
//! two the same.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use argh::FromArgs;

use crate::dispatch::policy::{HedgeAfter, OnExhausted, Order};
use crate::http::endpoint_url::masked;
use crate::util::go_duration::GoDuration;

/// One flag, as the rewriting and the usage need it.
#[derive(Debug)]
pub struct Flag {
    /// The name, without dashes.
    pub name: &'static str,
    /// What kind of value follows, as the usage shows it; empty for a boolean.
    pub value: &'static str,
    /// The default as a user would type it; empty where there is none worth showing.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub help: &'static str,
}

impl Flag {
    /// Whether the flag can stand alone.
    #[must_use]
    pub fn is_boolean(&self) -> bool {
        self.value.is_empty()
    }
}

/// What is known of a program before its command line has been read.
#[derive(Debug)]
pub struct Program {
    /// The name of the binary.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// What a command line must have, after the name.
    pub synopsis: &'static str,
    /// Its flags, in the order of the usage.
    pub flags: &'static [Flag],
}

/// The proxy and its flags.
///
/// `-e -a -t -f -s` and `-log-p -log-f -log-d -log-t -log-m -log-u` stand in people's
/// scripts: no new flag may start with e, a, t, f or s, or with one of those.
pub const PROXY: Program = Program {
    name: "balancing-reverse-proxy",
    about: "A reverse HTTP proxy for flaky back ends: asks several endpoints and returns the \
            first usable response.",
    synopsis: "-endpoints URL,URL,... [FLAGS]",
    flags: &[
        Flag {
            name: "endpoints",
            value: "URLS",
            default: "",
            help: "base URLs of the endpoints, separated by commas: http or https, with an \
                   optional path and query (required)",
        },
        Flag {
            name: "address",
            value: "ADDRESS",
            default: ":8080",
            help: "where to listen: :PORT is every interface, IPv4 and IPv6; HOST:PORT or \
                   [::1]:PORT is one; port 0 takes a free one",
        },
        Flag {
            name: "terminal-responses",
            value: "STATUSES",
            default: "100,200,300,400",
            help: "which statuses are usable: a round hundred is its whole class, a range such \
                   as 404-404 or 200-299 is exact",
        },
        Flag {
            name: "fanout",
            value: "",
            default: "false",
            help: "ask all endpoints at once instead of one after the other",
        },
        Flag {
            name: "hedge-after",
            value: "DURATION|pNN",
            default: "0",
            help: "start the next attempt, too, when the last one has had no usable answer for \
                   this long (50ms), or for longer than this per cent of recent answers took \
                   (p95); 0: only when it has failed",
        },
        Flag {
            name: "hedge-budget",
            value: "PERCENT",
            default: "10",
            help: "per cent of the requests that may be hedged, besides a few; 100: no limit",
        },
        Flag {
            name: "order",
            value: "ORDER",
            default: "listed",
            help: "which endpoint is asked first: listed, the first one; rotate, the next one \
                   each time; fastest, the one that has been fastest of late",
        },
        Flag {
            name: "max-fails",
            value: "NUMBER",
            default: "0",
            help: "after so many failures in a row an endpoint is passed over; 0: never",
        },
        Flag {
            name: "cooldown",
            value: "DURATION",
            default: "5s",
            help: "how long it is passed over, until one request tries it",
        },
        Flag {
            name: "idempotent-only",
            value: "",
            default: "false",
            help: "put POST, PATCH and unknown methods to the next endpoint only if nothing of \
                   the request has been sent",
        },
        Flag {
            name: "commit-after",
            value: "SIZE",
            default: "64KiB",
            help: "an answer of known length up to this is read whole before the client gets \
                   any of it, so that the next endpoint has its chance if it breaks off; 0: none",
        },
        Flag {
            name: "on-exhausted",
            value: "ANSWER",
            default: "500",
            help: "what the client gets when no answer is usable: 500; gateway: 502, 503 or \
                   504; best: the best answer that there was, else as gateway",
        },
        Flag {
            name: "proxy-status",
            value: "",
            default: "false",
            help: "tell in a Proxy-Status header which endpoint has answered, and what became \
                   of the others",
        },
        Flag {
            name: "connect-timeout",
            value: "DURATION",
            default: "3s",
            help: "how long connecting to an endpoint may take",
        },
        Flag {
            name: "per-try-timeout",
            value: "DURATION",
            default: "30s",
            help: "how long one attempt may take until the head of its answer, or the whole \
                   of a short one (-commit-after), and after that each read",
        },
        Flag {
            name: "request-timeout",
            value: "DURATION",
            default: "60s",
            help: "how long all attempts of one request together may take until the head of an \
                   answer",
        },
        Flag {
            name: "renew-after",
            value: "DURATION",
            default: "1m",
            help: "use a connection to an endpoint for no longer than this, so that a name that \
                   has moved is followed; 0: never renew",
        },
        Flag {
            name: "keep-host",
            value: "",
            default: "false",
            help: "send the client's Host instead of the endpoint's",
        },
        Flag {
            name: "ca-file",
            value: "FILE",
            default: "",
            help: "PEM file with certificates to trust for https endpoints, besides the \
                   built-in ones",
        },
        Flag {
            name: "client-cert",
            value: "FILE",
            default: "",
            help: "PEM file with the certificate, and those that lead to its authority, for \
                   https endpoints that ask for one; needs -client-key",
        },
        Flag {
            name: "client-key",
            value: "FILE",
            default: "",
            help: "PEM file with the private key of -client-cert; may be the same file",
        },
        Flag {
            name: "max-body",
            value: "SIZE",
            default: "100MiB",
            help: "largest request body that is accepted, in bytes or with KiB, MiB or GiB",
        },
        Flag {
            name: "max-header",
            value: "SIZE",
            default: "64KiB",
            help: "largest request head that is accepted",
        },
        Flag {
            name: "max-connections",
            value: "NUMBER",
            default: "1000",
            help: "how many clients may be connected; a further one takes the place of one that \
                   waits or crawls, or is answered 503",
        },
        Flag {
            name: "idle-timeout",
            value: "DURATION",
            default: "60s",
            help: "how long a client may stay connected between two requests",
        },
        Flag {
            name: "header-timeout",
            value: "DURATION",
            default: "10s",
            help: "how long a request head may take from its first byte to its end",
        },
        Flag {
            name: "client-timeout",
            value: "DURATION",
            default: "30s",
            help: "how long a client may make no progress in sending a body or taking an \
                   answer; less than 240 bytes a second is none",
        },
        Flag {
            name: "drain",
            value: "DURATION",
            default: "10s",
            help: "how long requests in flight may take to end once it is time to stop",
        },
        Flag {
            name: "workers",
            value: "NUMBER",
            default: "",
            help: "how many requests are worked on at once; a further one is answered 503 \
                   (default: as many as -max-connections)",
        },
        Flag {
            name: "half-close",
            value: "",
            default: "false",
            help: "answer clients that have closed their sending side (nc -N, socat); without \
                   it they count as gone",
        },
        Flag {
            name: "log-prefix",
            value: "TEXT",
            default: "balancing-reverse-proxy",
            help: "first word of each log line; empty for none",
        },
        Flag {
            name: "log-file",
            value: "FILE",
            default: "stdout",
            help: "where the log goes: stdout, stderr, or a file that is appended to and \
                   reopened on SIGHUP",
        },
        Flag {
            name: "log-date",
            value: "",
            default: "true",
            help: "put the date in front of each log line",
        },
        Flag {
            name: "log-time",
            value: "",
            default: "true",
            help: "put the time in front of each log line",
        },
        Flag {
            name: "log-msec",
            value: "",
            default: "false",
            help: "put the time with microseconds in front of each log line, even with \
                   -log-time=false",
        },
        Flag {
            name: "log-utc",
            value: "",
            default: "false",
            help: "date and time in UTC instead of local time",
        },
        Flag {
            name: "ready-file",
            value: "FILE",
            default: "",
            help: "file that gets the bound address once connections are accepted, and is \
                   removed at the end",
        },
        Flag {
            name: "stop-after",
            value: "DURATION",
            default: "0",
            help: "stop after this long; zero or negative: never",
        },
        Flag {
            name: "version",
            value: "",
            default: "",
            help: "print the version and exit",
        },
        Flag {
            name: "help",
            value: "",
            default: "",
            help: "print this text and exit",
        },
    ],
};

/// The proxy's flags, parsed one by one; `config` makes sense of them together.
#[derive(Clone, Debug, PartialEq, Eq, FromArgs)]
#[allow(clippy::struct_excessive_bools)] // One field per flag, and these flags are booleans.
pub struct Args {
    /// base URLs of the endpoints
    #[argh(option)]
    pub endpoints: Option<String>,

    /// where to listen
    #[argh(option, default = "\":8080\".to_owned()")]
    pub address: String,

    /// which statuses are usable
    #[argh(option, default = "\"100,200,300,400\".to_owned()")]
    pub terminal_responses: String,

    /// all endpoints at once
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub fanout: bool,

    /// when the next attempt starts though the last one has not ended
    #[argh(option, default = "HedgeAfter::Never", from_str_fn(hedge_after))]
    pub hedge_after: HedgeAfter,

    /// per cent of the requests that may be hedged
    #[argh(option, default = "10", from_str_fn(percent))]
    pub hedge_budget: u8,

    /// which endpoint is asked first
    #[argh(option, default = "Order::Listed", from_str_fn(order))]
    pub order: Order,

    /// failures in a row after which an endpoint is passed over
    #[argh(option, default = "0", from_str_fn(fails))]
    pub max_fails: u32,

    /// how long it is passed over
    #[argh(option, default = "Duration::from_secs(5)", from_str_fn(timeout))]
    pub cooldown: Duration,

    /// nothing is sent twice that must not be
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub idempotent_only: bool,

    /// answers up to this size are read whole first, in bytes
    #[argh(option, default = "64 << 10", from_str_fn(size))]
    pub commit_after: u64,

    /// the answer when none is usable
    #[argh(option, default = "OnExhausted::Status500", from_str_fn(on_exhausted))]
    pub on_exhausted: OnExhausted,

    /// a Proxy-Status header on every answer
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub proxy_status: bool,

    /// limit for connecting to an endpoint
    #[argh(option, default = "Duration::from_secs(3)", from_str_fn(timeout))]
    pub connect_timeout: Duration,

    /// limit for one attempt until the head of its answer, and then for each read
    #[argh(option, default = "Duration::from_secs(30)", from_str_fn(timeout))]
    pub per_try_timeout: Duration,

    /// limit for all attempts of a request until the head of an answer
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(timeout))]
    pub request_timeout: Duration,

    /// longest use of a connection to an endpoint
    #[argh(option, default = "GoDuration::from(Duration::from_secs(60))")]
    pub renew_after: GoDuration,

    /// the client's Host instead of the endpoint's
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub keep_host: bool,

    /// extra PEM roots for https endpoints
    #[argh(option)]
    pub ca_file: Option<String>,

    /// PEM certificate for endpoints that ask for one
    #[argh(option)]
    pub client_cert: Option<String>,

    /// PEM key of that certificate
    #[argh(option)]
    pub client_key: Option<String>,

    /// largest request body, in bytes
    #[argh(option, default = "100 << 20", from_str_fn(size))]
    pub max_body: u64,

    /// largest request head, in bytes
    #[argh(option, default = "64 << 10", from_str_fn(size_of_something))]
    pub max_header: u64,

    /// clients that may be connected
    #[argh(option, default = "1000", from_str_fn(connections))]
    pub max_connections: usize,

    /// limit for a client between two requests
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(timeout))]
    pub idle_timeout: Duration,

    /// limit for a request head from its first byte to its end
    #[argh(option, default = "Duration::from_secs(10)", from_str_fn(timeout))]
    pub header_timeout: Duration,

    /// limit for a client without progress
    #[argh(option, default = "Duration::from_secs(30)", from_str_fn(timeout))]
    pub client_timeout: Duration,

    /// limit for requests in flight at the end
    #[argh(option, default = "Duration::from_secs(10)", from_str_fn(drain))]
    pub drain: Duration,

    /// requests that are worked on at once
    #[argh(option, from_str_fn(workers))]
    pub workers: Option<NonZeroUsize>,

    /// clients that have closed their sending side are answered
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub half_close: bool,

    /// first word of each log line
    #[argh(option, default = "\"balancing-reverse-proxy\".to_owned()")]
    pub log_prefix: String,

    /// stdout, stderr or a file
    #[argh(option, default = "\"stdout\".to_owned()")]
    pub log_file: String,

    /// date in front of each log line
    #[argh(option, default = "true", from_str_fn(boolean))]
    pub log_date: bool,

    /// time in front of each log line
    #[argh(option, default = "true", from_str_fn(boolean))]
    pub log_time: bool,

    /// time with microseconds in front of each log line
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub log_msec: bool,

    /// date and time in UTC
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub log_utc: bool,

    /// file that gets the bound address
    #[argh(option)]
    pub ready_file: Option<String>,

    /// time to live
    #[argh(option, default = "GoDuration::from_nanos(0)")]
    pub stop_after: GoDuration,

    /// print the version
    #[argh(option, default = "false", from_str_fn(boolean))]
    pub version: bool,
}

/// The most workers that may be asked for: each one is a thread.
const MOST_WORKERS: usize = 65_536;

// The functions that argh calls for a value. Their errors end a sentence that begins with
// the flag and the value: `-workers: "0"` `is not a number from 1 to 65536`.

/// Go's booleans. Public for the flags of other programs.
pub fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("is not a boolean (write true or false)".to_owned()),
    }
}

fn timeout(value: &str) -> Result<Duration, String> {
    let span: GoDuration = value.parse().map_err(|e| format!("{e}"))?;
    span.positive()
        .ok_or_else(|| "is not more than zero (write 5s, 300ms, 1m30s)".to_owned())
}

fn hedge_after(value: &str) -> Result<HedgeAfter, String> {
    const REMEDY: &str = "(write 50ms, p95, or 0 for no hedging)";
    if let Some(percent) = value.strip_prefix('p') {
        return match percent.parse() {
            Ok(percent @ 1..=99) => Ok(HedgeAfter::Percentile(percent)),
            _ => Err(format!("is not a percentile from p1 to p99 {REMEDY}")),
        };
    }
    let span: GoDuration = value.parse().map_err(|e| format!("{e}"))?;
    match span.positive() {
        Some(span) => Ok(HedgeAfter::Fixed(span)),
        None if span == GoDuration::from_nanos(0) => Ok(HedgeAfter::Never),
        None => Err(format!("is less than zero {REMEDY}")),
    }
}

fn percent(value: &str) -> Result<u8, String> {
    match value.parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err("is not a number from 1 to 100 (-hedge-after 0 is no hedging)".to_owned()),
    }
}

fn order(value: &str) -> Result<Order, String> {
    match value {
        "listed" => Ok(Order::Listed),
        "rotate" => Ok(Order::Rotate),
        "fastest" => Ok(Order::Fastest),
        _ => Err("is not an order (write listed, rotate or fastest)".to_owned()),
    }
}

fn on_exhausted(value: &str) -> Result<OnExhausted, String> {
    match value {
        "500" => Ok(OnExhausted::Status500),
        "gateway" => Ok(OnExhausted::Gateway),
        "best" => Ok(OnExhausted::Best),
        _ => Err("is not an answer (write 500, gateway or best)".to_owned()),
    }
}

fn fails(value: &str) -> Result<u32, String> {
    value
        .parse()
        .map_err(|_| "is not a number from 0 upwards (0: never)".to_owned())
}

fn drain(value: &str) -> Result<Duration, String> {
    let span: GoDuration = value.parse().map_err(|e| format!("{e}"))?;
    match span.positive() {
        Some(span) => Ok(span),
        None if span == GoDuration::from_nanos(0) => Ok(Duration::ZERO),
        None => Err("is less than zero (write 5s, 300ms, 1m30s, or 0 for no waiting)".to_owned()),
    }
}

fn connections(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err("is not a number from 1 upwards".to_owned()),
    }
}

fn size(value: &str) -> Result<u64, String> {
    const REMEDY: &str = "(write a whole number of bytes, or one with KiB, MiB or GiB)";
    let (digits, unit) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]
        .into_iter()
        .find_map(|(suffix, unit)| Some((value.strip_suffix(suffix)?, unit)))
        .unwrap_or((value, 1_u64));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("is not a size {REMEDY}"));
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("is too large for a size {REMEDY}"))
}

fn size_of_something(value: &str) -> Result<u64, String> {
    match size(value)? {
        0 => Err("is no size for a request head (write 64KiB)".to_owned()),
        size => Ok(size),
    }
}

fn workers(value: &str) -> Result<NonZeroUsize, String> {
    value
        .parse::<NonZeroUsize>()
        .ok()
        .filter(|number| number.get() <= MOST_WORKERS)
        .ok_or_else(|| format!("is not a number from 1 to {MOST_WORKERS}"))
}

/// What a command line turned out to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The usage.
    Help,
    /// To run with these flags.
    Run(T),
}

/// Why a command line could not be read; prints as one line that names the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// A word that belongs to no flag.
    Stray(String),
    /// A word such as `-=x` or `---x`.
    Malformed(String),
    /// A flag that does not exist, as typed.
    Unknown(String),
    /// The prefix of several flags.
    Ambiguous {
        /// As typed, with its dashes.
        typed: String,
        /// The names that it may stand for.
        candidates: Vec<&'static str>,
    },
    /// The last word is a flag that needs a value.
    MissingValue {
        /// The flag's full name.
        flag: &'static str,
        /// What kind of value, as the usage shows it.
        value: &'static str,
    },
    /// A value that its flag does not take.
    BadValue {
        /// The flag's full name.
        flag: String,
        /// The value as typed.
        value: String,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// A word that is not UTF-8.
    NotUtf8(OsString),
    /// Whatever else argh has to say; no command line is known that leads here.
    Other(String),
}

#[allow(clippy::unnecessary_debug_formatting)] // The bytes that are not UTF-8 must show.
impl fmt::Display for UsageError {
    /// Any word may be an endpoint's URL that has gone astray: passwords are masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stray(word) => write!(
                f,
                "stray argument {:?} (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
                masked_word(word)
            ),
            Self::Malformed(word) => {
                write!(
                    f,
                    "{:?} is not a flag (write -NAME VALUE or -NAME=VALUE)",
                    masked_word(word)
                )
            }
            Self::Unknown(typed) => {
                let typed = masked_word(typed);
                let typed = typed.escape_debug();
                write!(f, "unknown flag {typed} (the usage below lists them all)")
            }
            Self::Ambiguous { typed, candidates } => {
                write!(f, "{typed} is ambiguous, it may be any of")?;
                for (index, name) in candidates.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma} -{name}")?;
                }
                Ok(())
            }
            Self::MissingValue { flag, value } => {
                write!(f, "-{flag}: the value is missing (write -{flag} {value})")
            }
            Self::BadValue {
                flag,
                value,
                reason,
            } => write!(f, "-{flag}: {:?} {reason}", masked_word(value)),
            Self::NotUtf8(word) => {
                let text = word.to_string_lossy();
                let masked = masked_word(&text);
                if masked == text {
                    write!(f, "argument {word:?} is not valid UTF-8")
                } else {
                    write!(f, "argument {masked:?} is not valid UTF-8")
                }
            }
            Self::Other(text) => write!(f, "{}", text.trim().escape_debug()),
        }
    }
}

impl std::error::Error for UsageError {}

/// A word fit to be printed, also where a blank has cut a URL in two: `http://me:pass` is
/// more likely to be half of one than to have a port like that.
fn masked_word(word: &str) -> String {
    let masked = masked(word);
    let Some((scheme, rest)) = masked.split_once("://") else {
        return masked;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match authority.split_once(':') {
        Some((_, port)) if !authority.contains(['@', '[']) && !is_port(port) => {
            format!("{scheme}://***")
        }
        _ => masked,
    }
}

/// Reads a command line: everything after the program's name.
pub fn parse<T: FromArgs>(
    program: &Program,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<T>, UsageError> {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.into_string().map_err(UsageError::NotUtf8))
        .collect::<Result<_, _>>()?;
    let Rewritten::Words(words) = rewrite(program.flags, &words)? else {
        return Ok(Parsed::Help);
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    T::from_args(&[program.name], &words)
        .map(Parsed::Run)
        .map_err(|exit| in_our_form(&words, exit.output))
}

/// Finds in argh's error text which of the pairs it is about, and words it as we do.
fn in_our_form(words: &[&str], output: String) -> UsageError {
    for pair in words.chunks_exact(2) {
        let [name, value] = pair else { continue };
        let opening = format!("Error parsing option '{name}' with value '{value}': ");
        if let Some(reason) = output.strip_prefix(&opening) {
            return UsageError::BadValue {
                flag: name.trim_start_matches('-').to_owned(),
                value: (*value).to_owned(),
                reason: reason.trim_end().to_owned(),
            };
        }
    }
    UsageError::Other(output)
}

/// What [`rewrite`] makes of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// The usage is asked for.
    Help,
    /// Words for argh: `--name`, value, `--name`, value, each name at most once.
    Words(Vec<String>),
}

/// Turns Go-style words into those that argh parses. Pure; values are not looked at.
///
/// - `-name value`, `-name=value`, the same with two dashes, and any unambiguous prefix of
///   a name; an exact name wins over a prefix.
/// - A boolean stands alone, or has `=value`, or is followed by a bare `true` or `false`.
/// - A flag that is given twice has its last value, as in Go; argh would refuse it.
/// - `--` ends the flags, and nothing may follow it.
/// - A request for help among the flags wins over everything, mistakes included. As the
///   value of a flag (`-log-prefix -h`) it is just that.
pub fn rewrite(flags: &'static [Flag], words: &[String]) -> Result<Rewritten, UsageError> {
    let mut given: Vec<(&'static str, String)> = Vec::new();
    let mut rest = words;
    loop {
        match next(flags, &mut rest) {
            Ok(Next::Value(name, value)) => {
                given.retain(|&(earlier, _)| earlier != name);
                given.push((name, value));
            }
            Ok(Next::Help) => return Ok(Rewritten::Help),
            Ok(Next::End) => break,
            Err(error) => {
                let mut flags_left = rest.iter().take_while(|word| *word != "--");
                if flags_left.any(|word| split(word).is_some_and(|(name, _)| is_help(name))) {
                    return Ok(Rewritten::Help);
                }
                return Err(error);
            }
        }
    }
    let pair = |(name, value)| [format!("--{name}"), value];
    Ok(Rewritten::Words(given.into_iter().flat_map(pair).collect()))
}

enum Next {
    Value(&'static str, String),
    Help,
    End,
}

/// Takes one flag, with its value, off the front of `rest`.
fn next(flags: &'static [Flag], rest: &mut &[String]) -> Result<Next, UsageError> {
    let Some((word, after)) = rest.split_first() else {
        return Ok(Next::End);
    };
    *rest = after;
    if word == "--" {
        return match after.first() {
            None => Ok(Next::End),
            Some(stray) => {
                *rest = &[];
                Err(UsageError::Stray(stray.clone()))
            }
        };
    }
    if word == "-" || !word.starts_with('-') {
        return Err(UsageError::Stray(word.clone()));
    }
    let (typed, value) = split(word).ok_or_else(|| UsageError::Malformed(word.clone()))?;
    if is_help(typed) {
        return Ok(Next::Help);
    }
    let flag = resolve(flags, typed)?;
    if flag.name == "help" {
        return Ok(Next::Help);
    }
    if let Some(value) = value {
        return Ok(Next::Value(flag.name, value.to_owned()));
    }
    match after.split_first() {
        Some((value, after)) if !flag.is_boolean() || value == "true" || value == "false" => {
            *rest = after;
            Ok(Next::Value(flag.name, value.clone()))
        }
        _ if flag.is_boolean() => Ok(Next::Value(flag.name, "true".to_owned())),
        _ => Err(UsageError::MissingValue {
            flag: flag.name,
            value: flag.value,
        }),
    }
}

/// `-name=value` into its name and value; `None` if it is not a flag at all.
fn split(word: &str) -> Option<(&str, Option<&str>)> {
    let flag = word.strip_prefix('-')?;
    let flag = flag.strip_prefix('-').unwrap_or(flag);
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    (!name.is_empty() && !name.starts_with('-')).then_some((name, value))
}

fn is_help(name: &str) -> bool {
    name == "h" || name == "help"
}

/// The flag that a name or a prefix of one stands for.
fn resolve(flags: &'static [Flag], typed: &str) -> Result<&'static Flag, UsageError> {
    if let Some(exact) = flags.iter().find(|flag| flag.name == typed) {
        return Ok(exact);
    }
    let candidates: Vec<&Flag> = flags
        .iter()
        .filter(|flag| flag.name.starts_with(typed))
        .collect();
    match candidates.as_slice() {
        [] => Err(UsageError::Unknown(format!("-{typed}"))),
        [flag] => Ok(flag),
        several => Err(UsageError::Ambiguous {
            typed: format!("-{typed}"),
            candidates: several.iter().map(|flag| flag.name).collect(),
        }),
    }
}

impl Program {
    /// What `-h` prints: a few lines, then all flags with their defaults, 80 columns wide.
    #[must_use]
    pub fn usage(&self) -> String {
        const WIDTH: usize = 80;
        const NOTE: &str = "A flag is written -name value or -name=value, with one dash or two, \
             and its name may be cut short as long as it stays unambiguous. A boolean stands \
             alone or has =true or =false. Durations are written 5s, 300ms, 1m30s or 1.5h.";
        let mut lines = wrapped(self.about.split(' '), WIDTH);
        lines.push(String::new());
        lines.push(format!("Usage: {} {}", self.name, self.synopsis));
        lines.push(String::new());
        let heads: Vec<String> = self
            .flags
            .iter()
            .map(|flag| match flag.value {
                "" => format!("  -{}", flag.name),
                value => format!("  -{} {value}", flag.name),
            })
            .collect();
        let column = heads.iter().map(String::len).max().unwrap_or(0) + 2;
        for (head, flag) in heads.iter().zip(self.flags) {
            let default = match flag.default {
                "" => None,
                default => Some(format!("(default {default})")),
            };
            let words = flag.help.split(' ').chain(default.as_deref());
            let mut left = head.as_str();
            for line in wrapped(words, WIDTH - column) {
                lines.push(format!("{left:column$}{line}"));
                left = "";
            }
        }
        lines.push(String::new());
        lines.append(&mut wrapped(NOTE.split(' '), WIDTH));
        lines.push(String::new());
        lines.join("\n")
    }
}

/// Fills lines of at most `width` characters with these words.
fn wrapped<'a>(words: impl Iterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn rewritten(line: &str) -> Result<Rewritten, UsageError> {
        rewrite(PROXY.flags, &words(line))
    }

    fn args(line: &str) -> Result<Args, UsageError> {
        let words = words(line).into_iter().map(OsString::from);
        match parse(&PROXY, words)? {
            Parsed::Run(args) => Ok(args),
            Parsed::Help => panic!("{line}: help"),
        }
    }

    #[test]
    fn rewrites_go_style_words() {
        for (line, expected) in [
            ("", ""),
            ("-endpoints x", "--endpoints x"),
            ("--endpoints x", "--endpoints x"),
            ("-endpoints=x", "--endpoints x"),
            ("--endpoints=x", "--endpoints x"),
            ("-e x", "--endpoints x"),
            ("--e=x", "--endpoints x"),
            ("-end x", "--endpoints x"),
            ("-e=http://h/?a=b", "--endpoints http://h/?a=b"),
            ("-log-f x -log-p y", "--log-file x --log-prefix y"),
            ("-fanout", "--fanout true"),
            ("-fanout -e x", "--fanout true --endpoints x"),
            ("-fanout=false", "--fanout false"),
            ("-f=T", "--fanout T"),
            ("-f=maybe", "--fanout maybe"),
            ("-fanout true -e x", "--fanout true --endpoints x"),
            ("-fanout false -e x", "--fanout false --endpoints x"),
            ("-stop-after -5s", "--stop-after -5s"),
            ("-stop-after=-5s", "--stop-after -5s"),
            ("-log-prefix -h", "--log-prefix -h"),
            ("-log-prefix --", "--log-prefix --"),
            ("-log-prefix -fanout", "--log-prefix -fanout"),
            ("-log-prefix help", "--log-prefix help"),
            ("-a :1 -a :2", "--address :2"),
            ("-a :1 -e x --address=:2", "--endpoints x --address :2"),
            ("-fanout -fanout=false", "--fanout false"),
            ("-e x --", "--endpoints x"),
            ("--", ""),
        ] {
            assert_eq!(
                rewritten(line),
                Ok(Rewritten::Words(words(expected))),
                "{line}"
            );
        }
        let empty = rewrite(PROXY.flags, &["-log-prefix=".to_owned()]);
        let expected = ["--log-prefix".to_owned(), String::new()];
        assert_eq!(empty, Ok(Rewritten::Words(expected.to_vec())));
    }

    #[test]
    fn help_wins() {
        for line in [
            "-h",
            "-help",
            "--h",
            "--help",
            "-hel",
            "-h=false",
            "-e x -h",
            "-fanout -h",
            "-h -e x",
            "-h --",
            "-bogus -h",
            "stray -help",
            "-log x --help",
            "-=x -h",
            "-h -bogus",
        ] {
            assert_eq!(rewritten(line), Ok(Rewritten::Help), "{line}");
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (line, message) in [
            (
                "x",
                "stray argument \"x\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "-fanout 1",
                "stray argument \"1\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "-",
                "stray argument \"-\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "-- -h",
                "stray argument \"-h\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "-- x -h",
                "stray argument \"x\" (everything is a flag here: -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "-=x",
                "\"-=x\" is not a flag (write -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "---e x",
                "\"---e\" is not a flag (write -NAME VALUE or -NAME=VALUE)",
            ),
            (
                "-bogus",
                "unknown flag -bogus (the usage below lists them all)",
            ),
            (
                "--bogus=1",
                "unknown flag -bogus (the usage below lists them all)",
            ),
            ("-E x", "unknown flag -E (the usage below lists them all)"),
            (
                "-endpointsx",
                "unknown flag -endpointsx (the usage below lists them all)",
            ),
            (
                "-log x",
                "-log is ambiguous, it may be any of -log-prefix, -log-file, -log-date, -log-time, -log-msec, -log-utc",
            ),
            (
                "-c x",
                "-c is ambiguous, it may be any of -cooldown, -commit-after, -connect-timeout, -ca-file, -client-cert, -client-key, -client-timeout",
            ),
            (
                "-address",
                "-address: the value is missing (write -address ADDRESS)",
            ),
            (
                "-fanout -e",
                "-endpoints: the value is missing (write -endpoints URLS)",
            ),
        ] {
            assert_eq!(rewritten(line).unwrap_err().to_string(), message, "{line}");
        }
    }

    #[test]
    fn an_exact_name_wins_over_a_prefix() {
        const FLAGS: &[Flag] = &[
            Flag {
                name: "log-file",
                value: "X",
                default: "",
                help: "",
            },
            Flag {
                name: "log",
                value: "X",
                default: "",
                help: "",
            },
        ];
        let line = |text| rewrite(FLAGS, &words(text)).unwrap();
        assert_eq!(line("-log x"), Rewritten::Words(words("--log x")));
        assert_eq!(line("-log-f x"), Rewritten::Words(words("--log-file x")));
    }

    #[test]
    fn the_short_forms_in_peoples_scripts_stay_unambiguous() {
        for (short, name) in [
            ("e", "endpoints"),
            ("a", "address"),
            ("t", "terminal-responses"),
            ("f", "fanout"),
            ("s", "stop-after"),
            ("log-p", "log-prefix"),
            ("log-f", "log-file"),
            ("log-d", "log-date"),
            ("log-t", "log-time"),
            ("log-m", "log-msec"),
            ("log-u", "log-utc"),
        ] {
            assert_eq!(resolve(PROXY.flags, short).unwrap().name, name);
            let of_that_kind = PROXY.flags.iter().filter(|f| f.name.starts_with(short));
            assert_eq!(of_that_kind.count(), 1, "-{short}");
        }
    }

    #[test]
    fn refuses_bad_values_with_flag_value_and_remedy() {
        for (line, message) in [
            (
                "-f=yes",
                "-fanout: \"yes\" is not a boolean (write true or false)",
            ),
            (
                "-log-d=",
                "-log-date: \"\" is not a boolean (write true or false)",
            ),
            (
                "-s 5",
                "-stop-after: \"5\" is a duration without a unit (write 5s, 300ms, 1m30s, 1.5h, 100us)",
            ),
            (
                "-s soon",
                "-stop-after: \"soon\" is not a duration (write 5s, 300ms, 1m30s, 1.5h, 100us)",
            ),
            (
                "-conn 0",
                "-connect-timeout: \"0\" is not more than zero (write 5s, 300ms, 1m30s)",
            ),
            (
                "-per -1s",
                "-per-try-timeout: \"-1s\" is not more than zero (write 5s, 300ms, 1m30s)",
            ),
            (
                "-req 0s",
                "-request-timeout: \"0s\" is not more than zero (write 5s, 300ms, 1m30s)",
            ),
            (
                "-per 3000000h",
                "-per-try-timeout: \"3000000h\" is too long for a duration (292 years at most)",
            ),
            (
                "-hedge-a p100",
                "-hedge-after: \"p100\" is not a percentile from p1 to p99 (write 50ms, p95, or 0 for no hedging)",
            ),
            (
                "-hedge-a 95",
                "-hedge-after: \"95\" is a duration without a unit (write 5s, 300ms, 1m30s, 1.5h, 100us)",
            ),
            (
                "-hedge-a -1s",
                "-hedge-after: \"-1s\" is less than zero (write 50ms, p95, or 0 for no hedging)",
            ),
            (
                "-hedge-b 0",
                "-hedge-budget: \"0\" is not a number from 1 to 100 (-hedge-after 0 is no hedging)",
            ),
            (
                "-hedge-b 101",
                "-hedge-budget: \"101\" is not a number from 1 to 100 (-hedge-after 0 is no hedging)",
            ),
            (
                "-or random",
                "-order: \"random\" is not an order (write listed, rotate or fastest)",
            ),
            (
                "-on 502",
                "-on-exhausted: \"502\" is not an answer (write 500, gateway or best)",
            ),
            (
                "-max-f -1",
                "-max-fails: \"-1\" is not a number from 0 upwards (0: never)",
            ),
            (
                "-coo 0",
                "-cooldown: \"0\" is not more than zero (write 5s, 300ms, 1m30s)",
            ),
            (
                "-max-b 100MB",
                "-max-body: \"100MB\" is not a size (write a whole number of bytes, or one with KiB, MiB or GiB)",
            ),
            (
                "-max-b 99999999999GiB",
                "-max-body: \"99999999999GiB\" is too large for a size (write a whole number of bytes, or one with KiB, MiB or GiB)",
            ),
            ("-w 0", "-workers: \"0\" is not a number from 1 to 65536"),
            (
                "-max-h 0",
                "-max-header: \"0\" is no size for a request head (write 64KiB)",
            ),
            (
                "-w 65537",
                "-workers: \"65537\" is not a number from 1 to 65536",
            ),
            ("-w x'", "-workers: \"x'\" is not a number from 1 to 65536"),
        ] {
            assert_eq!(args(line).unwrap_err().to_string(), message, "{line}");
        }
        let newline = parse::<Args>(&PROXY, ["-w=a\nb".into()])
            .unwrap_err()
            .to_string();
        assert_eq!(
            newline,
            "-workers: \"a\\nb\" is not a number from 1 to 65536"
        );
    }

    #[test]
    fn refuses_what_is_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let word = OsString::from_vec(b"-e=\xff".to_vec());
        let error = parse::<Args>(&PROXY, [word]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"argument "-e=\xFF" is not valid UTF-8"#
        );
    }

    #[test]
    fn reads_booleans_sizes_and_workers() {
        for yes in ["1", "t", "T", "true", "TRUE", "True"] {
            assert!(args(&format!("-f={yes}")).unwrap().fanout, "{yes}");
        }
        for no in ["0", "f", "F", "false", "FALSE", "False"] {
            assert!(!args(&format!("-log-d={no}")).unwrap().log_date, "{no}");
        }
        for (text, bytes) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("007", Some(7)),
            ("64KiB", Some(65_536)),
            ("100MiB", Some(104_857_600)),
            ("1GiB", Some(1_073_741_824)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184GiB", None),
            ("", None),
            ("KiB", None),
            ("+1", None),
            ("-1", None),
            ("1.5GiB", None),
            ("1 MiB", None),
            ("1mib", None),
            ("1TiB", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text:?}");
        }
        assert_eq!(
            args("-workers 65536")
                .unwrap()
                .workers
                .map(NonZeroUsize::get),
            Some(65_536)
        );
    }

    #[test]
    fn the_defaults_in_the_usage_are_those_of_argh() {
        let with_default = PROXY.flags.iter().filter(|flag| !flag.default.is_empty());
        let explicit: Vec<String> = with_default
            .map(|flag| format!("-{}={}", flag.name, flag.default))
            .collect();
        assert_eq!(args(&explicit.join(" ")), args(""));
        assert_eq!(explicit.len(), 32);
    }

    #[test]
    fn argh_knows_every_flag_of_the_table() {
        for flag in PROXY.flags.iter().filter(|flag| flag.name != "help") {
            let error = args(&format!("-{}=?", flag.name)).err();
            assert!(!matches!(error, Some(UsageError::Other(_))), "{error:?}");
        }
    }

    #[test]
    fn the_usage_is_aligned_and_fits_a_terminal() {
        let usage = PROXY.usage();
        assert!(
            usage
                .lines()
                .all(|line| line.len() <= 80 && line == line.trim_end()),
            "{usage}"
        );
        assert!(
            usage.contains("\n  -address ADDRESS              where to listen: "),
            "{usage}"
        );
        assert!(usage.contains("(default 100MiB)\n"), "{usage}");
        for flag in PROXY.flags {
            assert!(
                usage.contains(&format!("\n  -{}", flag.name)),
                "{}",
                flag.name
            );
        }
    }
}
