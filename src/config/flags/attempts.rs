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
            set: |options, text| put(&mut options.fanout, values::boolean(text)),
        },
        Flag {
            name: "-hedge-after",
            takes: Takes::Value("DURATION|pNN"),
            default: "0",
            help: "start the next attempt, too, when the last one takes longer than \
                   this (50ms), or than this per cent of recent answers (p95); 0: only \
                   when it has failed",
            set: |options, text| put(&mut options.hedging.after, hedge_after(text)),
        },
        Flag {
            name: "-hedge-budget",
            takes: Takes::Value("PERCENT"),
            default: "10",
            help: "per cent of the requests that may be hedged, besides a few; 100: no limit",
            set: |options, text| {
                let remedy = " (-hedge-after 0 is no hedging)";
                let percent = values::number_between(text, 1, 100, remedy);
                put(&mut options.hedging.budget, percent)
            },
        },
        Flag {
            name: "-order",
            takes: Takes::OneOf("ORDER", &["listed", "rotate", "fastest"]),
            default: "listed",
            help: "which endpoint is asked first: listed, the first one; rotate, the \
                   next one each time; fastest, the fastest one of late",
            set: |options, text| {
                let choices = [
                    ("listed", Order::Listed),
                    ("rotate", Order::Rotate),
                    ("fastest", Order::Fastest),
                ];
                let order = values::one_of(text, "an order", &choices);
                put(&mut options.config.policy.order, order)
            },
        },
        Flag {
            name: "-max-fails",
            takes: Takes::Value("NUMBER"),
            default: "0",
            help: "after so many failures in a row an endpoint is passed over; 0: never",
            set: |options, text| {
                let fails = values::number_from(text, 0, " (0: never)");
                put(&mut options.max_fails, fails)
            },
        },
        Flag {
            name: "-cooldown",
            takes: Takes::Value("DURATION"),
            default: "5s",
            help: "how long an endpoint is passed over, until one request tries it",
            set: |options, text| put(&mut options.cooldown, values::timeout(text)),
        },
        Flag {
            name: "-max-retry-after",
            takes: Takes::Value("DURATION"),
            default: "60s",
            help: "how long at most an endpoint is passed over whose answer is not \
                   usable and has Retry-After; 0: not at all",
            set: |options, text| {
                let remedy = "(write 5s, 300ms, 1m30s, or 0 to ignore Retry-After)";
                let most = values::duration_or_zero(text, remedy);
                put(&mut options.config.policy.max_retry_after, most)
            },
        },
        Flag {
            name: "-max-tries",
            takes: Takes::Value("NUMBER"),
            default: "0",
            help: "the most attempts of a request, hedges and rounds included; 0: no limit",
            set: |options, text| {
                let tries = values::number_from(text, 0, " (0: no limit)").map(NonZeroU32::new);
                put(&mut options.config.policy.max_tries, tries)
            },
        },
        Flag {
            name: "-rounds",
            takes: Takes::Value("NUMBER"),
            default: "1",
            help: "how often all endpoints are tried until an answer is usable",
            set: |options, text| {
                let rounds = values::number_from(text, 1, " (1: each endpoint once)");
                put(&mut options.config.policy.rounds.count, rounds)
            },
        },
        Flag {
            name: "-round-delay",
            takes: Takes::Value("DURATION"),
            default: "200ms",
            help: "the pause between two rounds, less up to half of it at random, and \
                   doubled each time; 0: none",
            set: |options, text| {
                let delay = values::duration_or_zero(text, "(write 5s, 300ms, 1m30s; 0: no pause)");
                put(&mut options.config.policy.rounds.delay, delay)
            },
        },
        Flag {
            name: "-idempotent-only",
            takes: Takes::Boolean,
            default: "false",
            help: "put POST, PATCH and unknown methods to the next endpoint only if \
                   nothing was sent",
            set: |options, text| {
                put(
                    &mut options.config.policy.idempotent_only,
                    values::boolean(text),
                )
            },
        },
        Flag {
            name: "-per-try-timeout",
            takes: Takes::Value("DURATION"),
            default: "30s",
            help: "how long one attempt may take to the head of its answer, or to the end of a \
                   short one (-commit-after), and each read after that",
            set: |options, text| {
                put(
                    &mut options.config.policy.per_try_timeout,
                    values::timeout(text),
                )
            },
        },
        Flag {
            name: "-request-timeout",
            takes: Takes::Value("DURATION"),
            default: "60s",
            help: "how long all attempts together may take to the head of an answer",
            set: |options, text| {
                put(
                    &mut options.config.policy.request_timeout,
                    values::timeout(text),
                )
            },
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
