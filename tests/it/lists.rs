//! `-endpoints @FILE`: header lines of an endpoint, a file that changes, and keys that no output
//! has.

use crate::common::{
    backend::{Act, Backend, Endpoint, Received, Refused, hangup, never, raw, status},
    certificates::Authority,
    process::Process,
    proxy::{Proxy, command},
};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};
use tempfile::TempDir;

/// A file of endpoints in a directory of its own.
struct List {
    directory: TempDir,
}

impl List {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let list = Self {
            directory: TempDir::new().unwrap(),
        };
        list.write(text);
        list
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("endpoints")
    }

    /// Replaces it in one step, as an editor or a deployment does.
    fn write(&self, text: impl AsRef<[u8]>) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, self.path()).unwrap();
    }
}

impl Endpoint for List {
    fn url(&self) -> String {
        format!("@{}", self.path().display())
    }
}

/// The lines of these names, as they came.
fn lines(request: &Received, names: &[&str]) -> Vec<String> {
    let is_one = |name: &String| names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted));
    let lines = request.headers.iter().filter(|(name, _)| is_one(name));
    lines
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

#[test]
fn header_lines_go_to_their_endpoint_in_place_of_the_client_s() {
    let one = Backend::always(status(503));
    let two = Backend::always(status(200));
    let (first, second) = (one.url(), two.url());
    let list = List::new(format!(
        "# two\r\n{first}/v1?k=1\r\n\tX-Api-Key: one\r\n\tx-api-key: more\r\n\r\n\
         {second}\r\n    Authorization: Bearer two\r\n    Cookie:\r\n    Host: two.example\r\n"
    ));
    for mode in [Proxy::serial(&[&list]), Proxy::fanout(&[&list])] {
        let (seen_by_one, seen_by_two) = (one.calls(), two.calls());
        let proxy = mode.start();
        let mut client = proxy.client();
        client.request(
            "GET /p",
            "X-API-KEY: client\r\nAuthorization: client\r\nCookie: client\r\nA: b\r\n",
        );
        assert_eq!(client.response().status(), 200);
        one.wait_for_calls(seen_by_one + 1);
        two.wait_for_calls(seen_by_two + 1);
        let names = ["X-Api-Key", "Authorization", "Cookie", "A", "Host"];
        let requests = [one.requests().pop().unwrap(), two.requests().pop().unwrap()];
        assert_eq!(requests[0].target, "/v1/p?k=1");
        assert_eq!(
            lines(&requests[0], &names),
            [
                format!("Host: {}", one.authority()).as_str(),
                "Authorization: client",
                "Cookie: client",
                "A: b",
                "X-Api-Key: one",
                "x-api-key: more",
            ]
        );
        assert_eq!(
            lines(&requests[1], &names),
            [
                "Host: two.example",
                "X-API-KEY: client",
                "A: b",
                "Authorization: Bearer two"
            ]
        );
    }
}

