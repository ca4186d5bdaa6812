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
            set: |options, text| put(&mut options.config.policy.terminal, values::parsed(text)),
        },
        Flag {
            name: "-not-terminal",
            takes: Takes::List("STATUSES"),
            default: "",
            help: "statuses and ranges that are not usable all the same, such as \
                   429,500-599; here 500 is only 500",
            set: |options, text| {
                let statuses = match text {
                    "" => Ok(StatusSet::default()),
                    _ => StatusSet::of_statuses(text).map_err(Problem::part),
                };
                put(&mut options.config.policy.not_terminal, statuses)
            },
        },
        Flag {
            name: "-unusable-body",
            takes: Takes::Value("PATTERN"),
            default: "",
            help: "a regular expression of bytes, with ASCII classes: an answer with it in the \
                   first -commit-after bytes is not usable; a body of unknown length is held \
                   back for 1s at most, a stream not at all",
            set: |options, text| {
                let pattern = match text {
                    "" => Ok(None),
                    _ => text.parse().map(Some).map_err(Problem::whole),
                };
                put(&mut options.config.policy.unusable_body, pattern)
            },
        },
        Flag {
            name: "-commit-after",
            takes: Takes::Value("SIZE"),
            default: "64KiB",
            help: "read an answer of known length up to this whole before the client \
                   gets any of it",
            set: |options, text| put(&mut options.config.policy.commit_after, values::size(text)),
        },
        Flag {
            name: "-on-exhausted",
            takes: Takes::OneOf("ANSWER", &["500", "gateway", "best"]),
            default: "500",
            help: "what the client gets when no answer is usable: 500; gateway: 502, \
                   503 or 504; best: the best answer, else as gateway",
            set: |options, text| {
                let choices = [
                    ("500", OnExhausted::Status500),
                    ("gateway", OnExhausted::Gateway),
                    ("best", OnExhausted::Best),
                ];
                let answer = values::one_of(text, "an answer", &choices);
                put(&mut options.config.policy.on_exhausted, answer)
            },
        },
        Flag {
            name: "-rewrite-location",
            takes: Takes::Boolean,
            default: "false",
            help: "make a Location or Content-Location below the endpoint's base URL one of the \
                   proxy's",
            set: |options, text| {
                put(
                    &mut options.config.rules.rewrite_location,
                    values::boolean(text),
                )
            },
        },
        Flag {
            name: "-proxy-status",
            takes: Takes::Boolean,
            default: "false",
            help: "say in a Proxy-Status header what became of the attempts",
            set: |options, text| put(&mut options.config.proxy_status, values::boolean(text)),
        },
    ],
};
