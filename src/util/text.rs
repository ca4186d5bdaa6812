//! Text that is fit to be shown: which characters are not, and strings of JSON.

use std::fmt::{self, Display, Write as _};

/// Characters that move the cursor, end a line or turn the direction of writing.
#[must_use]
pub fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text as a JSON string (RFC 8259 7).
pub struct JsonString<T>(pub T);

impl<T: Display> Display for JsonString<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        // Fails if the text's own `Display` does; the string then ends there.
        let _ = write!(Escaping(f), "{}", self.0);
        f.write_str("\"")
    }
}

/// Escapes what is written through it for the inside of a JSON string.
struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c| is_unfit(c) || matches!(c, '"' | '\\')) {
            let (plain, unfit) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = unfit.chars();
            match characters.next() {
                Some(c @ ('"' | '\\')) => write!(self.0, "\\{c}")?,
                // All of them are below U+10000.
                Some(c) => write!(self.0, "\\u{:04x}", u32::from(c))?,
                None => {}
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fails_ends_its_string() {
        struct Failing;
        impl Display for Failing {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        assert_eq!(JsonString(Failing).to_string(), "\"half\"");
    }
}
