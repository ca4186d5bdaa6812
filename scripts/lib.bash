# shellcheck shell=bash
# shellcheck disable=SC2034 # the variables are for the script that sources this
# What the scripts share: the binaries, waiting for a state, stopping what was started.
#
# Sourced, never run. Everything started with `start` is stopped when the script
# ends, however it ends, and nothing else is: processes are ended by their id.

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# The scripts change directories.
case ${CARGO_TARGET_DIR:-/} in /*) ;; *) export CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;; esac
static_dir=${CARGO_TARGET_DIR:-$root/target}/static # of scripts/build-static
started='' # ids of the processes to stop
scratch='' # directory to remove

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need COMMAND…: ends the script when one of them is not installed.
need() {
    local command
    for command; do
        command -v "$command" >/dev/null || fail "needs $command, which is not installed"
    done
}

# Sets `bin_dir`: BIN_DIR where that is set (nothing is built then), otherwise
# cargo's debug directory after a build, which is quicker than a release build.
binaries() {
    bin_dir=${BIN_DIR:-}
    if [ -z "$bin_dir" ]; then
        need cargo
        (cd "$root" && cargo build --locked --bins) || fail 'the build failed'
        bin_dir=${CARGO_TARGET_DIR:-$root/target}/debug
    fi
    local name
    for name in balancing-reverse-proxy dummy-http-server; do
        [ -x "$bin_dir/$name" ] || fail "no $name in $bin_dir"
    done
}

# Sets `scratch`, a new directory that is removed at the end.
make_scratch() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/balancing-reverse-proxy.XXXXXX")
}

# start LOG COMMAND…: runs COMMAND in the background, what it prints goes to LOG.
start() {
    local log=$1
    shift
    "$@" </dev/null >>"$log" 2>&1 &
    started="$started $!"
}

stop() { # PROCESS
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# Stops what was started first.
stop_first() {
    local first
    read -r first started <<<"$started"
    stop "$first"
}

stop_started() {
    local pid
    for pid in $started; do stop "$pid"; done
    started=''
}

clean_up() {
    local status=$?
    stop_started
    if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
    return "$status"
}
trap clean_up EXIT

# wait_until SECONDS COMMAND…: until COMMAND succeeds; fails when the time is over.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ "$SECONDS" -gt "$end" ]; then return 1; fi
        sleep 0.02
    done
}

# The addresses of the dummy servers that write to LOG, one a line.
addresses_in() {
    sed -n 's/.*serving on "\([^"]*\)".*/\1/p' "$1"
}

has_addresses() { # LOG COUNT
    [ "$(addresses_in "$1" | wc -l)" -ge "$2" ]
}

# start_dummies LOG COUNT FLAG…: dummy servers on free ports; once they listen,
# sets `endpoints`, the value for -endpoints: all that write to LOG, earlier ones first.
start_dummies() {
    local log=$1 count=$2 number before
    shift 2
    touch "$log"
    before=$(addresses_in "$log" | wc -l)
    for ((number = before + 1; number <= before + count; number++)); do
        start "$log" "$bin_dir/dummy-http-server" -address 127.0.0.1:0 "$@"
        if ! wait_until 10 has_addresses "$log" "$number"; then
            cat "$log" >&2
            fail 'a dummy server did not start'
        fi
    done
    endpoints=$(addresses_in "$log" | sed 's|^|http://|' | paste -sd, -)
}

# start_proxy LOG FLAG…: the proxy on a free port; once it accepts connections,
# sets `proxy`, its process id, `address`, and `monitor`, the address of -monitor.
start_proxy() {
    local log=$1 ready=$scratch/ready
    shift
    rm -f "$ready"
    start "$log" "$bin_dir/balancing-reverse-proxy" -address 127.0.0.1:0 -ready-file "$ready" "$@"
    proxy=$!
    if ! wait_until 10 test -s "$ready"; then
        cat "$log" >&2
        fail 'the proxy did not start'
    fi
    {
        read -r address
        read -r monitor || monitor=''
    } <"$ready"
}
