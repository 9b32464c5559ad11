#!/usr/bin/env bash
# The one test command. Usage: scripts/test.sh [step...]; without steps, all of them, in the order below.
#
# Every step runs, also after a failure, and the last lines are one verdict a step; where there are processors for it, two steps
# run at a time. What cannot be run here (clang, valgrind and what emulates aarch64 need root to install) is a SKIP with its reason;
# with CI=true or FREEHOLD_NO_SKIP=1 a skip fails the run.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

ALL_STEPS=(fmt ptx rust snapshots python corpus wheel abi demo install examples docs miri loom tsan aarch64 doctest clippy free-threaded)
NO_SKIP=${FREEHOLD_NO_SKIP:-}
if [ "${CI:-}" = true ]; then
    NO_SKIP=1
    # Nothing is built twice there: what incremental builds keep would only fill the disk.
    export CARGO_INCREMENTAL=0
fi
export FREEHOLD_NO_SKIP=$NO_SKIP
LOGS=$ROOT/build/test
# A changed snapshot is a failure to look at, never a file written behind one's back.
export INSTA_UPDATE=no

# A step says why it cannot run, or what part of it could not, with a line that starts so.
skip() { echo "SKIP: $*"; }

step_fmt() { cargo fmt --all --check; }
# What is off in what is built for others, and tested all the same.
FEATURES=(--features freehold-device/cudarc)
# For the other architecture too, where rustup has added its standard library: that needs no cross compiler.
step_clippy() {
    cargo clippy --workspace "${FEATURES[@]}" --all-targets --quiet -- -D warnings || return 1
    if [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu" ]; then
        cargo clippy -p freehold-tensor --target aarch64-unknown-linux-gnu --all-targets --quiet -- -D warnings
    else
        skip "clippy for aarch64: rustup has not added its standard library"
    fi
}
# insta lists the snapshots that the tests compared, for step_snapshots.
step_rust() {
    : >"$LOGS/snapshots.used"
    INSTA_SNAPSHOT_REFERENCES_FILE=$LOGS/snapshots.used \
        cargo nextest run --workspace --exclude freehold-python "${FEATURES[@]}" --no-fail-fast
}
step_doctest() { cargo test --doc --workspace --exclude freehold-python "${FEATURES[@]}"; }

# The comparing is in the tests themselves; what is left is a snapshot file that no test compares any more.
step_snapshots() {
    [ -f "$LOGS/snapshots.used" ] || step_rust || return 1
    local orphans
    orphans=$(comm -23 <(git ls-files -- '*.snap' | sort) <(sed "s|^$ROOT/||" "$LOGS/snapshots.used" | sort -u))
    if [ -z "$orphans" ]; then return 0; fi
    printf 'snapshots that no test compares:\n%s\n' "$orphans"
    return 1
}

# The crates whose unsafe code can run without foreign code. Tests that read files or start processes say so themselves
# with cfg!(miri), and so do those that would take minutes when interpreted. All tests of a binary in one process: one takes five
# seconds to start, and a process for each test, as nextest has, took three times as long. A test that hangs ends with all of them.
step_miri() {
    if ! cargo +nightly miri --version >/dev/null 2>&1; then
        skip "miri is not installed, and without rustup it cannot be added"
        return
    fi
    # A backtrace of an expected panic, interpreted, takes longer than the test.
    MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-disable-isolation" PROPTEST_CASES=3 RUST_BACKTRACE=0 \
        timeout 45m cargo +nightly miri test -p freehold-tensor -p freehold-ledger -p freehold-device -p freehold \
        --features freehold/ndarray --lib --tests --no-fail-fast -- -Z unstable-options --report-time &
    # For the trap: what `timeout` starts is no part of this script's group.
    echo $! >"$LOGS/miri.pid"
    wait $!
    local status=$?
    rm -f "$LOGS/miri.pid"
    if [ $status -eq 124 ]; then echo "Miri was not done after 45 minutes"; fi
    return $status
}

# Every order in which the threads of the models of the ledger and of a tensor's count can run. The flag changes every crate, hence the folder.
step_loom() {
    # The models run for less than a second: what takes minutes is a release build, of which they need little.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_TARGET_DIR=$TARGET/loom RUSTFLAGS="--cfg loom" cargo test --release -p freehold-ledger -p freehold --lib loom_
}

# The same crates with real threads, watched for data races. The standard library is built with the watching too. Left out: the
# device's kernels, which have no threads here, and the long suites of copies, whose races the tests' driver looks for. The crate of the
# C interface is built with them, so that they share what is compiled, for the programs in C.
step_tsan() {
    if ! cargo +nightly --version >/dev/null 2>&1; then
        skip "there is no nightly toolchain, and without rustup it cannot be added"
        return
    fi
    # The tests' CUDA driver is opened at run time, and finds what watches in the program, which must export it.
    local flags='-Zsanitizer=thread -Clink-arg=-Wl,--export-dynamic-symbol=__tsan_*'
    TSAN_OPTIONS=allocator_may_return_null=1 CARGO_TARGET_DIR=$TARGET/tsan RUSTFLAGS=$flags \
        cargo +nightly nextest run --profile watched -Zbuild-std --target "$(rustc -vV | sed -n 's/^host: //p')" \
        --config 'profile.test.package.freehold-tensor.opt-level=1' -p freehold-ledger -p freehold-device -p freehold -p freehold-capi \
        --no-fail-fast -E 'not (package(freehold-capi) | binary(cuda_kernels) | binary(cuda_transfers) | binary(cuda_roads))' || return 1
    if ! have clang; then
        skip "clang is not installed"
        return
    fi
    CARGO_TARGET_DIR=$TARGET/tsan RUSTFLAGS=$flags tests/abi/tsan.sh
}

step_python() {
    cargo build --quiet -p freehold-fake-cuda && scripts/build.sh python && "$PYTHON" -m pytest -q -rs tests/interop
}

# Bugs of other projects, in a process that they may leave things behind in.
step_corpus() {
    scripts/build.sh python && "$PYTHON" -m pytest -q -rs tests/corpus
}

# X23: there is no GIL in a free-threaded Python.
step_free-threaded() { scripts/free_threaded.sh; }

step_wheel() { tests/wheel/run.sh; }

# Run only by name: it takes a quarter of an hour.
step_exhaustive() {
    export FREEHOLD_EXHAUSTIVE=1
    cargo test --release --quiet -p freehold-tensor --lib in_bulk &&
        "$PYTHON" -m pytest -q -rs tests/interop/test_casts.py
}

# The kernels on the other architecture, emulated.
step_aarch64() { CARGO_TARGET_DIR=$TARGET/aarch64 scripts/aarch64.sh; }

# No GPU: the committed PTX is what the sources give, and an assembler takes it for each kind of GPU.
step_ptx() { scripts/ptx.sh check; }

step_demo() { scripts/demo.sh; }
step_abi() { scripts/build.sh library && tests/abi/run.sh; }
step_install() { scripts/build.sh library && tests/install/run.sh; }
step_examples() { scripts/build.sh library && tests/examples/run.sh; }
# The book's examples in Python are step_python's.
step_docs() { scripts/build.sh library && scripts/docs.sh; }
# Run only by name: ten million random calls by each compiler's AddressSanitizer; step_abi makes few of them.
step_fuzz() { scripts/build.sh library && FUZZ_CALLS=${FUZZ_CALLS:-10000000} tests/abi/run.sh fuzz; }
# Run only by name: candle's crates take five minutes to compile.
step_candle() {
    scripts/build.sh library && cargo nextest run -p freehold --features ndarray,candle --test candle && tests/examples/run.sh candle
}

steps=("$@")
if [ ${#steps[@]} -eq 0 ]; then steps=("${ALL_STEPS[@]}"); fi
for step in "${steps[@]}"; do
    declare -F "step_$step" >/dev/null || die "there is no step '$step'; there are: ${ALL_STEPS[*]}"
done

# Python packages are needed for the frameworks, for the real dlpack.h (apache-tvm-ffi ships it), and for CMake.
case " ${steps[*]} " in
    *" python "* | *" corpus "* | *" exhaustive "* | *" abi "* | *" fuzz "* | *" demo "* | *" install "* | *" examples "* | *" docs "* | \
        *" wheel "* | *" free-threaded "*) scripts/setup.sh test || exit 1 ;;
    *) scripts/setup.sh tools || exit 1 ;;
esac
. scripts/lib.sh
mkdir -p "$LOGS"
rm -f "$LOGS/miri.pid"

# What a step's log says about how many tests ran: the closing line of nextest or pytest, or the sum of cargo test's.
closing_line() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        /^test result:/ { passed += $4; failed += $6; ignored += $8; seen = 1; next }
        /^ *Summary \[/ || /^=*.*[0-9]+ (passed|failed).* in [0-9.]+s/ { last = $0 }
        END {
            if (last) print last
            else if (seen) printf "%d passed, %d failed, %d skipped\n", passed, failed, ignored
        }'
}

# Runs one step, its output into its log and through $2, and leaves its verdict beside the log.
run_step() {
    local step=$1 log=$LOGS/$1.log start=$SECONDS status note closing verdict
    "step_$step" 2>&1 | tee "$log" | "$2"
    status=${PIPESTATUS[0]}
    note=$(sed -n 's/^SKIP: //p' "$log" | sort -u | paste -sd ';' | sed 's/;/; /g')
    closing=$(closing_line "$log")
    # Interpreted and emulated, tests that cannot run so are left out by name; elsewhere nothing may be.
    case $step in
        miri | tsan | aarch64) ;;
        *) if [[ $closing =~ [1-9][0-9]*\ skipped ]]; then note="${note:+$note; }${BASH_REMATCH[0]}"; fi ;;
    esac
    verdict=PASS
    if [ -n "$note" ]; then verdict=SKIP; else note=$(sed 's/^ *Summary \[[^]]*\] //; s/^=* *//; s/ *=*$//' <<<"$closing"); fi
    if [ "$status" -ne 0 ]; then verdict=FAIL note="exit $status, see ${log#"$ROOT"/}"; fi
    printf '%-4s  %-13s %4d s   %s\n' $verdict "$step" $((SECONDS - start)) "$note" >"$LOGS/$step.verdict"
    # No later step uses what these built.
    if [ "${CI:-}" = true ]; then case $step in miri | loom | tsan | aarch64 | wheel) rm -rf "${TARGET:?}/$step" ;; esac; fi
}
silent() { cat >/dev/null; }

