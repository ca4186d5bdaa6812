//! Flags: start and end of the process.

use crate::cli::{Flag, Group, Takes, put, values};
use crate::config::options::Options;

pub(super) const GROUP: Group<Options> = Group {
    title: "Start and stop",
    flags: &[
        Flag {
            name: "-ready-file",
            takes: Takes::Value("FILE"),
            default: "",
            help: "file that has the bound addresses while connections are accepted",
            set: |to, text| put(&mut to.config.ready_file, values::optional_path(text)),
        },
        Flag::stop_after(|to, text| {
            let stop_after = &mut to.config.stop_after;
            put(stop_after, values::positive_duration(text))
        }),
        Flag {
            name: "-drain",
            takes: Takes::Value("DURATION"),
            default: "10s",
            help: "how long requests in flight may take to end at a stop",
            set: |to, text| {
                let remedy = "(write 5s, 300ms, 1m30s, or 0 for no waiting)";
                put(&mut to.config.drain, values::duration_or_zero(text, remedy))
            },
        },
        Flag {
            name: "-version",
            takes: Takes::Nothing,
            default: "",
            help: "print the version and exit",
            set: |to, _| put(&mut to.version, Ok(true)),
        },
        Flag::MANUAL,
        Flag::COMPLETION,
        Flag::HELP,
    ],
};
