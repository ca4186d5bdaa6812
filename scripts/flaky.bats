# A client against flaky servers: an example in bats. curl stands for the client under test.
#
#   bats scripts/flaky.bats    with dummy-http-server in the path

setup() {
    log=$BATS_TEST_TMPDIR/log
}

# serve FLAG…: a dummy server on a free port; sets `server` and `url`.
serve() {
    dummy-http-server -address 127.0.0.1:0 -pauses 5ms -codes 200 -body whole -stop-after 1m "$@" \
        >"$BATS_TEST_TMPDIR/counts" 2>"$log" 3>&- &
    server=$!
    until grep -q 'serving on' "$log"; do
        kill -0 "$server" || return 1
        sleep 0.05
    done
    url=http://$(sed -n 's/.*serving on "\(.*\)"$/\1/p' "$log")/
}

# has_served COUNTS: stops the server; whether it says that.
has_served() {
    kill "$server"
    wait "$server"
    [ "$(cat "$BATS_TEST_TMPDIR/counts")" = "served $1" ]
}

teardown() {
    kill "$server" 2>/dev/null || true
}

client() {
    curl --fail --silent --noproxy '*' "$@" "$url"
}

@test "it comes back after Retry-After until the server is up" {
    serve -ok-after 2 -try-later 1s
    run client --retry 5
    [ "$status" -eq 0 ]
    [ "$output" = whole ]
    has_served '3 requests: 200: 1, 503: 2, hung: 0, broken: 0'
}

@test "it gives up on a server that hangs" {
    serve -hang-rate 1
    run client --max-time 2
    [ "$status" -eq 28 ]
    has_served '1 requests: hung: 1, broken: 0'
}

@test "it does not take half an answer for a whole one" {
    serve -break-rate 1 -body-size 10KiB
    run client --output /dev/null
    [ "$status" -eq 18 ]
    has_served '1 requests: hung: 0, broken: 1'
}

# ten: what ten requests come to.
ten() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do client --output /dev/null --write-out '%{http_code} ' || true; done
}

@test "some answers are errors, and the same ones again" {
    serve -codes 200:0.7,500:0.3 -chance-seed 3
    first=$(ten)
    [[ $first == *200* && $first == *500* ]]
    kill "$server"
    serve -codes 200:0.7,500:0.3 -chance-seed 3
    [ "$(ten)" = "$first" ]
}
