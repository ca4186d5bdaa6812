//! The proxy's flags: one file for each group of the usage, one entry for each flag.
//!
//! An entry is all that is said of a flag: name, kind of value, default, text and setter, which
//! fills a field of the type that uses it. The usage, the README's list and the defaults come out
//! of it. What flags mean together is checked in [`Options::finish`](crate::config::Options::finish).
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
    sections: &[
        (
            "SIGNALS",
            "SIGTERM and SIGINT stop it: the listener is closed, and requests in flight get up to \
             -drain to end. A second one ends it at once, with exit status 1. SIGHUP and SIGUSR1 \
             reopen the log file; SIGHUP also reads files of endpoints anew.",
        ),
        (
            "EXIT STATUS",
            "0 after an orderly stop, 1 for a failure at run time or no argument at all, 2 for a \
             bad command line.",
        ),
        (
            "EXAMPLES",
            "Asks the second endpoint only if the first one fails:\n\n    \
             balancing-reverse-proxy -address :8080 \\\n    \
             -endpoints https://one.example,https://two.example\n\n\
             Asks it as well if the first one takes longer than 19 of 20 recent answers did:\n\n    \
             balancing-reverse-proxy -hedge-after p95 \\\n    \
             -endpoints https://one.example,https://two.example",
        ),
        ("SEE ALSO", "dummy-http-server(1)"),
    ],
};
