//! `/metrics`: Prometheus' text format, version 0.0.4. Pure.
//!
//! Written by hand: `prometheus-client` is three crates (with `itoa` and `dtoa`), a lock and a hash map
//! for each family with labels, and wants to own the counters; what is left to write is less than its
//! set-up would be.

use std::fmt::{self, Display, Write as _};
use std::time::{Duration, SystemTime};

use super::process::Process;
use super::snapshot::{EndpointSnapshot, Snapshot};
use crate::metrics::Distribution;

/// The type of the page.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The ends of the buckets of histograms, and their names.
const BUCKETS: [(Duration, &str); 12] = [
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_millis(2500), "2.5"),
    (Duration::from_secs(5), "5"),
    (Duration::from_secs(10), "10"),
    (Duration::from_secs(30), "30"),
];

/// The page.
pub(super) fn page(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    requests(&mut page, snapshot);
    upstreams(&mut page, &snapshot.endpoints);
    hedging(&mut page, snapshot);
    others(&mut page, snapshot);
    process(&mut page, &snapshot.process, snapshot.started);
    page.0
}

fn requests(page: &mut Page, snapshot: &Snapshot) {
    page.family(
        "brp_http_requests_total",
        "counter",
        "Requests that were received whole and not refused, by the status code of the answer; 499 \
         is an endpoint's, or there was none: the client was gone. Not: requests that were reset at \
         once.",
    );
    for (method, status, count) in &snapshot.requests {
        page.sample("", &[("code", status), ("method", method)], count);
    }
    page.family(
        "brp_http_request_duration_seconds",
        "histogram",
        "From the first byte of a request to the end of its answer, of the requests in \
         brp_http_requests_total.",
    );
    page.histogram(&[], &snapshot.duration);
    page.gauge(
        "brp_http_requests_in_flight",
        "Requests that are being worked on (-workers is the most).",
        snapshot.in_flight,
    );
    page.gauge(
        "brp_connections_active",
        "Client connections that are open (see -max-connections).",
        snapshot.connections,
    );
    page.counter(
        "brp_requests_exhausted_total",
        "Requests for which no endpoint had a usable answer.",
        snapshot.outcomes.exhausted,
    );
    page.counter(
        "brp_clients_gone_total",
        "Requests whose client went away, or that -drain cut off, before it had the whole answer.",
        snapshot.clients_gone,
    );
    page.family(
        "brp_refused_requests_total",
        "counter",
        "Requests that were refused; they are not in brp_http_requests_total.",
    );
    for (reason, count) in &snapshot.refused {
        page.sample("", &[("reason", reason)], count);
    }
}

fn upstreams(page: &mut Page, endpoints: &[EndpointSnapshot]) {
    page.family(
        "brp_upstream_requests_total",
        "counter",
        "Attempts by the status code of the answer. none: a part of the request was sent, and no \
         answer came; cancelled: the same, and it was not wanted any more; unsent: nothing was \
         sent.",
    );
    for endpoint in endpoints {
        let labels: [(&str, &dyn Display); 2] = [
            ("endpoint", &endpoint.number),
            ("upstream", &endpoint.upstream),
        ];
        let [index, upstream] = labels;
        for (status, count) in &endpoint.statuses {
            page.sample("", &[index, upstream, ("code", status)], count);
        }
        for (code, count) in [
            ("none", endpoint.no_head),
            ("cancelled", endpoint.cancelled),
            ("unsent", endpoint.unsent),
        ] {
            page.sample("", &[index, upstream, ("code", &code)], count);
        }
    }
    page.family(
        "brp_upstream_resent_total",
        "counter",
        "How often an attempt sent the request once more, on another connection, since the first \
         one was closed without an answer.",
    );
    for endpoint in endpoints {
        page.sample("", &[("endpoint", &endpoint.number)], endpoint.resent);
    }
    page.family(
        "brp_upstream_response_head_seconds",
        "histogram",
        "From the start of an attempt to the head of its answer.",
    );
    for endpoint in endpoints {
        page.histogram(&[("endpoint", &endpoint.number)], &endpoint.head);
    }
    page.family(
        "brp_upstream_failures_total",
        "counter",
        "Attempts without a usable answer or whose answer broke off in the relay, by the error \
         types of RFC 9209; a status that is not terminal is destination_unavailable.",
    );
    for endpoint in endpoints {
        for (reason, count) in &endpoint.failures {
            page.sample(
                "",
                &[("endpoint", &endpoint.number), ("reason", reason)],
                count,
            );
        }
    }
    page.family(
        "brp_upstream_healthy",
        "gauge",
        "0 while the endpoint is passed over, else 1.",
    );
    for endpoint in endpoints {
        let healthy = u8::from(endpoint.passed_over.is_none());
        page.sample("", &[("endpoint", &endpoint.number)], healthy);
    }
    page.family(
        "brp_upstream_ejections_total",
        "counter",
        "How often the endpoint began to be passed over.",
    );
    for endpoint in endpoints {
        page.sample("", &[("endpoint", &endpoint.number)], endpoint.ejections);
    }
}

