//! Which `Host` is meant for a listener on a loopback address: a pure rule.

use std::net::IpAddr;

/// Whether `host`, the value of `Host`, is a name of this machine's own, with any port: a page of
/// another site cannot make a browser send that, whatever addresses its name has. `bound`: the
/// address that is listened to; `typed`: the host that `-monitor` names, which no other site has.
pub(super) fn is_local(host: &[u8], bound: IpAddr, typed: &str) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let plain = name.strip_suffix('.').unwrap_or(name);
    let is_plain = |own: &str| plain.eq_ignore_ascii_case(own);
    if !plain.is_empty() && (is_plain("localhost") || is_plain(typed)) {
        return true;
    }
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match inner.unwrap_or(name).parse::<IpAddr>() {
        Ok(address) if inner.is_some() == address.is_ipv6() => {
            let local = ["127.0.0.1", "::1"].map(str::parse);
            address.to_canonical() == bound || local.contains(&Ok(address))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let bound: IpAddr = "127.0.0.7".parse().unwrap();
        for host in [
            "localhost",
            "LocalHost:9000",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.0.0.7:80",
            "[::1]",
            "[::1]:9000",
            "localhost:",
            "localhost.:9000",
            "VM.example:9000",
        ] {
            assert!(is_local(host.as_bytes(), bound, "vm.example"), "{host}");
        }
        for host in [
            "",
            "rebound.example",
            "rebound.example:9000",
            "localhost.example",
            "127.0.0.1.example",
            "127.0.0.2",
            "::1",
            "[127.0.0.1]",
            "localhost:80:80",
            "10.0.0.1:9000",
        ] {
            assert!(!is_local(host.as_bytes(), bound, "vm.example"), "{host}");
        }
        let mapped = b"[::ffff:127.0.0.7]:9000";
        assert!(is_local(mapped, bound, ""));
        assert!(!is_local(b"\xff", bound, ""));
    }
}
