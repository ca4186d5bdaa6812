mod endpoints;

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::cli::{Parsed, parse};
use crate::dispatch::policy::{
    CooldownConfig, HedgeAfter, Hedging, Mode, OnExhausted, Order, RoundsConfig,
};
use crate::http::forward::HostRule;
use crate::logging::{LogConfig, LogDestination};

mod attempts;

fn config(words: &[&str]) -> Result<Config, String> {
    match parse(&PROXY, words.iter().map(Into::into)) {
        Ok(Parsed::Run(given)) => given.options.finish(),
        Ok(Parsed::Text(_)) => panic!("help"),
        Err(error) => Err(error.to_string()),
    }
}

fn message(words: &[&str]) -> String {
    config(words).unwrap_err()
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
        "-keep-forwarded",
        "-no-via",
        "-rewrite-location",
    ])
    .unwrap();
    let shown: Vec<String> = config
        .listed
        .endpoints
        .iter()
        .map(|endpoint| endpoint.url.to_string())
        .collect();
    assert_eq!(shown, ["http://a:1/…", "https://b"]);
    assert_eq!(config.address.to_string(), "localhost:9");
    assert!(config.policy.terminal.contains(404) && !config.policy.terminal.contains(200));
    assert_eq!(config.policy.mode, Mode::Fanout);
    assert_eq!(config.stop_after, Some(Duration::from_secs(5)));
    assert_eq!(
        config.log,
        LogConfig {
            prefix: "balancing-reverse-proxy".to_owned(),
            destination: LogDestination::File("/tmp/log".into()),
            date: true,
            time: true,
            microseconds: true,
            ..LogConfig::default()
        }
    );
    assert_eq!(config.limits.max_body, 1024);
    assert_eq!(config.limits.workers, 7);
    assert_eq!(config.ready_file, Some("/tmp/ready".into()));
    assert_eq!(config.upstream.connect_timeout, Duration::from_secs(1));
    assert_eq!(config.policy.per_try_timeout, Duration::from_secs(2));
    assert_eq!(config.policy.request_timeout, Duration::from_secs(3));
    assert_eq!(config.upstream.renew_after, Some(Duration::from_secs(4)));
    assert_eq!(config.rules.host, HostRule::Client);
    assert!(config.rules.keep_forwarded && config.rules.rewrite_location && config.no_via);
    assert!(config.roots.is_empty());
}

#[test]
fn fan_out_leaves_nothing_to_be_hedged() {
    let hedged = config(&["-e=http://a", "-hedge-after=p95", "-hedge-budget=3"]).unwrap();
    let hedging = Hedging {
        after: HedgeAfter::Percentile(95),
        budget: 3,
    };
    assert_eq!(hedged.policy.mode, Mode::Hedged(hedging));
    let serial = config(&["-e=http://a", "-hedge-after=0", "-hedge-budget=3"]).unwrap();
    assert_eq!(serial.policy.mode, Mode::Serial);
    assert_eq!(
        message(&["-e=http://a", "-hedge-after=50ms", "-fanout"]),
        "-hedge-after and -fanout exclude each other (fan-out asks all endpoints at once, so \
         nothing is left to be hedged)"
    );
}

#[test]
fn an_endpoint_is_passed_over_only_if_a_number_of_failures_says_so() {
    let without = config(&["-e=http://a", "-cooldown=1s"]).unwrap();
    assert_eq!(without.policy.cooldown, None);
    let with = config(&["-e=http://a", "-max-fails=3"]).unwrap();
    let cooldown = CooldownConfig {
        max_fails: NonZeroU32::new(3).unwrap(),
        length: Duration::from_secs(5),
    };
    assert_eq!(with.policy.cooldown, Some(cooldown));
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
        assert_eq!(identity(words).unwrap_err(), expected);
    }
}

