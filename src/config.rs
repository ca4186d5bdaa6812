//! What the proxy was asked to do: typed and checked once, before anything starts.
//!
//! After [`Config::from_args`] nothing is a string to be interpreted later. Every error
//! here prints as one line that names the flag, the value and what would be right. The
//! only files that are read are those with certificates and a key.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::Args;
use crate::dispatch::policy::{CooldownConfig, HedgeAfter, Hedging, Mode, OnExhausted, Order};
use crate::dispatch::status_set::{StatusSet, StatusSetError};
use crate::downstream::limits::Limits;
use crate::downstream::listen::{ListenAddress, ListenAddressError};
use crate::http::endpoint_url::{EndpointUrl, EndpointUrlError, masked, parse_list};
use crate::http::forward::HostRule;
use crate::logging::{LogConfig, LogDestination};
use crate::upstream::pem::{self, PemFileError};

/// Everything the proxy needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The endpoints in their order; at least one.
    pub endpoints: Vec<EndpointUrl>,
    /// Where to listen.
    pub address: ListenAddress,
    /// Which statuses are usable.
    pub terminal: StatusSet,
    /// How the endpoints are asked.
    pub mode: Mode,
    /// In which order.
    pub order: Order,
    /// When one is passed over; `None`: never.
    pub cooldown: Option<CooldownConfig>,
    /// A request whose method is not idempotent is put to the next endpoint only if nothing
    /// of it has been sent (RFC 9110 9.2.2).
    pub idempotent_only: bool,
    /// Answers of known length up to this are read whole before the client gets any of them,
    /// in bytes; 0: none.
    pub commit_after: u64,
    /// What the client gets when no answer is usable.
    pub on_exhausted: OnExhausted,
    /// Every answer gets a `Proxy-Status`.
    pub proxy_status: bool,
    /// Where log lines go and what they begin with.
    pub log: LogConfig,
    /// How long to serve; `None`: for ever.
    pub stop_after: Option<Duration>,
    /// Limit for connecting to an endpoint; not zero.
    pub connect_timeout: Duration,
    /// How long a connection to an endpoint is used at most.
    pub renew_after: Option<Duration>,
    /// Limit for one attempt until the head of its answer, then for each read; not zero.
    pub per_try_timeout: Duration,
    /// Limit for all attempts of a request until the head of an answer; not zero.
    pub request_timeout: Duration,
    /// Whose name endpoints find in `Host`.
    pub host: HostRule,
    /// Certificates to trust for https endpoints, besides the built-in ones. Each one has
    /// been accepted by [`pem::roots`].
    pub roots: Vec<pem::Certificate>,
    /// What https endpoints are shown that ask for a certificate: a chain and its key.
    pub identity: Option<Arc<pem::Identity>>,
    /// What clients may take.
    pub limits: Limits,
    /// How long requests in flight may take to end once it is time to stop.
    pub drain: Duration,
    /// The file that gets the bound address once connections are accepted.
    pub ready_file: Option<PathBuf>,
}

impl Config {
    /// Checks the flags and everything they refer to.
    pub fn from_args(args: &Args) -> Result<Self, ConfigError> {
        let endpoints = args.endpoints.as_deref().ok_or(ConfigError::NoEndpoints)?;
        let endpoints = parse_list(endpoints).map_err(ConfigError::Endpoint)?;
        let path = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map(PathBuf::from)
        };
        Ok(Self {
            endpoints,
            address: args.address.parse().map_err(ConfigError::Address)?,
            terminal: args
                .terminal_responses
                .parse()
                .map_err(ConfigError::Terminal)?,
            mode: mode(args)?,
            order: args.order,
            cooldown: NonZeroU32::new(args.max_fails).map(|max_fails| CooldownConfig {
                max_fails,
                length: args.cooldown,
            }),
            idempotent_only: args.idempotent_only,
            commit_after: args.commit_after,
            on_exhausted: args.on_exhausted,
            proxy_status: args.proxy_status,
            log: LogConfig {
                prefix: args.log_prefix.clone(),
                destination: match args.log_file.as_str() {
                    "" | "stdout" => LogDestination::Stdout,
                    "stderr" => LogDestination::Stderr,
                    path => LogDestination::File(PathBuf::from(path)),
                },
                date: args.log_date,
                time: args.log_time,
                microseconds: args.log_msec,
                utc: args.log_utc,
            },
            stop_after: args.stop_after.positive(),
            connect_timeout: args.connect_timeout,
            renew_after: args.renew_after.positive(),
            per_try_timeout: args.per_try_timeout,
            request_timeout: args.request_timeout,
            host: if args.keep_host {
                HostRule::Client
            } else {
                HostRule::Endpoint
            },
            roots: match path(&args.ca_file) {
                None => Vec::new(),
                Some(path) => pem::roots(&path).map_err(pem_file("ca-file", path))?,
            },
            identity: identity(path(&args.client_cert), path(&args.client_key))?,
            limits: Limits {
                max_connections: args.max_connections,
                workers: args.workers.map_or(args.max_connections, NonZeroUsize::get),
                max_header: args.max_header,
                max_body: args.max_body,
                idle_timeout: args.idle_timeout,
                header_timeout: args.header_timeout,
                client_timeout: args.client_timeout,
                half_close: args.half_close,
            },
            drain: args.drain,
            ready_file: path(&args.ready_file),
        })
    }
}

