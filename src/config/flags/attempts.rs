//! Flags: which endpoint is asked when, and how often.

use std::num::NonZeroU32;

use crate::cli::{Flag, Group, Problem, Takes, put, values};
use crate::config::options::Options;
use crate::dispatch::policy::{HedgeAfter, Order};

pub(super) const GROUP: Group<Options> = Group {
    title: "Attempts",
    flags: &[
        Flag {
            name: "-fanout",
            takes: Takes::Boolean,
            default: "false",
            help: "ask all endpoints at once",
            set: |to, text| put(&mut to.fanout, values::boolean(text)),
        },
        Flag {
            name: "-hedge-after",
            takes: Takes::Value("DURATION|pNN"),
            default: "0",
            help: "start another attempt when one takes longer than this (50ms), or than this \
                   per cent of recent answers (p95); 0: never",
            set: |to, text| put(&mut to.hedging.after, hedge_after(text)),
        },
        Flag {
            name: "-hedge-budget",
            takes: Takes::Value("PERCENT"),
            default: "10",
            help: "per cent of the requests that may be hedged, besides a few; 100: no limit",
            set: |to, text| {
                let remedy = " (-hedge-after 0 is no hedging)";
                let percent = values::number_between(text, 1, 100, remedy);
                put(&mut to.hedging.budget, percent)
            },
        },
        Flag {
            name: "-order",
            takes: Takes::OneOf("ORDER", &["listed", "rotate", "fastest"]),
            default: "listed",
            help: "which endpoint is asked first: listed, the first one; rotate, each in \
                   turn; fastest, the fastest of late",
            set: |to, text| {
                to.config.policy.order = match text {
                    "rotate" => Order::Rotate,
                    "fastest" => Order::Fastest,
                    _ => Order::Listed,
                };
                Ok(())
            },
        },
        Flag {
            name: "-max-fails",
            takes: Takes::Value("NUMBER"),
            default: "0",
            help: "after so many failures in a row an endpoint is passed over; 0: never",
            set: |to, text| {
                let fails = values::number_from(text, 0, " (0: never)");
                put(&mut to.max_fails, fails)
            },
        },
        Flag {
            name: "-cooldown",
            takes: Takes::Value("DURATION"),
            default: "5s",
            help: "how long an endpoint is passed over, until one request tries it",
            set: |to, text| put(&mut to.cooldown, values::timeout(text)),
        },
        Flag {
            name: "-max-retry-after",
            takes: Takes::Value("DURATION"),
            default: "60s",
            help: "how long at most an unusable answer's Retry-After makes its endpoint \
                   passed over; 0: not at all",
            set: |to, text| {
                let remedy = "(write 5s, 300ms, 1m30s, or 0 to ignore Retry-After)";
                let most = values::duration_or_zero(text, remedy);
                put(&mut to.config.policy.max_retry_after, most)
            },
        },
        Flag {
            name: "-max-tries",
            takes: Takes::Value("NUMBER"),
            default: "0",
            help: "the most attempts of a request, hedges, rounds and resends included; 0: no limit",
            set: |to, text| {
                let tries = values::number_from(text, 0, " (0: no limit)").map(NonZeroU32::new);
                put(&mut to.config.policy.max_tries, tries)
            },
        },
        Flag {
            name: "-rounds",
            takes: Takes::Value("NUMBER"),
            default: "1",
            help: "how often all endpoints are tried until an answer is usable",
            set: |to, text| {
                let rounds = values::number_from(text, 1, " (1: each endpoint once)");
                put(&mut to.config.policy.rounds.count, rounds)
            },
        },
        Flag {
            name: "-round-delay",
            takes: Takes::Value("DURATION"),
            default: "200ms",
            help: "pause between two rounds, doubled each time, less up to half at random; 0: \
                   none",
            set: |to, text| {
                let delay = values::duration_or_zero(text, "(write 5s, 300ms, 1m30s; 0: no pause)");
                put(&mut to.config.policy.rounds.delay, delay)
            },
        },
        Flag {
            name: "-idempotent-only",
            takes: Takes::Boolean,
            default: "false",
            help: "put POST, PATCH and unknown methods to the next endpoint only if nothing \
                   was sent",
            set: |to, text| put(&mut to.config.policy.idempotent_only, values::boolean(text)),
        },
        Flag {
            name: "-per-try-timeout",
            takes: Takes::Value("DURATION"),
            default: "30s",
            help: "how long one attempt may take to the head of its answer, or to the end of a \
                   short one (-commit-after), and each read after that",
            set: |to, text| put(&mut to.config.policy.per_try_timeout, values::timeout(text)),
        },
        Flag {
            name: "-request-timeout",
            takes: Takes::Value("DURATION"),
            default: "60s",
            help: "how long all attempts together may take to the head of an answer",
            set: |to, text| put(&mut to.config.policy.request_timeout, values::timeout(text)),
        },
    ],
};

fn hedge_after(text: &str) -> Result<HedgeAfter, Problem> {
    const REMEDY: &str = "(write 50ms, p95, or 0 for no hedging)";
    if let Some(percent) = text.strip_prefix('p') {
        return match percent.parse() {
            Ok(percent @ 1..=99) => Ok(HedgeAfter::Percentile(percent)),
            _ => Err(Problem::whole(format!(
                "is not a percentile from p1 to p99 {REMEDY}"
            ))),
        };
    }
    let span = values::duration_or_zero(text, REMEDY)?;
    Ok(if span.is_zero() {
        HedgeAfter::Never
    } else {
        HedgeAfter::Fixed(span)
    })
}
