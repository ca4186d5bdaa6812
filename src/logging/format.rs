//! The layout of a line: `PREFIX DATE TIME message`, as `simplelog` writes it. With `-log-json`
//! the message is all of it.

use log::LevelFilter;
use simplelog::{Config, ConfigBuilder};
use time::UtcOffset;
use time::format_description::parse_borrowed;

use super::config::LogConfig;
use super::escape::one_line;
use super::json::JsonLayout;

/// Makes `simplelog` write lines of this layout, and only those of our crates: libraries log
/// by the same façade.
pub(super) fn simplelog(config: &LogConfig) -> Config {
    let layout = if config.json { "" } else { layout(config) };
    let layout = parse_borrowed::<2>(layout).unwrap_or_default();
    let mut builder = ConfigBuilder::new();
    if layout.is_empty() {
        builder.set_time_level(LevelFilter::Off);
    }
    builder
        .set_thread_level(LevelFilter::Off)
        .set_max_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_time_offset(offset(config))
        .set_time_format_custom(layout.leak())
        .add_filter_allow_str("balancing_reverse_proxy")
        .add_filter_allow_str("dummy_http_server")
        .build()
}

/// What of a line of JSON is not in its record.
pub(super) fn json(config: &LogConfig) -> JsonLayout {
    JsonLayout {
        prefix: config.prefix.clone(),
        offset: offset(config),
    }
}

/// The offset of the times in the log. Fails on systems without time zones, which have UTC.
fn offset(config: &LogConfig) -> UtcOffset {
    let local = UtcOffset::current_local_offset().ok();
    local.filter(|_| !config.utc).unwrap_or(UtcOffset::UTC)
}

/// What stands in front of a message, as `time` describes it.
fn layout(config: &LogConfig) -> &'static str {
    let prefix = one_line(&config.prefix);
    let prefix = prefix.replace('\\', r"\\").replace('[', r"\[");
    let date = config.date.then_some("[year]/[month]/[day]");
    let time = match (config.time, config.microseconds) {
        (_, true) => "[hour]:[minute]:[second].[subsecond digits:6]",
        (true, false) => "[hour]:[minute]:[second]",
        (false, false) => "",
    };
    let mut words = vec![prefix.as_str(), date.unwrap_or_default(), time];
    words.retain(|word| !word.is_empty());
    // As long as the process lives.
    words.join(" ").leak()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};

    use log::{Log, Record};
    use simplelog::WriteLogger;

    use super::super::config::LogDestination;
    use super::*;
    use crate::util::lock::lock;

    /// What is written to it.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).write(piece)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn config(prefix: &str, flags: &str) -> LogConfig {
        LogConfig {
            prefix: prefix.to_owned(),
            destination: LogDestination::File(PathBuf::new()),
            date: flags.contains('d'),
            time: flags.contains('t'),
            microseconds: flags.contains('m'),
            utc: true,
            json: false,
            without_served: false,
        }
    }

    fn line(config: &LogConfig, target: &str) -> String {
        let written = Written::default();
        let logger = WriteLogger::new(LevelFilter::Info, simplelog(config), written.clone());
        let message = format_args!("starting on: \":x\"");
        logger.log(&Record::builder().target(target).args(message).build());
        let text = lock(&written.0).clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn every_combination_of_flags_has_its_exact_line() {
        // Digits become 9, so that times can be compared.
        let nine = |c: char| if c.is_ascii_digit() { '9' } else { c };
        for (flags, stamp) in [
            ("", ""),
            ("d", "9999/99/99"),
            ("t", "99:99:99"),
            ("dt", "9999/99/99 99:99:99"),
            ("m", "99:99:99.999999"),
            ("tm", "99:99:99.999999"),
            ("dm", "9999/99/99 99:99:99.999999"),
            ("dtm", "9999/99/99 99:99:99.999999"),
        ] {
            for prefix in ["", "proxy", "my proxy:", "a\nb", "\u{fc}", r"[x] \[y]]\"] {
                let line = line(&config(prefix, flags), "balancing_reverse_proxy::x");
                let prefix = prefix.replace('\n', "\\n");
                let words = [prefix.as_str(), stamp, "starting on: \":x\""];
                let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
                let line: String = line.chars().map(nine).collect();
                assert_eq!(line, format!("{}\n", words.join(" ")));
            }
        }
    }

    #[test]
    fn records_of_other_crates_make_no_line() {
        for (target, shows) in [
            ("balancing_reverse_proxy", true),
            ("dummy_http_server", true),
            ("tiny_http", false),
            ("ureq::run", false),
            ("rustls", false),
            ("", false),
        ] {
            assert_eq!(!line(&config("", ""), target).is_empty(), shows, "{target}");
        }
    }
}
