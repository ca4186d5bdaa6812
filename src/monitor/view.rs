//! What people see, in words: each value with the name of its place. Pure.
//!
//! The page is filled from it where it is made, and the page's script from the same values a second
//! later; the text for terminals is made of it, too. So there is one way to write each number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::history::{INTERVAL, Outcomes, READINGS};
use super::plot;
use super::snapshot::{EndpointSnapshot, Snapshot};

/// Values by the names of their places.
pub(super) type View = BTreeMap<String, String>;

/// Everything that changes.
pub(super) fn view(snapshot: &Snapshot) -> View {
    let mut view = View::new();
    let mut put = |name: &str, value: String| {
        view.insert(name.to_owned(), value);
    };
    let (serving, stopping) = if snapshot.is_stopping {
        ("", "stopping")
    } else {
        ("serving", "")
    };
    put("serving", serving.to_owned());
    put("stopping", stopping.to_owned());
    put("uptime", long_span(snapshot.uptime));
    let last = snapshot.past.last().copied().unwrap_or_default();
    put("rate", rate(per_second(last.all())));
    put("in-flight", number(snapshot.in_flight as u64));
    put("connections", number(snapshot.connections as u64));
    for (name, of_thousand) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
        put(name, span(snapshot.recent.quantile(of_thousand)));
    }
    let process = &snapshot.process;
    put("memory", process.resident.map_or_else(unknown, bytes));
    put("threads", process.threads.map_or_else(unknown, number));
    let cpu = process.cpu.as_secs_f64() / snapshot.uptime.as_secs_f64().max(0.001);
    put("cpu", format!("{:.1} %", cpu * 100.0));

    let outcomes = snapshot.outcomes;
    put("served", number(outcomes.served));
    put("served-share", share(outcomes.served, outcomes.all()));
    put("exhausted", number(outcomes.exhausted));
    put("clients-gone", number(snapshot.clients_gone));
    put("gone", number(outcomes.gone));
    put("refused", number(outcomes.refused));
    put("refused-why", list(&snapshot.refused));
    put("retries", number(snapshot.retries));
    put("hedges", number(snapshot.hedges));
    let delay = |delay| format!("after {}", span(Some(delay)));
    let delay = snapshot
        .hedge_delay
        .map_or("no hedging now".to_owned(), delay);
    put("hedge-delay", delay);
    put("hedges-won", number(snapshot.hedges_won));
    put("originals-won", number(snapshot.originals_won));
    put("held-back", number(snapshot.hedges_held_back));
    put("dropped", number(snapshot.log_lines_dropped as u64));
    outcome_plot(&snapshot.past, &mut view);
    let wins = snapshot
        .endpoints
        .iter()
        .map(|endpoint| endpoint.wins)
        .sum();
    for endpoint in &snapshot.endpoints {
        self::endpoint(endpoint, wins, &mut view);
    }
    view
}

/// Areas on top of each other: each one is drawn over those that reach higher.
fn outcome_plot(past: &[Outcomes], view: &mut View) {
    let most = past.iter().map(|outcomes| outcomes.all()).max();
    let end = plot::axis_end(per_second(most.unwrap_or_default()));
    view.insert("rate-end".to_owned(), format!("{} /s", rate(end)));
    view.insert("rate-half".to_owned(), format!("{} /s", rate(end / 2.0)));
    for (name, up_to) in [
        ("refused-area", Outcomes::all as fn(Outcomes) -> u64),
        ("gone-area", |of| of.served + of.exhausted + of.gone),
        ("exhausted-area", |of| of.served + of.exhausted),
        ("served-area", |of| of.served),
    ] {
        let values: Vec<_> = past.iter().map(|of| per_second(up_to(*of))).collect();
        view.insert(name.to_owned(), plot::area(&values, READINGS, end));
    }
}

fn endpoint(endpoint: &EndpointSnapshot, wins: u64, view: &mut View) {
    let mut put = |name: &str, value: String| {
        view.insert(format!("e{}-{name}", endpoint.number), value);
    };
    let asked = match (endpoint.is_backup, endpoint.passed_over) {
        (false, None) => "asked",
        (true, None) => "backup",
        (false, Some(_)) => "",
        (true, Some(_)) => "backup, ",
    };
    let over = match endpoint.passed_over {
        None => String::new(),
        Some(Duration::ZERO) => "passed over, being tried".to_owned(),
        Some(left) => format!("passed over for {}", long_span(left)),
    };
    put("asked", asked.to_owned());
    put("over", over);
    put(
        "ejections",
        match endpoint.ejections {
            0 => String::new(),
            1 => "passed over once so far".to_owned(),
            times => format!("passed over {} times so far", number(times)),
        },
    );
    put("attempts", number(endpoint.attempts()));
    put("codes", codes(endpoint));
    put("wins", number(endpoint.wins));
    put("share", share(endpoint.wins, wins));
    let failed = endpoint.failures.iter().map(|(_, count)| count).sum();
    put("failed", number(failed));
    put("failures", list(&endpoint.failures));
    let times = endpoint.times.iter();
    let medians: Vec<_> = times
        .clone()
        .map(|times| times.map(|(median, _)| median))
        .collect();
    let mosts: Vec<_> = times.map(|times| times.map(|(_, most)| most)).collect();
    let most = mosts.iter().flatten().max().copied().unwrap_or_default();
    let end = plot::axis_end(most.as_secs_f64());
    put(
        "end",
        if most.is_zero() {
            unknown()
        } else {
            span(Duration::try_from_secs_f64(end).ok())
        },
    );
    for (name, spans) in [("50", &medians), ("99", &mosts)] {
        let latest = spans.iter().rev().find_map(|span| *span);
        put(&format!("p{name}"), span(latest));
        let values = spans.iter().map(|span| span.map(|span| span.as_secs_f64()));
        let values: Vec<_> = values.collect();
        put(&format!("line{name}"), plot::line(&values, READINGS, end));
    }
}

