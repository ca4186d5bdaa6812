//! Endpoints' URLs: what is read, what is refused, what is shown.

use super::EndpointUrlErrorKind as Kind;
use super::*;

/// 64 characters.
const LONG_LABEL: &str =
    "https://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example";

fn url(text: &str) -> EndpointUrl {
    text.parse().unwrap()
}

#[test]
fn reads_the_parts() {
    // origin, host, port, authority
    for (text, parts) in [
        (
            "http://localhost:8000",
            "http://localhost:8000 localhost 8000 localhost:8000",
        ),
        (
            "http://one.example",
            "http://one.example:80 one.example 80 one.example",
        ),
        (
            "https://one.example/",
            "https://one.example:443 one.example 443 one.example",
        ),
        (
            "HTTPS://One.Example:443",
            "https://One.Example:443 One.Example 443 One.Example",
        ),
        (
            "http://one.example:443",
            "http://one.example:443 one.example 443 one.example:443",
        ),
        (
            "https://one.example:80/api",
            "https://one.example:80 one.example 80 one.example:80",
        ),
        (
            "http://one.example:0080",
            "http://one.example:80 one.example 80 one.example",
        ),
        (
            "http://127.0.0.1:1",
            "http://127.0.0.1:1 127.0.0.1 1 127.0.0.1:1",
        ),
        ("http://[::1]", "http://[::1]:80 ::1 80 [::1]"),
        (
            "https://[2001:db8::7]:65535?x",
            "https://[2001:db8::7]:65535 2001:db8::7 65535 [2001:db8::7]:65535",
        ),
        (
            "http://a_b.example.?x=1",
            "http://a_b.example.:80 a_b.example. 80 a_b.example.",
        ),
        (
            "  http://one.example\t",
            "http://one.example:80 one.example 80 one.example",
        ),
        (
            "http://me:pw@one.example/@x",
            "http://one.example:80 one.example 80 one.example",
        ),
    ] {
        let url = url(text);
        let (origin, host, port) = (url.origin(), url.host(), url.port());
        assert_eq!(format!("{origin} {host} {port} {}", url.authority()), parts);
        assert_eq!(url.is_https(), parts.starts_with("https"));
    }
}

#[test]
fn refuses_what_cannot_be_an_endpoint() {
    for (text, kind) in [
        ("", Kind::Empty),
        (" \t", Kind::Empty),
        ("localhost:8000", Kind::NoScheme),
        ("//localhost:8000", Kind::NoScheme),
        ("://localhost", Kind::NoScheme),
        ("http:/localhost", Kind::NoScheme),
        ("1http://localhost", Kind::NoScheme),
        ("ftp://localhost", Kind::Scheme("ftp".to_owned())),
        ("unix+http://x", Kind::Scheme("unix+http".to_owned())),
        ("http://", Kind::NoHost),
        ("http:///path", Kind::NoHost),
        ("http://:8000", Kind::NoHost),
        ("http://me@", Kind::NoHost),
        ("http://?x", Kind::NoHost),
        ("http://a;b", Kind::HostCharacter(';')),
        ("http://a%20b", Kind::HostCharacter('%')),
        ("http://a..b", Kind::HostLabel),
        ("http://.", Kind::HostLabel),
        ("http://.a", Kind::HostLabel),
        (LONG_LABEL, Kind::HostName),
        (&format!("https://{}a", "a.".repeat(127)), Kind::HostName),
        ("https://a-.b", Kind::HostName),
        ("https://-a.b", Kind::HostName),
        ("https://a.b.3", Kind::HostName),
        ("http://::1", Kind::Brackets),
        ("http://[::1", Kind::Ipv6),
        ("http://[]", Kind::Ipv6),
        ("http://[1.2.3.4]", Kind::Ipv6),
        ("http://[fe80::1%25eth0]", Kind::Ipv6),
        ("http://[::1]8000", Kind::Port),
        ("http://a:", Kind::Port),
        ("http://a:0", Kind::Port),
        ("http://a:65536", Kind::Port),
        ("http://a:+80", Kind::Port),
        ("http://a:-1", Kind::Port),
        ("http://a:80:80", Kind::Port),
        ("http://a:http", Kind::Port),
        ("http://a/#top", Kind::Fragment),
        ("http://a#", Kind::Fragment),
        ("http://a/x y", Kind::Character(' ')),
        ("http://a/x\ny", Kind::Character('\n')),
        ("http://a/x\u{7f}", Kind::Character('\u{7f}')),
        ("http://b\u{fc}cher.example", Kind::Character('\u{fc}')),
        ("http://m%e:x@a", Kind::UserInformation),
        ("http://me:%g0@a", Kind::UserInformation),
        ("http://me:%2@a", Kind::UserInformation),
    ] {
        let error = text.parse::<EndpointUrl>().unwrap_err();
        assert_eq!(error.kind(), &kind, "{text:?}");
    }
}

