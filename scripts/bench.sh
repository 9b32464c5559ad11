#!/usr/bin/env bash
# Measures figures of docs/benchmarks.md on this machine, in one run, and writes them there.
# Usage: bench.sh handovers|c|python|ledger|copies [TABLE [THREADS]]
# TABLE, a regular expression, measures and replaces only the tables of copies whose title has a match; THREADS, 1 or 2, only
# those of so many threads: bench.sh copies '^contiguous, DRAM' 1
# PAGE, in the environment, is where the tables go instead, between the same marks: docs/benchmarks-xeon.md.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

what=${1:-handovers}
only=${2:-} only_threads=${3:-} page=${PAGE:-docs/benchmarks.md}
if [ "$what" != copies ] && [ -n "$only$only_threads" ]; then die "only copies are measured table by table"; fi
case $only_threads in '' | 1 | 2) ;; *) die "1 or 2 threads, not '$only_threads'" ;; esac
scripts/setup.sh test
. scripts/lib.sh
mkdir -p build/bench
results=build/bench/$what.jsonl
: >"$results"

handovers() {
    say "Rust"
    cargo bench --quiet -p freehold --bench boundary | tee -a "$results"
    say "Python"
    "$PYTHON" tests/bench/handover.py | tee -a "$results"
}

# Freehold's C interface beside tvm-ffi's, in one process; then the library itself, as `make dist` packs it.
c() {
    local tvm so=build/bench/libfreehold.so ptx load best=999999999 ns
    say "C"
    tvm=$(tvm_ffi_directory)
    "${CC:-cc}" -O2 -std=c11 -Wall -Wextra -Werror -Iinclude -shared -fPIC tests/bench/nothing.c -o build/bench/libnothing.so
    "${CC:-cc}" -O2 -std=c11 -Wall -Wextra -Werror -Iinclude ${tvm:+-DTVM_FFI -I"$tvm/include"} tests/bench/roundtrip.c \
        -Lbuild/bench -lnothing -Wl,-rpath,"$ROOT/build/bench" -L"$LIBDIR" -lfreehold -Wl,-rpath,"$LIBDIR" ${tvm:+-L"$tvm/lib" -ltvm_ffi -Wl,-rpath,"$tvm/lib"} -o build/bench/roundtrip
    build/bench/roundtrip | tee -a "$results"
    say "the library"
    strip --strip-unneeded -o "$so" "$LIBDIR/libfreehold.so"
    "${CC:-cc}" -O2 -std=c11 -Wall -Wextra -Werror tests/bench/load.c -ldl -o build/bench/load
    for load in $(seq 50); do
        ns=$(build/bench/load "$ROOT/$so")
        if [ "$ns" -lt "$best" ]; then best=$ns; fi
    done
    # As freehold-device's build script packed it when it last ran.
    ptx=$(cat "$(ls -td "$TARGET"/dist/build/freehold-device-*/out | head -n 1)"/*.ptx.z | wc -c)
    printf '{"table": "the library, stripped", "size": %d, "ptx": %d, "load_ns": %d}\n' "$(stat -c %s "$so")" "$ptx" "$best" |
        tee -a "$results"
}

# A nanobind function, as a module in build/bench/modules; nothing where it cannot be built.
nanobind_module() {
    local at include suffix
    at=$("$PYTHON" -c 'import nanobind, os; print(os.path.dirname(nanobind.__file__))') || return 1
    include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    suffix=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    mkdir -p build/bench/modules
    if [ "build/bench/modules/taker$suffix" -nt tests/bench/taker.cpp ]; then return 0; fi
    "${CXX:-c++}" -O3 -DNDEBUG -std=c++17 -shared -fPIC -fvisibility=hidden -fno-strict-aliasing -DNB_COMPACT_ASSERTIONS \
        -isystem "$include" -isystem "$at/include" -isystem "$at/ext/robin_map/include" \
        tests/bench/taker.cpp "$at/src/nb_combined.cpp" -o "build/bench/modules/taker$suffix"
}

python() {
    nanobind_module || say "no nanobind module could be built here: its rows are missing"
    local part
    for part in functions pairs tensorflow; do
        say "Python, $part"
        PYTHONPATH=build/bench/modules${PYTHONPATH:+:$PYTHONPATH} "$PYTHON" tests/bench/pairs.py "$part" | tee -a "$results"
    done
}

copies() {
    local threads
    for threads in ${only_threads:-1 2}; do
        say "copies, $threads threads"
        "$PYTHON" tests/bench/copies.py "$threads" "$only" | tee -a "$results"
    done
    local titles=()
    mapfile -t titles < <(printf '%s\n' "small copies, plan included" "what finding losses costs, 8192 elements" | grep -E -- "$only")
    if [ ${#titles[@]} -eq 0 ] || [ "$only_threads" = 2 ]; then return; fi
    say "small copies, and the search for losses"
    cargo bench --quiet -p freehold-tensor --bench small -- "${titles[@]}" | tee -a "$results"
}

ledger() {
    say "the ledger, beside the primitives that could hold its records"
    cargo bench --quiet -p freehold --bench ledger | tee -a "$results"
    say "call sites in Python"
    "$PYTHON" tests/bench/sites.py | tee -a "$results"
}

case $what in
    handovers | python | copies | ledger) scripts/build.sh python && "$what" ;;
    c) scripts/build.sh library && c ;;
    *) die "unknown figures '$what': handovers, c, python, copies or ledger" ;;
esac
"$PYTHON" tests/bench/report.py "$page" "$what" ${only:+replace} <"$results"
say "$page has the tables"
