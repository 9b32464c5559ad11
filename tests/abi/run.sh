#!/usr/bin/env bash
# Builds and runs the C and C++ programs against libfreehold: gcc and clang, C11 and C++17, shared and static, plain,
# under AddressSanitizer with LeakSanitizer, and under valgrind. Ends with the counts; exits nonzero on any failure.
# Usage: tests/abi/run.sh [program|symbols|frozen|pages|headers|include|allocations|fuzz...]. FREEHOLD_LIB_DIR names another directory of libraries.
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

LIB=${FREEHOLD_LIB_DIR:-$LIBDIR}
BUILD=${FREEHOLD_ABI_BUILD:-$ROOT/build/abi}
FUZZ_CAPSULES=${FUZZ_CAPSULES:-100000}
FUZZ_CALLS=${FUZZ_CALLS:-200000}
FUZZ_SEED=${FUZZ_SEED:-1}
WARN=(-Wall -Wextra -Werror -pedantic)
HERE=$ROOT/tests/abi
[ -f "$LIB/libfreehold.so" ] && [ -f "$LIB/libfreehold.a" ] || die "no libfreehold in $LIB: make build"
mkdir -p "$BUILD"
# cargo's own directory has no file with the SONAME, by which programs ask for the library.
ln -sf "$LIB/libfreehold.so" "$BUILD/$(soname "$LIB/libfreehold.so")"
ln -sf "$LIB/libfreehold.so" "$BUILD/libfreehold.so"
read -ra NATIVE <<<"$(native_libraries)"

skips=0 builds=0 runs=0 failures=0
skip() { echo "SKIP: $*"; skips=$((skips + 1)); }
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

compilers=()
for pair in gcc:g++ clang:clang++; do
    if have "${pair%:*}" && have "${pair#*:}"; then compilers+=("$pair"); else skip "${pair%:*} is not installed"; fi
done
have valgrind || skip "valgrind is not installed"
ABIDIFF=1
if ! have abidiff || ! have abidw; then ABIDIFF= && skip "abidiff is not installed (Debian: abigail-tools)"; fi
REAL=$(tvm_ffi_directory)
REAL=${REAL:+$REAL/include}
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
# Kept blocks would hide a use of freed memory. What is linked statically runs with them, too, as programs do.
export FREEHOLD_HOST_CACHE=0
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
            run "$name.$tool.static" "$base.static" "$BUILD" &&
            FREEHOLD_HOST_CACHE=16M run "$name.$tool.static.kept" "$base.static" "$BUILD"
        build "$name" "$base.asan" "$tool" "${flags[@]}" -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
            "$@" "${SHARED[@]}" && run "$name.$tool.asan" "$base.asan" "$BUILD"
        if have valgrind && [ "$pair" = "${compilers[0]}" ] && [ -x "$base" ]; then
            run "$name.valgrind" "${VALGRIND[@]}" "$base" "$BUILD"
        fi
    done
}

# Only compiled: every header order, against every dlpack.h that is here and two stand-ins for old ones.
headers() {
    local pair=$1 lang order real includes reals=("-DSTAND_IN=60 stand_in_dlpack.h" "-DSTAND_IN=100 stand_in_dlpack.h") torch
    if [ -n "$REAL" ]; then
        # By its path, and again where freehold.h finds it too.
        reals+=("-DREAL_ALONE $REAL/dlpack/dlpack.h" "-I$REAL $REAL/dlpack/dlpack.h")
        torch=$(dirname "$(dirname "$REAL")")/torch/include/ATen/dlpack.h
        if [ -f "$torch" ]; then reals+=("-DTORCH $torch"); fi
    fi
    for real in "${reals[@]}"; do
        for order in 1 2 3 4; do
            includes=(-I"$ROOT/include" -I"$HERE" "${real%% *}" "-DREAL=\"${real#* }\"" -DORDER=$order)
            for lang in c11 c17; do
                compile "${pair%:*}" -std=$lang -x c "${includes[@]}" "$HERE/header_order.c"
            done
            for lang in c++17 c++20; do
                compile "${pair#*:}" -std=$lang -x c++ "${includes[@]}" "$HERE/header_order.c"
            done
        done
        for order in 2 3; do
            includes=(-I"$ROOT/include" -I"$HERE" "${real%% *}" "-DREAL=\"${real#* }\"" -DORDER=$order)
            compile "${pair#*:}" -std=c++17 "${includes[@]}" "$HERE/header_order.cc"
            compile "${pair#*:}" -std=c++2b -fno-exceptions -fno-rtti "${includes[@]}" "$HERE/header_order.cc"
        done
    done
}

