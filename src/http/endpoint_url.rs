//! The base URL of an endpoint: read and checked once, then asked for its parts.
//!
//! What a value of this type holds can go on a request line and into a `Host` header as
//! it is. Nothing is decoded, normalised or re-encoded, apart from the user information,
//! which becomes an `Authorization` value and is never printed: every text that leaves
//! this module, error messages included, shows `***` in its place.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A checked base URL, `http` or `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    /// As typed, without white space around it and with the user information masked.
    shown: String,
    https: bool,
    host: String,
    port: u16,
    authority: String,
    authorization: Option<String>,
    /// Without the slashes at its end, so that a request's path can follow.
    path: String,
    /// Without the question mark; empty if there is none.
    query: String,
}

impl EndpointUrl {
    /// Whether TLS is spoken to it.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host without brackets: what is dialled, and the name in the certificate.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's default (80, 443) if the URL names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the `Host` header: brackets around an IPv6 address, and the port only
    /// where it differs from the scheme's default.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The value of an `Authorization` header, if the URL has user information.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// `http://host:port`, always with the port, without user information and path.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        if self.host.contains(':') {
            format!("{scheme}://[{}]:{}", self.host, self.port)
        } else {
            format!("{scheme}://{}:{}", self.host, self.port)
        }
    }

    /// The request target for this endpoint: its path and the client's joined with exactly
    /// one slash, its query and the client's joined with `&`.
    ///
    /// `client_target` is in origin form (`/path?query`).
    /// The client's part is passed as it was written: `//`, `..`, `%2F` and a bare `?` at
    /// the end included.
    #[must_use]
    pub fn target(&self, client_target: &str) -> String {
        let (path, query) = match client_target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (client_target, None),
        };
        let mut target =
            String::with_capacity(self.path.len() + client_target.len() + self.query.len() + 2);
        target.push_str(&self.path);
        if !path.starts_with('/') {
            target.push('/');
        }
        target.push_str(path);
        match query {
            None if self.query.is_empty() => {}
            Some(query) if self.query.is_empty() => {
                target.push('?');
                target.push_str(query);
            }
            None | Some("") => {
                target.push('?');
                target.push_str(&self.query);
            }
            Some(query) => {
                target.push('?');
                target.push_str(&self.query);
                target.push('&');
                target.push_str(query);
            }
        }
        target
    }

    /// Appends what [`target`](Self::target) returns to `out`. The client's part may hold
    /// bytes beyond ASCII.
    pub fn write_target(&self, client_target: &[u8], out: &mut Vec<u8>) {
        let question_mark = client_target.iter().position(|byte| *byte == b'?');
        let (path, rest) = client_target
            .split_at_checked(question_mark.unwrap_or(client_target.len()))
            .unwrap_or((client_target, &[]));
        out.extend_from_slice(self.path.as_bytes());
        if !path.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(path);
        if self.query.is_empty() {
            out.extend_from_slice(rest);
            return;
        }
        out.push(b'?');
        out.extend_from_slice(self.query.as_bytes());
        if let [b'?', query @ ..] = rest
            && !query.is_empty()
        {
            out.push(b'&');
            out.extend_from_slice(query);
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// As [`Display`](fmt::Display): a derived form would show the password.
impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({:?})", self.shown)
    }
}

/// Why a text is not the base URL of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrlError {
    /// The text with everything masked that may be a password.
    shown: String,
    kind: EndpointUrlErrorKind,
    /// It may be a piece of a URL with a comma in it.
    behind_comma: bool,
}

/// What exactly is wrong with a base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointUrlErrorKind {
    /// Nothing between two commas, or nothing at all.
    Empty,
    /// It does not start with `scheme://`.
    NoScheme,
    /// The scheme is neither http nor https.
    Scheme(String),
    /// Nothing between `://` and the path.
    NoHost,
    /// The host is neither a name nor an address; names the first character that is wrong.
    HostCharacter(char),
    /// A name with an empty label, such as `a..b`.
    HostLabel,
    /// A name that no certificate can have, for https.
    HostName,
    /// Brackets that do not hold an IPv6 address.
    Ipv6,
    /// An IPv6 address without brackets.
    Brackets,
    /// Not a number from 1 to 65535.
    Port,
    /// `#` and what follows it, which is never sent to a server.
    Fragment,
    /// A character that cannot stand on a request line.
    Character(char),
    /// A per cent sign in the user information without two hexadecimal digits.
    UserInformation,
    /// A comma in the user information, which has cut the URL in two.
    Comma,
}

