#!/bin/sh
# Compares what opening an index of 150,000 packages and solving 50 of them costs: ours, cold and warm, against apk-tools
# and another apko, as whole processes, in turn, on this machine.
#
#   APK=path/to/apk PEER=path/to/other-apko scripts/solve-bench.sh [RUNS]
#
# Prints the medians of wall clock and processor time (user and system), the most memory, and ours as parts of theirs.
# Either program may be left out.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${GO:-go} build -o "$work/apko" ./apko
set -- -own-apko "$work/apko" -runs "${1:-9}"
[ -z "${APK:-}" ] || set -- "$@" -apk "$(command -v "$APK")"
[ -z "${PEER:-}" ] || set -- "$@" -apko "$(command -v "$PEER")"
${GO:-go} test -c -o "$work/bench" ./shared/catalog
cd shared/catalog
"$work/bench" -test.v -test.run '^TestCost$' "$@" 2>/dev/null | sed -n 's/^ *judge_test.go:[0-9]*: //p'
