#!/bin/sh
# Compares what making an image costs: ours against another apko, in turn, on this machine.
#
#   APKO=path/to/ours PEER=path/to/other scripts/apko-bench.sh IMAGE.yaml [RUNS]
#
# Prints seconds of CPU (user and system) per run: cold (nothing cached), warm (packages cached), and for ours also new
# (packages cached, but never before in this combination: the first package is left out) and layout (into a folder that
# holds the image already).
set -eu
image=$1 runs=${2:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cpu() {
	label=$1
	shift
	/usr/bin/time -f "$label %U %S %M" -o "$work/time" "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
	awk '{ printf "%-14s %7.2f s CPU  %6.0f MiB\n", $1, $2 + $3, $4 / 1024 }' "$work/time"
}

# without the first package that the image file lists
awk '/^ *packages:/ { seen = 1; print; next } seen == 1 && /^ *- / { seen = 2; next } { print }' "$image" >"$work/new.yaml"

mkdir "$work/sbom"
for i in $(seq "$runs"); do
	if [ -n "${PEER:-}" ]; then
		rm -rf "$work/peer"
		cpu peer-cold "$PEER" build "$image" bench:cold "$work/peer.tar" --cache-dir "$work/peer" --sbom-path "$work/sbom"
		cpu peer-warm "$PEER" build "$image" bench:warm "$work/peer.tar" --cache-dir "$work/peer" --sbom-path "$work/sbom"
	fi
	rm -rf "$work/ours" "$work/layout"
	cpu ours-cold "$APKO" build "$image" bench:cold "$work/ours.tar" --cache-dir "$work/ours"
	cpu ours-warm "$APKO" build "$image" bench:warm "$work/ours.tar" --cache-dir "$work/ours"
	cpu ours-new "$APKO" build "$work/new.yaml" bench:new "$work/ours.tar" --cache-dir "$work/ours"
	"$APKO" build "$image" bench:layout "$work/layout" --cache-dir "$work/ours" >/dev/null
	cpu ours-layout "$APKO" build "$image" bench:layout "$work/layout" --cache-dir "$work/ours"
done