impl EndpointUrlError {
    /// What exactly is wrong.
    #[must_use]
    pub fn kind(&self) -> &EndpointUrlErrorKind {
        &self.kind
    }
}

impl fmt::Display for EndpointUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use EndpointUrlErrorKind as Kind;
        let shown = &self.shown;
        match &self.kind {
            Kind::Empty => f.write_str("an empty part is not a URL (write http://host:port)"),
            Kind::NoScheme => {
                let url = with_scheme(shown);
                write!(f, "{shown:?} has no scheme (write {url:?}")?;
                if self.behind_comma {
                    f.write_str("; a comma inside a URL is written %2C")?;
                }
                f.write_str(")")
            }
            Kind::Scheme(scheme) => {
                write!(f, "{shown:?} has the scheme {scheme:?} (http or https)")
            }
            Kind::NoHost => write!(f, "{shown:?} has no host (write http://host:port)"),
            Kind::HostCharacter(c) => write!(f, "{shown:?} has {c:?} in its host"),
            Kind::HostLabel => write!(f, "{shown:?} has an empty label in its host name"),
            Kind::HostName => write!(
                f,
                "{shown:?} has a host name that no certificate can have (253 characters at \
                 most, 63 of them between two dots, and no hyphen before or after a dot)"
            ),
            Kind::Ipv6 => write!(
                f,
                "{shown:?} has no IPv6 address between its brackets (write http://[::1]:8000)"
            ),
            Kind::Brackets => write!(
                f,
                "{shown:?} has an IPv6 address without brackets (write http://[::1]:8000)"
            ),
            Kind::Port => write!(
                f,
                "{shown:?} has a port that is not a number from 1 to 65535"
            ),
            Kind::Fragment => write!(
                f,
                "{shown:?} has a fragment, which is never sent (a # inside a URL is written %23)"
            ),
            Kind::Character(c) if c.is_whitespace() => write!(
                f,
                "{shown:?} has a blank in it (URLs are separated by commas; inside a URL a \
                 blank is written %20)"
            ),
            Kind::Character(c) => write!(
                f,
                "{shown:?} has {c:?} in it, which must be percent-encoded \
                 (a host name in its xn-- form)"
            ),
            Kind::UserInformation => write!(
                f,
                "{shown:?} has a % in its user information without two hexadecimal digits \
                 (a % itself is written %25)"
            ),
            Kind::Comma => write!(
                f,
                "{shown:?} has a comma in its user information (a comma inside a URL is written %2C)"
            ),
        }
    }
}

impl std::error::Error for EndpointUrlError {}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        let text = text.trim();
        parse(text).map_err(|kind| EndpointUrlError {
            shown: masked(text),
            kind,
            behind_comma: false,
        })
    }
}

/// Reads a list of URLs with commas between them; at least one.
///
/// # Errors
/// What is wrong with the first one that is not an endpoint's URL.
pub fn parse_list(text: &str) -> Result<Vec<EndpointUrl>, EndpointUrlError> {
    let parts: Vec<&str> = text.split(',').collect();
    let read = |(index, part): (usize, &&str)| {
        let url = part.parse();
        url.map_err(|error| {
            cut_in_pieces(&parts, index).unwrap_or(EndpointUrlError {
                behind_comma: index > 0,
                ..error
            })
        })
    };
    parts.iter().enumerate().map(read).collect()
}