# What builds in folders of its own and waits on one thread most of the time goes on beside the rest, from when `python` starts.
# What it printed follows when the rest is done.
BESIDE=() LANE=
if [ $# -eq 0 ] && [ "$(getconf _NPROCESSORS_ONLN)" -gt 1 ]; then BESIDE=(miri loom tsan aarch64 free-threaded); fi
beside() { case " ${BESIDE[*]-} " in *" $1 "*) ;; *) return 1 ;; esac; }
# Nothing goes on when this script is stopped.
trap 'trap - INT TERM; if [ -f "$LOGS/miri.pid" ]; then kill "$(cat "$LOGS/miri.pid")"; fi; kill 0' INT TERM

for step in "${steps[@]}"; do rm -f "$LOGS/$step.verdict"; done
for step in "${steps[@]}"; do
    if beside "$step"; then continue; fi
    if [ "$step" = python ] && [ ${#BESIDE[@]} -gt 0 ]; then
        say "beside what follows: ${BESIDE[*]}"
        (for other in "${BESIDE[@]}"; do run_step "$other" silent; done) &
        LANE=$!
    fi
    say "$step"
    run_step "$step" cat
done
if [ -n "$LANE" ]; then
    say "waiting for: ${BESIDE[*]}"
    wait "$LANE"
    for step in "${BESIDE[@]}"; do
        say "$step"
        cat "$LOGS/$step.log"
    done
fi

echo
failed=0
for step in "${steps[@]}"; do
    verdict=$(cat "$LOGS/$step.verdict" 2>/dev/null || printf 'FAIL  %-13s it left no verdict' "$step")
    printf '%s\n' "$verdict"
    case $verdict in
        PASS*) ;;
        SKIP*) if [ -n "$NO_SKIP" ]; then failed=1; fi ;;
        *) failed=1 ;;
    esac
done
if [ $failed -ne 0 ] && [ -n "$NO_SKIP" ]; then echo "A skip counts as a failure here."; fi
for step in "${steps[@]}"; do case $step in rust | python) closing_line "$LOGS/$step.log" ;; esac; done
exit $failed