#[test]
fn sends_user_information_as_basic_authorization() {
    for (text, credentials) in [
        ("http://a", None),
        ("http://@a", None),
        ("http://me:secret@a", Some("me:secret")),
        ("http://me@a", Some("me:")),
        ("http://:secret@a", Some(":secret")),
        ("http://me:a:b@a", Some("me:a:b")),
        ("http://me:p@ss@a", Some("me:p@ss")),
        ("http://m%3ae:%41%2f%25@a/x@y", Some("m:e:A/%")),
    ] {
        let expected = credentials.map(|c| format!("Basic {}", STANDARD.encode(c)));
        assert_eq!(url(text).authorization(), expected.as_deref(), "{text}");
    }
    assert_eq!(
        url("http://Aladdin:open%20sesame@a").authorization(),
        Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    );
}

#[test]
fn shows_scheme_host_and_port() {
    for (text, shown) in [
        ("http://localhost:8000", "http://localhost:8000"),
        (" HTTP://Host/@x ", "HTTP://Host/…"),
        ("http://host/", "http://host"),
        ("http://host/?", "http://host"),
        ("http://host?k", "http://host/…"),
        ("http://host//v1", "http://host/…"),
        ("http://me:secret@host/path?q", "http://host/…"),
        ("https://secret@[::1]:1", "https://[::1]:1"),
        ("http://se@cret@host", "http://host"),
    ] {
        let url = url(text);
        assert_eq!(url.to_string(), shown);
        assert_eq!(format!("{url:?}"), format!("EndpointUrl({shown:?})"));
    }
}

#[test]
fn a_word_that_may_be_a_url_is_shown_without_what_may_be_a_key() {
    for (word, shown) in [
        ("maybe", "maybe"),
        ("/no/such/file", "/no/such/file"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("http://a:1", "http://a:1"),
        ("http://[::1]:1/x", "http://[::1]:1/…"),
        ("http://[::1]:x", "http://***"),
        ("http://::1", "http://::1"),
        ("http://a:b", "http://a:***"),
        ("http://a;b", "http://a;b"),
        ("http://a http://b", "http://a …"),
        ("me:pw@a/key", "***@a/…"),
        ("http://me:p/w@a", "http://***"),
        ("http://me:p w@a", "http://***"),
        ("http://a/key@b", "http://***"),
        ("a/key?u=http://b", "a/…"),
        ("-=http://me@a", "-=http://***@a"),
        ("https://h\\KEY", "https://h/…"),
        ("http://me\\KEY@a", "http://***"),
        ("@", "***@"),
    ] {
        assert_eq!(masked(word), shown);
    }
}

#[test]
fn no_complaint_prints_a_key() {
    let users = [
        "",
        "me:KEY@",
        "KEY@",
        "KEY:@",
        "me:K,KEY@",
        "me:%KEY@",
        "me:x/KEY@",
    ];
    let hosts = [
        "a",
        "a:x",
        "a:99999",
        "a..b",
        "a;b",
        "",
        "[::1",
        "b\u{fc}cher",
        "a b",
    ];
    let rests = [
        "",
        "/KEY",
        "?k=KEY",
        "/x?k=1,KEY",
        "/#KEY",
        "/KEY KEY",
        "/a@KEY",
        "/KEY,http://KEY@a/",
    ];
    let mut complaints = 0;
    for scheme in ["http://", "https://", "", "//", "http:/", "ftp://", "1://"] {
        for (user, host, rest) in users
            .iter()
            .flat_map(|user| hosts.map(|host| (*user, host)))
            .flat_map(|(user, host)| rests.map(|rest| (user, host, rest)))
        {
            if user.is_empty() && host.is_empty() && scheme == "http:/" {
                // There the key is the host.
                continue;
            }
            let text = format!("{scheme}{user}{host}{rest}");
            for list in [
                text.clone(),
                format!("http://b,{text}"),
                format!("{text},x"),
            ] {
                match parse_list(&list) {
                    Ok(urls) => assert!(!format!("{urls:?}").contains("KEY"), "{list}"),
                    Err(error) => {
                        complaints += 1;
                        assert!(!error.to_string().contains("KEY"), "{list}: {error}");
                        let error = error.at(Place::Line);
                        assert!(!error.to_string().contains("KEY"), "{list}: {error}");
                        assert!(!format!("{error:?}").contains("KEY"), "{list}: {error:?}");
                    }
                }
            }
            if scheme.contains("://") {
                assert!(!masked(&text).contains("KEY"), "{text}");
            }
        }
    }
    assert!(complaints > 8_000, "{complaints}");
}

#[test]
fn a_stray_key_is_not_taken_for_a_host() {
    for key in [
        "KEY",
        "KEY.KEY",
        "KEY.example",
        "KEY.a.KEY",
        "me:1234",
        "KEY:8080",
        "KEY.x:1",
    ] {
        for (list, place) in [
            (key.to_owned(), "the URL"),
            (format!("http://a?k=1,{key}"), "part 2"),
            (format!("http://a, {key}/KEY"), "part 2"),
            (format!("http://a,{key}\\KEY"), "part 2"),
        ] {
            let message = parse_list(&list).unwrap_err().to_string();
            let wanted = format!("{place} has no scheme (write \"http://host:port\"");
            assert!(message.starts_with(&wanted), "{message}");
        }
    }
}

#[test]
fn a_comma_in_user_information_is_found_out_and_masked() {
    for (list, shown) in [
        ("http://me:sec,ret@host/", "http://***@host"),
        ("http://me:80,sec,ret@host", "http://***@host"),
        (
            "http://a, http://me:sec,ret@host:1 ,http://b",
            "http://***@host:1",
        ),
        ("HTTP://a:1,HTTPS://s,e,c@host,http://b", "HTTPS://***@host"),
        ("http://me:x@sec,ret@host", "http://***@host"),
    ] {
        let error = parse_list(list).unwrap_err();
        assert_eq!(error.kind(), &Kind::Comma, "{list}");
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("{shown:?} has a comma")),
            "{message}"
        );
        assert!(message.contains("%2C"), "{message}");
    }
    for (list, kind) in [
        ("http://a:b,http://me:pw@host", Kind::Port),
        ("http://me:pw@host,host", Kind::NoScheme),
        ("http://a/x@y,", Kind::Empty),
    ] {
        assert_eq!(parse_list(list).unwrap_err().kind(), &kind, "{list}");
    }
    assert_eq!(parse_list("http://a,http://me:pw@b").unwrap().len(), 2);
}