/// The complaint about a URL that commas in its user information have cut, if the part at
/// `index` is a piece of one: no piece by itself tells what of it is a password.
fn cut_in_pieces(parts: &[&str], index: usize) -> Option<EndpointUrlError> {
    let begins = |part: &&str| {
        let part = part.trim_start().to_ascii_lowercase();
        part.starts_with("http://") || part.starts_with("https://")
    };
    let (before, behind) = parts.split_at_checked(index + 1)?;
    let first = before.iter().rposition(begins).unwrap_or(0);
    let end = behind.iter().position(begins).unwrap_or(behind.len());
    let pieces = parts.get(first..before.len() + end)?;
    let cut = pieces.iter().skip(1).any(|piece| piece.contains('@'));
    cut.then(|| EndpointUrlError {
        shown: masked(pieces.join(",").trim()),
        kind: EndpointUrlErrorKind::Comma,
        behind_comma: false,
    })
}

/// What was probably meant by a text without a scheme: `http://` in front, or the slashes
/// behind the scheme as they have to be.
fn with_scheme(text: &str) -> String {
    let (scheme, rest) = match text.split_once(":/") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        _ => ("http", text),
    };
    match rest.trim_start_matches([':', '/']) {
        "" => format!("{scheme}://host:port"),
        rest => format!("{scheme}://{rest}"),
    }
}

fn parse(text: &str) -> Result<EndpointUrl, EndpointUrlErrorKind> {
    use EndpointUrlErrorKind as Kind;
    if text.is_empty() {
        return Err(Kind::Empty);
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(Kind::Character(c));
    }
    if text.contains('#') {
        return Err(Kind::Fragment);
    }
    let (scheme, rest) = text.split_once("://").ok_or(Kind::NoScheme)?;
    let https = if scheme.eq_ignore_ascii_case("http") {
        false
    } else if scheme.eq_ignore_ascii_case("https") {
        true
    } else if is_scheme(scheme) {
        return Err(Kind::Scheme(scheme.to_owned()));
    } else {
        return Err(Kind::NoScheme);
    };

    let (authority, path_and_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = path_and_query
        .split_once('?')
        .unwrap_or((path_and_query, ""));
    let (user_information, host_and_port) = match authority.rsplit_once('@') {
        Some((user_information, host_and_port)) => (Some(user_information), host_and_port),
        None => (None, authority),
    };
    let (host, port) = split_host_and_port(host_and_port)?;
    if https && !is_certifiable(host) {
        return Err(Kind::HostName);
    }

    let default_port = if https { 443 } else { 80 };
    let port = match port {
        None => default_port,
        Some(digits) => port_number(digits).ok_or(Kind::Port)?,
    };
    let mut sent_host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if port != default_port {
        sent_host = format!("{sent_host}:{port}");
    }
    Ok(EndpointUrl {
        shown: match user_information {
            Some(_) => format!("{scheme}://***@{host_and_port}{path_and_query}"),
            None => text.to_owned(),
        },
        https,
        host: host.to_owned(),
        port,
        authority: sent_host,
        authorization: match user_information {
            None | Some("") => None,
            Some(user_information) => Some(basic(user_information)?),
        },
        path: path.trim_end_matches('/').to_owned(),
        query: query.to_owned(),
    })
}

/// RFC 3986, 3.1. What does not look like a scheme at all is better called a missing one.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` into the checked bare host and the port's text.
fn split_host_and_port(text: &str) -> Result<(&str, Option<&str>), EndpointUrlErrorKind> {
    use EndpointUrlErrorKind as Kind;
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(Kind::Ipv6)?;
        host.parse::<Ipv6Addr>().map_err(|_| Kind::Ipv6)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(Kind::Port),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Kind::Brackets);
    }
    check_host_name(host)?;
    Ok((host, port))
}

