//! Flags: which answers are usable, what is changed in them, and what the client gets when none
//! is.

use crate::cli::{Flag, Group, Problem, Takes, put, values};
use crate::config::options::Options;
use crate::dispatch::policy::OnExhausted;
use crate::dispatch::status_set::StatusSet;

pub(super) const GROUP: Group<Options> = Group {
    title: "Answers",
    flags: &[
        Flag {
            name: "-terminal-responses",
            takes: Takes::List("STATUSES"),
            default: "100,200,300,400",
            help: "which statuses are usable: a round hundred is its whole class, a \
                   range such as 404-404 is exact",
            set: |to, text| put(&mut to.config.policy.terminal, values::parsed(text)),
        },
        Flag {
            name: "-not-terminal",
            takes: Takes::List("STATUSES"),
            default: "",
            help: "statuses and ranges that are not usable all the same: 429,500-599; here \
                   500 is only 500",
            set: |to, text| {
                let statuses = match text {
                    "" => Ok(StatusSet::default()),
                    _ => StatusSet::of_statuses(text).map_err(Problem::part),
                };
                put(&mut to.config.policy.not_terminal, statuses)
            },
        },
        Flag {
            name: "-unusable-body",
            takes: Takes::Value("PATTERN"),
            default: "",
            help: "a regular expression of bytes, with ASCII classes: an answer with it in \
                   the first -commit-after bytes is not usable",
            set: |to, text| {
                let pattern = match text {
                    "" => Ok(None),
                    _ => text.parse().map(Some).map_err(Problem::whole),
                };
                put(&mut to.config.policy.unusable_body, pattern)
            },
        },
        Flag {
            name: "-commit-after",
            takes: Takes::Value("SIZE"),
            default: "64KiB",
            help: "answers of known length up to this are read whole before the client gets \
                   any of it",
            set: |to, text| put(&mut to.config.policy.commit_after, values::size(text)),
        },
        Flag {
            name: "-on-exhausted",
            takes: Takes::OneOf("ANSWER", &["500", "gateway", "best"]),
            default: "500",
            help: "what the client gets when no answer is usable: 500; gateway: 502, \
                   503 or 504; best: the best answer, else as gateway",
            set: |to, text| {
                to.config.policy.on_exhausted = match text {
                    "gateway" => OnExhausted::Gateway,
                    "best" => OnExhausted::Best,
                    _ => OnExhausted::Status500,
                };
                Ok(())
            },
        },
        Flag {
            name: "-rewrite-location",
            takes: Takes::Boolean,
            default: "false",
            help: "make a Location or Content-Location below the endpoint's base URL one of the \
                   proxy's",
            set: |to, text| put(&mut to.config.rules.rewrite_location, values::boolean(text)),
        },
        Flag {
            name: "-proxy-status",
            takes: Takes::Boolean,
            default: "false",
            help: "say in a Proxy-Status header what became of the attempts",
            set: |to, text| put(&mut to.config.proxy_status, values::boolean(text)),
        },
    ],
};