/// The codes of an endpoint's answers, and how many attempts got none.
fn codes(endpoint: &EndpointSnapshot) -> String {
    let mut text = String::new();
    for (status, count) in &endpoint.statuses {
        join(&mut text, &status.to_string(), *count);
    }
    for (name, count) in [
        ("no answer", endpoint.no_head),
        ("cancelled", endpoint.cancelled),
        ("unsent", endpoint.unsent),
    ] {
        join(&mut text, name, count);
    }
    text
}

fn list(counts: &[(&str, u64)]) -> String {
    let mut text = String::new();
    for (name, count) in counts {
        join(&mut text, name, *count);
    }
    text
}

fn join(text: &mut String, name: &str, count: u64) {
    if count > 0 {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a `String` does not fail.
        let _ = write!(text, "{comma}{name}: {}", number(count));
    }
}

/// `12,345`
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[allow(clippy::cast_precision_loss)] // Far below 2^52.
fn per_second(count: u64) -> f64 {
    count as f64 / INTERVAL.as_secs_f64()
}

/// `0.25`, `2.5`, `25`, `2,500`
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Not negative.
fn rate(rate: f64) -> String {
    let text = match rate {
        0.0..1.0 => format!("{rate:.2}"),
        1.0..10.0 => format!("{rate:.1}"),
        _ => return number(rate.round() as u64),
    };
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short.is_empty() { "0" } else { short }.to_owned()
}

#[allow(clippy::cast_precision_loss)]
fn share(part: u64, all: u64) -> String {
    if all == 0 {
        return unknown();
    }
    let share = part as f64 / all as f64 * 100.0;
    match share {
        // What is not all is not 100 %.
        99.95..100.0 => "99.9 %".to_owned(),
        _ => format!("{share:.1} %"),
    }
}

fn unknown() -> String {
    "–".to_owned()
}

/// Three digits and a unit: `850 µs`, `4.12 ms`, `12.3 s`.
fn span(span: Option<Duration>) -> String {
    let Some(span) = span else {
        return unknown();
    };
    let seconds = span.as_secs_f64();
    let (value, unit) = match seconds {
        0.0..0.001 => (seconds * 1e6, "µs"),
        0.001..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let text = match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => return format!("{value:.0} {unit}"),
    };
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{short} {unit}")
}

/// In the two largest units, rounded up: `3 d 4 h`, `12 min 5 s`, `7 s`.
fn long_span(span: Duration) -> String {
    let seconds = span.as_secs() + u64::from(span.subsec_millis() > 0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[allow(clippy::cast_precision_loss)]
fn bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{mib:.1} MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (value, wanted) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(number(value), wanted);
        }
        for (value, wanted) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.5, "0.5"),
            (2.0, "2"),
            (2.54, "2.5"),
            (25.4, "25"),
            (2_500.0, "2,500"),
        ] {
            assert_eq!(rate(value), wanted);
        }
        for (part, all, wanted) in [
            (0, 0, "–"),
            (0, 5, "0.0 %"),
            (5, 5, "100.0 %"),
            (99_999, 100_000, "99.9 %"),
            (1, 3, "33.3 %"),
        ] {
            assert_eq!(share(part, all), wanted);
        }
        assert_eq!(bytes(5 << 19), "2.5 MiB");
    }

    #[test]
    fn spans_have_three_digits_or_two_units() {
        for (nanos, wanted) in [
            (0, "0 µs"),
            (850_000, "850 µs"),
            (4_120_000, "4.12 ms"),
            (50_000_000, "50 ms"),
            (500_000_000, "500 ms"),
            (12_340_000_000, "12.3 s"),
            (200_000_000_000, "200 s"),
        ] {
            assert_eq!(span(Some(Duration::from_nanos(nanos))), wanted);
        }
        assert_eq!(span(None), "–");
        for (millis, wanted) in [
            (0, "0 s"),
            (6_100, "7 s"),
            (725_000, "12 min 5 s"),
            (3_600_000, "1 h 0 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(long_span(Duration::from_millis(millis)), wanted);
        }
    }

    #[test]
    fn lists_leave_out_what_has_not_occurred() {
        assert_eq!(list(&[("a", 0), ("b", 1_000), ("c", 2)]), "b: 1,000, c: 2");
        assert_eq!(list(&[("a", 0)]), "");
    }
}
