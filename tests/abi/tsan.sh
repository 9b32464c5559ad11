#!/usr/bin/env bash
# The C interface under ThreadSanitizer, both sides of it: the library is built with it (nightly Rust, the standard library too), and so are
# the programs. Four threads share handles and hand them on. scripts/test.sh tsan builds the library and runs this with its flags.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

HERE=$ROOT/tests/abi
BUILD=$ROOT/build/abi-tsan
HOST=$(rustc -vV | sed -n 's/^host: //p')
TSAN_CALLS=${TSAN_CALLS:-100000}
mkdir -p "$BUILD"

archive=$TARGET/$HOST/debug/deps/libfreehold_capi.a
runtime=$(echo "$(rustc +nightly --print sysroot)/lib/rustlib/$HOST/lib/"librustc-*_rt.tsan.a)
[ -f "$archive" ] && [ -f "$runtime" ] || die "no $archive, or no $runtime"
read -ra natives <<<"$(native_libraries)"

# run NAME ARGUMENT...
run() {
    local name=$1
    # The sanitizer's functions are those of the Rust that built the library: clang's own may be older.
    clang -std=c11 -D_POSIX_C_SOURCE=200809L -g -O1 -fsanitize=thread -I"$ROOT/include" -I"$HERE" -c "$HERE/$name.c" \
        -o "$BUILD/$name.o"
    clang "$BUILD/$name.o" "$archive" "$runtime" "${natives[@]}" -rdynamic -o "$BUILD/$name"
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 FREEHOLD_HOST_CACHE=0 "$BUILD/$name" "${@:2}"
}

run threads
run fuzz_calls "$TSAN_CALLS" 1 4
