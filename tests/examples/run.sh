#!/usr/bin/env bash
# Builds and runs the examples of docs/examples in C and C++ against the installed library, by pkg-config and by CMake. What each
# prints is compared with its file in tests/examples/expected; UPDATE=1 writes those. Usage: tests/examples/run.sh [c|knn|python|rust...]
# The Rust one is built from packed crates. By name only: candle, which takes minutes to compile.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

EXAMPLES=$ROOT/docs/examples
EXPECTED=$ROOT/tests/examples/expected
WARN=(-Wall -Wextra -Werror -pedantic)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
ran=0

# same NAME COMMAND...: what it prints, errors too, is what the file says.
same() {
    local name=$1
    shift
    "$@" >"$work/$name.txt" 2>&1 || { cat "$work/$name.txt"; die "$name: exit $?"; }
    if [ -n "${UPDATE:-}" ]; then cp "$work/$name.txt" "$EXPECTED/"; fi
    diff -u "$EXPECTED/$name.txt" "$work/$name.txt" || die "$name prints something else"
    ran=$((ran + 1))
    echo "ok: $name"
}

quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log"; die "failed: $*"; }; }

installed() { LD_LIBRARY_PATH=$prefix/lib "$@"; }

# How pkg-config says to build against the library, into CFLAGS and LIBS.
ask_pkg_config() {
    read -ra CFLAGS <<<"$(pkg-config --cflags freehold)"
    read -ra LIBS <<<"$(pkg-config --libs freehold)"
}

configure() {
    quietly cmake -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_FLAGS="${WARN[*]}" -DCMAKE_CXX_FLAGS="${WARN[*]}" "$@"
}

example_c() {
    local source name
    configure -S "$EXAMPLES/c" -B "$work/c"
    quietly cmake --build "$work/c"
    for source in "$EXAMPLES"/c/*.c; do
        name=$(basename "$source" .c)
        cc -std=c11 -O1 "${WARN[@]}" "$source" "${CFLAGS[@]}" "${LIBS[@]}" -o "$work/$name"
        same "$name" installed "$work/$name"
        same "$name" "$work/c/$name"
    done
    c++ -std=c++17 -O1 "${WARN[@]}" -fno-exceptions -fno-rtti "$ROOT/tests/examples/no_exceptions.cc" "${CFLAGS[@]}" \
        "${LIBS[@]}" -o "$work/no_exceptions"
    same no_exceptions installed "$work/no_exceptions"
    if installed "$work/no_exceptions" abort >"$work/log" 2>&1; then die "no_exceptions goes on after an error"; fi
    grep -q '^freehold: \[AR01\] x: rank: expected 2, got 1$' "$work/log" || die "no_exceptions says: $(cat "$work/log")"
}

example_knn() {
    configure -S "$EXAMPLES/knn" -B "$work/knn"
    quietly cmake --build "$work/knn"
    same knn "$work/knn/knn_demo"
    c++ -std=c++17 "${WARN[@]}" "$EXAMPLES"/knn/*.cc "${CFLAGS[@]}" "${LIBS[@]}" -o "$work/knn_demo"
    same knn installed "$work/knn_demo"
}

# Without optimisation: most of the time goes into compiling nanobind itself. pybind11 is built by pkg-config too; nanobind
# has parts of its own that only its CMake files compile.
example_python() {
    local module includes
    configure -S "$EXAMPLES/python" -B "$work/python" -DPython_EXECUTABLE="$PYTHON" -DCMAKE_BUILD_TYPE=Debug \
        -Dnanobind_ROOT="$("$PYTHON" -m nanobind --cmake_dir)" -Dpybind11_ROOT="$("$PYTHON" -m pybind11 --cmakedir)"
    quietly cmake --build "$work/python" --parallel 2
    for module in nanobind_module pybind11_module; do
        PYTHONPATH=$work/python same "$module" "$PYTHON" "$EXAMPLES/python/try_module.py" "$module"
    done
    read -ra includes <<<"$("$PYTHON" -m pybind11 --includes)"
    mkdir "$work/by_hand"
    c++ -std=c++17 -fPIC -fvisibility=hidden -shared "$EXAMPLES/python/pybind11_module.cc" "${includes[@]}" "${CFLAGS[@]}" "${LIBS[@]}" \
        -o "$work/by_hand/pybind11_module.so"
    PYTHONPATH=$work/by_hand same pybind11_module installed "$PYTHON" "$EXAMPLES/python/try_module.py" pybind11_module
}

# As their users get them: every crate packed, unpacked elsewhere, and the example in a workspace of its own, with the packed
# crates in the place of the registry's. `cargo package` gives the example a manifest that names nothing of this repository. What is
# built has a folder of its own: the C library's name there has no hash, so that here one would overwrite the other.
example_rust() {
    local crate file crates=(freehold freehold-capi freehold-device freehold-ledger freehold-tensor) packed=$work/packed patch=()
    if [ "$(printf '%s\n' 1.90 "$(cargo --version | cut -d' ' -f2)" | sort -V | head -1)" != 1.90 ]; then
        echo "SKIP: cargo packs crates that need each other from 1.90 on"
        return
    fi
    quietly cargo package --no-verify --allow-dirty --target-dir "$packed" -p freehold-example "${crates[@]/#/-p}"
    for crate in freehold-example "${crates[@]}"; do
        tar -xzf "$packed/package/$crate-$(version).crate" -C "$work"
        mv "$work/$crate-$(version)" "$work/$crate"
    done
    for crate in "${crates[@]}"; do
        patch+=(--config "patch.crates-io.$crate.path='$work/$crate'")
        for file in README.md LICENSE-MIT LICENSE-APACHE; do [ -f "$work/$crate/$file" ] || die "$crate is packed without $file"; done
    done
    local outside=(env CARGO_TARGET_DIR="$work/target" CARGO_PROFILE_DEV_DEBUG=0 cargo "${patch[@]}")
    same rust "${outside[@]}" run --quiet --manifest-path "$work/freehold-example/Cargo.toml"
    # `cargo build` alone gives the C library.
    quietly "${outside[@]}" build --manifest-path "$work/freehold-capi/Cargo.toml"
    [ -f "$work/target/debug/libfreehold_capi.so" ] || die "freehold-capi, packed, gives no shared library"
    echo "ok: freehold-capi, packed"
}
example_candle() { same candle cargo run --quiet -p freehold-example --features candle --bin with_candle; }

wanted=("$@")
if [ ${#wanted[@]} -eq 0 ]; then wanted=(rust c knn python); fi
# It needs no installed library.
if [[ " ${wanted[*]} " == *" rust "* ]]; then example_rust; fi
have pkg-config || { echo "SKIP: pkg-config is not installed"; exit 0; }
have cmake || { echo "SKIP: cmake is not installed"; exit 0; }
PREFIX=$prefix DESTDIR='' quietly scripts/install.sh install
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
ask_pkg_config

for name in "${wanted[@]}"; do
    if [ "$name" != rust ]; then "example_$name"; fi
done
echo "$ran passed, 0 failed"