#[test]
fn header_lines_are_sent_again_where_a_kept_connection_was_closed() {
    let backend = Backend::replies([
        status(200).body("first"),
        hangup(),
        status(200).body("again"),
    ]);
    let list = List::new(format!("{}\n X-Api-Key: own\n", backend.url()));
    let proxy = Proxy::serial(&[&list]).start();
    assert_eq!(proxy.get_and_settle("/first").body(), "first");
    let mut client = proxy.client();
    client.request("GET /again", "X-Api-Key: client\r\n");
    assert_eq!(client.response().body(), "again");
    let keys: Vec<_> = backend
        .requests()
        .iter()
        .map(|r| lines(r, &["X-Api-Key"]))
        .collect();
    assert_eq!(keys, [["X-Api-Key: own"]; 3]);
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_file_that_others_may_read_is_warned_about_once_if_it_holds_keys() {
    let backend = Backend::always(status(200));
    let url = backend.url();
    for (text, mode, warned) in [
        (format!("{url}\n  X-Api-Key: KEY\n"), 0o644, true),
        (format!("{url}\n  X-Api-Key: KEY\n"), 0o640, false),
        (format!("{url}\n"), 0o644, false),
    ] {
        let list = List::new(text);
        fs::set_permissions(list.path(), fs::Permissions::from_mode(mode)).unwrap();
        let proxy = Proxy::serial(&[&list]).start();
        assert_eq!(proxy.get("/").status(), 200);
        let warnings = proxy.log_with("others may read it");
        assert_eq!(warnings.len(), usize::from(warned), "{warnings:?}");
        let path = list.path().display().to_string();
        assert!(warnings.iter().all(|line| line.contains(&path)));
    }
}

/// What a key looks like here, wherever it stands.
const KEY: &str = "S3cr3t";

/// Stops the proxy: none of its output may have a key in it, and all of it together is returned.
#[track_caller]
fn output_without_keys(proxy: &mut Proxy) -> String {
    let mut output = proxy.stop();
    output.extend(proxy.err.to_the_end());
    let output = output.join("\n");
    assert!(!output.contains(KEY), "{output}");
    output
}

/// The URL with a key in its user information, path and query.
fn with_keys(endpoint: &dyn Endpoint) -> String {
    let url = endpoint.url();
    let (scheme, authority) = url.split_once("://").unwrap();
    format!("{scheme}://{KEY}-user:{KEY}@{authority}/{KEY}/v1?key={KEY}")
}

#[test]
fn keys_are_in_no_output_whatever_fails() {
    let refused = Refused::new();
    let unknown = format!("http://{}.invalid:80", "x".repeat(64));
    let (_, identity) = Authority::itself(&["localhost"]);
    let untrusted = Backend::tls(&identity, []);
    let table: [(&dyn Endpoint, &str); 8] = [
        (&refused, "connection refused"),
        (&unknown, "cannot look up"),
        (&untrusted, "unknown authority"),
        (&Backend::always(never()), "timed out"),
        (&Backend::always(hangup()), "closed without an answer"),
        (&Backend::always(status(503)), "status 503"),
        (&Backend::always(raw("no HTTP\r\n\r\n")), "endpoint 0: "),
        (
            &Backend::always(status(200).body("x".repeat(9)).cut(3, Act::Close)),
            "in the middle of the answer",
        ),
    ];
    for (endpoint, words) in table {
        let list = List::new(format!("{}\n  X-Api-Key: {KEY}\n", with_keys(endpoint)));
        for mode in [Proxy::serial(&[&list]), Proxy::fanout(&[&list])] {
            let mut proxy = mode
                .flag("-per-try-timeout", "300ms")
                .flag("-connect-timeout", "5s")
                .flag("-proxy-status", "true")
                .flag("-max-fails", "1")
                .flag("-on-exhausted", "gateway")
                .start();
            let answer = proxy.get("/p");
            assert!(answer.status() >= 500, "{words}: {}", answer.status());
            assert!(answer.header("proxy-status").is_some());
            assert!(
                !format!("{:?}", answer.head.headers).contains(KEY),
                "{words}"
            );
            proxy.wait_for_log("returning ");
            let output = output_without_keys(&mut proxy);
            assert!(output.contains(words), "{words}: {output}");
            assert!(output.contains("/…"), "{output}");
        }
    }
}

#[test]
fn keys_are_in_no_complaint_about_a_command_line_or_a_file() {
    let key = |text: &str| text.replace("KEY", KEY);
    let mut outputs = Vec::new();
    let mut refused = |words: &[&str]| {
        let mut command = command();
        command.args(words.iter().map(|word| key(word)));
        let mut process = Process::start(command);
        assert_eq!(process.wait_for_exit().code(), Some(2), "{words:?}");
        let output = [process.out.to_the_end(), process.err.to_the_end()].concat();
        assert!(!output.is_empty());
        outputs.push((words.join(" "), output.join("\n")));
    };
    for value in [
        "http://KEY@a:x",
        "http://KEY:KEY@a/KEY?KEY#KEY",
        "http://a/KEY,http://b/KEY KEY",
        "http://a?k=1,KEY",
        "KEY:KEY@a/KEY",
        "a/KEY",
        "ftp://KEY@a/KEY",
        "http://me:K,KEY@a",
        "@/no/such/file,http://KEY@a/KEY",
    ] {
        refused(&["-endpoints", value]);
        refused(&["-e=http://a/KEY", "-e", value]);
    }
    refused(&["-e", "http://a/KEY", "http://b/KEY"]);
    refused(&["-e", "http://a/?k=1", "KEY"]);
    refused(&["-e", "http://a/KEY", "-address", "http://KEY@a/KEY"]);
    refused(&["-e", "http://a/KEY", "-ca-file", "http://KEY@a/KEY"]);
    refused(&["-e", "http://a/KEY", "-workers", "http://KEY@a/KEY"]);
    refused(&["-e", "http://a/KEY", "-bogus=http://KEY@a/KEY"]);
    refused(&["-e", "http://a/KEY", "-fanout", "-hedge-after=50ms"]);
    for text in [
        "http://a/KEY KEY",
        "http://KEY@a:x/KEY",
        "X-Api-Key: KEY",
        "http://a/KEY\nX-Api-Key: KEY",
        "http://a/KEY\n  KEY",
        "http://a/KEY\n  X Y: KEY",
        "http://a/KEY\n  Via: KEY",
        "http://a/KEY\n  Host: KEY KEY",
        "http://a/KEY\n  X-Api-Key: KEY\u{1}",
        "# KEY\n",
    ] {
        let list = List::new(key(text));
        refused(&["-endpoints", &list.url()]);
    }
    for (words, output) in outputs {
        assert!(!output.contains(KEY), "{words}: {output}");
    }
}
