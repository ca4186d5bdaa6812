//! The layout of a line with `-log-json`: one object, `{"time":…,"prefix":…,…}`.
//!
//! Always: a line is valid JSON and ASCII controls, quotes and what moves the cursor are escaped
//! in it, whatever a client or an endpoint sent. Nothing is allocated: all parts print
//! themselves into the buffer of the line.

use std::fmt::{self, Display, Write as _};
use std::time::{Duration, SystemTime};

use log::kv::Key;
use log::{Level, Record};
use time::{OffsetDateTime, UtcOffset};

use crate::util::text::JsonString;

/// The key under which a record carries its members as they stand in the object, each with a
/// comma in front. A record without has its message.
pub(super) const MEMBERS: &str = "json";

/// What is the same in each line.
#[derive(Debug)]
pub(super) struct JsonLayout {
    /// `-log-prefix`; empty: no member.
    pub(super) prefix: String,
    pub(super) offset: UtcOffset,
}

impl JsonLayout {
    /// Writes the object for a record.
    pub(super) fn write(&self, line: &mut String, record: &Record<'_>, now: SystemTime) {
        let now = OffsetDateTime::from(now).to_offset(self.offset);
        // Writing to a `String` does not fail.
        let _ = write!(line, "{{\"time\":\"{}\"", Rfc3339(now));
        if !self.prefix.is_empty() {
            let _ = write!(line, ",\"prefix\":{}", JsonString(&self.prefix));
        }
        let _ = match record.key_values().get(Key::from_str(MEMBERS)) {
            Some(members) => write!(line, "{members}"),
            None => write!(line, "{}", Message(record.level(), record.args())),
        };
        line.push('}');
    }
}

/// The members of a line that is not about what became of a request.
pub(super) struct Message<T>(pub(super) Level, pub(super) T);

impl<T: Display> Display for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.0 {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info | Level::Debug | Level::Trace => "info",
        };
        write!(
            f,
            ",\"level\":\"{level}\",\"message\":{}",
            JsonString(&self.1)
        )
    }
}

/// A value, or `null` where there is none.
pub(super) struct OrNull<T>(pub(super) Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// A span as a number of seconds, with microseconds.
pub(super) struct Seconds(pub(super) Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// A time as RFC 3339 has it, with microseconds.
struct Rfc3339(OffsetDateTime);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0.date(), self.0.time());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = time.as_hms();
        let micros = time.microsecond();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}"
        )?;
        let offset = self.0.offset();
        if offset.is_utc() {
            return f.write_str("Z");
        }
        let sign = if offset.is_negative() { '-' } else { '+' };
        let (hours, minutes, _) = offset.as_hms();
        write!(f, "{sign}{:02}:{:02}", hours.abs(), minutes.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::kv::Value;

    const TIME: SystemTime = SystemTime::UNIX_EPOCH;

    fn line(prefix: &str, offset: i32, record: &Record<'_>, after: Duration) -> String {
        let layout = JsonLayout {
            prefix: prefix.to_owned(),
            offset: UtcOffset::from_whole_seconds(offset).unwrap(),
        };
        let mut line = String::new();
        layout.write(&mut line, record, TIME + after);
        line
    }

    #[test]
    fn a_message_has_its_time_and_level() {
        let message = format_args!("closed \"7\" \\ \n\u{1b}\u{202e}\u{fc}");
        let record = Record::builder().level(Level::Warn).args(message).build();
        assert_eq!(
            line("", 0, &record, Duration::from_millis(1500)),
            "{\"time\":\"1970-01-01T00:00:01.500000Z\",\"level\":\"warn\",\
             \"message\":\"closed \\\"7\\\" \\\\ \\u000a\\u001b\\u202e\u{fc}\"}"
        );
    }

    #[test]
    fn local_time_has_its_offset_and_the_prefix_is_a_member() {
        for (offset, time) in [
            (-5 * 3600, "1969-12-31T19:00:00.000000-05:00"),
            (5 * 3600 + 1800, "1970-01-01T05:30:00.000000+05:30"),
            (-1800, "1969-12-31T23:30:00.000000-00:30"),
        ] {
            let record = Record::builder().level(Level::Error).build();
            assert_eq!(
                line("my \"proxy\"", offset, &record, Duration::ZERO),
                format!(
                    "{{\"time\":\"{time}\",\"prefix\":\"my \\\"proxy\\\"\",\
                     \"level\":\"error\",\"message\":\"\"}}"
                )
            );
        }
    }

    #[test]
    fn members_take_the_place_of_the_message() {
        let members = format_args!(",\"status\":{}", OrNull(Some(200))).to_string();
        let pair = (MEMBERS, Value::from_display(&members));
        let record = Record::builder()
            .args(format_args!("text"))
            .key_values(&pair)
            .build();
        assert_eq!(
            line("", 0, &record, Duration::ZERO),
            "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"status\":200}"
        );
    }

    #[test]
    fn numbers_are_as_json_has_them() {
        for (micros, shown) in [(0, "0.000000"), (7, "0.000007"), (61_000_001, "61.000001")] {
            assert_eq!(Seconds(Duration::from_micros(micros)).to_string(), shown);
        }
        assert_eq!(OrNull::<u16>(None).to_string(), "null");
    }
}
