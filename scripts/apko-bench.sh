#!/bin/sh
# Compares what making an image costs: ours against another apko, in turn, on this machine.
#
#   APKO=path/to/ours PEER=path/to/other scripts/apko-bench.sh IMAGE.yaml [RUNS]
#
# Prints seconds of CPU (user and system) per run: cold (nothing cached), warm (packages cached), and for ours also new
# (packages cached, but never before in this combination: the first package is left out) and layout (into a folder that
# holds the image already). At the end stands the best run of each as a part of the other's best warm one, and beside it
# the limit: what hashing the layers' bytes once, plain and compressed, costs with openssl on this machine.
set -eu
image=$1 runs=${2:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cpu() {
	label=$1
	shift
	/usr/bin/time -f "$label %U %S %M" -o "$work/time" "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
	awk '{ printf "%-14s %7.2f s CPU  %6.0f MiB\n", $1, $2 + $3, $4 / 1024 }' "$work/time" | tee -a "$work/all"
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

tar -xOf "$work/ours.tar" manifest.json | tr -d ' \n' | sed 's/.*"Layers":\[\([^]]*\)\].*/\1/' | tr -d '"' | tr ',' '\n' >"$work/layers"
while read -r layer || [ -n "$layer" ]; do
	tar -xOf "$work/ours.tar" "$layer" >"$work/layer"
	wc -c <"$work/layer"
	gzip -dc "$work/layer" | wc -c
done <"$work/layers" | awk '{ n += $1 } END { print n }' >"$work/bytes"
speed=$(openssl speed -bytes 16384 -seconds 1 sha256 2>/dev/null | awk '/^sha256/ { sub(/k$/, "", $2); print $2 * 1000 }')
awk -v bytes="$(cat "$work/bytes")" -v speed="${speed:-0}" '
	!($1 in best) || $2 < best[$1] { best[$1] = $2 }
	END {
		warm = best["peer-warm"]
		for (label in best) if (warm && best[label] && label ~ /^ours/) printf "%-14s 1/%.1f of peer-warm\n", label, warm / best[label]
		if (speed) printf "%-14s %7.2f s CPU to hash %.0f MB\n", "limit", bytes / speed, bytes / 1e6
	}' "$work/all" | sort
