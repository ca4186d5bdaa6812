//! The proxy's flags: one file for each group of the usage, one entry for each flag.
//!
//! An entry is all that is said of a flag: name, kind of value, default, text and setter, which
//! fills a field of the type that uses it. The usage, the README's list and the defaults come out of it. What flags mean together is
//! checked in [`Options::finish`](crate::config::Options::finish).
//!
//! `-e -a -t -f -s` and `-log-p -log-f -log-d -log-t -log-m -log-u` stand in people's
//! scripts: no new flag may start with e, a, t, f or s, or with one of those.

mod addresses;
mod answers;
mod attempts;
mod clients;
mod endpoints;
mod log;
mod process;

use crate::cli::Program;
use crate::config::options::Options;

/// The proxy's command line.
pub static PROXY: Program<Options> = Program {
    name: "balancing-reverse-proxy",
    about: "A reverse HTTP proxy for flaky back ends: asks several endpoints and returns the \
            first usable response.",
    synopsis: "-endpoints URL,URL,... [FLAGS]",
    groups: &[
        addresses::GROUP,
        answers::GROUP,
        attempts::GROUP,
        endpoints::GROUP,
        clients::GROUP,
        log::GROUP,
        process::GROUP,
    ],
};
