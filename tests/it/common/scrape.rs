//! What a proxy with `-monitor` says: its pages, and its metrics taken apart.

use super::{
    client::{Client, Response},
    eventually,
    proxy::Proxy,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, ToSocketAddrs},
};

/// Where the proxy's monitor listens.
#[track_caller]
pub fn monitor_of(proxy: &Proxy) -> SocketAddr {
    let line = proxy.wait_for_log("monitor on: \"");
    let (_, address) = line.split_once("monitor on: \"").unwrap();
    let address = address.trim_end_matches('"');
    address.to_socket_addrs().unwrap().next().unwrap()
}

/// One GET to the proxy's monitor.
#[track_caller]
pub fn ask(proxy: &Proxy, target: &str) -> Response {
    Client::connect(monitor_of(proxy)).get(target)
}

/// Metrics as they were at one time: series with their labels, as they stand in the text.
#[derive(Debug)]
pub struct Scrape {
    samples: BTreeMap<String, f64>,
    pub families: BTreeMap<String, String>,
}

impl Scrape {
    #[track_caller]
    pub fn of(proxy: &Proxy) -> Self {
        let response = ask(proxy, "/metrics");
        assert_eq!(response.status(), 200);
        Self::parse(&response.body())
    }

    /// A scrape in which these series have these values: what is counted behind an answer may come
    /// a little later than the answer.
    #[track_caller]
    pub fn with(proxy: &Proxy, wanted: &[(&str, f64)]) -> Self {
        eventually(
            "metrics",
            || Self::of(proxy),
            |scrape| {
                let is_right = |(series, value): &(&str, f64)| scrape.get(series) == *value;
                wanted.iter().all(is_right)
            },
        )
    }

    /// Reads the text format 0.0.4, and is stricter than Prometheus: each family has its HELP and
    /// TYPE once, in front of its samples, which stand together; no series is there twice; counters
    /// end with `_total`; the buckets of a histogram grow, and the last one is its count.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "{text:?}");
        let mut scrape = Self {
            samples: BTreeMap::new(),
            families: BTreeMap::new(),
        };
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(helped.insert(name.to_owned()), "{line}");
                assert!(text.ends_with('.'), "{line}");
                name.clone_into(&mut family);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, family, "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let before = scrape.families.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = check_series(series);
                let is_histogram = scrape.families[&family] == "histogram";
                let suffix = name.strip_prefix(&family);
                let suffixes: &[&str] = if is_histogram {
                    &["_bucket", "_sum", "_count"]
                } else {
                    &[""]
                };
                assert!(suffix.is_some_and(|s| suffixes.contains(&s)), "{line}");
                let value = value.parse::<f64>().unwrap();
                assert!(value >= 0.0, "{line}");
                let before = scrape.samples.insert(series.to_owned(), value);
                assert!(before.is_none(), "{line}");
            }
        }
        scrape.check_histograms(text);
        scrape
    }

    #[track_caller]
    fn check_histograms(&self, text: &str) {
        let mut last = 0.0;
        for line in text.lines().filter(|line| line.contains("_bucket{")) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            assert!(value >= last, "{line}");
            last = value;
            if let Some((begin, _)) = series.split_once("le=\"+Inf\"") {
                let (family, labels) = begin.split_once("_bucket{").unwrap();
                let labels = match labels.trim_end_matches(',') {
                    "" => String::new(),
                    labels => format!("{{{labels}}}"),
                };
                assert_eq!(self.get(&format!("{family}_count{labels}")), value);
                last = 0.0;
            }
        }
    }

    /// The value of a series, 0 where it is not there.
    pub fn get(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }

    /// The sum of all series of this name that have this label.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let begin = format!("{name}{{");
        let series = self.samples.iter().filter(|(series, _)| {
            let labels = series.strip_prefix(&begin);
            labels.is_some_and(|labels| labels.contains(label))
        });
        series.map(|(_, value)| value).sum()
    }

    /// The series that begin so.
    pub fn named(&self, begin: &str) -> Vec<&str> {
        let series = self.samples.keys().map(String::as_str);
        series.filter(|series| series.starts_with(begin)).collect()
    }
}

/// Checks a series' name and labels. Returns the name.
#[track_caller]
fn check_series(series: &str) -> &str {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    assert!(is_name(name), "{series}");
    let labels = labels.strip_suffix('}').unwrap();
    if labels.is_empty() {
        return name;
    }
    let mut seen = BTreeSet::new();
    // No value has a comma in it.
    for label in labels.split(',') {
        let (key, value) = label.split_once("=\"").unwrap();
        let value = value.strip_suffix('"').unwrap();
        assert!(is_name(key) && seen.insert(key), "{series}");
        assert!(!value.contains(['"', '\\', '\n']), "{series}");
    }
    name
}
