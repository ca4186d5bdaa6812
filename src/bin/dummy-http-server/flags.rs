//! The dummy server's flags, one entry for each.
//!
//! `-a`, `-d`, `-r` and `-s` stand in people's scripts: no new flag begins with one of these
//! letters.

use std::time::Duration;

use balancing_reverse_proxy::cli::{Flag, Group, Problem, Program, Takes, put, values};
use balancing_reverse_proxy::downstream::listen::ListenAddress;

use super::chance::{Choices, Code, Probability};

/// What the flags say.
#[derive(Debug, Default)]
pub struct Options {
    /// Where to listen.
    pub address: ListenAddress,
    /// How long to serve; `None`: until a signal.
    pub stop_after: Option<Duration>,
    /// Without `pauses`: answers take up to a second, at random.
    pub delay: bool,
    /// How long answers take.
    pub pauses: Option<Choices<Duration>>,
    /// Without `codes`: one answer in four is a 500.
    pub errors: bool,
    /// The statuses of answers.
    pub codes: Option<Choices<Code>>,
    /// So many answers at first are 503.
    pub ok_after: u64,
    /// How often there is no answer.
    pub hang_rate: Probability,
    /// How often an answer breaks off.
    pub break_rate: Probability,
    /// `Retry-After` of 429 and 503.
    pub try_later: Option<Duration>,
    /// The content in place of the greeting.
    pub body: Option<String>,
    /// The length of the content, which is repeated and cut.
    pub body_size: Option<u64>,
    /// What all draws follow from; `None`: anything.
    pub chance_seed: Option<u64>,
}

impl Options {
    /// Whether there is more to chance than delays up to a second and one 500 in four.
    pub fn has_faults(&self) -> bool {
        let rates = [self.hang_rate, self.break_rate];
        let has_rates = rates.iter().any(|rate| *rate != Probability::default());
        self.codes.is_some() || self.pauses.is_some() || has_rates
    }
}

/// The command line.
pub static PROGRAM: Program<Options> = Program {
    name: "dummy-http-server",
    about: "A dummy HTTP server for trying the proxy, or any client, out: slow, wrong, silent or \
            broken by chance.",
    synopsis: "[FLAGS]",
    groups: &[PROCESS, ANSWERS, FAULTS],
    sections: &[
        (
            "SIGNALS",
            "SIGTERM and SIGINT stop it; what it has served is printed in one line on the \
             standard output. SIGUSR1 prints the same line, and it goes on.",
        ),
        (
            "EXIT STATUS",
            "0 after an orderly stop, 1 for a failure at run time, 2 for a bad command line.",
        ),
        (
            "EXAMPLES",
            "One answer in ten is a 503 that asks to come back in two seconds, one request in a \
             hundred is never answered, and most answers take 10 ms:\n\n    \
             dummy-http-server -codes 200:0.9,503:0.1 -try-later 2s \\\n    \
             -hang-rate 0.01 -pauses 10ms:0.98,1s:0.02 -chance-seed 1",
        ),
        ("SEE ALSO", "balancing-reverse-proxy(1)"),
    ],
};

const PROCESS: Group<Options> = Group {
    title: "Process",
    flags: &[
        Flag::address(":8000", |options, text| {
            put(&mut options.address, values::parsed(text))
        }),
        Flag::stop_after(|options, text| {
            put(&mut options.stop_after, values::positive_duration(text))
        }),
        Flag {
            name: "-chance-seed",
            takes: Takes::Value("NUMBER"),
            default: "",
            help: "everything by chance happens in the same sequence again, in the order in which \
                   requests arrive (default: another number each time, which is logged with \
                   -codes, -pauses or a rate)",
            set: |options, text| {
                let seed = values::number_from(text, 0, "");
                put(&mut options.chance_seed, seed.map(Some))
            },
        },
        Flag::MANUAL,
        Flag::COMPLETION,
        Flag::HELP,
    ],
};

const ANSWERS: Group<Options> = Group {
    title: "Answers",
    flags: &[
        Flag {
            name: "-delay-responding",
            takes: Takes::Boolean,
            default: "true",
            help: "wait a random time before each answer, up to 1s",
            set: |options, text| put(&mut options.delay, values::boolean(text)),
        },
        Flag {
            name: "-pauses",
            takes: Takes::List("DURATION:PROBABILITY"),
            default: "",
            help: "wait so long before each answer, in place of -delay-responding: \
                   10ms:0.98,1s:0.02; the probabilities add up to 1, and 10ms is always 10ms",
            set: |options, text| put(&mut options.pauses, values::parsed(text).map(Some)),
        },
        Flag {
            name: "-body",
            takes: Takes::Value("TEXT"),
            default: "",
            help: "answer with this text in place of the greeting",
            set: |options, text| put(&mut options.body, Ok(Some(text.to_owned()))),
        },
        Flag {
            name: "-body-size",
            takes: Takes::Value("SIZE"),
            default: "",
            help: "repeat the text, and cut it to this size, in bytes or with KiB, MiB or GiB",
            set: |options, text| put(&mut options.body_size, values::size(text).map(Some)),
        },
    ],
};

const FAULTS: Group<Options> = Group {
    title: "Faults",
    flags: &[
        Flag {
            name: "-random-errors",
            takes: Takes::Boolean,
            default: "true",
            help: "make one answer in four a 500",
            set: |options, text| put(&mut options.errors, values::boolean(text)),
        },
        Flag {
            name: "-codes",
            takes: Takes::List("CODE:PROBABILITY"),
            default: "",
            help: "statuses of the answers, in place of -random-errors: 200:0.9,503:0.1; the \
                   probabilities add up to 1, and 503 is always 503",
            set: |options, text| put(&mut options.codes, values::parsed(text).map(Some)),
        },
        Flag {
            name: "-ok-after",
            takes: Takes::Value("NUMBER"),
            default: "0",
            help: "so many answers at first are 503",
            set: |options, text| put(&mut options.ok_after, values::number_from(text, 0, "")),
        },
        Flag {
            name: "-hang-rate",
            takes: Takes::Value("PROBABILITY"),
            default: "0",
            help: "how often a request is never answered",
            set: |options, text| put(&mut options.hang_rate, probability(text)),
        },
        Flag {
            name: "-break-rate",
            takes: Takes::Value("PROBABILITY"),
            default: "0",
            help: "how often the connection is closed in the middle of the body",
            set: |options, text| put(&mut options.break_rate, probability(text)),
        },
        Flag {
            name: "-try-later",
            takes: Takes::Value("DURATION"),
            default: "",
            help: "add Retry-After to answers with 429 and 503, in whole seconds, rounded up",
            set: |options, text| {
                let later = values::duration_or_zero(text, "(write 5s or 0)");
                put(&mut options.try_later, later.map(Some))
            },
        },
    ],
};

fn probability(text: &str) -> Result<Probability, Problem> {
    text.parse().map_err(Problem::whole)
}
