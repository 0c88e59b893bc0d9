#!/bin/sh
# One turn of the loop that makes things faster: load a cluster, profile both
# sides, show what the time went to. Leaves the profiles in OUT for
# `go tool pprof -http=: FILE`. WORKLOAD is a verb of wwbench and its flags.
set -eu
OUT=${OUT:-tmp/profile}
DIR=${BENCH_DIR:-tmp/bench}
WORKLOAD=${WORKLOAD:-write --bytes 4GiB}
TOP=${TOP:-25}
GO=${GO:-go}

mkdir -p "$OUT" "$DIR"
data=$(mktemp -d "$DIR/profile-XXXXXX")
server=
finish() {
	[ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; server=; }
	rm -rf "$data"
}
trap finish EXIT
trap 'exit 130' INT TERM

bin/ww mini --dir "$data" --listen 127.0.0.1:0 --trash-delay 1s --log-level error --profile cpu --profile-dir "$OUT/server" &
server=$!
tries=0
until [ -s "$data/client.yaml" ]; do
	tries=$((tries + 1))
	[ $tries -le 300 ] && kill -0 "$server" 2>/dev/null || { echo 'ww mini does not serve' >&2; exit 1; }
	sleep 0.1
done
bin/wwbench $WORKLOAD --config "$data/client.yaml" --dir "$DIR" --profile cpu --profile-dir "$OUT/client"
kill "$server"
wait "$server" || true
server=
for side in server client; do
	printf '\n=== %s: %s\n' "$side" "$OUT/$side/cpu.pprof"
	"$GO" tool pprof -top -nodecount "$TOP" "$OUT/$side/cpu.pprof" 2>/dev/null
done
