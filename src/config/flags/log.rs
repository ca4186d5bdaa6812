//! Flags: where log lines go and what they begin with.

use crate::cli::{Flag, Group, Takes, put, values};
use crate::config::options::Options;
use crate::logging::LogDestination;

pub(super) const GROUP: Group<Options> = Group {
    title: "Log",
    flags: &[
        Flag {
            name: "-log-prefix",
            takes: Takes::Value("TEXT"),
            default: "balancing-reverse-proxy",
            help: "first word of each log line; empty for none",
            set: |to, text| put(&mut to.config.log.prefix, Ok(text.to_owned())),
        },
        Flag {
            name: "-log-file",
            takes: Takes::Value("FILE"),
            default: "stdout",
            help: "stdout, stderr, or a file that is appended to and reopened on SIGHUP",
            set: |to, text| {
                to.config.log.destination = match text {
                    "" | "stdout" => LogDestination::Stdout,
                    "stderr" => LogDestination::Stderr,
                    path => LogDestination::File(path.into()),
                };
                Ok(())
            },
        },
        Flag {
            name: "-log-date",
            takes: Takes::Boolean,
            default: "true",
            help: "begin each line with the date",
            set: |to, text| put(&mut to.config.log.date, values::boolean(text)),
        },
        Flag {
            name: "-log-time",
            takes: Takes::Boolean,
            default: "true",
            help: "begin each line with the time",
            set: |to, text| put(&mut to.config.log.time, values::boolean(text)),
        },
        Flag {
            name: "-log-msec",
            takes: Takes::Boolean,
            default: "false",
            help: "time in microseconds",
            set: |to, text| put(&mut to.config.log.microseconds, values::boolean(text)),
        },
        Flag {
            name: "-log-utc",
            takes: Takes::Boolean,
            default: "false",
            help: "date and time in UTC",
            set: |to, text| put(&mut to.config.log.utc, values::boolean(text)),
        },
        Flag {
            name: "-log-json",
            takes: Takes::Boolean,
            default: "false",
            help: "make each line a JSON object, always with date and time",
            set: |to, text| put(&mut to.config.log.json, values::boolean(text)),
        },
        Flag {
            name: "-log-requests",
            takes: Takes::Boolean,
            default: "true",
            help: "log what was served, not only what has failed",
            set: |to, text| {
                let requests = values::boolean(text);
                let without_served = requests.map(|requests| !requests);
                put(&mut to.config.log.without_served, without_served)
            },
        },
    ],
};
