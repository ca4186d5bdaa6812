//! The layout of a line: `PREFIX DATE TIME message`.
//!
//! `simplelog` formats date and time. It does so once a second; the lines in between copy
//! its result. With microseconds it does so for each line.
//!
//! - The clock is read for each line, so a copied time is that of the line.
//! - The message is formatted without a lock: a `Display` that is slow or panics affects
//!   no other line.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Record};
use simplelog::{ConfigBuilder, WriteLogger, format_description};
use time::UtcOffset;
use time::format_description::BorrowedFormatItem;

use super::config::LogConfig;
use super::escape::OneLine;

/// Formats lines.
pub(super) struct Format {
    /// With a space behind, if there is any.
    prefix: String,
    simplelog: Box<WriteLogger<Stamp>>,
    stamp: Stamp,
    /// The second of the Unix epoch in which `stamp` was written.
    second: Mutex<u64>,
    microseconds: bool,
}

impl Format {
    pub(super) fn new(config: &LogConfig, offset: UtcOffset) -> Self {
        let mut prefix = String::new();
        if !config.prefix.is_empty() {
            let _ = write!(OneLine(&mut prefix), "{} ", config.prefix);
        }
        let stamp = Stamp::default();
        Self {
            prefix,
            simplelog: WriteLogger::new(LevelFilter::Info, layout(config, offset), stamp.clone()),
            stamp,
            second: Mutex::new(u64::MAX),
            microseconds: config.microseconds,
        }
    }

    /// Appends a line, its newline included.
    pub(super) fn append(&self, line: &mut String, message: fmt::Arguments<'_>) {
        line.push_str(&self.prefix);
        self.append_stamp(line);
        // Fails if a `Display` in the message does; the line then ends there.
        let _ = OneLine(line).write_fmt(message);
        line.push('\n');
    }

    fn append_stamp(&self, line: &mut String) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if *second != now || self.microseconds {
            self.stamp.text().clear();
            let empty = Record::builder().level(Level::Info).build();
            self.simplelog.log(&empty);
            *second = now;
        }
        line.push_str(self.stamp.text().trim_end_matches('\n'));
    }
}

/// Makes `simplelog` write date and time, and a space behind.
fn layout(config: &LogConfig, offset: UtcOffset) -> simplelog::Config {
    let items: &[BorrowedFormatItem<'_>] = match (config.date, config.time, config.microseconds) {
        (true, _, true) => format_description!(
            "[year]/[month]/[day] [hour]:[minute]:[second].[subsecond digits:6]"
        ),
        (true, true, _) => format_description!("[year]/[month]/[day] [hour]:[minute]:[second]"),
        (true, false, _) => format_description!("[year]/[month]/[day]"),
        (false, _, true) => format_description!("[hour]:[minute]:[second].[subsecond digits:6]"),
        (false, true, _) => format_description!("[hour]:[minute]:[second]"),
        (false, false, _) => &[],
    };
    let mut builder = ConfigBuilder::new();
    if items.is_empty() {
        builder.set_time_level(LevelFilter::Off);
    }
    builder
        .set_thread_level(LevelFilter::Off)
        .set_max_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .set_time_offset(offset)
        .set_time_format_custom(items)
        .build()
}

/// What `simplelog` has written for the record before; ends with a newline.
#[derive(Clone, Default)]
struct Stamp(Arc<Mutex<String>>);

impl Stamp {
    fn text(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Stamp {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.text().push_str(&String::from_utf8_lossy(piece));
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::config::LogDestination;
    use super::*;

    fn config(prefix: &str, flags: &str) -> LogConfig {
        LogConfig {
            prefix: prefix.to_owned(),
            destination: LogDestination::File(PathBuf::new()),
            date: flags.contains('d'),
            time: flags.contains('t'),
            microseconds: flags.contains('m'),
            utc: true,
        }
    }

    fn line(format: &Format, message: &str) -> String {
        let mut line = String::new();
        format.append(&mut line, format_args!("{message}"));
        line
    }

    /// Digits become 9, so that times can be compared.
    fn nines(line: &str) -> String {
        let nine = |c: char| if c.is_ascii_digit() { '9' } else { c };
        line.chars().map(nine).collect()
    }

    #[test]
    fn every_combination_of_flags_has_its_exact_line() {
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
            for prefix in ["", "proxy", "my proxy:", "a\nb", "\u{fc}"] {
                let format = Format::new(&config(prefix, flags), UtcOffset::UTC);
                let prefix = prefix.replace('\n', "\\n");
                let words = [prefix.as_str(), stamp, "starting on: \":x\""];
                let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
                let expected = format!("{}\n", words.join(" "));
                // The second one may be a copy.
                for _ in 0..2 {
                    assert_eq!(nines(&line(&format, "starting on: \":x\"")), expected);
                }
            }
        }
    }

    #[test]
    fn the_offset_moves_the_clock() {
        let hour = |hours: i8| {
            let offset = UtcOffset::from_hms(hours, 0, 0).unwrap();
            let line = line(&Format::new(&config("", "t"), offset), "");
            line[..2].parse::<i8>().unwrap()
        };
        // Ten hours apart, also when an hour ends between the two calls.
        let apart = (hour(5) - hour(-5)).rem_euclid(24);
        assert!(apart == 10 || apart == 9, "{apart}");
    }

    #[test]
    fn a_copied_time_is_renewed_when_its_second_has_passed() {
        let format = Format::new(&config("", "t"), UtcOffset::UTC);
        let first = line(&format, "");
        *format.second.lock().unwrap() -= 1;
        format.stamp.text().replace_range(.., "an old time \n");
        assert_ne!(line(&format, ""), "an old time \n");
        assert_eq!(nines(&line(&format, "")), nines(&first));
    }

    #[test]
    fn microseconds_are_those_of_each_line() {
        let format = Format::new(&config("", "m"), UtcOffset::UTC);
        let first = line(&format, "");
        // The clock may stand still for a line or two, not for all of them.
        assert!((0..1_000_000).any(|_| line(&format, "") != first));
    }

    #[test]
    fn a_message_that_fails_is_still_a_line() {
        struct Failing;
        impl fmt::Display for Failing {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        let format = Format::new(&config("", ""), UtcOffset::UTC);
        let mut line = String::new();
        format.append(&mut line, format_args!("{Failing} a message"));
        assert_eq!(line, "half\n");
    }
}