compile() {
    builds=$((builds + 1))
    "$1" -fsyntax-only "${WARN[@]}" "${@:2}" 2>"$BUILD/header.${1##*/}.log" && return 0
    fail "does not compile: $*"
    cat "$BUILD/header.${1##*/}.log"
}

# Of clang's -Weverything, what a header in C11 and C++17 cannot be without. Nothing is left out for C but the first line.
NOT_THESE=(
    # Nobody compiles it as C++98, and these say what C++98 or C99 lack.
    -Wno-c++98-compat -Wno-c++98-compat-pedantic -Wno-pre-c++17-compat -Wno-pre-c11-compat
    # Pointers are what a C interface is made of. Later clangs call each a hazard.
    -Wno-unsafe-buffer-usage
    # Warnings above that this clang does not have yet.
    -Wno-unknown-warning-option
)
NOT_THESE_CPP=(
    # Classes have the size that their members give them; the structs of C have no holes.
    -Wno-padded
    # A header has no file where a table of virtual functions could be.
    -Wno-weak-vtables
)

# Every page by itself, in both languages, with every warning that there is.
pages() {
    local page pair lang other
    # The question that a header asks its library, answered by this interface and by another.
    for other in 0 1; do
        echo "#include <freehold/base.h>
            uint32_t fh_abi_version(void) { return FH_ABI_VERSION + $other; }
            int main(void) { return fh_abi_check() == $other; }" >"$BUILD/version.$other.c"
        build "version $other" "$BUILD/version.$other" "${compilers[0]%:*}" "${WARN[@]}" -I"$ROOT/include" "$BUILD/version.$other.c" &&
            run "version.$other" "$BUILD/version.$other"
    done
    # In C++ whatever makes a tensor or a runtime asks: here the program answers for the library.
    for other in 0 1; do
        echo "#include <freehold/freehold.hpp>
            uint32_t fh_abi_version(void) noexcept { return FH_ABI_VERSION + $other; }
            int main() {
              float x[2] = {1, 2};
              const auto wrapped = freehold::try_wrap(x, {2}, freehold::unowned{});
              const auto vector = freehold::try_wrap(std::vector<float>(2), {2});
              const auto zeros = freehold::tensor::try_zeros(freehold::dtype_of<float>::value, {2});
              bool runtime = true;
              try { freehold::runtime own(FH_LEDGER_RECORDS); } catch (const freehold::error &e) { runtime = e.reason() != FH_REASON_AR01; }
              for (const bool good : {wrapped.has_value(), vector.has_value(), zeros.has_value(), runtime}) {
                if (good != !$other) return 1;
              }
              return 0;
            }" >"$BUILD/version.$other.cc"
        build "version $other (C++)" "$BUILD/version.$other.cpp" "${compilers[0]#*:}" -std=c++17 "${WARN[@]}" -I"$ROOT/include" \
            "$BUILD/version.$other.cc" "${SHARED[@]}" && run "version.$other.cpp" "$BUILD/version.$other.cpp"
    done
    for page in "$ROOT"/include/freehold/*; do
        page=${page##*/}
        for lang in c11 c++17; do
            if [ $lang = c11 ] && [[ $page == *.hpp ]]; then continue; fi
            # Included, as users do: a header that is compiled as a file is spared some warnings and gets others.
            echo "#include <freehold/$page>" >"$BUILD/page.${page%.*}.${lang%%[0-9]*}"
            for pair in "${compilers[@]}"; do
                local flags=(-std=$lang -Wconversion -Wshadow -I"$ROOT/include" "$BUILD/page.${page%.*}.${lang%%[0-9]*}")
                if [ "${pair%:*}" = clang ]; then
                    flags+=(-Weverything "${NOT_THESE[@]}")
                    if [[ $page == *.hpp ]]; then flags+=("${NOT_THESE_CPP[@]}"); fi
                fi
                if [ $lang = c11 ]; then compile "${pair%:*}" -Wstrict-prototypes -x c "${flags[@]}"; else compile "${pair#*:}" -x c++ "${flags[@]}"; fi
            done
        done
    done
}