/// A flag whose value cannot be used; prints as one line that names the flag.
#[derive(Debug)]
pub enum ConfigError {
    /// `-endpoints` was not given.
    NoEndpoints,
    /// A part of `-endpoints` is not a base URL.
    Endpoint(EndpointUrlError),
    /// `-address` is not an address.
    Address(ListenAddressError),
    /// `-terminal-responses` is not a set of statuses.
    Terminal(StatusSetError),
    /// A file with certificates or a key cannot be used.
    PemFile {
        /// The flag that names it, without a dash.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: PemFileError,
    },
    /// `-client-cert` was given, `-client-key` was not.
    NoClientKey,
    /// `-client-key` was given, `-client-cert` was not.
    NoClientCert,
    /// `-hedge-after` and `-fanout` together.
    HedgedFanout,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoints => f.write_str(
                "-endpoints is missing (write -endpoints http://one.example,http://two.example)",
            ),
            Self::Endpoint(error) => write!(f, "-endpoints: {error}"),
            Self::Address(error) => write!(f, "-address: {error}"),
            Self::Terminal(error) => write!(f, "-terminal-responses: {error}"),
            Self::PemFile { flag, path, reason } => {
                let path = path.to_string_lossy();
                // A path may have an `@` in it; a URL that stands here by mistake is masked.
                let path = if path.contains("://") {
                    masked(&path).into()
                } else {
                    path
                };
                write!(f, "-{flag}: {path:?} {reason}")
            }
            Self::NoClientKey => f.write_str(
                "-client-key is missing (-client-cert needs it; the file may be the same)",
            ),
            Self::NoClientCert => f.write_str(
                "-client-cert is missing (-client-key needs it; the file may be the same)",
            ),
            Self::HedgedFanout => f.write_str(
                "-hedge-after and -fanout exclude each other (fan-out asks all endpoints at \
                 once, so nothing is left to be hedged)",
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

fn mode(args: &Args) -> Result<Mode, ConfigError> {
    match (args.fanout, args.hedge_after) {
        (false, HedgeAfter::Never) => Ok(Mode::Serial),
        (true, HedgeAfter::Never) => Ok(Mode::Fanout),
        (true, _) => Err(ConfigError::HedgedFanout),
        (false, after) => Ok(Mode::Hedged(Hedging {
            after,
            budget: args.hedge_budget,
        })),
    }
}

/// Wraps the error of a file that a flag names.
fn pem_file(flag: &'static str, path: PathBuf) -> impl FnOnce(PemFileError) -> ConfigError {
    move |reason| ConfigError::PemFile { flag, path, reason }
}

fn identity(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<Arc<pem::Identity>>, ConfigError> {
    let (certificate, key) = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(ConfigError::NoClientKey),
        (None, Some(_)) => return Err(ConfigError::NoClientCert),
        (Some(certificate), Some(key)) => (certificate, key),
    };
    let chain = pem::chain(&certificate).map_err(pem_file("client-cert", certificate))?;
    pem::private_key(&key)
        .and_then(|key| pem::identity(chain, key))
        .map(Some)
        .map_err(pem_file("client-key", key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{PROXY, Parsed, parse};

    fn config(words: &[&str]) -> Result<Config, ConfigError> {
        match parse::<Args>(&PROXY, words.iter().map(Into::into)).unwrap() {
            Parsed::Run(args) => Config::from_args(&args),
            Parsed::Help => panic!("help"),
        }
    }

    fn message(words: &[&str]) -> String {
        config(words).unwrap_err().to_string()
    }

    #[test]
    fn takes_over_the_flags() {
        let config = config(&[
            "-e= http://a:1/x , https://b",
            "-a=localhost:9",
            "-t=404-404",
            "-f",
            "-s=5s",
            "-log-file=/tmp/log",
            "-log-msec",
            "-max-body=1KiB",
            "-workers=7",
            "-ready-file=/tmp/ready",
            "-connect-timeout=1s",
            "-per-try-timeout=2s",
            "-request-timeout=3s",
            "-renew-after=4s",
            "-keep-host",
        ])
        .unwrap();
        let shown: Vec<String> = config.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://a:1/x", "https://b"]);
        assert_eq!(config.address.to_string(), "localhost:9");
        assert!(config.terminal.contains(404) && !config.terminal.contains(200));
        assert_eq!(config.mode, Mode::Fanout);
        assert_eq!(config.stop_after, Some(Duration::from_secs(5)));
        assert_eq!(
            config.log,
            LogConfig {
                prefix: "balancing-reverse-proxy".to_owned(),
                destination: LogDestination::File("/tmp/log".into()),
                date: true,
                time: true,
                microseconds: true,
                utc: false,
            }
        );
        assert_eq!(config.limits.max_body, 1024);
        assert_eq!(config.limits.workers, 7);
        assert_eq!(config.ready_file, Some("/tmp/ready".into()));
        assert_eq!(config.connect_timeout, Duration::from_secs(1));
        assert_eq!(config.per_try_timeout, Duration::from_secs(2));
        assert_eq!(config.request_timeout, Duration::from_secs(3));
        assert_eq!(config.renew_after, Some(Duration::from_secs(4)));
        assert_eq!(config.host, HostRule::Client);
        assert!(config.roots.is_empty());
    }

    #[test]
    fn fan_out_leaves_nothing_to_be_hedged() {
        let hedged = config(&["-e=http://a", "-hedge-after=p95", "-hedge-budget=3"]).unwrap();
        let hedging = Hedging {
            after: HedgeAfter::Percentile(95),
            budget: 3,
        };
        assert_eq!(hedged.mode, Mode::Hedged(hedging));
        let serial = config(&["-e=http://a", "-hedge-after=0", "-hedge-budget=3"]).unwrap();
        assert_eq!(serial.mode, Mode::Serial);
        assert_eq!(
            message(&["-e=http://a", "-hedge-after=50ms", "-fanout"]),
            "-hedge-after and -fanout exclude each other (fan-out asks all endpoints at once, so \
             nothing is left to be hedged)"
        );
    }

    #[test]
    fn an_endpoint_is_passed_over_only_if_a_number_of_failures_says_so() {
        let without = config(&["-e=http://a", "-cooldown=1s"]).unwrap();
        assert_eq!(without.cooldown, None);
        let with = config(&["-e=http://a", "-max-fails=3"]).unwrap();
        let cooldown = CooldownConfig {
            max_fails: NonZeroU32::new(3).unwrap(),
            length: Duration::from_secs(5),
        };
        assert_eq!(with.cooldown, Some(cooldown));
    }

    #[test]
    fn zero_and_negative_spans_mean_never() {
        for span in ["0", "-5s", "0s"] {
            let config = config(&["-e=http://a", "-stop-after", span]).unwrap();
            assert_eq!(config.stop_after, None, "{span}");
        }
    }

    #[test]
    fn log_file_has_names_for_the_standard_streams() {
        for (text, destination) in [
            ("", LogDestination::Stdout),
            ("stdout", LogDestination::Stdout),
            ("stderr", LogDestination::Stderr),
            ("./stdout", LogDestination::File("./stdout".into())),
        ] {
            let config = config(&["-e=http://a", "-log-file", text]).unwrap();
            assert_eq!(config.log.destination, destination, "{text:?}");
        }
    }

    #[test]
    fn refuses_endpoints_with_a_reason() {
        for (value, expected) in [
            (
                "",
                "-endpoints: an empty part is not a URL (write http://host:port)",
            ),
            (
                "http://a,,http://b",
                "-endpoints: an empty part is not a URL (write http://host:port)",
            ),
            (
                "http://a,",
                "-endpoints: an empty part is not a URL (write http://host:port)",
            ),
            (
                "localhost:8000",
                "-endpoints: \"localhost:8000\" does not start with http:// or https:// (a comma inside a URL is written %2C)",
            ),
            (
                "http://a,ftp://b",
                "-endpoints: \"ftp://b\" has the scheme \"ftp\" (http or https)",
            ),
            (
                "http:///x",
                "-endpoints: \"http:///x\" has no host (write http://host:port)",
            ),
            (
                "http://a/#x",
                "-endpoints: \"http://a/#x\" has a fragment, which is never sent (a # inside a URL is written %23)",
            ),
            (
                "http://a:x",
                "-endpoints: \"http://a:x\" has a port that is not a number from 1 to 65535",
            ),
            (
                "http://me:secret@a:x",
                "-endpoints: \"http://***@a:x\" has a port that is not a number from 1 to 65535",
            ),
        ] {
            assert_eq!(message(&["-e", value]), expected);
        }
        assert!(message(&["-f"]).starts_with("-endpoints is missing ("));
    }

    #[test]
    fn reads_listen_addresses() {
        for (text, host, port) in [
            (":8080", None, 8080),
            (":0", None, 0),
            ("localhost:80", Some("localhost"), 80),
            ("127.0.0.1:65535", Some("127.0.0.1"), 65535),
            ("[::1]:80", Some("::1"), 80),
            ("[::]:80", Some("::"), 80),
            (" :80 ", None, 80),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string(), text.trim());
        }
        for (text, bound, shown) in [
            (":0", 9, ":9"),
            ("[::1]:0", 9, "[::1]:9"),
            ("localhost:0", 9, "localhost:9"),
            (":8080", 9, ":8080"),
            ("a:00", 9, "a:9"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.with_port(bound), shown);
        }
    }

    #[test]
    fn refuses_what_is_not_a_listen_address() {
        use ListenAddressError::{Host, NoPort, Port};
        let error = |text: &str| text.parse::<ListenAddress>().unwrap_err();
        for text in ["", "8080", "localhost", "http"] {
            assert_eq!(error(text), NoPort(text.to_owned()));
        }
        for text in [
            ":", ":http", ":65536", ":-1", ":+1", "a:", "[::1]:x", ":8 0",
        ] {
            assert_eq!(error(text), Port(text.to_owned()));
        }
        for text in [
            "::1:80",
            "[]:80",
            "[::1:80",
            "[a]:80",
            "a b:80",
            "http://a:80",
            "*:80",
            "[::1]",
        ] {
            assert_eq!(error(text), Host(text.to_owned()));
        }
        assert_eq!(
            message(&["-e=http://a", "-a=8080"]),
            "-address: \"8080\" has no port (write :8080, localhost:8080 or [::1]:8080)"
        );
    }

    #[test]
    fn refuses_what_is_not_a_terminal_set() {
        assert_eq!(
            message(&["-e=http://a", "-t=200,x"]),
            "-terminal-responses: part \"x\" of \"200,x\" is not a number"
        );
    }

    #[test]
    fn names_the_file_of_certificates_that_cannot_be_read() {
        assert_eq!(
            message(&["-e=http://a", "-ca-file=/no/such/file"]),
            "-ca-file: \"/no/such/file\" cannot be read: no such file or directory"
        );
        assert_eq!(
            message(&["-e=http://a", "-ca-file=/"]),
            "-ca-file: \"/\" cannot be read: is a directory"
        );
        assert_eq!(
            message(&["-e=http://a", "-ca-file=/dev/zero"]),
            "-ca-file: \"/dev/zero\" is larger than 16 MiB, too much for certificates or a key"
        );
    }

    /// A certificate and its key in one file, made for tests.
    const IDENTITY: &str = "tests/data/client.pem";

    #[test]
    fn a_client_certificate_and_its_key_come_together() {
        let identity = |words: &[&str]| config(&[&["-e=https://a"], words].concat());
        let cert = &format!("-client-cert={IDENTITY}");
        let key = &format!("-client-key={IDENTITY}");
        assert!(identity(&[cert, key]).unwrap().identity.is_some());
        assert!(identity(&[]).unwrap().identity.is_none());
        for (words, expected) in [
            (
                &[cert.as_str()][..],
                "-client-key is missing (-client-cert needs it; the file may be the same)",
            ),
            (
                &[key],
                "-client-cert is missing (-client-key needs it; the file may be the same)",
            ),
            (
                &[cert, "-client-key="],
                "-client-key is missing (-client-cert needs it; the file may be the same)",
            ),
            (
                &["-client-cert=/no/such/file", key],
                "-client-cert: \"/no/such/file\" cannot be read: no such file or directory",
            ),
            (
                &[cert, "-client-key=tests/data/root.pem"],
                "-client-key: \"tests/data/root.pem\" holds no private key (PEM is expected: -----BEGIN PRIVATE KEY-----)",
            ),
            (
                &["-client-cert=tests/data/root.pem", key],
                "-client-key: \"tests/data/client.pem\" is not the key of the certificate, the first one in -client-cert",
            ),
        ] {
            assert_eq!(identity(words).unwrap_err().to_string(), expected);
        }
    }
}
