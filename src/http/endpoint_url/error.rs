//! What is wrong with a URL, with passwords masked.

use std::error::Error;
use std::fmt;

/// Why a text is not the base URL of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrlError {
    /// The text with everything masked that may be a password.
    pub(super) shown: String,
    pub(super) kind: EndpointUrlErrorKind,
    /// It may be a piece of a URL with a comma in it.
    pub(super) behind_comma: bool,
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

impl Error for EndpointUrlError {}

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
