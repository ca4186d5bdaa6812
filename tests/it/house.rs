//! The house rules, read from the sources: which folder imports which, where a library is named,
//! what is pure, and how long files and functions are.
//!
//! Tests inside `src` (modules behind `#[cfg(test)]`) may import what they need; their sizes
//! count. [`REMAINING`] lists what does not keep the rules yet. It can only shrink: an entry that
//! is not needed any more is an error, too.

mod source;

use self::source::{Source, circle, sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A folder, or a file at the top of `src`, and what it may import.
const IMPORTS: [(&str, &[&str]); 15] = [
    ("util", &[]),
    // It shows how many endpoints are asked.
    ("systemd", &["dispatch", "util"]),
    ("http", &["util"]),
    // What of a path may be printed.
    ("logging", &["http", "util"]),
    // A leaf, so that what counts need not import the monitor, which imports it.
    ("metrics", &[]),
    ("upstream", &["http", "logging", "metrics", "util"]),
    ("downstream", &["http", "logging", "util"]),
    (
        "dispatch",
        &["http", "logging", "metrics", "upstream", "util"],
    ),
    (
        "proxy",
        &[
            "dispatch",
            "downstream",
            "http",
            "logging",
            "metrics",
            "upstream",
            "util",
        ],
    ),
    // It shows what all of them know.
    (
        "monitor",
        &[
            "dispatch",
            "downstream",
            "http",
            "logging",
            "metrics",
            "util",
        ],
    ),
    // It knows no program's flags.
    ("cli", &["http", "util"]),
    // The flags know the types that they fill.
    (
        "config",
        &[
            "cli",
            "dispatch",
            "downstream",
            "http",
            "logging",
            "upstream",
            "util",
        ],
    ),
    // What is configured becomes what is in force.
    (
        "reload",
        &[
            "config",
            "dispatch",
            "downstream",
            "http",
            "upstream",
            "util",
        ],
    ),
    (
        "main",
        &[
            "cli",
            "config",
            "dispatch",
            "downstream",
            "http",
            "logging",
            "metrics",
            "monitor",
            "proxy",
            "reload",
            "systemd",
            "upstream",
            "util",
        ],
    ),
    // The dummy server stands on the same front.
    ("bin", &["cli", "downstream", "http", "logging", "util"]),
];

/// A library, and the folders that may name it.
const LIBRARIES: [(&str, &[&str]); 10] = [
    ("tiny_http", &["downstream"]),
    ("ureq", &["upstream"]),
    ("rustls", &["upstream"]),
    ("webpki_roots", &["upstream"]),
    ("argh", &["cli"]),
    ("regex_automata", &["dispatch"]),
    ("regex_syntax", &["dispatch"]),
    ("simplelog", &["logging"]),
    ("time", &["logging"]),
    ("signal_hook", &["bin", "main"]),
];

/// Folders and files that do no input or output and look at no clock.
const PURE: [&str; 21] = [
    "http",
    "dispatch/budget",
    "dispatch/carried",
    "dispatch/cooldown",
    "dispatch/latency",
    "dispatch/order",
    "dispatch/patience",
    "dispatch/queue",
    "dispatch/rounds",
    "dispatch/attempt_log",
    "downstream/limits",
    "downstream/room",
    "metrics",
    "monitor/history",
    "monitor/host",
    "monitor/json",
    "monitor/page",
    "monitor/plot",
    "monitor/prometheus",
    "monitor/text",
    "monitor/view",
];

/// What is not pure.
const IMPURE: [&str; 13] = [
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "Instant::now",
    "SystemTime::now",
    ".elapsed",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "rustix",
    "libc",
    "socket2",
];

const MOST_LINES: usize = 600;
/// Neither empty nor a comment, and no tests.
const MOST_CODE_LINES: usize = 400;
const MOST_LINES_OF_A_FUNCTION: usize = 80;

/// What does not keep the rules yet, as it is reported.
const REMAINING: [&str; 0] = [];

#[test]
fn sources_keep_the_rules() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 50, "{}", sources.len());
    let mut found = BTreeSet::new();
    found.extend(imports_that_are_not_allowed(&sources));
    found.extend(circles(&sources));
    found.extend(libraries_in_other_folders(&sources));
    found.extend(impure(&sources));
    found.extend(sizes(&sources));
    let remaining = REMAINING.map(str::to_owned).into_iter().collect();
    let new: Vec<_> = found.difference(&remaining).collect();
    assert!(new.is_empty(), "{new:#?}");
    let mended: Vec<_> = remaining.difference(&found).collect();
    assert!(mended.is_empty(), "no longer in REMAINING: {mended:#?}");
}