# The interface against the committed dump, and whether a change to it would be seen: each of these must fail.
frozen() {
    runs=$((runs + 1))
    "$ROOT/scripts/abi.sh" check >"$BUILD/frozen.log" 2>&1 || { fail "the interface has changed"; cat "$BUILD/frozen.log"; }
    breaks argument decide.h 's/^FH_API fh_status fh_caps_for(const char \*name/&, int32_t more/'
    breaks answer decide.h 's/^FH_API int32_t fh_decision_verdict/FH_API int64_t fh_decision_verdict/'
    breaks removed ledger.h '/^FH_API uint64_t fh_ledger_mark/d'
    breaks field runtime.h 's/^  int32_t alias;/  int64_t alias;/'
    breaks callback ledger.h 's/^typedef int32_t (\*fh_holder_fn)(void \*user/&, int32_t more/'
    breaks number errors.h 's/FH_REASON_RO02 = 102/FH_REASON_RO02 = 103/'
}

# breaks NAME PAGE SED-SCRIPT
breaks() {
    local copy=$BUILD/frozen.$1
    runs=$((runs + 1))
    rm -rf "$copy" && cp -r "$ROOT/include" "$copy" && sed -i "$3" "$copy/freehold/$2"
    if cmp -s "$ROOT/include/freehold/$2" "$copy/freehold/$2"; then fail "frozen: nothing in $2 to change: $3"; fi
    "$ROOT/scripts/abi.sh" check "$copy" >"$copy.log" 2>&1 && fail "frozen: abidiff does not see a changed $1 in $2"
    # By abidiff, not by a compiler that stopped earlier.
    grep -q '^Functions changes summary' "$copy.log" || { fail "frozen: $1: no comparison was made"; cat "$copy.log"; }
}

