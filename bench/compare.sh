#!/bin/sh
# Is this tree slower than the commit BASE? Builds BASE beside it, measures both in
# turn, a round at a time, and compares. Leaves the documents in OUT. WORKLOADS names
# what is measured (see below), ROUNDS how often.
set -eu
BASE=${BASE:?set BASE to the commit to compare with}
ROUNDS=${ROUNDS:-6}
WORKLOADS=${WORKLOADS:-store fetch small append meta actor}
OUT=${OUT:-tmp/compare}
DIR=${BENCH_DIR:-tmp/bench}
GO=${GO:-go}

rm -rf "$OUT"
mkdir -p "$OUT/old" "$DIR"
git archive "$BASE" | tar -x -C "$OUT/old"
(cd "$OUT/old" && "$GO" build -buildvcs=false -o bin/ ./cmd/...)

# measure BIN WORKLOAD: one round of it, as JSON.
measure() {
	bin=$1
	case $2 in
	store) set -- write --mini --size 256MiB --count 4 --verify=false ;;
	fetch) set -- read --mini --size 64MiB --files 8 --duration 4s ;;
	small) set -- small --mini --duration 4s ;;
	append) set -- append --mini --workers 8 --files 1 --duration 4s ;;
	meta) set -- meta --mini --ops mkdir,create,stat --duration 3s ;;
	actor) set -- meta --against actor --duration 3s ;;
	*) echo "no workload $2; there are store fetch small append meta actor" >&2; exit 2 ;;
	esac
	"$bin" "$@" --dir "$DIR" --json
}

round=0
while [ $round -lt "$ROUNDS" ]; do
	round=$((round + 1))
	for w in $WORKLOADS; do
		# Who begins alternates, so that neither always follows the other.
		order="old new"
		[ $((round % 2)) -eq 1 ] || order="new old"
		for side in $order; do
			bin=bin/wwbench
			[ $side = new ] || bin=$OUT/old/bin/wwbench
			measure "$bin" "$w" >> "$OUT/$w-$side.json"
		done
	done
	echo "round $round of $ROUNDS is done" >&2
done
for w in $WORKLOADS; do
	printf '\n=== %s: %s against this tree\n' "$w" "$BASE"
	bin/wwbench compare "$OUT/$w-old.json" "$OUT/$w-new.json"
done
