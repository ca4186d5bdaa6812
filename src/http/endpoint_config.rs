//! An endpoint as it is configured: its URL, and header lines of its own.
//!
//! Requests to the endpoint have its lines in place of the client's lines of those names. A name
//! without a value removes the client's lines and adds none, as in curl and nginx. Refused are
//! names that are about one connection or the framing of a message, and those that this proxy
//! writes itself.
//!
//! Values are keys: neither `Debug` nor an error shows one.

use std::fmt;

use super::endpoint_url::EndpointUrl;
use super::header::{Header, is, is_token, is_value_byte, trim};
use super::target::is_authority;

/// An endpoint as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Where it is.
    pub url: EndpointUrl,
    /// What its requests have in place of the client's lines.
    pub lines: HeaderLines,
}

impl From<EndpointUrl> for EndpointConfig {
    fn from(url: EndpointUrl) -> Self {
        Self {
            url,
            lines: HeaderLines::default(),
        }
    }
}

impl EndpointConfig {
    /// Whether it holds what others must not read: user information, or any header line.
    #[must_use]
    pub fn holds_keys(&self) -> bool {
        self.url.authorization().is_some() || !self.lines.0.is_empty()
    }
}

/// Header lines of one endpoint, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderLines(Vec<HeaderLine>);

#[derive(Clone, PartialEq, Eq)]
struct HeaderLine {
    name: Vec<u8>,
    /// Empty: the client's lines of this name are removed.
    value: Vec<u8>,
}

impl HeaderLines {
    /// Appends `Name: value`, which is checked (RFC 9110 5.6.2 and 5.5). Blanks around it are
    /// ignored.
    ///
    /// # Errors
    /// It is no header line, or one of a name that is refused: why. Nothing of it is printed but a
    /// name that is listed.
    pub fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let line = trim(line);
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = colon
            .and_then(|colon| line.split_at_checked(colon))
            .ok_or(NO_COLON)?;
        let value = trim(value.strip_prefix(b":").unwrap_or(value));
        if trim(name).len() < name.len() {
            return Err("a header line has a blank in front of its colon".to_owned());
        }
        if !is_token(name) {
            return Err(BAD_NAME.to_owned());
        }
        if !value.iter().all(|byte| is_value_byte(*byte)) {
            return Err("a header line has a control character in its value".to_owned());
        }
        if let Some((name, reason)) = REFUSED.iter().find(|refused| is(name, refused.0)) {
            return Err(format!("{name} cannot be set: {reason}"));
        }
        if is(name, "Host") {
            if self.replace(name) {
                return Err("a second Host".to_owned());
            }
            if value.is_empty() || !is_authority(value) {
                return Err(BAD_HOST.to_owned());
            }
        }
        let (name, value) = (name.to_vec(), value.to_vec());
        self.0.push(HeaderLine { name, value });
        Ok(())
    }

    /// Whether the client's lines of this name are not sent.
    #[must_use]
    pub fn replace(&self, name: &[u8]) -> bool {
        self.0
            .iter()
            .any(|line| line.name.eq_ignore_ascii_case(name))
    }

    /// The lines that are sent, but for `Host`.
    pub(super) fn sent(&self) -> impl Iterator<Item = Header<'_>> {
        let lines = self.0.iter().map(|line| Header {
            name: &line.name,
            value: &line.value,
        });
        lines.filter(|line| !line.value.is_empty() && !is(line.name, "Host"))
    }

    /// The value of `Host`.
    pub(super) fn host(&self) -> Option<&[u8]> {
        let host = self.0.iter().find(|line| is(&line.name, "Host"))?;
        Some(&host.value)
    }
}

/// Names only.
impl fmt::Debug for HeaderLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .0
            .iter()
            .map(|line| String::from_utf8_lossy(&line.name));
        f.debug_list().entries(names).finish()
    }
}

const NO_COLON: &str =
    "a line that begins with a blank is a header line, and has no colon (write Name: value)";
const BAD_NAME: &str =
    "a header line has a name that is none (letters, digits and hyphens are usual)";
const BAD_HOST: &str = "Host has a value that is no host (write Host: one.example)";

const FRAMING: &str = "it frames the body, which the proxy does";
const CONNECTION: &str = "it is about one connection, the proxy's own";
const OWN: &str = "the proxy writes it itself";