/// A DNS name or an IPv4 address, as far as its characters tell.
pub(crate) fn check_host_name(host: &str) -> Result<(), EndpointUrlErrorKind> {
    use EndpointUrlErrorKind as Kind;
    if host.is_empty() {
        return Err(Kind::NoHost);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if let Some(c) = host.chars().find(|&c| !allowed(c)) {
        return Err(Kind::HostCharacter(c));
    }
    // One dot at the end is fine: it says that the name is complete.
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.split('.').any(str::is_empty) {
        return Err(Kind::HostLabel);
    }
    Ok(())
}

/// Whether a certificate can be valid for this host: an address, or a name by the rules of
/// RFC 1035 2.3.4 whose last label is no number (RFC 9849 6.1.7). The characters and empty
/// labels have been checked. TLS libraries refuse any other name.
fn is_certifiable(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_label =
        |label: &str| label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-');
    let last = labels.rsplit('.').next().unwrap_or(labels);
    let (digits, radix) = match last.get(..2) {
        Some("0x" | "0X") => (last.get(2..).unwrap_or_default(), 16),
        _ => (last, 10),
    };
    host.len() <= 253
        && labels.split('.').all(is_label)
        && !digits.chars().all(|c| c.is_digit(radix))
}

/// 1 to 65535, digits only (`u16::from_str` takes a plus sign too).
fn port_number(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&port| port > 0)
}

/// User information as the value of an `Authorization` header.
fn basic(user_information: &str) -> Result<String, EndpointUrlErrorKind> {
    // Without a colon there is a user and an empty password, as curl has it. The split
    // comes before the decoding: an encoded colon belongs to the name.
    let (user, password) = user_information
        .split_once(':')
        .unwrap_or((user_information, ""));
    let mut credentials = percent_decoded(user)?;
    credentials.push(b':');
    credentials.append(&mut percent_decoded(password)?);
    Ok(format!("Basic {}", STANDARD.encode(credentials)))
}

fn percent_decoded(text: &str) -> Result<Vec<u8>, EndpointUrlErrorKind> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        decoded.push(
            value
                .and_then(|value| u8::try_from(value).ok())
                .ok_or(EndpointUrlErrorKind::UserInformation)?,
        );
    }
    Ok(decoded)
}

/// A text that may be a URL, fit to be printed.
///
/// Where its user information ends is anybody's guess (`http://me:pa/ss@host`), so
/// everything up to the last `@` goes.
#[must_use]
pub fn masked(text: &str) -> String {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let start = scheme
        .filter(|scheme| !scheme.contains('@'))
        .map_or(0, |scheme| scheme.len() + "://".len());
    let (scheme, rest) = text.split_at(start);
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}***@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
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
    fn never_prints_user_information() {
        for (text, shown) in [
            ("http://localhost:8000", "http://localhost:8000"),
            (" HTTP://Host/@x ", "HTTP://Host/@x"),
            ("http://me:secret@host/path?q", "http://***@host/path?q"),
            ("https://secret@[::1]:1", "https://***@[::1]:1"),
            ("http://se@cret@host", "http://***@host"),
        ] {
            assert_eq!(url(text).to_string(), shown);
            assert!(!format!("{:?}", url(text)).contains("secret"));
        }
        for text in [
            "http://me:secret@host:99999",
            "http://me:secret@",
            "http://me:sec/secret@host",
            "me:secret@host",
            "ftp://me:secret@host",
            "http://me:secret%@host",
            "http://me:secret@host/#x",
        ] {
            let message = text.parse::<EndpointUrl>().unwrap_err().to_string();
            assert!(!message.contains("sec"), "{message}");
            assert!(message.contains("***@"), "{message}");
        }
    }

    #[test]
    fn a_comma_in_user_information_is_found_out_and_masked() {
        for (list, shown) in [
            ("http://me:sec,ret@host/", "http://***@host/"),
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
                "\"//localhost/p\" has no scheme (write \"http://localhost/p\")",
            ),
            (
                "https:/host",
                "\"https:/host\" has no scheme (write \"https://host\")",
            ),
            ("://", "\"://\" has no scheme (write \"http://host:port\")"),
            (
                "me:secret@host",
                "\"***@host\" has no scheme (write \"http://***@host\")",
            ),
            (
                "http://a?x=1,2",
                "\"2\" has no scheme (write \"http://2\"; a comma inside a URL is written %2C)",
            ),
            (
                "http://a http://b",
                "\"http://a http://b\" has a blank in it (URLs are separated by commas; inside \
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
            assert_eq!(url.target(request), target, "{base} + {request}");
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
            assert_eq!(url.target(request), target, "{base} + {request}");
            assert_eq!(written_target(&url, request), target, "{base} + {request}");
        }
    }
}
