//! Text that is fit for a log line.

use std::fmt::{self, Display, Write as _};

use crate::util::text::is_unfit;

/// Bytes that a client has sent, as text: what is not UTF-8 is escaped as in `\xff`, and a
/// backslash as in `\\`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for piece in part.valid().split_inclusive('\\') {
                f.write_str(piece)?;
                f.write_str(if piece.ends_with('\\') { "\\" } else { "" })?;
            }
            if !part.invalid().is_empty() {
                write!(f, "{}", part.invalid().escape_ascii())?;
            }
        }
        Ok(())
    }
}

/// The message as one line, without its end. What is unfit is escaped as in `\n` and `\u{1b}`.
pub(super) fn one_line(message: impl Display) -> String {
    let mut line = String::with_capacity(128);
    write_line(&mut line, message);
    line
}

/// The same, in a buffer that is empty.
pub(super) fn write_line(line: &mut String, message: impl Display) {
    // Fails if the message's own `Display` does; the line then ends there.
    let _ = write!(line, "{message}");
    while let Some(unfit) = line.chars().find(|c| is_unfit(*c)) {
        *line = line.replace(unfit, &unfit.escape_default().to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf_8_are_escaped() {
        for (text, shown) in [
            (&b"/plain/path?q=%20&r='\""[..], "/plain/path?q=%20&r='\""),
            (b"\xff\xc3x", "\\xff\\xc3x"),
            (br"/\xff\", r"/\\xff\\"),
            (b"", ""),
            ("\u{fc}\u{4e2d}".as_bytes(), "\u{fc}\u{4e2d}"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
    }

    #[test]
    fn a_message_is_one_line_and_keeps_its_backslashes() {
        for (text, shown) in [
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\0\u{1b}\u{7f}\u{85}", "\\u{0}\\u{1b}\\u{7f}\\u{85}"),
            ("\u{2028}\u{202e}", "\\u{2028}\\u{202e}"),
            ("c\\d \u{e9}'\"", "c\\d \u{e9}'\""),
        ] {
            assert_eq!(one_line(text), shown);
        }
    }

    #[test]
    fn a_message_that_fails_is_shown_in_part() {
        struct Failing;
        impl Display for Failing {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        assert_eq!(one_line(format_args!("{Failing} a message")), "half");
    }
}
