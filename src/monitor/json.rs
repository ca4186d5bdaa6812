//! `/status.json`: what the page shows, for programs. Pure.

use std::fmt::{Display, Write as _};
use std::time::{Duration, SystemTime};

use super::history::{INTERVAL, Outcomes};
use super::snapshot::{EndpointSnapshot, Snapshot};
use super::view::View;
use crate::metrics::Distribution;
use crate::util::text::JsonString;

/// The type of the document.
pub(super) const CONTENT_TYPE: &str = "application/json";

/// The document. `shown`: what the page shows where, if it is the page that asks.
pub(super) fn document(snapshot: &Snapshot, shown: Option<&View>) -> String {
    let mut json = Json::default();
    json.object(None, |json| {
        status(json, snapshot);
        if let Some(shown) = shown {
            json.object(Some("page"), |json| {
                for (place, value) in shown {
                    json.text(place, value);
                }
            });
        }
    });
    json.text.push('\n');
    json.text
}

fn status(json: &mut Json, snapshot: &Snapshot) {
    json.text("version", env!("CARGO_PKG_VERSION"));
    json.text("state", snapshot.state());
    let started = snapshot.started.duration_since(SystemTime::UNIX_EPOCH);
    json.seconds("started", started.ok());
    json.seconds("uptime_s", Some(snapshot.uptime));
    json.object(Some("requests"), |json| {
        let outcomes = snapshot.outcomes;
        json.number("served", outcomes.served);
        json.number("exhausted", outcomes.exhausted);
        json.number("gone", outcomes.gone);
        json.number("refused", outcomes.refused);
        json.number("clients_gone", snapshot.clients_gone);
        json.number("in_flight", snapshot.in_flight);
        json.counts("refused_by_reason", &snapshot.refused);
        json.object(Some("codes"), |json| {
            for (code, count) in snapshot.codes() {
                json.number(&code.to_string(), count);
            }
        });
    });
    json.times("duration", &snapshot.duration);
    json.times("duration_5m", &snapshot.recent);
    json.number("retries", snapshot.retries);
    json.object(Some("hedges"), |json| {
        json.number("sent", snapshot.hedges);
        json.number("won", snapshot.hedges_won);
        json.number("original_won", snapshot.originals_won);
        json.number("held_back", snapshot.hedges_held_back);
        json.seconds("delay_s", snapshot.hedge_delay);
    });
    json.number("connections", snapshot.connections);
    json.number("log_lines_dropped", snapshot.log_lines_dropped);
    let process = &snapshot.process;
    json.object(Some("process"), |json| {
        json.seconds("cpu_s", Some(process.cpu));
        json.optional("resident_bytes", process.resident);
        json.optional("threads", process.threads);
        json.optional("open_fds", process.open_descriptors);
    });
    json.array("endpoints", &snapshot.endpoints, |json, endpoint| {
        json.object(None, |json| self::endpoint(json, endpoint));
    });
    json.object(Some("history"), |json| {
        json.seconds("interval_s", Some(INTERVAL));
        let past = &snapshot.past;
        for (name, of) in [
            ("served", (|past| past.served) as fn(&Outcomes) -> u64),
            ("exhausted", |past| past.exhausted),
            ("gone", |past| past.gone),
            ("refused", |past| past.refused),
        ] {
            json.array(name, past, |json, past| json.value(of(past)));
        }
    });
}

fn endpoint(json: &mut Json, endpoint: &EndpointSnapshot) {
    json.number("endpoint", endpoint.number);
    json.text("upstream", &endpoint.upstream);
    json.number("backup", endpoint.is_backup);
    json.seconds("passed_over_s", endpoint.passed_over);
    json.number("ejections", endpoint.ejections);
    json.number("attempts", endpoint.attempts());
    json.number("wins", endpoint.wins);
    json.object(Some("codes"), |json| {
        for (code, count) in &endpoint.statuses {
            json.number(&code.to_string(), count);
        }
        json.number("none", endpoint.no_head);
        json.number("cancelled", endpoint.cancelled);
        json.number("unsent", endpoint.unsent);
    });
    json.counts("failures", &endpoint.failures);
    json.times("head", &endpoint.head);
    for (name, of) in [
        ("p50_s", (|(median, _)| median) as fn(_) -> Duration),
        ("p99_s", |(_, most)| most),
    ] {
        json.array(name, &endpoint.times, |json, times| match times.map(of) {
            Some(span) => json.value(span.as_secs_f64()),
            None => json.value("null"),
        });
    }
}

/// What has been written so far. Writing to a `String` does not fail.
#[derive(Default)]
struct Json {
    text: String,
    /// A member stands in front of the next one.
    follows: bool,
}

impl Json {
    /// A value that is written as it is: a number or `null`.
    fn value(&mut self, value: impl Display) {
        self.write(None, value);
    }

    /// A number or a boolean.
    fn number(&mut self, name: &str, value: impl Display) {
        self.write(Some(name), value);
    }

    fn optional(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.number(name, "null"),
        }
    }

    fn seconds(&mut self, name: &str, value: Option<Duration>) {
        self.optional(name, value.map(|span| span.as_secs_f64()));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.write(Some(name), JsonString(value));
    }

    fn counts(&mut self, name: &str, counts: &[(&str, u64)]) {
        self.object(Some(name), |json| {
            for (name, count) in counts {
                json.number(name, count);
            }
        });
    }

    fn times(&mut self, name: &str, seen: &Distribution) {
        self.object(Some(name), |json| {
            json.number("count", seen.count());
            json.seconds("sum_s", Some(seen.sum));
            for (name, of_thousand) in [
                ("p50_s", 500),
                ("p90_s", 900),
                ("p99_s", 990),
                ("p99_9_s", 999),
            ] {
                json.seconds(name, seen.quantile(of_thousand));
            }
        });
    }

    fn object(&mut self, name: Option<&str>, members: impl FnOnce(&mut Self)) {
        self.write(name, "{");
        self.follows = false;
        members(self);
        self.end('}');
    }

    fn array<T>(&mut self, name: &str, values: &[T], mut value: impl FnMut(&mut Self, &T)) {
        self.write(Some(name), "[");
        self.follows = false;
        for one in values {
            value(self, one);
        }
        self.end(']');
    }

    /// What stands behind a comma or at the beginning, with its name.
    fn write(&mut self, name: Option<&str>, value: impl Display) {
        let comma = if self.follows { "," } else { "" };
        let _ = match name {
            Some(name) => write!(self.text, "{comma}{}:{value}", JsonString(name)),
            None => write!(self.text, "{comma}{value}"),
        };
        self.follows = true;
    }

    fn end(&mut self, bracket: char) {
        self.text.push(bracket);
        self.follows = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_and_members_separated() {
        let mut json = Json::default();
        json.object(None, |json| {
            json.text("a\"", "\\ \n\u{1f} é <");
            json.array("b", &[1, 2], |json, one| json.value(one));
            json.array("c", &[0; 0], |json, one| json.value(one));
            json.object(Some("d"), |json| json.seconds("e", None));
            json.counts("f", &[("g", 1)]);
        });
        let wanted = "{\"a\\\"\":\"\\\\ \\u000a\\u001f é <\",\"b\":[1,2],\"c\":[],\
                      \"d\":{\"e\":null},\"f\":{\"g\":1}}";
        assert_eq!(json.text, wanted);
    }
}
