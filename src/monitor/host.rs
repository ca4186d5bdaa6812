//! Which `Host` is meant for a listener on a loopback address: a pure rule.

use std::net::IpAddr;

/// Whether `host`, the value of `Host`, is a name of this machine's own, with any port: a page of
/// another site cannot make a browser send that, whatever addresses its name has. `names`: the host
/// that `-monitor` names, which no other site has, and the machine's own name.
pub(super) fn is_local(host: &[u8], names: &[String]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let plain = name.strip_suffix('.').unwrap_or(name);
    let is_plain = |own: &str| plain.eq_ignore_ascii_case(own);
    if !plain.is_empty() && (is_plain("localhost") || names.iter().any(|own| is_plain(own))) {
        return true;
    }
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let address = inner.unwrap_or(name).parse::<IpAddr>();
    address.is_ok_and(|address| {
        inner.is_some() == address.is_ipv6() && address.to_canonical().is_loopback()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let names = ["vm.example", "", "Machine"].map(str::to_owned);
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
            "machine:9000",
            "127.0.0.2",
            "[::ffff:127.0.0.7]:9000",
        ] {
            assert!(is_local(host.as_bytes(), &names), "{host}");
        }
        for host in [
            "",
            "rebound.example",
            "rebound.example:9000",
            "localhost.example",
            "127.0.0.1.example",
            "machine.example",
            "128.0.0.1",
            "[::2]",
            "::1",
            "[127.0.0.1]",
            "localhost:80:80",
            "10.0.0.1:9000",
        ] {
            assert!(!is_local(host.as_bytes(), &names), "{host}");
        }
        assert!(!is_local(b"\xff", &names));
    }
}
