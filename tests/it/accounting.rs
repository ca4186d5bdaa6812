//! The same sums everywhere: what clients got, what back ends saw, the log, the metrics and the status
//! page agree to the request.
//!
//! Attempts that were cancelled are the only ones of which the proxy cannot know whether they have
//! arrived; they are counted apart.

use crate::common::{
    backend::{Act, Backend, Refused, Step, hangup, script, send, status},
    eventually,
    proxy::{Builder, Proxy},
    scrape::{Scrape, ask},
    settled,
};
use std::{
    collections::BTreeMap,
    env,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

const CLIENTS: usize = 8;
/// Of each client, unless `ACCOUNTING_REQUESTS` is set.
const REQUESTS: usize = 50;

/// A back end that fails in all ways now and then, in the same order each time.
fn faulty(seed: u32) -> Backend {
    let state = AtomicU32::new(seed);
    Backend::choosing(move |_| {
        let next = |state: u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let dice = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        match (dice.unwrap() >> 16) % 10 {
            0 | 1 => status(503).body("sick"),
            2 => status(200).body("cut in the middle").cut(5, Act::Close),
            3 => script([send("HTTP/1.1 200 "), Act::Close]),
            4 => late(status(200).body("late")),
            // On a kept connection it is sent again.
            5 => hangup(),
            _ => status(200).body("well"),
        }
    })
}

fn late(step: Step) -> Step {
    step.delayed(Duration::from_millis(15))
}

fn calls(backend: &Backend) -> f64 {
    f64::from(u32::try_from(backend.calls()).unwrap())
}

/// How often attempts of this endpoint have sent their request once more.
fn resent(scrape: &Scrape, endpoint: usize) -> f64 {
    scrape.get(&format!(
        "brp_upstream_resent_total{{endpoint=\"{endpoint}\"}}"
    ))
}

fn check(start: impl FnOnce(&[&dyn crate::common::backend::Endpoint]) -> Builder, is_serial: bool) {
    let backends = [faulty(1), faulty(2), faulty(3)];
    let refused = Refused::new();
    let proxy = start(&[&backends[0], &refused, &backends[1], &backends[2]])
        .flag("-monitor", ":0")
        .start();
    let requests = env::var("ACCOUNTING_REQUESTS").map_or(REQUESTS, |text| text.parse().unwrap());
    let mut clients: BTreeMap<u16, u32> = BTreeMap::new();
    thread::scope(|scope| {
        let proxy = &proxy;
        let running: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = proxy.client();
                    let statuses = (0..requests).map(|_| client.get("/").status());
                    statuses.collect::<Vec<_>>()
                })
            })
            .collect();
        for status in running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
        {
            *clients.entry(status).or_default() += 1;
        }
    });
    let all = f64::from(clients.values().sum::<u32>());
    Scrape::with(&proxy, &[("brp_http_request_duration_seconds_count", all)]);
    // Losers end behind the answer, and the log is written behind it.
    let sent = |scrape: &Scrape, number: usize| {
        let begin = format!("brp_upstream_requests_total{{endpoint=\"{number}\",");
        let series = scrape.named(&begin).into_iter();
        let sent = series.filter(|series| !series.contains("unsent"));
        sent.map(|series| scrape.get(series)).sum::<f64>() + resent(scrape, number)
    };
    let seen = [(0, &backends[0]), (2, &backends[1]), (3, &backends[2])];
    let scrape = eventually(
        "attempts",
        || Scrape::of(&proxy),
        |scrape| {
            let mut seen = seen.iter();
            seen.all(|(number, backend)| sent(scrape, *number) >= calls(backend))
        },
    );
    let log = settled(|| proxy.log());
    for (code, count) in &clients {
        let series = format!("brp_http_requests_total{{code=\"{code}\",method=\"GET\"}}");
        assert_eq!(scrape.get(&series), f64::from(*count), "{clients:?}");
    }
    assert_eq!(scrape.sum("brp_http_requests_total", ""), all);
    let exhausted = clients.get(&500).copied().unwrap_or_default();
    assert_eq!(
        scrape.get("brp_requests_exhausted_total"),
        f64::from(exhausted)
    );

    let attempts = |number: usize, code: &str| {
        let (number, code) = (format!("endpoint=\"{number}\","), format!("code=\"{code}"));
        let begin = format!("brp_upstream_requests_total{{{number}");
        let series = scrape.named(&begin).into_iter();
        series
            .filter(|series| series.contains(&code))
            .map(|series| scrape.get(series))
            .sum::<f64>()
    };
    for (number, backend) in seen {
        let calls = calls(backend);
        let cancelled = attempts(number, "cancelled");
        let unsent = attempts(number, "unsent");
        let sent = sent(&scrape, number);
        assert!(
            (sent - cancelled..=sent).contains(&calls),
            "{number}: {calls} {scrape:#?}"
        );
        if is_serial {
            assert_eq!((cancelled, unsent), (0.0, 0.0));
            let answered =
                format!("brp_upstream_response_head_seconds_count{{endpoint=\"{number}\"}}");
            let others = attempts(number, "none") + resent(&scrape, number);
            assert_eq!(scrape.get(&answered) + others, calls);
        }
    }
    assert!(resent(&scrape, 0) > 0.0, "{scrape:#?}");
    assert_eq!(attempts(1, ""), attempts(1, "unsent"));
    let lines = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    let served = lines("request / served in ");
    let failed = lines("endpoints failed to return a valid answer");
    assert_eq!(served + failed, CLIENTS * requests);
    assert_eq!(u32::try_from(failed).unwrap(), exhausted);
    assert_eq!(lines("log lines could not be written"), 0);
    if is_serial {
        // Nothing is left out of the log of which no answer was wanted any more.
        let failures = scrape.sum("brp_upstream_failures_total", "");
        let logged = log
            .iter()
            .filter(|line| line.starts_with("endpoint "))
            .count();
        assert_eq!(f64::from(u32::try_from(logged).unwrap()), failures);
        let begun = scrape.sum("brp_upstream_requests_total", "");
        assert_eq!(begun, all + scrape.get("brp_retries_total"));
    }
    check_status(&proxy, all, exhausted);
}

