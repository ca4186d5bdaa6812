//! What is wrong with a URL, in words that hold no key.

use std::error::Error;
use std::fmt;

/// Why a text is not the base URL of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrlError {
    /// What of the text may be printed.
    pub(super) shown: Option<String>,
    pub(super) kind: EndpointUrlErrorKind,
    pub(super) place: Place,
}

/// Where a URL stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Alone.
    Alone,
    /// Between commas: the how manieth part, from 1.
    Part(usize),
    /// On a line of its own.
    Line,
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
    /// The same in front of an `@`: a file may have been meant.
    File,
}

impl EndpointUrlError {
    /// What exactly is wrong.
    #[must_use]
    pub fn kind(&self) -> &EndpointUrlErrorKind {
        &self.kind
    }

    /// The same of a URL that stands somewhere else.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

/// What the sentence is about: the URL as far as it may be printed, or where it stands.
struct Subject<'a>(&'a EndpointUrlError);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.place, &self.0.shown) {
            (Place::Part(number), Some(shown)) => write!(f, "part {number} ({shown:?})"),
            (Place::Part(number), None) => write!(f, "part {number}"),
            (Place::Alone | Place::Line, Some(shown)) => write!(f, "{shown:?}"),
            (Place::Alone | Place::Line, None) => f.write_str("the URL"),
        }
    }
}

impl fmt::Display for EndpointUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use EndpointUrlErrorKind as Kind;
        let shown = Subject(self);
        let (is_part, is_line) = match self.place {
            Place::Alone => (false, false),
            Place::Part(number) => (number > 1, false),
            Place::Line => (false, true),
        };
        match &self.kind {
            Kind::Empty if self.place == Place::Alone => {
                f.write_str("an empty part is not a URL (write http://host:port)")
            }
            Kind::Empty => write!(f, "{shown} is empty (write http://host:port)"),
            Kind::NoScheme => {
                let url = with_scheme(self.shown.as_deref().unwrap_or_default());
                write!(f, "{shown} has no scheme (write {url:?}")?;
                if is_part {
                    f.write_str("; a comma inside a URL is written %2C")?;
                }
                f.write_str(")")
            }
            Kind::Scheme(scheme) => {
                write!(f, "{shown} has the scheme {scheme:?} (http or https)")
            }
            Kind::NoHost => write!(f, "{shown} has no host (write http://host:port)"),
            Kind::HostCharacter(',') if is_line => {
                write!(f, "{shown} has ',' in its host (one URL a line)")
            }
            Kind::HostCharacter(c) => write!(f, "{shown} has {c:?} in its host"),
            Kind::HostLabel => write!(f, "{shown} has an empty label in its host name"),
            Kind::HostName => write!(
                f,
                "{shown} has a host name that no certificate can have (253 characters at \
                 most, 63 of them between two dots, and no hyphen before or after a dot)"
            ),
            Kind::Ipv6 => write!(
                f,
                "{shown} has no IPv6 address between its brackets (write http://[::1]:8000)"
            ),
            Kind::Brackets => write!(
                f,
                "{shown} has an IPv6 address without brackets (write http://[::1]:8000)"
            ),
            Kind::Port => write!(f, "{shown} has a port that is not a number from 1 to 65535"),
            Kind::Fragment => write!(
                f,
                "{shown} has a fragment, which is never sent (a # inside a URL is written %23)"
            ),
            Kind::Character(c) if c.is_whitespace() && is_line => write!(
                f,
                "{shown} has a blank in it (one URL a line; inside a URL a blank is written %20)"
            ),
            Kind::Character(c) if c.is_whitespace() => write!(
                f,
                "{shown} has a blank in it (URLs are separated by commas; inside a URL a \
                 blank is written %20)"
            ),
            Kind::Character(c) => write!(
                f,
                "{shown} has {c:?} in it, which must be percent-encoded \
                 (a host name in its xn-- form)"
            ),
            Kind::UserInformation => write!(
                f,
                "{shown} has a % in its user information without two hexadecimal digits \
                 (a % itself is written %25)"
            ),
            Kind::File => write!(
                f,
                "{shown} has a comma in front of an @ (a comma inside a URL is written %2C, and a \
                 file stands alone: @FILE)"
            ),
            Kind::Comma => write!(
                f,
                "{shown} has a comma in its user information (a comma inside a URL is written %2C)"
            ),
        }
    }
}

impl Error for EndpointUrlError {}

/// What was probably meant by a text without a scheme, of which this may be shown: `http://` in
/// front, or the slashes behind the scheme as they have to be.
fn with_scheme(shown: &str) -> String {
    match scheme_and_rest(shown) {
        (scheme, "") => format!("{scheme}://host:port"),
        (scheme, rest) => format!("{scheme}://{rest}"),
    }
}

/// The scheme that was probably meant by a text without one, and what follows it.
pub(super) fn scheme_and_rest(text: &str) -> (&str, &str) {
    if let Some((scheme @ ("http" | "https"), rest)) = text.split_once(":/") {
        return (scheme, rest.trim_start_matches('/'));
    }
    let rest = text.trim_start_matches(':');
    ("http", rest.strip_prefix("//").unwrap_or(rest))
}
