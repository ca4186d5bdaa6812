//! What is said of endpoints that cannot be used.

use super::message;

#[test]
fn refuses_endpoints_with_a_reason() {
    for (value, expected) in [
        (
            "",
            "-endpoints: an empty part is not a URL (write http://host:port)",
        ),
        (
            "http://a,,http://b",
            "-endpoints: part 2 is empty (write http://host:port)",
        ),
        (
            "http://a,",
            "-endpoints: part 2 is empty (write http://host:port)",
        ),
        (
            "localhost:8000",
            "-endpoints: \"localhost:8000\" has no scheme (write \"http://localhost:8000\")",
        ),
        (
            "http://a,ftp://b",
            "-endpoints: part 2 (\"ftp://b\") has the scheme \"ftp\" (http or https)",
        ),
        (
            "http:///x",
            "-endpoints: \"http:///…\" has no host (write http://host:port)",
        ),
        (
            "http://a/#x",
            "-endpoints: \"http://a/…\" has a fragment, which is never sent (a # inside a URL is written %23)",
        ),
        (
            "http://a:x",
            "-endpoints: \"http://a:***\" has a port that is not a number from 1 to 65535",
        ),
        (
            "http://me:secret@a:x",
            "-endpoints: \"http://***@a:***\" has a port that is not a number from 1 to 65535",
        ),
    ] {
        assert_eq!(message(&["-e", value]), expected);
    }
    assert!(message(&["-f"]).starts_with("-endpoints is missing ("));
}

#[test]
fn a_file_of_endpoints_that_cannot_be_used_is_a_bad_command_line() {
    for (value, expected) in [
        ("@", "-endpoints: \"@\" names no file (write @FILE)"),
        (
            "@/no/such/file",
            "-endpoints: \"/no/such/file\" cannot be read: no such file or directory",
        ),
        ("@/", "-endpoints: \"/\" cannot be read: is a directory"),
        (
            "@/dev/null",
            "-endpoints: \"/dev/null\" names no endpoint (write one URL a line)",
        ),
        (
            "@/dev/zero",
            "-endpoints: \"/dev/zero\" is larger than 1 MiB, too much for a list of endpoints",
        ),
        (
            "@http://me:secret@a/secret",
            "-endpoints: \"http://***@a/…\" cannot be read: no such file or directory",
        ),
        (
            "http://a,@file",
            "-endpoints: \"http://***@file\" has a comma in front of an @ (a comma inside a URL is \
             written %2C, and a file stands alone: @FILE)",
        ),
    ] {
        assert_eq!(message(&["-e", value]), expected);
    }
}
