#!/usr/bin/env bash
# Measures the figures of docs/benchmarks.md on this machine, in one run, and writes them there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

scripts/setup.sh test
. scripts/lib.sh
scripts/build.sh library
scripts/build.sh python

mkdir -p build/bench
results=build/bench/results.jsonl
say "Rust"
cargo bench --quiet -p freehold --bench boundary | tee "$results"
say "C"
"${CC:-cc}" -O2 -std=c11 -Wall -Wextra -Werror -Iinclude tests/bench/roundtrip.c \
    -L"$LIBDIR" -lfreehold -Wl,-rpath,"$LIBDIR" -o build/bench/roundtrip
build/bench/roundtrip | tee -a "$results"
say "Python"
"$PYTHON" tests/bench/handover.py | tee -a "$results"
"$PYTHON" tests/bench/report.py docs/benchmarks.md <"$results"
say "docs/benchmarks.md has the tables"
