//! `-unusable-body`: answers that are not usable for what their bodies say.
//!
//! JSON-RPC, GraphQL and others report errors with status 200. What such an answer looks like is
//! a regular expression, which is searched for in the beginning of its body. Bytes are matched,
//! not text: a body need not be UTF-8; classes such as `\d` and case are those of ASCII.
//!
//! Always: a search takes linear time, whatever the pattern and the body.
//!
//! Cost: nothing without a pattern. With one, the beginning of a body is read before the answer
//! is relayed, and searched once: nine instructions for each byte, a few nanoseconds. What the
//! search works out is kept for the next ones, up to 256 KiB for each search that runs at the
//! same time.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

use crate::http::endpoint_url::masked;
use crate::http::response::{BodyLength, ResponseHead};
use crate::util::lock::lock;

/// A body that has not ended is looked at when nothing has come for so long.
pub(super) const MAX_QUIET: Duration = Duration::from_millis(200);

/// A body of unknown length is looked at when its head has been there for so long, even if bytes
/// keep coming: a stream that does not say so by its type begins then. For so long at most an
/// answer that is known to be bad has the next attempt wait for its body.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);

/// The most that is kept of what a search has worked out, in bytes.
const CACHE: usize = 256 * 1024;

/// How many searches that run at the same time find what former ones have worked out.
const CACHES: usize = 16;

/// The largest compiled pattern, in bytes. A search may go through all of it for each byte.
const MAX_COMPILED: usize = 64 * 1024;

/// What the beginning of a body looks like that makes its answer unusable.
pub struct UnusableBody {
    pattern: String,
    dfa: DFA,
    caches: Mutex<Vec<Cache>>,
}

impl UnusableBody {
    /// Whether the body behind this head is looked at. A stream may be quiet for long, and its
    /// first event must not wait; the bytes of an encoded body are not those of its text.
    #[must_use]
    pub fn concerns(&self, head: &ResponseHead, length: BodyLength) -> bool {
        length != BodyLength::Bodiless && !head.is_stream() && !head.is_encoded()
    }

    /// Whether the pattern is found.
    #[must_use]
    pub fn matches(&self, body: &[u8]) -> bool {
        let kept = lock(&self.caches).pop();
        let mut cache = kept.unwrap_or_else(|| self.dfa.create_cache());
        let input = Input::new(body).earliest(true);
        let found = self.dfa.try_search_fwd(&mut cache, &input);
        let mut caches = lock(&self.caches);
        if caches.len() < CACHES {
            caches.push(cache);
        }
        // There is no byte that the search does not take, and nothing that ends it early.
        matches!(found, Ok(Some(_)))
    }
}

impl fmt::Debug for UnusableBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnusableBody").field(&self.pattern).finish()
    }
}

impl FromStr for UnusableBody {
    /// Why the text is no such pattern; ends a sentence that begins with it.
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let parsed = syntax::parse_with(pattern, &syntax);
        let parsed = parsed.map_err(|error| syntax_fault(pattern, &error))?;
        let config = thompson::Config::new()
            .utf8(false)
            .which_captures(thompson::WhichCaptures::None)
            .nfa_size_limit(Some(MAX_COMPILED));
        let compiled = thompson::Compiler::new()
            .configure(config)
            .build_from_hir(&parsed)
            .map_err(|error| match error.size_limit() {
                Some(_) => fault("it is too large"),
                None => fault(error),
            })?;
        let config = DFA::config()
            .cache_capacity(CACHE)
            .skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(compiled);
        Ok(Self {
            pattern: pattern.to_owned(),
            dfa: dfa.map_err(fault)?,
            caches: Mutex::default(),
        })
    }
}

fn fault(reason: impl fmt::Display) -> String {
    format!("is not a regular expression: {reason}")
}