#[test]
fn what_was_probably_meant_is_named() {
    for (list, message) in [
        (
            "localhost:8000",
            "\"localhost:8000\" has no scheme (write \"http://localhost:8000\")",
        ),
        (
            "//localhost/p",
            "\"//localhost/…\" has no scheme (write \"http://localhost/…\")",
        ),
        (
            "https:/b.example",
            "\"https:/b.example\" has no scheme (write \"https://b.example\")",
        ),
        ("KEY", "the URL has no scheme (write \"http://host:port\")"),
        (
            "127.0.0.1:8000",
            "\"127.0.0.1:8000\" has no scheme (write \"http://127.0.0.1:8000\")",
        ),
        (
            "[::1]:8000/x",
            "\"[::1]:8000/…\" has no scheme (write \"http://[::1]:8000/…\")",
        ),
        (
            "LOCALHOST",
            "\"LOCALHOST\" has no scheme (write \"http://LOCALHOST\")",
        ),
        ("://", "the URL has no scheme (write \"http://host:port\")"),
        (
            "me:secret@b.example",
            "\"***@b.example\" has no scheme (write \"http://***@b.example\")",
        ),
        (
            "http://a?x=1,2",
            "part 2 has no scheme (write \"http://host:port\"; a comma inside a URL is written %2C)",
        ),
        (
            "http://a http://b",
            "\"http://a …\" has a blank in it (URLs are separated by commas; inside \
             a URL a blank is written %20)",
        ),
    ] {
        assert_eq!(parse_list(list).unwrap_err().to_string(), message);
    }
}

fn written_target(url: &EndpointUrl, client_target: &str) -> String {
    let mut bytes = b"GET ".to_vec();
    url.write_target(client_target.as_bytes(), &mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    text.strip_prefix("GET ").unwrap().to_owned()
}

#[test]
fn joins_paths_with_exactly_one_slash() {
    for (base, request, target) in [
        ("", "/x", "/x"),
        ("", "/", "/"),
        ("", "", "/"),
        ("/", "/x", "/x"),
        ("/", "/", "/"),
        ("/api", "/x", "/api/x"),
        ("/api/", "/x", "/api/x"),
        ("/api//", "/x", "/api/x"),
        ("/api", "/", "/api/"),
        ("/api/", "/", "/api/"),
        ("/a/b", "/c/d/", "/a/b/c/d/"),
        ("/api", "//x", "/api//x"),
        ("", "//x", "//x"),
        ("/api", "/../x/./y", "/api/../x/./y"),
        ("/api", "/a%2Fb%20c", "/api/a%2Fb%20c"),
        ("/a%2Fb/", "/c", "/a%2Fb/c"),
        ("/api", "x", "/api/x"),
    ] {
        let url = url(&format!("http://h{base}"));
        assert_eq!(written_target(&url, request), target, "{base} + {request}");
    }
}

#[test]
fn joins_queries_with_an_ampersand() {
    for (base, request, target) in [
        ("", "/x?", "/x?"),
        ("", "/x?a", "/x?a"),
        ("", "?a", "/?a"),
        ("?", "/x", "/x"),
        ("?", "/x?", "/x?"),
        ("?", "/x?a", "/x?a"),
        ("?k=1", "/x", "/x?k=1"),
        ("?k=1", "/x?", "/x?k=1"),
        ("?k=1", "/x?a=2", "/x?k=1&a=2"),
        ("/api/?k=1", "/x?a=2&b", "/api/x?k=1&a=2&b"),
        ("/api?k=1", "/?", "/api/?k=1"),
        ("/api?k=/", "/x?a=?b", "/api/x?k=/&a=?b"),
        ("?k=1&", "/x?&a", "/x?k=1&&&a"),
    ] {
        let url = url(&format!("http://h{base}"));
        assert_eq!(written_target(&url, request), target, "{base} + {request}");
    }
}
