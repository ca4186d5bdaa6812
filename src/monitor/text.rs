//! The status page for terminals. Pure.

use std::fmt::Write as _;

use super::snapshot::Snapshot;
use super::view::View;

/// The page.
pub(super) fn page(snapshot: &Snapshot, view: &View) -> String {
    let get = |name: &str| view.get(name).map_or("", String::as_str);
    let mut page = format!(
        "balancing-reverse-proxy {}, {}, up {}\n\n",
        env!("CARGO_PKG_VERSION"),
        snapshot.state(),
        get("uptime")
    );
    for (name, value) in [
        ("requests per second", format!("{} (last 5 s)", get("rate"))),
        (
            "in flight, connections",
            format!("{}, {}", get("in-flight"), get("connections")),
        ),
        (
            "time to answer",
            format!(
                "median {}, 90 % {}, 99 % {}, 99.9 % {} (last five minutes)",
                get("p50"),
                get("p90"),
                get("p99"),
                get("p999")
            ),
        ),
        (
            "served",
            format!("{} ({})", get("served"), get("served-share")),
        ),
        ("no usable answer", get("exhausted").to_owned()),
        (
            "clients gone",
            format!("{} ({} unanswered)", get("clients-gone"), get("gone")),
        ),
        ("refused", with(get("refused"), get("refused-why"))),
        ("retries", get("retries").to_owned()),
        (
            "hedges",
            format!(
                "{} sent ({}), {} won, {} held back",
                get("hedges"),
                get("hedge-delay"),
                get("hedges-won"),
                get("held-back")
            ),
        ),
        (
            "memory, threads, CPU",
            format!("{}, {}, {}", get("memory"), get("threads"), get("cpu")),
        ),
        ("log lines lost", get("dropped").to_owned()),
    ] {
        // Writing to a `String` does not fail.
        let _ = writeln!(page, "{name:<24}{value}");
    }
    for endpoint in &snapshot.endpoints {
        let number = endpoint.number;
        let get = |name: &str| get(&format!("e{number}-{name}"));
        let state = [get("asked"), get("over")].concat();
        let state = with(&state, get("ejections"));
        let _ = writeln!(page, "\nendpoint {number}: {} {state}", endpoint.upstream);
        for (name, value) in [
            ("attempts", with(get("attempts"), get("codes"))),
            ("wins", format!("{} ({})", get("wins"), get("share"))),
            ("failures", with(get("failed"), get("failures"))),
            (
                "time to head",
                format!("median {}, 99 % {}", get("p50"), get("p99")),
            ),
        ] {
            let _ = writeln!(page, "  {name:<22}{value}");
        }
    }
    page
}

fn with(value: &str, details: &str) -> String {
    match details {
        "" => value.to_owned(),
        details => format!("{value} ({details})"),
    }
}
