//! Flags: what clients may take.

use crate::cli::{Flag, Group, Problem, Takes, put, values};
use crate::config::options::Options;

/// The most requests at once that may be asked for.
const MAX_WORKERS: usize = 65_536;

pub(super) const GROUP: Group<Options> = Group {
    title: "Clients",
    flags: &[
        Flag {
            name: "-max-body",
            takes: Takes::Value("SIZE"),
            default: "100MiB",
            help: "largest request body, in bytes or with KiB, MiB or GiB",
            set: |to, text| put(&mut to.config.limits.max_body, values::size(text)),
        },
        Flag {
            name: "-max-header",
            takes: Takes::Value("SIZE"),
            default: "64KiB",
            help: "largest request head",
            set: |to, text| {
                let size = match values::size(text) {
                    Ok(0) => Err(Problem::whole(
                        "is no size for a request head (write 64KiB)",
                    )),
                    size => size,
                };
                put(&mut to.config.limits.max_header, size)
            },
        },
        Flag {
            name: "-max-connections",
            takes: Takes::Value("NUMBER"),
            default: "1000",
            help: "most clients at a time; a further one takes the place of \
                   one that waits or crawls, or gets 503",
            set: |to, text| {
                let connections = values::number_from(text, 1, "");
                put(&mut to.config.limits.max_connections, connections)
            },
        },
        Flag {
            name: "-workers",
            takes: Takes::Value("NUMBER"),
            default: "",
            help: "how many requests are worked on at once; a further one gets 503 \
                   (default: -max-connections)",
            set: |to, text| {
                let workers = values::number_between(text, 1, MAX_WORKERS, "");
                put(&mut to.workers, workers.map(Some))
            },
        },
        Flag {
            name: "-idle-timeout",
            takes: Takes::Value("DURATION"),
            default: "60s",
            help: "how long a client may stay connected between two requests",
            set: |to, text| put(&mut to.config.limits.idle_timeout, values::timeout(text)),
        },
        Flag {
            name: "-header-timeout",
            takes: Takes::Value("DURATION"),
            default: "10s",
            help: "how long a request head may take to its end",
            set: |to, text| put(&mut to.config.limits.header_timeout, values::timeout(text)),
        },
        Flag {
            name: "-client-timeout",
            takes: Takes::Value("DURATION"),
            default: "30s",
            help: "how long a client may send a body or take an answer at less than 240 bytes a \
                   second",
            set: |to, text| put(&mut to.config.limits.client_timeout, values::timeout(text)),
        },
        Flag {
            name: "-half-close",
            takes: Takes::Boolean,
            default: "false",
            help: "answer clients that have closed their sending side (nc -N, socat)",
            set: |to, text| put(&mut to.config.limits.half_close, values::boolean(text)),
        },
    ],
};
