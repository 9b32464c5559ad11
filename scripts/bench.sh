#!/usr/bin/env bash
# Measures figures of docs/benchmarks.md on this machine, in one run, and writes them there. Usage: bench.sh handovers|copies
set -euo pipefail
. "$(dirname "$0")/lib.sh"

what=${1:-handovers}
scripts/setup.sh test
. scripts/lib.sh
mkdir -p build/bench
results=build/bench/$what.jsonl
: >"$results"

handovers() {
    local tvm
    scripts/build.sh library
    say "Rust"
    cargo bench --quiet -p freehold --bench boundary | tee -a "$results"
    say "C"
    tvm=$(tvm_ffi_directory)
    "${CC:-cc}" -O2 -std=c11 -Wall -Wextra -Werror -Iinclude ${tvm:+-DTVM_FFI -I"$tvm/include"} tests/bench/roundtrip.c \
        -L"$LIBDIR" -lfreehold -Wl,-rpath,"$LIBDIR" ${tvm:+-L"$tvm/lib" -ltvm_ffi -Wl,-rpath,"$tvm/lib"} -o build/bench/roundtrip
    build/bench/roundtrip | tee -a "$results"
    say "Python"
    "$PYTHON" tests/bench/handover.py | tee -a "$results"
}

copies() {
    local threads
    for threads in 1 2; do
        say "copies, $threads threads"
        "$PYTHON" tests/bench/copies.py "$threads" | tee -a "$results"
    done
    say "small copies, and the search for losses"
    cargo bench --quiet -p freehold-tensor --bench small | tee -a "$results"
}

case $what in
    handovers | copies) scripts/build.sh python && "$what" ;;
    *) die "unknown figures '$what': handovers or copies" ;;
esac
"$PYTHON" tests/bench/report.py docs/benchmarks.md "$what" <"$results"
say "docs/benchmarks.md has the tables"