/// Says where the pattern goes wrong, too.
fn syntax_fault(pattern: &str, error: &regex_syntax::Error) -> String {
    let (reason, offset) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => {
            (error.kind().to_string(), error.span().start.offset)
        }
        other => return fault(other),
    };
    match pattern.split_at_checked(offset) {
        None => fault(reason),
        Some((_, "")) => fault(format_args!("{reason} at its end")),
        Some((before, rest)) => {
            let number = before.chars().count() + 1;
            fault(format_args!(
                "{reason} at character {number}: {:?}",
                masked(rest)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header::Headers;
    use crate::http::request::Version;

    #[test]
    fn a_pattern_is_found_anywhere_in_the_bytes() {
        let table: [(&str, &[u8], bool); 14] = [
            (r#""error"\s*:"#, br#"{"id":1, "error" : {}}"#, true),
            (r#""error"\s*:"#, br#"{"id":1, "result": {}}"#, false),
            ("(?i)ERROR", b"an error", true),
            ("ERROR", b"an error", false),
            ("^\\s*$", b"  \r\n", true),
            ("^$", b"", true),
            ("^a", b"ba", false),
            ("(?m)^a$", b"b\na\nb", true),
            ("\u{e9}", "caf\u{e9}".as_bytes(), true),
            (r"\xff\x00", b"a\xff\x00b", true),
            (r"a[^b]c", b"a\xffc", true),
            ("a.b", b"a\nb", false),
            (r"\berror\b", b"no errors", false),
            (r"\berror\b", b"an error\xff", true),
        ];
        for (pattern, body, wanted) in table {
            let pattern: UnusableBody = pattern.parse().unwrap();
            // The second time with what the first one has worked out.
            for _ in 0..2 {
                assert_eq!(pattern.matches(body), wanted, "{pattern:?}");
            }
        }
    }

    #[test]
    fn a_search_is_linear_for_patterns_that_are_not_elsewhere() {
        let body = vec![b'a'; 64 * 1024];
        for pattern in ["(a*)*b", "(a|aa)+$b", ".*.*=.*", "a.{200}b"] {
            let pattern: UnusableBody = pattern.parse().unwrap();
            assert!(!pattern.matches(&body));
        }
    }

    #[test]
    fn searches_at_the_same_time_do_not_disturb_each_other() {
        let pattern: UnusableBody = "er+or".parse().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..2 * CACHES {
                let pattern = &pattern;
                scope.spawn(move || {
                    for n in 0..100 {
                        let body = format!("{thread} {n} errrror");
                        assert!(pattern.matches(body.as_bytes()));
                        assert!(!pattern.matches(&body.as_bytes()[..body.len() - 1]));
                    }
                });
            }
        });
        assert!(lock(&pattern.caches).len() <= CACHES);
    }

    #[test]
    fn the_place_of_a_mistake_is_named() {
        for (pattern, wanted) in [
            ("a(b", "unclosed group at character 2: \"(b\""),
            (
                "\u{e9}[z-a]x",
                "invalid character class range, the start must be <= the end at character 3: \"z-a]x\"",
            ),
            (
                r"x\p{Greek}",
                "Unicode not allowed here at character 2: \"\\\\p{Greek}\"",
            ),
            (
                "*",
                "repetition operator missing expression at character 1: \"*\"",
            ),
            (
                "ab\\",
                "incomplete escape sequence, reached end of pattern prematurely at character 3: \"\\\\\"",
            ),
            (
                "(?=a)",
                "look-around, including look-ahead and look-behind, is not supported at character 1: \"(?=a)\"",
            ),
            ("((a{1000}){1000}){1000}", "it is too large"),
            // A URL that has gone astray.
            (
                "(http://me:KEY@a/x",
                "unclosed group at character 1: \"(http://***@a/…\"",
            ),
        ] {
            let error = pattern.parse::<UnusableBody>().unwrap_err();
            let wanted = format!("is not a regular expression: {wanted}");
            assert_eq!(error, wanted);
        }
    }

    #[test]
    fn no_body_an_encoded_one_and_a_stream_of_events_are_not_looked_at() {
        let pattern: UnusableBody = "x".parse().unwrap();
        let concerns = |name: &str, value: &str, length| {
            let mut headers = Headers::new();
            headers.push(name.as_bytes(), value.as_bytes());
            let head = ResponseHead::new(200, b"OK", Version::Http11, headers);
            pattern.concerns(&head, length)
        };
        for (name, value, wanted) in [
            ("Content-Type", "application/json", true),
            ("Content-Type", "text/event-stream", false),
            ("content-type", "Text/Event-Stream ; charset=utf-8", false),
            ("Content-Encoding", "identity", true),
            ("Content-Encoding", "", true),
            ("Content-Encoding", "gzip", false),
            ("Content-Encoding", "identity, br", false),
            ("X-Other", "text/event-stream", true),
        ] {
            for length in [BodyLength::Unknown, BodyLength::Known(0)] {
                assert_eq!(concerns(name, value, length), wanted, "{name}: {value}");
            }
            assert!(!concerns(name, value, BodyLength::Bodiless));
        }
    }
}
