//! The README's recipes do what they are for: each command runs with back ends in the places of its
//! endpoints.

use crate::common::{
    Gate,
    backend::{Backend, Endpoint, status},
    proxy::Proxy,
};
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

/// What stands in the README for the endpoints of a recipe.
const NAMES: [&str; 3] = [
    "https://one.example",
    "https://two.example",
    "https://metered.example",
];

/// The commands of the section, each with the words in front of it.
fn recipes() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(path).unwrap();
    let (_, section) = readme.split_once("\n## Recipes\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("```sh\n").collect::<Vec<_>>();
    let mut found = Vec::new();
    for two in blocks.windows(2) {
        let words = two[0].rsplit("```\n").next().unwrap().trim();
        let (command, _) = two[1].split_once("\n```").unwrap();
        assert_eq!(command.lines().count(), 1, "{command}");
        found.push((words.to_owned(), command.to_owned()));
    }
    found
}

/// The recipe of which the description has these words, with back ends as its endpoints.
fn proxy(words: &str, backends: &[&Backend]) -> Proxy {
    let found = recipes();
    let mut found = found.iter().filter(|(about, _)| about.contains(words));
    let (_, command) = found.next().expect(words);
    assert!(found.next().is_none(), "several recipes: {words}");
    let mut command = command.clone();
    for (name, backend) in NAMES.iter().zip(backends) {
        assert!(command.contains(name), "{name} in {command}");
        command = command.replace(name, &backend.url());
    }
    assert!(!command.contains(".example"), "{command}");
    Proxy::of_command_line(&command).start()
}

/// Words that each recipe's description has, for the test that tries it out.
const TRIED_OUT: [&str; 5] = ["JSON-RPC", "429", "404", "metered", "rival"];

#[test]
fn each_recipe_is_tried_out() {
    let mut left: BTreeSet<_> = TRIED_OUT.into();
    for (about, command) in recipes() {
        let words: Vec<_> = left
            .iter()
            .filter(|w| about.contains(**w))
            .copied()
            .collect();
        assert_eq!(words.len(), 1, "{about}: {command}");
        left.remove(words[0]);
    }
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_json_rpc_error_is_the_answer_only_if_all_endpoints_have_one() {
    let error =
        r#"{"jsonrpc":"2.0","id":1,"error" : {"code":-32000,"message":"header not found"}}"#;
    let result = r#"{"jsonrpc":"2.0","id":1,"result":"0x10","error":null}"#;
    let behind = Backend::always(status(200).body(error));
    let other = Backend::replies([
        status(200).body(result),
        status(200).chunked(&[result.as_bytes()]),
        status(200).body(error),
    ]);
    let proxy = proxy("JSON-RPC", &[&behind, &other]);
    let mut client = proxy.client();
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}"#;
    assert_eq!(client.post("/", call).body(), result);
    assert_eq!(client.post("/", call).body(), result);
    let answer = client.post("/", call);
    assert_eq!((answer.status(), answer.body().as_str()), (200, error));
    assert_eq!((behind.calls(), other.calls()), (3, 3));
    assert_eq!(other.requests()[0].body, call.as_bytes());
}

#[test]
fn a_provider_that_answers_429_is_left_alone_as_long_as_it_asks_for() {
    let busy = Backend::replies([status(429).header("Retry-After", "30")]);
    let well = Backend::always(status(200).body("completion"));
    let proxy = proxy("429", &[&busy, &well]);
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.post("/chat/completions", "{}").body(), "completion");
    }
    assert_eq!(busy.request().target, "/v1/chat/completions");
    assert_eq!(well.calls(), 20);
}

#[test]
fn providers_that_all_answer_429_are_asked_again_later() {
    let busy = || status(429).body("slow down");
    let first = Backend::replies([busy(), busy()]);
    let second = Backend::replies([busy(), status(200).body("completion")]);
    let proxy = proxy("429", &[&first, &second]);
    let answer = proxy.post("/chat/completions", "{}");
    assert_eq!(answer.body(), "completion");
    assert!(answer.took.as_millis() >= 500, "{:?}", answer.took);
    assert_eq!(second.requests()[1].body, b"{}");
}

#[test]
fn a_file_that_one_mirror_lacks_comes_from_the_other_one() {
    let file = |target: &str, there: &str| {
        if target == there {
            status(200).body(there)
        } else {
            status(404).body("missing")
        }
    };
    let first = Backend::choosing(move |request| file(&request.target, "/pub/a"));
    let second = Backend::choosing(move |request| file(&request.target, "/pub/b"));
    let proxy = proxy("404", &[&first, &second]);
    let mut client = proxy.client();
    assert_eq!(client.get("/a").body(), "/pub/a");
    assert_eq!(client.get("/b").body(), "/pub/b");
    assert_eq!((first.calls(), second.calls()), (2, 1));
    let neither = client.get("/c");
    assert_eq!((neither.status(), neither.body()), (404, "missing".into()));
}

#[test]
fn a_metered_endpoint_is_not_called_while_a_free_one_answers() {
    let sick = Backend::always(status(503));
    let flaky = Backend::choosing(|request| {
        let code = if request.target == "/fails" { 503 } else { 200 };
        status(code).body("free")
    });
    let metered = Backend::replies([status(200).body("paid")]);
    let proxy = proxy("metered", &[&sick, &flaky, &metered]);
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").body(), "free");
    }
    assert_eq!(sick.calls(), 3);
    assert_eq!(metered.connections(), 0);
    assert_eq!(client.get("/fails").body(), "paid");
}

#[test]
fn a_slow_answer_gets_a_rival_but_not_one_to_a_post() {
    let gate = Gate::closed();
    let first = Backend::choosing({
        let gate = gate.clone();
        move |request| match request.target.as_str() {
            "/slow" => status(200).body("first").after(&gate),
            _ => status(200).body("first"),
        }
    });
    let second = Backend::choosing(|_| status(200).body("second"));
    let proxy = proxy("rival", &[&first, &second]);
    let mut client = proxy.client();
    // From the hundredth answer on the percentile is known.
    for _ in 0..120 {
        assert_eq!(client.get("/").status(), 200);
    }
    // What is known is made up anew every tenth of a second.
    assert!(client.hears_nothing_for(Duration::from_millis(150)));
    assert_eq!(client.get("/slow").body(), "second");
    proxy.wait_for_log("by endpoint 1, hedged (0: cancelled after ");
    let hedges = second.calls();
    assert!(hedges <= 1 + 10 + 120 * 5 / 100, "{hedges}");
    client.send_body("POST", "/slow", b"order");
    assert!(client.hears_nothing_for(Duration::from_millis(300)));
    gate.open();
    assert_eq!(client.response().body(), "first");
    assert!(second.seen().iter().all(|seen| !seen.starts_with("POST")));
}
