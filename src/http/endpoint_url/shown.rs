//! What of a text may be printed that is a URL or may be one.
//!
//! Always: nothing that may be user information, a path or a query. Where a text can be read in
//! two ways (`http://me:pa/ss@host`), neither reading is printed.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use super::error::scheme_and_rest;
use super::host::{port_number, split_host_and_port};

/// Stands for what is not printed.
const MASK: &str = "***";

/// Stands for what follows a URL's authority, if anything does.
pub(super) fn rest(behind_authority: &str) -> &'static str {
    match behind_authority.trim_start_matches('/') {
        "" | "?" => "",
        rest if rest.starts_with(char::is_whitespace) => " …",
        _ => "/…",
    }
}

/// A word that may be a URL gone astray, fit to be printed. What has neither `://` nor `@` is
/// printed as it is.
#[must_use]
pub fn masked(word: &str) -> String {
    if !word.contains("://") && !word.contains('@') {
        return word.to_owned();
    }
    let (scheme, rest) = match word.split_once("://") {
        Some((scheme, _)) if !scheme.contains(['/', '?', '#', '@']) => {
            word.split_at(scheme.len() + "://".len())
        }
        _ => ("", word),
    };
    format!("{scheme}{}", without_keys(rest))
}

/// A path fit to be printed. It may have an `@` in it; a URL that stands here by mistake is masked.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.contains("://") {
        masked(&path)
    } else {
        path.into_owned()
    }
}

/// What of an endpoint's text may be printed: as [`masked`]. Without a scheme only `localhost` and
/// addresses, with a port; and where slashes or an `@` show that a URL was meant, what looks like a
/// host (it has a dot or a colon).
pub(super) fn shown_part(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if text
        .split_once("://")
        .is_some_and(|(scheme, _)| !scheme.is_empty())
    {
        return Some(masked(text));
    }
    let (_, host) = scheme_and_rest(text);
    let (start, host) = text.split_at(text.len() - host.len());
    let shown = without_keys(host);
    let end = shown.find('/').unwrap_or(shown.len());
    let authority = shown.get(..end).unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let (name, port) = split_host_and_port(host).ok()?;
    let is_known = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    let is_of_url = !start.is_empty() || authority.len() > host.len();
    // A key that has gone astray is a word, too, and may have dots (a JSON web token) or a colon (a
    // name and a password).
    let is_host = is_known || is_of_url && host.contains(['.', ':']);
    let is_port = port.is_none_or(|port| port_number(port).is_some());
    (is_host && is_port).then(|| format!("{start}{shown}"))
}

/// What follows the scheme, as far as it may be printed.
fn without_keys(text: &str) -> String {
    // Browsers take a backslash for a slash.
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '\\' | '?' | '#');
    let end = text.find(ends).unwrap_or(text.len());
    if text.rfind('@').is_some_and(|at| at > end) {
        return MASK.to_owned();
    }
    let (authority, behind) = text.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", authority),
    };
    format!("{user}{}{}", host_and_port(host), rest(behind))
}

/// A host and a port. What stands in the place of a port and is none may be a password.
fn host_and_port(text: &str) -> String {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if text.parse::<Ipv6Addr>().is_ok() {
        return text.to_owned();
    }
    if text.starts_with('[') {
        let (_, port) = split_host_and_port(text).unwrap_or(("", Some(MASK)));
        return if port.is_none_or(is_port) { text } else { MASK }.to_owned();
    }
    match text.split_once(':') {
        Some((host, port)) if !is_port(port) => format!("{host}:{MASK}"),
        _ => text.to_owned(),
    }
}
