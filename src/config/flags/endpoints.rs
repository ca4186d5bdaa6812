//! Flags: connections and requests to endpoints.

use crate::cli::{Flag, Group, Takes, put, values};
use crate::config::options::Options;
use crate::http::forward::HostRule;

pub(super) const GROUP: Group<Options> = Group {
    title: "Connections and requests to endpoints",
    flags: &[
        Flag {
            name: "-connect-timeout",
            takes: Takes::Value("DURATION"),
            default: "3s",
            help: "how long connecting to an endpoint may take",
            set: |to, text| {
                put(
                    &mut to.config.upstream.connect_timeout,
                    values::timeout(text),
                )
            },
        },
        Flag {
            name: "-renew-after",
            takes: Takes::Value("DURATION"),
            default: "1m",
            help: "use a connection to an endpoint no longer than this, to follow a \
                   name that moves; 0: no limit",
            set: |to, text| {
                let after = values::positive_duration(text);
                put(&mut to.config.upstream.renew_after, after)
            },
        },
        Flag {
            name: "-keep-host",
            takes: Takes::Boolean,
            default: "false",
            help: "send the client's Host instead of the endpoint's",
            set: |to, text| {
                let host = values::boolean(text).map(|keep| {
                    if keep {
                        HostRule::Client
                    } else {
                        HostRule::Endpoint
                    }
                });
                put(&mut to.config.rules.host, host)
            },
        },
        Flag {
            name: "-keep-forwarded",
            takes: Takes::Boolean,
            default: "false",
            help: "keep X-Forwarded-Proto and X-Forwarded-Host: for a TLS terminator in \
                   front",
            set: |to, text| put(&mut to.config.rules.keep_forwarded, values::boolean(text)),
        },
        Flag {
            name: "-no-via",
            takes: Takes::Boolean,
            default: "false",
            help: "add nothing to Via (for nginx behind, which else does not compress)",
            set: |to, text| put(&mut to.config.no_via, values::boolean(text)),
        },
        Flag {
            name: "-ca-file",
            takes: Takes::Value("FILE"),
            default: "",
            help: "PEM file with certificates to trust besides the built-in ones",
            set: |to, text| put(&mut to.ca_file, values::optional_path(text)),
        },
        Flag {
            name: "-client-cert",
            takes: Takes::Value("FILE"),
            default: "",
            help: "PEM file with a certificate and its chain, for endpoints that ask \
                   for one; needs -client-key",
            set: |to, text| put(&mut to.client_cert, values::optional_path(text)),
        },
        Flag {
            name: "-client-key",
            takes: Takes::Value("FILE"),
            default: "",
            help: "PEM file with its private key; may be the same file",
            set: |to, text| put(&mut to.client_key, values::optional_path(text)),
        },
    ],
};
