#!/usr/bin/env bash
# Builds and runs the C and C++ programs against libfreehold: gcc and clang, C11 and C++17, shared and static, plain,
# under AddressSanitizer with LeakSanitizer, and under valgrind. Ends with the counts; exits nonzero on any failure.
# Usage: tests/abi/run.sh [program...]. FREEHOLD_LIB_DIR names the directory of the libraries (default: cargo's release).
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

LIB=${FREEHOLD_LIB_DIR:-$TARGET/release}
BUILD=${FREEHOLD_ABI_BUILD:-$ROOT/build/abi}
FUZZ_CAPSULES=${FUZZ_CAPSULES:-100000}
FUZZ_SEED=${FUZZ_SEED:-1}
WARN=(-Wall -Wextra -Werror -pedantic)
HERE=$ROOT/tests/abi
[ -f "$LIB/libfreehold.so" ] && [ -f "$LIB/libfreehold.a" ] || die "no libfreehold in $LIB: make build"
mkdir -p "$BUILD"
# Programs ask for the library by its SONAME.
SONAME=$(LC_ALL=C objdump -p "$LIB/libfreehold.so" | awk '$1 == "SONAME" { print $2 }')
ln -sf "$LIB/libfreehold.so" "$BUILD/$SONAME"
ln -sf "$LIB/libfreehold.so" "$BUILD/libfreehold.so"
read -ra NATIVE < <(rustc --print native-static-libs --crate-type staticlib - </dev/null 2>&1 |
    sed -n 's/.*native-static-libs: //p')
rm -f librust_out.a

skips=0 builds=0 runs=0 failures=0
skip() { echo "SKIP: $*"; skips=$((skips + 1)); }
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

compilers=()
for pair in gcc:g++ clang:clang++; do
    if have "${pair%:*}" && have "${pair#*:}"; then compilers+=("$pair"); else skip "${pair%:*} is not installed"; fi
done
have valgrind || skip "valgrind is not installed"
REAL=
if [ -x "$PYTHON" ]; then
    REAL=$("$PYTHON" -c 'import importlib.util as u, os
spec = u.find_spec("tvm_ffi")
if spec: print(os.path.join(os.path.dirname(spec.origin), "include"))' 2>/dev/null)
fi
[ -n "$REAL" ] && [ -f "$REAL/dlpack/dlpack.h" ] || { REAL=; skip "the real dlpack.h is not here (PyPI: apache-tvm-ffi)"; }

wanted() { [ ${#ONLY[@]} -eq 0 ] || [[ " ${ONLY[*]} " == *" $1 "* ]]; }
ONLY=("$@")

# build NAME OUTPUT COMMAND...
build() {
    local name=$1 output=$2
    shift 2
    builds=$((builds + 1))
    if ! "$@" -o "$output" 2>"$output.log"; then
        fail "$name does not build: $*"
        cat "$output.log"
        return 1
    fi
}

# run NAME COMMAND...
run() {
    local name=$1 log status
    shift
    log=$BUILD/$name.log
    runs=$((runs + 1))
    "$@" >"$log" 2>&1 && return 0
    status=$?
    fail "$name: exit $status: $*"
    tail -60 "$log"
    return 1
}

SHARED=(-L"$BUILD" -lfreehold "-Wl,-rpath,$BUILD" -lpthread)
STATIC=("$LIB/libfreehold.a" "${NATIVE[@]}")
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
# Not "possibly lost": the tables of Rust's hash maps are held by a pointer into their middle.
VALGRIND=(valgrind -q --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect
    --error-exitcode=99)

# program NAME SOURCE...: every build of one program, each run.
program() {
    local name=$1 pair tool flags
    shift
    wanted "$name" || return 0
    for pair in "${compilers[@]}"; do
        if [[ $1 == *.cc ]]; then
            tool=${pair#*:} flags=(-std=c++17 "${WARN[@]}" -I"$ROOT/include" -I"$HERE")
        else
            tool=${pair%:*} flags=(-std=c11 "${WARN[@]}" -D_POSIX_C_SOURCE=200809L -I"$ROOT/include" -I"$HERE")
        fi
        local base=$BUILD/$name.$tool
        build "$name" "$base" "$tool" "${flags[@]}" -g -O1 "$@" "${SHARED[@]}" && run "$name.$tool" "$base" "$BUILD"
        build "$name" "$base.static" "$tool" "${flags[@]}" -O2 "$@" "${STATIC[@]}" &&
            run "$name.$tool.static" "$base.static" "$BUILD"
        build "$name" "$base.asan" "$tool" "${flags[@]}" -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
            "$@" "${SHARED[@]}" && run "$name.$tool.asan" "$base.asan" "$BUILD"
        if have valgrind && [ "$pair" = "${compilers[0]}" ] && [ -x "$base" ]; then
            run "$name.valgrind" "${VALGRIND[@]}" "$base" "$BUILD"
        fi
    done
}

for source in "$HERE"/*.c "$HERE"/*.cc; do
    [ -f "$source" ] || continue
    name=$(basename "${source%.*}")
    case $name in
        fuzz_capsules | header_* | include_*) ;;
        *) program "$name" "$source" ;;
    esac
done

echo "abi: $builds builds, $runs runs, $failures failures, $skips skips"
if [ "$skips" -gt 0 ] && { [ "${CI:-}" = true ] || [ -n "${FREEHOLD_NO_SKIP:-}" ]; }; then
    echo "A skip counts as a failure here."
    exit 1
fi
[ "$failures" -eq 0 ]