#[test]
fn the_flags_that_say_nothing_together_fill_their_fields() {
    let config = config(&[
        "-e=http://a",
        "-commit-after=1KiB",
        "-on-exhausted=best",
        "-proxy-status",
        "-order=rotate",
        "-idempotent-only",
        "-max-tries=5",
        "-rounds=3",
        "-round-delay=1s",
        "-not-terminal=429,403",
        "-max-retry-after=2s",
        "-max-header=2KiB",
        "-max-connections=3",
        "-idle-timeout=4s",
        "-header-timeout=5s",
        "-client-timeout=6s",
        "-half-close",
        "-drain=0",
        "-log-prefix=x",
        "-log-date=0",
        "-log-time=0",
        "-log-utc",
    ])
    .unwrap();
    assert_eq!(config.policy.commit_after, 1024);
    assert_eq!(config.policy.on_exhausted, OnExhausted::Best);
    assert!(config.proxy_status);
    assert_eq!(config.policy.order, Order::Rotate);
    assert!(config.policy.idempotent_only);
    assert_eq!(config.policy.max_tries, NonZeroU32::new(5));
    let (count, delay) = (3, Duration::from_secs(1));
    assert_eq!(config.policy.rounds, RoundsConfig { count, delay });
    let terminal = |status| config.policy.terminal.contains(status);
    assert_eq!(
        [404, 403, 429, 500].map(terminal),
        [true, false, false, false]
    );
    assert!(config.policy.not_terminal.contains(429));
    assert_eq!(config.policy.max_retry_after, Duration::from_secs(2));
    let limits = config.limits;
    assert_eq!(limits.max_header, 2048);
    assert_eq!((limits.max_connections, limits.workers), (3, 3));
    assert_eq!(limits.idle_timeout, Duration::from_secs(4));
    assert_eq!(limits.header_timeout, Duration::from_secs(5));
    assert_eq!(limits.client_timeout, Duration::from_secs(6));
    assert!(limits.half_close);
    assert_eq!(config.drain, Duration::ZERO);
    assert_eq!(config.log.prefix, "x");
    assert!(!config.log.date && !config.log.time && config.log.utc);
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(&["-e=http://a"]).unwrap();
    let policy = &config.policy;
    assert_eq!(config.address.to_string(), ":8080");
    assert_eq!(policy.mode, Mode::Serial);
    assert!(policy.terminal.contains(100) && policy.terminal.contains(499));
    assert!(!policy.terminal.contains(500));
    assert!(policy.not_terminal.is_empty());
    assert_eq!(policy.max_retry_after, Duration::from_secs(60));
    assert_eq!(policy.order, Order::Listed);
    assert_eq!(policy.on_exhausted, OnExhausted::Status500);
    assert_eq!(policy.commit_after, 64 << 10);
    assert_eq!(policy.max_tries, None);
    let (count, delay) = (1, Duration::from_millis(200));
    assert_eq!(policy.rounds, RoundsConfig { count, delay });
    assert_eq!(policy.per_try_timeout, Duration::from_secs(30));
    assert_eq!(policy.request_timeout, Duration::from_secs(60));
    assert_eq!(config.upstream.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.upstream.renew_after, Some(Duration::from_secs(60)));
    assert_eq!(config.rules.host, HostRule::Endpoint);
    let rules = &config.rules;
    assert!(!rules.keep_forwarded && !rules.rewrite_location && !config.no_via);
    let limits = config.limits;
    assert_eq!((limits.max_connections, limits.workers), (1000, 1000));
    assert_eq!((limits.max_header, limits.max_body), (64 << 10, 100 << 20));
    assert_eq!(limits.idle_timeout, Duration::from_secs(60));
    assert_eq!(limits.header_timeout, Duration::from_secs(10));
    assert_eq!(limits.client_timeout, Duration::from_secs(30));
    assert!(!limits.half_close && !config.proxy_status && !policy.idempotent_only);
    assert_eq!(config.drain, Duration::from_secs(10));
    assert_eq!(config.stop_after, None);
    assert_eq!(config.ready_file, None);
    assert_eq!(
        config.log,
        LogConfig {
            prefix: "balancing-reverse-proxy".to_owned(),
            date: true,
            time: true,
            ..LogConfig::default()
        }
    );
}

#[test]
fn the_short_forms_in_peoples_scripts_stay_unambiguous() {
    for (short, name) in [
        ("-e", "-endpoints"),
        ("-a", "-address"),
        ("-t", "-terminal-responses"),
        ("-f", "-fanout"),
        ("-s", "-stop-after"),
        ("-log-p", "-log-prefix"),
        ("-log-f", "-log-file"),
        ("-log-d", "-log-date"),
        ("-log-t", "-log-time"),
        ("-log-m", "-log-msec"),
        ("-log-u", "-log-utc"),
    ] {
        let names = PROXY.flags().map(|flag| flag.name);
        let of_that_kind: Vec<&str> = names.filter(|name| name.starts_with(short)).collect();
        assert_eq!(of_that_kind, [name], "{short}");
    }
}