/// Names that no line may have, and why.
const REFUSED: [(&str, &str); 14] = [
    ("Content-Length", FRAMING),
    ("Transfer-Encoding", FRAMING),
    ("Trailer", FRAMING),
    ("Expect", FRAMING),
    ("Connection", CONNECTION),
    ("Keep-Alive", CONNECTION),
    ("Proxy-Connection", CONNECTION),
    ("Proxy-Authenticate", CONNECTION),
    ("Proxy-Authorization", CONNECTION),
    ("TE", CONNECTION),
    ("Upgrade", CONNECTION),
    ("Max-Forwards", OWN),
    ("Via", OWN),
    ("X-Forwarded-For", OWN),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Result<HeaderLines, String> {
        let mut read = HeaderLines::default();
        for line in lines {
            read.add(line.as_bytes())?;
        }
        Ok(read)
    }

    #[test]
    fn lines_are_read_without_blanks_around_name_and_value() {
        let read = lines(&[
            "  X-Api-Key:  a: b\t",
            "\tx-api-key:c",
            "Cookie:",
            "Host: a:1",
        ]);
        let read = read.unwrap();
        let sent: Vec<_> = read.sent().map(|line| (line.name, line.value)).collect();
        let wanted = [
            (&b"X-Api-Key"[..], &b"a: b"[..]),
            (&b"x-api-key"[..], &b"c"[..]),
        ];
        assert_eq!(sent, wanted);
        assert_eq!(read.host(), Some(&b"a:1"[..]));
        for (name, replaced) in [
            ("X-API-KEY", true),
            ("cookie", true),
            ("HOST", true),
            ("X-Api-Key2", false),
        ] {
            assert_eq!(read.replace(name.as_bytes()), replaced, "{name}");
        }
    }

    #[test]
    fn bytes_beyond_ascii_are_values_and_never_names() {
        let mut read = HeaderLines::default();
        assert_eq!(read.add(b"X-A: caf\xe9"), Ok(()));
        assert_eq!(read.add(b"X-\xe9: a"), Err(BAD_NAME.to_owned()));
    }

    #[test]
    fn what_is_no_header_line_is_refused() {
        const BLANK: &str = "a header line has a blank in front of its colon";
        const CONTROL: &str = "a header line has a control character in its value";
        for (line, wanted) in [
            ("KEY", NO_COLON),
            ("", NO_COLON),
            (": KEY", BAD_NAME),
            ("X Y: KEY", BAD_NAME),
            ("X-Y : KEY", BLANK),
            ("\"KEY\": KEY", BAD_NAME),
            ("X: KEY\u{1}", CONTROL),
            ("X: KEY\rY: z", CONTROL),
            ("X: KEY\0", CONTROL),
            ("X: \u{7f}KEY", CONTROL),
            ("Host:", BAD_HOST),
            ("Host: http://a", BAD_HOST),
            ("Host: KEY KEY", BAD_HOST),
            (
                "Content-Length: 5",
                "Content-Length cannot be set: it frames the body, which the proxy does",
            ),
            (
                "te: KEY",
                "TE cannot be set: it is about one connection, the proxy's own",
            ),
            ("VIA: KEY", "Via cannot be set: the proxy writes it itself"),
        ] {
            let message = lines(&[line]).unwrap_err();
            assert_eq!(message, wanted, "{line:?}");
            assert!(!message.contains("KEY"), "{message}");
        }
        let twice = lines(&["Host: a", "host: b"]);
        assert_eq!(twice.unwrap_err(), "a second Host");
    }

    #[test]
    fn debug_shows_names_and_no_value() {
        let mut url: EndpointConfig = "http://me:KEY@a/KEY".parse::<EndpointUrl>().unwrap().into();
        url.lines = lines(&["X-Api-Key: KEY"]).unwrap();
        let shown = r#"EndpointConfig { url: EndpointUrl("http://a/…"), lines: ["X-Api-Key"] }"#;
        assert_eq!(format!("{url:?}"), shown);
    }

    #[test]
    fn keys_are_user_information_and_header_lines() {
        let holds_keys = |text: &str, given: &[&str]| {
            let url = text.parse::<EndpointUrl>().unwrap();
            let lines = lines(given).unwrap();
            EndpointConfig { url, lines }.holds_keys()
        };
        assert!(!holds_keys("http://a/x?y", &[]));
        assert!(holds_keys("http://me@a", &[]));
        assert!(holds_keys("http://a", &["X: y"]));
    }
}