/// Between folders.
fn imports_that_are_not_allowed(sources: &[Source]) -> BTreeSet<String> {
    let rules = BTreeMap::from(IMPORTS);
    let mut found = BTreeSet::new();
    for source in sources {
        let folder = source.folder();
        let Some(allowed) = rules.get(folder) else {
            if folder != "lib" {
                found.insert(format!("{folder} has no row"));
            }
            continue;
        };
        for import in source.imports(sources) {
            let other = import.split('/').next().unwrap();
            if other != folder && !allowed.contains(&other) {
                found.insert(format!("{folder} may not import {other}"));
            }
        }
    }
    for folder in rules.keys() {
        if !sources.iter().any(|source| source.folder() == *folder) {
            found.insert(format!("{folder} has a row and does not exist"));
        }
    }
    found
}

/// Between files, and between folders.
fn circles(sources: &[Source]) -> BTreeSet<String> {
    let mut files = BTreeMap::new();
    let mut folders = BTreeMap::<_, BTreeSet<_>>::new();
    for source in sources {
        let imports = source.imports(sources);
        let others = imports.iter().map(|import| import.split('/').next());
        let others = others.flatten().map(str::to_owned);
        let others = others.filter(|other| other != source.folder());
        let folder = folders.entry(source.folder().to_owned());
        folder.or_default().extend(others);
        files.insert(source.module.clone(), imports);
    }
    let found = [circle(&files), circle(&folders)];
    let found = found.into_iter().flatten();
    found.map(|path| path.join(" -> ")).collect()
}

fn libraries_in_other_folders(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        for (library, folders) in LIBRARIES {
            let folder = source.folder();
            if !folders.contains(&folder) && source.names(library) {
                found.insert(format!("{folder} may not name {library}"));
            }
        }
    }
    found
}

fn impure(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pure in PURE {
        let below = format!("{pure}/");
        let is_here = |source: &&Source| source.module == pure || source.module.starts_with(&below);
        let here: Vec<_> = sources.iter().filter(is_here).collect();
        if here.is_empty() {
            found.insert(format!("{pure} does not exist"));
        }
        for source in here {
            let names = IMPURE.iter().filter(|name| source.mentions(name));
            found.extend(names.map(|name| format!("{} is pure, and names {name}", source.module)));
        }
    }
    found
}

fn sizes(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        let file = &source.file;
        let (lines, code) = (source.lines(), source.code_lines());
        if lines > MOST_LINES {
            found.insert(format!("{file} has {lines} lines"));
        }
        if code > MOST_CODE_LINES {
            found.insert(format!("{file} has {code} lines of code"));
        }
        for (name, lines) in source.functions() {
            if lines > MOST_LINES_OF_A_FUNCTION {
                found.insert(format!("{file}: {name} has {lines} lines"));
            }
        }
    }
    found
}

#[test]
fn each_rule_finds_what_breaks_it() {
    let long = format!("fn long() {{\n{}}}\n", "    call();\n".repeat(401));
    let clean =
        "use crate::util::lock::lock;\n// use crate::proxy::x;\nconst A: &str = \"ureq::x\";\n";
    let sources = [
        Source::new("util/lock.rs", "pub fn lock() {}\n"),
        Source::new("util/mod.rs", "pub mod lock;\n"),
        Source::new(
            "dispatch/mod.rs",
            "mod order;\nmod run;\nuse self::run::X;\n",
        ),
        Source::new(
            "dispatch/order.rs",
            "use std::{time::{Duration, Instant}};\nfn f() -> Instant { Instant::now().elapsed() }\n",
        ),
        Source::new("dispatch/run.rs", "use super::{Y, order};\n"),
        Source::new("http/mod.rs", clean),
        Source::new("http/long.rs", &long),
        Source::new("upstream/mod.rs", "fn f() { crate::proxy::f() }\n"),
        Source::new(
            "proxy/mod.rs",
            "use crate::upstream::f;\nuse ureq::Agent;\n",
        ),
        Source::new(
            "logging/mod.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::proxy::x;\n}\n",
        ),
    ];
    let imports = imports_that_are_not_allowed(&sources);
    assert!(imports.contains("upstream may not import proxy"));
    let of_these = imports.iter().filter(|line| line.contains("may not"));
    assert_eq!(of_these.count(), 1, "{imports:?}");
    let found = circles(&sources);
    assert!(
        found.contains("dispatch -> dispatch/run -> dispatch"),
        "{found:?}"
    );
    assert!(found.contains("proxy -> upstream -> proxy"), "{found:?}");
    let libraries = libraries_in_other_folders(&sources);
    assert_eq!(
        libraries.into_iter().collect::<Vec<_>>(),
        ["proxy may not name ureq"]
    );
    for name in ["Instant::now", ".elapsed"] {
        let wanted = format!("dispatch/order is pure, and names {name}");
        assert!(impure(&sources).contains(&wanted));
    }
    let sizes = sizes(&sources);
    let wanted = [
        "http/long.rs has 403 lines of code",
        "http/long.rs: long has 403 lines",
    ];
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), wanted);
}