/// The status page and its JSON have the sums of the metrics.
fn check_status(proxy: &Proxy, all: f64, exhausted: u32) {
    let number = |value: &serde_json::Value| match value.as_str() {
        Some(shown) => shown.replace(',', "").parse().unwrap(),
        None => value.as_f64().unwrap(),
    };
    let sums = |scrape: &Scrape, endpoint: usize| {
        let label = format!("endpoint=\"{endpoint}\"");
        let names = ["brp_upstream_requests_total", "brp_upstream_failures_total"];
        names.map(|name| scrape.sum(name, &label))
    };
    let shown = |status: &serde_json::Value, endpoint: usize| {
        let places = ["attempts", "failed"].map(|name| format!("e{endpoint}-{name}"));
        places.map(|place| number(&status["page"][&place]))
    };
    // A loser may end between the two.
    let (scrape, status) = eventually(
        "attempts on the page",
        || {
            let scrape = Scrape::of(proxy);
            let status = ask(proxy, "/status.json?page").body();
            let status = serde_json::from_str::<serde_json::Value>(&status).unwrap();
            (scrape, status)
        },
        |(scrape, status)| (0..4).all(|endpoint| sums(scrape, endpoint) == shown(status, endpoint)),
    );
    let (page, requests) = (&status["page"], &status["requests"]);
    for shown in [page, requests] {
        let outcomes = ["served", "exhausted", "gone", "refused"].map(|name| number(&shown[name]));
        let exhausted = f64::from(exhausted);
        assert_eq!(outcomes, [all - exhausted, exhausted, 0.0, 0.0], "{shown}");
    }
    let mut answered = 0.0;
    for (code, count) in requests["codes"].as_object().unwrap() {
        let label = format!("code=\"{code}\"");
        let counted = scrape.sum("brp_http_requests_total", &label);
        assert_eq!(number(count), counted, "{code}");
        answered += counted;
    }
    assert_eq!(answered, all);
    let retries = scrape.get("brp_retries_total");
    assert_eq!(
        [&status["retries"], &page["retries"]].map(number),
        [retries; 2]
    );
    let endpoints = status["endpoints"].as_array().unwrap();
    let mut wins = 0.0;
    for (place, endpoint) in endpoints.iter().enumerate() {
        let [attempts, _] = sums(&scrape, place);
        assert_eq!(number(&endpoint["attempts"]), attempts);
        let shown = &page[&format!("e{place}-wins")];
        assert_eq!(number(&endpoint["wins"]), number(shown));
        wins += number(&endpoint["wins"]);
    }
    assert_eq!(wins, all - f64::from(exhausted));
}

#[test]
fn one_after_the_other_all_sums_agree() {
    check(|endpoints| Proxy::serial(endpoints), true);
}

#[test]
fn all_at_once_all_sums_agree() {
    check(|endpoints| Proxy::fanout(endpoints), false);
}

#[test]
fn hedged_all_sums_agree() {
    check(
        |endpoints| Proxy::hedged(endpoints).flag("-hedge-after", "10ms"),
        false,
    );
}
