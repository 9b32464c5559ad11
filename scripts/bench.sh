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
tvm=$(tvm_ffi_directory)
"${CC:-cc}" -O2 -std=c11 -Wall -Wextra -Werror -Iinclude ${tvm:+-DTVM_FFI -I"$tvm/include"} tests/bench/roundtrip.c \
    -L"$LIBDIR" -lfreehold -Wl,-rpath,"$LIBDIR" ${tvm:+-L"$tvm/lib" -ltvm_ffi -Wl,-rpath,"$tvm/lib"} -o build/bench/roundtrip
build/bench/roundtrip | tee -a "$results"
say "Python"
"$PYTHON" tests/bench/handover.py | tee -a "$results"
"$PYTHON" tests/bench/report.py docs/benchmarks.md <"$results"
say "docs/benchmarks.md has the tables"
