//! `Location` and `Content-Location` of an answer, made URLs of the proxy's (`-rewrite-location`).
//!
//! What is rewritten, for an endpoint `http://one.example/api` and a client that has asked
//! `proxy.example:8080`:
//!
//! | from the endpoint | to the client | why |
//! |---|---|---|
//! | `http://one.example/api/x?q#f` | `http://proxy.example:8080/x?q#f` | begins with the base URL |
//! | `HTTP://One.Example:80/api` | `http://proxy.example:8080/` | scheme and host in any case, default ports are equal |
//! | `http://one.example/apix`, `http://one.example/` | as it is | beside the base path |
//! | `https://one.example/api/x`, `http://one.example:81/api/x` | as it is | another origin |
//! | `http://me@one.example/api/x` | as it is | user information is never a match |
//! | `/api/x` | `/x` | an absolute path of the endpoint's is one of the proxy's without the base path |
//! | `/x`, `x`, `../x`, `?q`, `//one.example/api/x` | as it is | any other relative reference |
//!
//! Paths are compared byte for byte, without decoding and without removing dot segments, as
//! nginx's `proxy_redirect default` and Apache's `ProxyPassReverse` do. As with these, a URL that
//! differs from the base URL in its scheme alone is not changed. Only the beginning of a value is
//! changed, and no other field (nginx changes `Refresh`, too).
//!
//! The URL has the host that the client used: with `-keep-forwarded` that of `X-Forwarded-Host`,
//! else `Host`; and the scheme `http`, or with `-keep-forwarded` that of `X-Forwarded-Proto`. To
//! a client that has named no host a path is sent.
//!
//! A path that begins with two slashes, once it has lost its prefix, is the name of another host
//! to browsers (RFC 3986 4.2; a backslash counts as a slash to them, and tabs as nothing). It
//! goes out as a whole URL, or as it came if the client has named no host.
//!
//! Nothing is allocated: a value is written in pieces.

use std::net::Ipv6Addr;

use super::endpoint_url::{EndpointUrl, port_number, split_host_and_port};
use super::header::is;
use super::request::RequestHead;
use super::target::is_authority;

/// Makes URLs of one endpoint URLs of the proxy's, for one client.
#[derive(Clone, Copy, Debug)]
pub struct LocationRewrite<'a> {
    endpoint: &'a EndpointUrl,
    /// With `://`.
    scheme: &'static str,
    host: Option<&'a [u8]>,
}

/// What the client used: scheme and host, the scheme with `://`.
fn used_by_client(request: &RequestHead, keep_forwarded: bool) -> (&'static str, Option<&[u8]>) {
    let forwarded = |name: &'static str| {
        let first = request.headers().elements(name).next();
        first.filter(|_| keep_forwarded)
    };
    let is_https = forwarded("X-Forwarded-Proto").is_some_and(|scheme| is(scheme, "https"));
    let host = forwarded("X-Forwarded-Host").filter(|host| is_authority(host));
    let host = host.or(request.host()).filter(|host| !host.is_empty());
    (if is_https { "https://" } else { "http://" }, host)
}

impl<'a> LocationRewrite<'a> {
    /// For answers of this endpoint to this request. With `keep_forwarded` the request's
    /// `X-Forwarded-Proto` and `X-Forwarded-Host` tell what the client used.
    #[must_use]
    pub fn new(request: &'a RequestHead, endpoint: &'a EndpointUrl, keep_forwarded: bool) -> Self {
        let (scheme, host) = used_by_client(request, keep_forwarded);
        Self {
            endpoint,
            scheme,
            host,
        }
    }

    /// The value in pieces; `None`: it stays as it is.
    pub(super) fn rewrite<'v>(&self, value: &'v [u8]) -> Option<[&'v [u8]; 4]>
    where
        'a: 'v,
    {
        let is_path = value.starts_with(b"/");
        let path = if is_path {
            value
        } else {
            self.behind_authority(value)?
        };
        let base = self.endpoint.path().as_bytes();
        if is_path && (base.is_empty() || begins_with_host(path)) {
            return None;
        }
        let rest = path.strip_prefix(base)?;
        let slash: &[u8] = match rest {
            [b'/', ..] => b"",
            [] | [b'?' | b'#', ..] => b"/",
            _ => return None,
        };
        match self.host {
            Some(host) if !is_path || begins_with_host(rest) => {
                Some([self.scheme.as_bytes(), host, slash, rest])
            }
            None if begins_with_host(rest) => None,
            _ => Some([b"", b"", slash, rest]),
        }
    }

    /// What follows the authority of a URL, if scheme and authority are the endpoint's.
    fn behind_authority<'v>(&self, url: &'v [u8]) -> Option<&'v [u8]> {
        let scheme = if self.endpoint.is_https() {
            "https://"
        } else {
            "http://"
        };
        let (start, rest) = url.split_at_checked(scheme.len())?;
        let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(length)?;
        (is(start, scheme) && self.is_endpoint(authority)).then_some(rest)
    }

    /// Whether `host`, `host:port`, `[v6]` or `[v6]:port` is the endpoint's. An empty port is the
    /// default one (RFC 3986 3.2.3).
    fn is_endpoint(&self, authority: &[u8]) -> bool {
        let text = std::str::from_utf8(authority).unwrap_or_default();
        let Ok((host, port)) = split_host_and_port(text) else {
            return false;
        };
        let is_same_host = match host.parse::<Ipv6Addr>() {
            Ok(address) => self.endpoint.host().parse() == Ok(address),
            Err(_) => host.eq_ignore_ascii_case(self.endpoint.host()),
        };
        let port = match port {
            None | Some("") => Some(if self.endpoint.is_https() { 443 } else { 80 }),
            Some(digits) => port_number(digits),
        };
        is_same_host && port == Some(self.endpoint.port())
    }
}

