//! Text of clients and endpoints, made safe for a log line.
//!
//! Control characters, line separators and characters that turn the direction of writing
//! are escaped. Printable ASCII is passed on in one piece; nothing is allocated.

use std::fmt::{self, Write};
use std::net::SocketAddr;

/// A client's address, fit for a log line: an IPv4 one as such, also on a listener for both
/// families.
#[must_use]
pub fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

/// What a client or an endpoint has sent, fit for a log line: control characters and bytes
/// that are not UTF-8 are escaped as in `\n` and `\x1b`, and a backslash is doubled, so
/// that the text can be told from an escape.
#[must_use]
pub fn escaped<T: AsRef<[u8]> + ?Sized>(text: &T) -> Escaped<'_> {
    Escaped(text.as_ref())
}

/// Prints a text with its control characters escaped; see [`escaped`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            write_escaped(f, chunk.valid(), |c| c == '\\' || is_unfit(c))?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Appends text as a part of one line. A backslash stays: its meaning is decided where the
/// message is made.
pub(super) struct OneLine<'a>(pub(super) &'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_escaped(self.0, text, is_unfit)
    }
}

fn write_escaped(out: &mut impl Write, text: &str, unfit: fn(char) -> bool) -> fmt::Result {
    // The usual text, at a small part of what a look at each character costs.
    if text
        .bytes()
        .all(|byte| byte != b'\\' && matches!(byte, b' '..=b'~'))
    {
        return out.write_str(text);
    }
    for c in text.chars() {
        match u8::try_from(c) {
            _ if !unfit(c) => out.write_char(c)?,
            Ok(byte) if byte.is_ascii() => write!(out, "{}", byte.escape_ascii())?,
            _ => write!(out, "{}", c.escape_unicode())?,
        }
    }
    Ok(())
}

/// Characters that move the cursor, end a line or turn the direction of writing.
fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_invalid_bytes_are_escaped() {
        for (text, shown) in [
            (&b"/plain/path?q=%20&r='\""[..], "/plain/path?q=%20&r='\""),
            (b"a\nb\rc\td", "a\\nb\\rc\\td"),
            (b"\0\x1b\x7f", "\\x00\\x1b\\x7f"),
            (b"\\n", "\\\\n"),
            (b"\n\n", "\\n\\n"),
            (b"\xff\xc3x", "\\xff\\xc3x"),
            (b"", ""),
            ("\u{fc}\u{4e2d}".as_bytes(), "\u{fc}\u{4e2d}"),
            ("\u{9b}\u{202e}".as_bytes(), "\\u{9b}\\u{202e}"),
        ] {
            assert_eq!(escaped(text).to_string(), shown);
        }
        assert_eq!(escaped("a b").to_string(), "a b");
    }

    #[test]
    fn a_message_is_one_line_and_keeps_its_backslashes() {
        let mut line = String::new();
        OneLine(&mut line)
            .write_str("a\nb\r\x1b\u{85}\u{2028}c\\d \u{e9}")
            .unwrap();
        assert_eq!(line, "a\\nb\\r\\x1b\\u{85}\\u{2028}c\\d \u{e9}");
    }

    #[test]
    fn an_ipv4_client_of_a_listener_for_both_families_is_shown_as_ipv4() {
        for (address, shown) in [
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(canonical(address.parse().unwrap()).to_string(), shown);
        }
    }
}
