//! Where `tiny_http` understands a request in its own way, and we have to know how.

use tiny_http::{HTTPVersion, Request};

/// `tiny_http` reads bodies up to this size, in bytes, together with the head.
const READ_WITH_HEAD: u64 = 1024;

/// How `tiny_http` itself has understood the `Connection` header: only its first line,
/// and any word that contains the right letters.
#[derive(Clone, Copy, Debug)]
pub struct Leniency {
    /// It closes the connection after this request.
    pub close: bool,
    /// It hands over the bare connection instead of a body.
    pub upgrade: bool,
}

impl Leniency {
    /// What becomes of this request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let connection = request
            .headers()
            .iter()
            .find(|header| header.field.equiv("Connection"))
            .map(|header| header.value.as_str().to_ascii_lowercase());
        let contains = |word| {
            connection
                .as_ref()
                .is_some_and(|value| value.contains(word))
        };
        let old = *request.http_version() < HTTPVersion(1, 1);
        let upgrade = contains("upgrade");
        Self {
            close: contains("close") || upgrade || (old && !contains("keep-alive")),
            upgrade,
        }
    }
}

/// Whether `tiny_http` still holds a part of this request's body that it would read to
/// its end, however long it takes, when the request is dropped.
#[must_use]
pub fn holds_unread_body(request: &Request) -> bool {
    let expects = request
        .headers()
        .iter()
        .any(|header| header.field.equiv("Expect"));
    !Leniency::of(request).upgrade
        && request
            .body_length()
            .is_some_and(|length| length as u64 > READ_WITH_HEAD || (expects && length > 0))
}
