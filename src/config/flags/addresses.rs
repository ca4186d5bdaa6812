//! Flags: which endpoints there are, and where clients find the proxy.

use crate::cli::{Flag, Group, Takes, URLS, put, values};
use crate::config::endpoint_source::EndpointSource;
use crate::config::options::Options;
use crate::downstream::listen::ListenAddress;

pub(super) const GROUP: Group<Options> = Group {
    title: "Addresses",
    flags: &[
        Flag {
            name: "-endpoints",
            takes: Takes::List(URLS),
            default: "",
            help: "base URLs, separated by commas: http or https, optionally with path and \
                   query; or @FILE that lists them, read anew on SIGHUP (required)",
            set: |to, text| {
                put(
                    &mut to.config.sources.endpoints,
                    EndpointSource::parse(text),
                )
            },
        },
        Flag {
            name: "-backups",
            takes: Takes::List(URLS),
            default: "",
            help: "endpoints asked only when no other has a usable answer, or all are \
                   passed over",
            set: |to, text| put(&mut to.config.sources.backups, EndpointSource::parse(text)),
        },
        Flag::address(":8080", |to, text| {
            put(&mut to.config.address, values::parsed(text))
        }),
        Flag {
            name: "-reuse-port",
            takes: Takes::Boolean,
            default: "false",
            help: "let another instance with this flag listen on the same port",
            set: |to, text| put(&mut to.config.reuse_port, values::boolean(text)),
        },
        Flag {
            name: "-monitor",
            takes: Takes::Value("ADDRESS"),
            default: "",
            help: "where to show how it runs: /, /metrics, /status.json, /livez, \
                   /readyz; :PORT is 127.0.0.1 here",
            set: |to, text| {
                let address: Result<ListenAddress, _> = values::parsed(text);
                put(
                    &mut to.config.monitor,
                    address.map(|address| Some(address.or_loopback())),
                )
            },
        },
    ],
};