# Two translation units with different declarations; the linker compares them where it can.
two_units() {
    local pair tool lang
    for pair in "${compilers[@]}"; do
        for lang in c c++; do
            if [ $lang = c ]; then tool=${pair%:*}; else tool=${pair#*:}; fi
            local flags=("${WARN[@]}" -g -O1 -I"$ROOT/include" -I"$HERE" "-DREAL=\"$REAL/dlpack/dlpack.h\"")
            if [[ $tool == g* ]]; then flags+=(-flto -Wodr -Wlto-type-mismatch); fi
            build "include ($lang)" "$BUILD/include.$tool" "$tool" "${flags[@]}" -x $lang "$HERE/include_a.c" \
                "$HERE/include_b.c" -x none "${SHARED[@]}" && run "include.$tool" "$BUILD/include.$tool"
        done
        # The layouts again, with the real structs.
        build "layout (real)" "$BUILD/layout.real" "${pair%:*}" -std=c11 "${WARN[@]}" -I"$REAL" -I"$ROOT/include" \
            -I"$HERE" "$HERE/layout.c" "${SHARED[@]}" && run layout.real "$BUILD/layout.real"
    done
}

# Everything that the library exports is in the list, and the other way round.
symbols() {
    if ! diff -u "$ROOT/crates/freehold-capi/abi-symbols.txt" \
        <(nm -D --defined-only "$LIB/libfreehold.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort); then
        fail "libfreehold.so exports other symbols than crates/freehold-capi/abi-symbols.txt lists"
    fi
    # With that flag it may not load late: the room for such libraries is small, and others take of it.
    if readelf -d "$LIB/libfreehold.so" | grep STATIC_TLS >/dev/null; then fail "libfreehold.so needs static TLS"; fi
}

# Its own allocator is in its way under the sanitizers and valgrind.
allocations() {
    local tool=${compilers[0]%:*} flags=(-std=c11 "${WARN[@]}" -D_POSIX_C_SOURCE=200809L -O1 -I"$ROOT/include" -I"$HERE")
    build allocations "$BUILD/allocations" "$tool" "${flags[@]}" "$HERE/allocations.c" "${SHARED[@]}" &&
        run allocations "$BUILD/allocations"
    build allocations "$BUILD/allocations.static" "$tool" "${flags[@]}" "$HERE/allocations.c" "${STATIC[@]}" &&
        run allocations.static "$BUILD/allocations.static"
}

# The random programs, under AddressSanitizer by each compiler and under valgrind: capsules first, then calls. Again with
# blocks kept, as programs have it: then the tools do not see all uses of freed blocks, but some calls are shorter.
fuzz() {
    local name=$1 count=$2 pair n=0 base flags=(-std=c11 "${WARN[@]}" -D_POSIX_C_SOURCE=200809L -g -O1 -I"$ROOT/include" -I"$HERE")
    for pair in "${compilers[@]}"; do
        base=$BUILD/$name.${pair%:*}
        build "$name" "$base.asan" "${pair%:*}" "${flags[@]}" -fsanitize=address,undefined -fno-sanitize-recover=all \
            "$HERE/$name.c" "${SHARED[@]}" || continue
        local kept
        for kept in 0 16M; do
            echo "$name: ${pair%:*}, AddressSanitizer, FREEHOLD_HOST_CACHE=$kept"
            FREEHOLD_HOST_CACHE=$kept run "$name.${pair%:*}.asan.$kept" "$base.asan" "$count" $((FUZZ_SEED + n)) &&
                cat "$BUILD/$name.${pair%:*}.asan.$kept.log"
            n=$((n + 1))
        done
    done
    if have valgrind && [ ${#compilers[@]} -gt 0 ]; then
        build "$name" "$BUILD/$name.plain" "${compilers[0]%:*}" "${flags[@]}" "$HERE/$name.c" "${SHARED[@]}" &&
            echo "$name: valgrind" &&
            run "$name.valgrind" "${VALGRIND[@]}" "$BUILD/$name.plain" $((count / 50)) $((FUZZ_SEED + n)) &&
            cat "$BUILD/$name.valgrind.log"
    fi
}

# job NAME COMMAND...: in the background, as many at once as there are cores; its counts and its output are kept.
job() {
    local name=$1
    shift
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || true; done
    (
        builds=0 runs=0 failures=0
        "$@"
        echo "$builds $runs $failures" >"$BUILD/job.$name.counts"
    ) >"$BUILD/job.$name.out" 2>&1 &
}

JOBS=$(nproc)
rm -f "$BUILD"/job.*
if wanted symbols; then job symbols symbols; fi
if wanted frozen && [ -n "$ABIDIFF" ]; then job frozen frozen; fi
if wanted allocations; then job allocations allocations; fi
if wanted pages; then job pages pages; fi
if wanted fuzz; then job fuzz_capsules fuzz fuzz_capsules "$FUZZ_CAPSULES"; fi
if wanted fuzz; then job fuzz_calls fuzz fuzz_calls "$FUZZ_CALLS"; fi
if wanted include && [ -n "$REAL" ]; then job include two_units; fi
if wanted headers; then
    for pair in "${compilers[@]}"; do job "headers.${pair%:*}" headers "$pair"; done
fi
for source in "$HERE"/*.c "$HERE"/*.cc; do
    name=$(basename "${source%.*}")
    case $name in
        allocations | fuzz_* | header_* | include_*) ;;
        *) job "$name" program "$name" "$source" ;;
    esac
done
wait
cat "$BUILD"/job.*.out
for out in "$BUILD"/job.*.out; do
    counts=${out%.out}.counts
    # A job that ended early has no counts.
    if [ -f "$counts" ]; then read -r b r f <"$counts"; else b=0 r=0 f=1; fi
    builds=$((builds + b)) runs=$((runs + r)) failures=$((failures + f))
done

echo "abi: $builds builds, $runs runs, $failures failures, $skips skips"
if [ "$skips" -gt 0 ] && { [ "${CI:-}" = true ] || [ -n "${FREEHOLD_NO_SKIP:-}" ]; }; then
    echo "A skip counts as a failure here."
    exit 1
fi
[ "$failures" -eq 0 ]
