#!/usr/bin/env bash
# Three dummy servers, the proxy in fan-out mode in front of them, and curl in a
# loop until the proxy is gone. Everything stops by itself (-stop-after).
#
# Exit 0: the proxy stopped as it should, and answered 200 at least once.
# What all of them printed stays in a log file, its path is the last line here.
# BIN_DIR=DIRECTORY takes binaries that are there instead of building them.
set -euo pipefail
# shellcheck source=scripts/lib.bash
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

proxy_seconds=4
dummy_seconds=6 # longer than the proxy, which is started after them

need curl
binaries
make_scratch
log=$(mktemp "${TMPDIR:-/tmp}/multi-test.log.XXXXXX")

start_dummies "$log" 3 -stop-after "${dummy_seconds}s"
start_proxy "$log" -endpoints "$endpoints" -fanout -stop-after "${proxy_seconds}s"
echo "proxy on $address, endpoints $endpoints"

answered=0 refused=0 broken=0
while kill -0 "$proxy" 2>/dev/null; do
    # A request that is under way when the proxy stops has no answer: that is no error.
    status=$(curl --silent --noproxy '*' --max-time 10 --output "$scratch/body" \
        --write-out '%{http_code}' "http://$address/request/$((answered + refused + 1))") || true
    case $status in
    200)
        answered=$((answered + 1))
        cat "$scratch/body"
        ;;
    000) broken=$((broken + 1)) ;;
    *) refused=$((refused + 1)) ;;
    esac
    sleep 0.1 # a load is not the point
done

proxy_exit=0
wait "$proxy" || proxy_exit=$?
for pid in $started; do
    if [ "$pid" != "$proxy" ]; then wait "$pid" || fail "a dummy server ended with exit $?, see $log"; fi
done
started=''

echo "answered with 200: $answered, with another status: $refused, not at all: $broken"
echo "log: $log"
[ "$proxy_exit" -eq 0 ] || fail "the proxy ended with exit $proxy_exit"
[ "$answered" -gt 0 ] || fail 'no request was answered with 200'
