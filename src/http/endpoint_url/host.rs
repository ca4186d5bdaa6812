//! Hosts and ports as they stand in a URL.

use std::net::{IpAddr, Ipv6Addr};

use super::error::EndpointUrlErrorKind;

/// `host`, `host:port`, `[v6]`, `[v6]:port` into the checked bare host and the port's text.
pub(in crate::http) fn split_host_and_port(
    text: &str,
) -> Result<(&str, Option<&str>), EndpointUrlErrorKind> {
    use EndpointUrlErrorKind as Kind;
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(Kind::Ipv6)?;
        host.parse::<Ipv6Addr>().map_err(|_| Kind::Ipv6)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(Kind::Port),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Kind::Brackets);
    }
    check_host_name(host)?;
    Ok((host, port))
}

/// A DNS name or an IPv4 address, judged by its characters alone.
pub(crate) fn check_host_name(host: &str) -> Result<(), EndpointUrlErrorKind> {
    use EndpointUrlErrorKind as Kind;
    if host.is_empty() {
        return Err(Kind::NoHost);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if let Some(c) = host.chars().find(|&c| !allowed(c)) {
        return Err(Kind::HostCharacter(c));
    }
    // One dot at the end is fine: it says that the name is complete.
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.split('.').any(str::is_empty) {
        return Err(Kind::HostLabel);
    }
    Ok(())
}

/// Whether a certificate can be valid for this host: an address, or a name by the rules of
/// RFC 1035 2.3.4 whose last label is no number (RFC 9849 6.1.7). The characters and empty
/// labels have been checked. TLS libraries refuse any other name.
pub(super) fn is_certifiable(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_label =
        |label: &str| label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-');
    let last = labels.rsplit('.').next().unwrap_or(labels);
    let (digits, radix) = match last.get(..2) {
        Some("0x" | "0X") => (last.get(2..).unwrap_or_default(), 16),
        _ => (last, 10),
    };
    host.len() <= 253
        && labels.split('.').all(is_label)
        && !digits.chars().all(|c| c.is_digit(radix))
}

/// 1 to 65535, digits only (`u16::from_str` takes a plus sign too).
pub(in crate::http) fn port_number(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&port| port > 0)
}