fn hedging(page: &mut Page, snapshot: &Snapshot) {
    page.counter(
        "brp_retries_total",
        "Attempts that were started because another one of the request had failed.",
        snapshot.retries,
    );
    page.counter(
        "brp_hedged_requests_total",
        "Attempts that were started because another one of the request took too long.",
        snapshot.hedges,
    );
    page.family(
        "brp_hedged_requests_won_total",
        "counter",
        "Requests with a hedge, by the attempt that answered them.",
    );
    for (kind, count) in [
        ("original", snapshot.originals_won),
        ("hedged", snapshot.hedges_won),
    ] {
        page.sample("", &[("type", &kind)], count);
    }
    page.counter(
        "brp_hedged_requests_rate_limited_total",
        "Hedges that were due and that -hedge-budget held back.",
        snapshot.hedges_held_back,
    );
    page.family(
        "brp_hedge_delay_seconds",
        "gauge",
        "After how long an attempt is hedged; absent while none would be.",
    );
    if let Some(delay) = snapshot.hedge_delay {
        page.sample("", &[], delay.as_secs_f64());
    }
}

fn others(page: &mut Page, snapshot: &Snapshot) {
    page.counter(
        "brp_log_lines_dropped_total",
        "Log lines that could not be written.",
        snapshot.log_lines_dropped,
    );
    page.family("brp_build_info", "gauge", "1, and which version this is.");
    page.sample("", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
}

fn process(page: &mut Page, process: &Process, started: SystemTime) {
    page.counter(
        "process_cpu_seconds_total",
        "User and system CPU time.",
        process.cpu.as_secs_f64(),
    );
    let started = started.duration_since(SystemTime::UNIX_EPOCH);
    page.gauge(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        started.unwrap_or_default().as_secs_f64(),
    );
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            process.resident,
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory.",
            process.virtual_size,
        ),
        (
            "process_open_fds",
            "Descriptors that are open.",
            process.open_descriptors,
        ),
        (
            "process_max_fds",
            "The most descriptors that may be open.",
            process.most_descriptors,
        ),
        ("process_threads", "Threads.", process.threads),
    ] {
        if let Some(value) = value {
            page.gauge(name, help, value);
        }
    }
}

/// What has been written so far. Writing to a `String` does not fail.
#[derive(Default)]
struct Page(String, &'static str);

type Label<'a> = (&'a str, &'a dyn Display);

impl Page {
    /// What follows are samples of this family. Help is one line without a backslash.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample("", &[], value);
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample("", &[], value);
    }

    fn sample(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        let _ = write!(self.0, "{}{suffix}", self.1);
        for (place, (name, value)) in labels.iter().enumerate() {
            let begin = if place == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{begin}{name}=\"");
            let _ = write!(Escaped(&mut self.0), "{value}");
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn histogram(&mut self, labels: &[Label<'_>], seen: &Distribution) {
        let count = seen.count();
        for (end, name) in BUCKETS {
            let labels = [labels, &[("le", &name)]].concat();
            self.sample("_bucket", &labels, seen.at_most(end));
        }
        let labels_of_all = [labels, &[("le", &"+Inf")]].concat();
        self.sample("_bucket", &labels_of_all, count);
        self.sample("_sum", labels, seen.sum.as_secs_f64());
        self.sample("_count", labels, count);
    }
}

/// Escapes the value of a label.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("a_total", "counter", "Help.");
        page.sample("", &[("x", &"a\"b\\c\nd"), ("y", &1)], 7);
        page.sample("", &[], 0.5);
        let wanted = "# HELP a_total Help.\n# TYPE a_total counter\n\
                      a_total{x=\"a\\\"b\\\\c\\nd\",y=\"1\"} 7\na_total 0.5\n";
        assert_eq!(page.0, wanted);
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_all() {
        let histogram = crate::metrics::Histogram::default();
        for millis in [5, 6, 10, 1_000, 60_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.family("h", "histogram", "Help.");
        page.histogram(&[("endpoint", &0)], &histogram.read());
        let lines: Vec<_> = page.0.lines().skip(2).collect();
        assert_eq!(lines.len(), 15);
        assert_eq!(lines[0], "h_bucket{endpoint=\"0\",le=\"0.005\"} 1");
        assert_eq!(lines[1], "h_bucket{endpoint=\"0\",le=\"0.01\"} 3");
        assert_eq!(lines[7], "h_bucket{endpoint=\"0\",le=\"1\"} 4");
        assert_eq!(lines[11], "h_bucket{endpoint=\"0\",le=\"30\"} 4");
        assert_eq!(lines[12], "h_bucket{endpoint=\"0\",le=\"+Inf\"} 5");
        assert_eq!(lines[13], "h_sum{endpoint=\"0\"} 61.021");
        assert_eq!(lines[14], "h_count{endpoint=\"0\"} 5");
    }
}