/// Whether a browser takes the path for the name of a host.
fn begins_with_host(path: &[u8]) -> bool {
    let mut bytes = path.iter().skip(1).skip_while(|byte| **byte == b'\t');
    matches!(bytes.next(), Some(b'/' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header::Headers;
    use crate::http::request::Version;

    fn request(host: Option<&str>, lines: &[(&str, &str)]) -> RequestHead {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        let (host, client) = (host.map(str::as_bytes), "10.0.0.1".parse().unwrap());
        RequestHead::new("GET", b"/", Version::Http11, host, headers, client)
    }

    fn rewritten(endpoint: &str, request: &RequestHead, keep: bool, value: &[u8]) -> Vec<u8> {
        let endpoint = endpoint.parse().unwrap();
        let rewrite = LocationRewrite::new(request, &endpoint, keep);
        let pieces = rewrite.rewrite(value);
        pieces.map_or_else(|| value.to_vec(), |pieces| pieces.concat())
    }

    /// Rows of endpoint, value and what a client of `c:8080` gets.
    fn check(table: &[(&str, &str, &str)]) {
        let request = request(Some("c:8080"), &[]);
        for (endpoint, value, wanted) in table {
            let found = rewritten(endpoint, &request, false, value.as_bytes());
            let found = String::from_utf8(found).unwrap();
            assert_eq!(found, *wanted, "{endpoint} {value}");
        }
    }

    #[test]
    fn a_url_that_begins_with_the_base_url_is_made_the_proxy_s() {
        check(&[
            ("http://e", "http://e/", "http://c:8080/"),
            ("http://e", "http://e", "http://c:8080/"),
            ("http://e", "http://e?q", "http://c:8080/?q"),
            ("http://e", "http://e/a/b?q=/#f", "http://c:8080/a/b?q=/#f"),
            ("http://e", "HTTP://E:80/a", "http://c:8080/a"),
            ("http://e", "http://e:/a", "http://c:8080/a"),
            ("http://e:80", "http://e/a", "http://c:8080/a"),
            ("http://e:81", "http://e:81/a", "http://c:8080/a"),
            ("http://e:81", "http://e:0081/a", "http://c:8080/a"),
            ("https://e", "https://e:443/a", "http://c:8080/a"),
            ("https://e:443", "https://e/a", "http://c:8080/a"),
            ("http://e/api", "http://e/api", "http://c:8080/"),
            ("http://e/api", "http://e/api?q", "http://c:8080/?q"),
            ("http://e/api", "http://e/api#f", "http://c:8080/#f"),
            ("http://e/api", "http://e/api/", "http://c:8080/"),
            ("http://e/api/", "http://e/api/x", "http://c:8080/x"),
            ("http://e/api", "http://e/api//x", "http://c:8080//x"),
            ("http://e/a?k=1", "http://e/a/x?k=1", "http://c:8080/x?k=1"),
            ("http://u:p@e/api", "http://e/api/x", "http://c:8080/x"),
            ("http://[::1]:8", "http://[::1]:8/a", "http://c:8080/a"),
            ("http://[::1]", "http://[0:0::1]:80/a", "http://c:8080/a"),
        ]);
    }

    #[test]
    fn any_other_url_stays() {
        for (endpoint, value) in [
            ("http://e", "http://other/"),
            ("http://e", "http://e.example/"),
            ("http://e", "http://ee/"),
            ("http://e", "https://e/"),
            ("https://e", "http://e/"),
            ("https://e", "http://e:443/"),
            ("http://e", "http://e:81/"),
            ("http://e:81", "http://e/"),
            ("http://e:81", "http://e:80081/"),
            ("http://e", "http://e:x/"),
            ("http://e", "http://e:+80/"),
            ("http://e", "http://u@e/"),
            ("http://u:p@e", "http://u:p@e/"),
            ("http://e", "http://e@other/"),
            ("http://e", "http://e\\@other/"),
            ("http://e", "http://e\\/"),
            ("http://e", "http:///"),
            ("http://e", "http:/e/"),
            ("http://e", "ftp://e/"),
            ("http://e", "http:"),
            ("http://e", "mailto:a@e"),
            ("http://e/api", "http://e/"),
            ("http://e/api", "http://e"),
            ("http://e/api", "http://e/apix"),
            ("http://e/api", "http://e/API/x"),
            ("http://e/api", "http://e/ap%69/x"),
            ("http://e/api", "http://e/x/api/"),
            ("http://[::1]", "http://[::2]/"),
            ("http://[::1]", "http://[::1/"),
            ("http://[::1]", "http://::1/"),
            ("http://[::1]", "http://[::1]x/"),
            ("http://e", "http://[e]/"),
        ] {
            check(&[(endpoint, value, value)]);
        }
        let request = request(Some("c"), &[]);
        let value = b"http://\xff/";
        assert_eq!(rewritten("http://e", &request, false, value), value);
    }

    #[test]
    fn an_absolute_path_loses_the_base_path_and_other_references_stay() {
        check(&[
            ("http://e/api", "/api/x?q#f", "/x?q#f"),
            ("http://e/api", "/api", "/"),
            ("http://e/api", "/api?q", "/?q"),
            ("http://e/api", "/api/api/x", "/api/x"),
            ("http://e/api", "/apix", "/apix"),
            ("http://e/api", "/x", "/x"),
            ("http://e/api", "/", "/"),
            ("http://e/api", "api/x", "api/x"),
            ("http://e/api", "../api/x", "../api/x"),
            ("http://e/api", "?q", "?q"),
            ("http://e/api", "#f", "#f"),
            ("http://e/api", "", ""),
            ("http://e/api", "//e/api/x", "//e/api/x"),
            ("http://e", "/x", "/x"),
            ("http://e", "//e/x", "//e/x"),
            // A base path that looks like a host.
            ("http://e//h", "//h/x", "//h/x"),
            ("http://e//h", "http://e//h/x", "http://c:8080/x"),
        ]);
    }

    #[test]
    fn a_path_never_becomes_the_name_of_a_host() {
        let without_host = request(None, &[]);
        for (value, wanted) in [
            ("/api//evil/x", "http://c:8080//evil/x"),
            ("/api/\\evil/x", "http://c:8080/\\evil/x"),
            ("/api/\t/evil/x", "http://c:8080/\t/evil/x"),
            ("/api/\t\t\\evil", "http://c:8080/\t\t\\evil"),
        ] {
            check(&[("http://e/api", value, wanted)]);
            let found = rewritten("http://e/api", &without_host, false, value.as_bytes());
            assert_eq!(found, value.as_bytes());
            let url = format!("http://e{value}");
            let found = rewritten("http://e/api", &without_host, false, url.as_bytes());
            assert_eq!(found, url.as_bytes());
        }
    }

    #[test]
    fn bytes_beyond_ascii_pass() {
        let request = request(Some("c"), &[]);
        assert_eq!(
            rewritten("http://e/api", &request, false, b"http://e/api/\xe9\xff"),
            b"http://c/\xe9\xff"
        );
    }

    #[test]
    fn the_url_has_the_scheme_and_host_that_the_client_used() {
        const HTTPS: (&str, &str) = ("x-forwarded-proto", "HTTPS");
        type Row<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], bool, &'a str);
        let table: [Row<'_>; 15] = [
            (Some("c"), &[], false, "http://c/x"),
            (Some("c:80"), &[], false, "http://c:80/x"),
            (Some("[::1]:8080"), &[], true, "http://[::1]:8080/x"),
            (None, &[], false, "/x"),
            (Some(""), &[], false, "/x"),
            (None, &[HTTPS], true, "/x"),
            (Some("c"), &[HTTPS], false, "http://c/x"),
            (Some("c"), &[HTTPS], true, "https://c/x"),
            (
                Some("c"),
                &[("X-Forwarded-Proto", "https, http")],
                true,
                "https://c/x",
            ),
            (
                Some("c"),
                &[("X-Forwarded-Proto", "http, https")],
                true,
                "http://c/x",
            ),
            (
                Some("c"),
                &[("X-Forwarded-Proto", "javascript")],
                true,
                "http://c/x",
            ),
            (
                Some("c"),
                &[("X-Forwarded-Host", "f:1")],
                false,
                "http://c/x",
            ),
            (
                Some("c"),
                &[("X-Forwarded-Host", "f:1"), HTTPS],
                true,
                "https://f:1/x",
            ),
            (
                Some("c"),
                &[("X-Forwarded-Host", "f, g")],
                true,
                "http://f/x",
            ),
            (
                Some("c"),
                &[("X-Forwarded-Host", "u@f/")],
                true,
                "http://c/x",
            ),
        ];
        for (host, lines, keep, wanted) in table {
            let request = request(host, lines);
            let found = rewritten("http://e/api", &request, keep, b"http://e/api/x");
            assert_eq!(found, wanted.as_bytes(), "{host:?} {lines:?} {keep}");
        }
    }
}
