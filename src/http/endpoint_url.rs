//! The base URL of an endpoint: read and checked once, then asked for its parts.
//!
//! What a value of this type holds can go on a request line and into a `Host` header as
//! it is. Nothing is decoded, normalised or re-encoded, apart from the user information,
//! which becomes an `Authorization` value.
//!
//! Keys stand in user information, paths and queries. None of these is ever printed: a URL is
//! shown as scheme, host and port, with `/…` behind if there is a path or a query, in error
//! messages too.

mod error;
mod host;
mod shown;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use error::{EndpointUrlError, EndpointUrlErrorKind, Place};
pub(crate) use host::check_host_name;
use host::is_certifiable;
pub(super) use host::{port_number, split_host_and_port};
use shown::shown_part;
pub use shown::{masked, shown_path};

/// A checked base URL, `http` or `https`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    /// What of it may be printed: scheme, host and port as typed.
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

    /// The path without the slashes at its end; may be empty.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
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

    /// Appends the request target for this endpoint to `out`: its path and the client's joined
    /// with exactly one slash, its query and the client's joined with `&`.
    ///
    /// `client_target` is in origin form (`/path?query`). It is passed as it was written: `//`,
    /// `..`, `%2F`, a bare `?` at the end and bytes beyond ASCII included.
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

/// As [`Display`](fmt::Display): a derived form would show keys.
impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({:?})", self.shown)
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        let text = text.trim();
        parse(text).map_err(|kind| EndpointUrlError {
            shown: shown_part(text),
            kind,
            place: Place::Alone,
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
        url.map_err(|error| cut_in_pieces(&parts, index).unwrap_or(in_list(error, &parts, index)))
    };
    parts.iter().enumerate().map(read).collect()
}

/// The complaint about one of several URLs. What has no scheme and stands behind a URL with more
/// than a host may be a piece of that one, with a key in it.
fn in_list(error: EndpointUrlError, parts: &[&str], index: usize) -> EndpointUrlError {
    if parts.len() == 1 {
        return error;
    }
    let before = index.checked_sub(1).and_then(|before| parts.get(before));
    let may_be_piece = error.kind == EndpointUrlErrorKind::NoScheme
        && before.is_some_and(|before| {
            let (_, rest) = before.split_once("://").unwrap_or(("", before));
            rest.contains(['/', '?', '@'])
        });
    EndpointUrlError {
        place: Place::Part(index + 1),
        shown: error.shown.filter(|_| !may_be_piece),
        ..error
    }
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
    let behind = || pieces.iter().skip(1);
    let cut = behind().any(|piece| piece.contains('@'));
    let is_file = behind().any(|piece| piece.trim_start().starts_with('@'));
    cut.then(|| EndpointUrlError {
        shown: Some(masked(pieces.join(",").trim())),
        kind: if is_file {
            EndpointUrlErrorKind::File
        } else {
            EndpointUrlErrorKind::Comma
        },
        place: Place::Alone,
    })
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
        shown: format!("{scheme}://{host_and_port}{}", shown::rest(path_and_query)),
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

#[cfg(test)]
mod tests;