#[test]
fn names_are_unique_and_written_with_one_dash() {
    let mut names: Vec<&str> = PROXY.flags().map(|flag| flag.name).collect();
    let letters = |c: char| c.is_ascii_lowercase() || c == '-';
    for name in &names {
        assert!(name.starts_with('-') && !name.starts_with("--"), "{name}");
        assert!(name.chars().all(letters), "{name}");
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_prefix_of_several_flags_names_them() {
    assert_eq!(
        message(&["-log=x"]),
        "-log is ambiguous, it may be any of -log-prefix, -log-file, -log-date, -log-time, \
         -log-msec, -log-utc, -log-json, -log-requests"
    );
}

#[test]
fn a_bad_boolean_or_duration_is_reported_with_its_flag_and_the_remedy() {
    for (word, expected) in [
        (
            "-f=yes",
            "-fanout: \"yes\" is not a boolean (write true or false)",
        ),
        (
            "-log-d=",
            "-log-date: \"\" is not a boolean (write true or false)",
        ),
        (
            "-s=5",
            "-stop-after: \"5\" is a duration without a unit (write 5s, 300ms, 1m30s, 1.5h, 100us)",
        ),
        (
            "-s=soon",
            "-stop-after: \"soon\" is not a duration (write 5s, 300ms, 1m30s, 1.5h, 100us)",
        ),
        (
            "-conn=0",
            "-connect-timeout: \"0\" is not more than zero (write 5s, 300ms, 1m30s)",
        ),
        (
            "-per=-1s",
            "-per-try-timeout: \"-1s\" is not more than zero (write 5s, 300ms, 1m30s)",
        ),
        (
            "-req=0s",
            "-request-timeout: \"0s\" is not more than zero (write 5s, 300ms, 1m30s)",
        ),
        (
            "-per=3000000h",
            "-per-try-timeout: \"3000000h\" is more than 292 years (write 5s, 300ms, 1m30s, 1.5h, 100us)",
        ),
    ] {
        assert_eq!(message(&["-e=http://a", word]), expected);
    }
}

#[test]
fn a_bad_number_or_name_is_reported_with_its_flag_and_the_remedy() {
    for (word, expected) in [
        (
            "-hedge-a=p100",
            "-hedge-after: \"p100\" is not a percentile from p1 to p99 (write 50ms, p95, or 0 for no hedging)",
        ),
        (
            "-hedge-a=95",
            "-hedge-after: \"95\" is a duration without a unit (write 50ms, p95, or 0 for no hedging)",
        ),
        (
            "-hedge-a=-1s",
            "-hedge-after: \"-1s\" is less than zero (write 50ms, p95, or 0 for no hedging)",
        ),
        (
            "-hedge-b=0",
            "-hedge-budget: \"0\" is not a number from 1 to 100 (-hedge-after 0 is no hedging)",
        ),
        (
            "-hedge-b=101",
            "-hedge-budget: \"101\" is not a number from 1 to 100 (-hedge-after 0 is no hedging)",
        ),
        (
            "-or=random",
            "-order: \"random\" is not an order (write listed, rotate or fastest)",
        ),
        (
            "-on=502",
            "-on-exhausted: \"502\" is not an answer (write 500, gateway or best)",
        ),
        (
            "-max-f=-1",
            "-max-fails: \"-1\" is not a number from 0 upwards (0: never)",
        ),
        (
            "-coo=0",
            "-cooldown: \"0\" is not more than zero (write 5s, 300ms, 1m30s)",
        ),
        (
            "-max-b=100MB",
            "-max-body: \"100MB\" is not a size (write a whole number of bytes, or one with KiB, MiB or GiB)",
        ),
        (
            "-max-b=99999999999GiB",
            "-max-body: \"99999999999GiB\" is too large for a size (write a whole number of bytes, or one with KiB, MiB or GiB)",
        ),
        ("-w=0", "-workers: \"0\" is not a number from 1 to 65536"),
        (
            "-max-h=0",
            "-max-header: \"0\" is no size for a request head (write 64KiB)",
        ),
        (
            "-w=65537",
            "-workers: \"65537\" is not a number from 1 to 65536",
        ),
        ("-w=x'", "-workers: \"x'\" is not a number from 1 to 65536"),
        (
            "-a=8080",
            "-address: \"8080\" has no port (write :8080, localhost:8080 or [::1]:8080)",
        ),
        (
            "-t=200,x",
            "-terminal-responses: part \"x\" of \"200,x\" is not a number",
        ),
        (
            "-max-c=0",
            "-max-connections: \"0\" is not a number from 1 upwards",
        ),
        (
            "-dr=-1s",
            "-drain: \"-1s\" is less than zero (write 5s, 300ms, 1m30s, or 0 for no waiting)",
        ),
    ] {
        assert_eq!(message(&["-e=http://a", word]), expected);
    }
}

#[test]
fn a_bad_word_on_which_answers_are_usable_is_reported_with_the_remedy() {
    for (word, expected) in [
        (
            "-max-r=-1s",
            "-max-retry-after: \"-1s\" is less than zero (write 5s, 300ms, 1m30s, or 0 to ignore Retry-After)",
        ),
        (
            "-not=429,4xx",
            "-not-terminal: part \"4xx\" of \"429,4xx\" is not a status (write 429 for a status, 500-599 for a range)",
        ),
        (
            "-not=100-599",
            "-not-terminal takes every status out of -terminal-responses (no answer would be usable)",
        ),
        (
            "-un=[a",
            "-unusable-body: \"[a\" is not a regular expression: unclosed character class at character 1: \"[a\"",
        ),
    ] {
        assert_eq!(message(&["-e=http://a", word]), expected);
    }
}

#[test]
fn the_usage_fits_a_terminal_and_has_every_flag() {
    let usage = PROXY.usage();
    for line in usage.lines() {
        assert!(line.len() <= 80 && line == line.trim_end(), "{line:?}");
    }
    for flag in PROXY.flags() {
        assert!(
            usage.contains(&format!("\n  {}", flag.name)),
            "{}",
            flag.name
        );
        assert!(!flag.help.ends_with('.'), "{}", flag.help);
    }
}
