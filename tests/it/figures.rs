//! The README's figures: each stands beside the name of the script that it comes from, and has
//! the form of what that script prints. Values are not compared, they are those of one machine.
//!
//! `readme` runs the scripts, and hands over what they print.

use crate::readme::{blocks, readme};
use std::collections::BTreeSet;

/// The README's blocks of text: a piece of each, and the script that prints it; `None`: there is no
/// figure in it.
const BLOCKS: [(&str, Option<&str>); 7] = [
    ("$ curl http://", Some("scripts/demo")),
    ("extra calls", Some("scripts/tail")),
    ("CPU µs", Some("scripts/bench")),
    ("client -> head -> body", None),
    ("Usage: balancing-reverse-proxy", None),
    ("starting on: ", None),
    ("\"attempts\":[", None),
];

/// Figures in a sentence, and the script that prints them.
const SENTENCES: [(&str, &str); 3] = [
    (" KB), three descriptors", "scripts/bench"),
    (" times serial's processor time", "scripts/bench"),
    (" MB). They need", "scripts/build-static"),
];

#[test]
fn each_figure_stands_in_one_section_with_the_name_of_its_script() {
    let readme = readme();
    let all: Vec<&str> = blocks(&readme, "text").collect();
    for block in &all {
        let known = BLOCKS.iter().filter(|(piece, _)| block.contains(piece));
        assert_eq!(known.count(), 1, "one entry in BLOCKS for\n{block}");
    }
    assert_eq!(all.len(), BLOCKS.len());
    let blocks = BLOCKS
        .iter()
        .filter_map(|(piece, script)| Some((*piece, (*script)?)));
    for (piece, script) in blocks.chain(SENTENCES) {
        let mut sections = readme.split("\n## ").filter(|text| text.contains(piece));
        let section = sections.next().unwrap_or_else(|| panic!("no {piece:?}"));
        assert!(
            section.contains(script),
            "{script} is not named beside {piece:?}"
        );
    }
}

#[test]
fn sentences_say_what_the_tables_say() {
    let readme = readme();
    let tail = table(&readme, "extra calls");
    let p99 = |name: &str| {
        let row = tail.iter().find(|row| row[0] == name).unwrap();
        row[3].clone()
    };
    let (fixed, learnt) = (p99("-hedge-after 30ms"), p99("-hedge-after p95"));
    let sentence = format!("{fixed} with -hedge-after 30ms, {learnt} with -hedge-after p95");
    assert!(readme.contains(&sentence), "{sentence}");

    let bench = table(&readme, "CPU µs");
    let cpu = |name: &str| -> f64 {
        let row = bench.iter().find(|row| row[0] == name).unwrap();
        row[2].parse().unwrap()
    };
    let times = cpu("this fan-out 3") / cpu("this serial");
    let sentence = format!("some {times:.1} times serial's processor time");
    assert!(readme.contains(&sentence), "{sentence}");
}

/// The lines of the README's sample have counterparts in what `scripts/demo` prints.
pub fn check_demo(stdout: &str) {
    let printed: BTreeSet<String> = stdout.lines().map(form).collect();
    let readme = readme();
    for line in block(&readme, "$ curl http://").lines() {
        assert!(printed.contains(&form(line)), "{:?}", form(line));
    }
}

/// The README's table has the lines that `scripts/tail` prints.
pub fn check_tail(stdout: &str) {
    let readme = readme();
    let documented: Vec<String> = block(&readme, "extra calls").lines().map(form).collect();
    let printed: Vec<String> = stdout.lines().map(form).collect();
    assert_eq!(printed.get(..documented.len()), Some(&documented[..]));
}

/// The README's table has columns and rows of what `scripts/bench` prints, without those of
/// the programs that are `missing`.
pub fn check_bench(stdout: &str, missing: impl Fn(&str) -> bool) {
    let readme = readme();
    let mut rows = table(&readme, "CPU µs").into_iter();
    let columns = rows.next().unwrap();
    let head = stdout.lines().find(|line| line.contains("×nginx")).unwrap();
    let all = ["req/s", "CPU µs", "p50", "p99"];
    assert_eq!(columns, all);
    assert!(all.iter().all(|column| head.contains(column)), "{head}");
    let is_span = |text: &str| ["0 µs", "0.0 ms"].contains(&text);
    let mut with_spans = 0;
    for row in rows.filter(|row| !missing(&row[0])) {
        let forms: Vec<String> = row[1..].iter().map(|cell| form(cell)).collect();
        assert_eq!(forms[..2], ["0", "0.0"], "{row:?}");
        assert!(is_span(&forms[2]) && is_span(&forms[3]), "{row:?}");
        let name = format!(" {} ", row[0]);
        let printed = stdout.lines().find_map(|line| {
            let (connections, cells) = line.split_once(&name)?;
            connections.trim().parse::<u32>().ok()?;
            Some(form(cells))
        });
        let printed = printed.unwrap_or_else(|| panic!("no row{name}"));
        let words: Vec<&str> = printed.split(' ').collect();
        assert_eq!([words[0], words[3]], [&forms[0], &forms[1]], "{printed}");
        let pairs = words.windows(2).map(|pair| pair.join(" "));
        // A short run may end before its first request.
        with_spans += usize::from(pairs.filter(|pair| is_span(pair)).count() == 2);
    }
    assert!(with_spans > 0, "{stdout}");
}

/// The block of text with this in it.
fn block<'a>(readme: &'a str, piece: &str) -> &'a str {
    blocks(readme, "text")
        .find(|block| block.contains(piece))
        .unwrap()
}

/// The cells of the lines of the block with this in it.
fn table(readme: &str, piece: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    block(readme, piece).lines().map(cells).collect()
}

/// A line without its values: each number is 0 or 0.0, a duration as Go writes it is 0s, and
/// there is one blank where there are several.
fn form(line: &str) -> String {
    let mut form = String::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        if !first.is_ascii_digit() {
            if first != ' ' || !form.ends_with(' ') {
                form.push(first);
            }
            rest = &rest[first.len_utf8()..];
            continue;
        }
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_decimal =
            rest.starts_with('.') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        let after = if is_decimal {
            rest[1..].trim_start_matches(|c: char| c.is_ascii_digit())
        } else {
            rest
        };
        let unit = ["ns", "µs", "ms", "s"].into_iter().find(|unit| {
            let behind = after.strip_prefix(unit);
            behind.is_some_and(|behind| !behind.starts_with(char::is_alphanumeric))
        });
        match unit {
            Some(unit) => {
                form.push_str("0s");
                rest = &after[unit.len()..];
            }
            None => form.push('0'),
        }
    }
    form
}

#[test]
fn a_form_has_no_values() {
    for (line, expected) in [
        ("  a   b ", "a b"),
        ("serial  11 ms  0.0 %", "serial 0 ms 0.0 %"),
        (
            "served in 504.398222ms by 1 (0: 303ms)",
            "served in 0s by 0 (0: 0s)",
        ),
        ("after 1.2s, after 17µs", "after 0s, after 0s"),
        (
            "http://127.0.0.1:43491/serial/2",
            "http://0.0.0.0:0/serial/0",
        ),
        ("in 0.504620 s: ends with 5.", "in 0.0 s: ends with 0."),
        ("-hedge-after 30ms", "-hedge-after 0s"),
    ] {
        assert_eq!(form(line), expected);
    }
}
