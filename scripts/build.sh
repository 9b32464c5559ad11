#!/usr/bin/env bash
# Builds the C library, the Python package or its wheel, or removes what was built.
# Usage: scripts/build.sh library|python|wheel|clean
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# cargo's shared library cannot have versioned symbols: rustc passes a version script of its own, and a linker takes one.
# So the library is linked again from the archive, with exactly the listed symbols, under one version.
link_library() {
    local soname archive=$TARGET/dist/libfreehold_capi.a list=crates/freehold-capi/abi-symbols.txt so natives
    soname=libfreehold.so.$(abi_name)
    so=$LIBDIR/libfreehold.so.$(version)
    mkdir -p "$LIBDIR"
    ln -sf "libfreehold.so.$(version)" "$LIBDIR/$soname"
    ln -sf "$soname" "$LIBDIR/libfreehold.so"
    if [ "$so" -nt "$archive" ] && [ "$so" -nt "$list" ]; then return; fi
    ln -f "$archive" "$LIBDIR/libfreehold.a"
    version_map >"$LIBDIR/libfreehold.map"
    read -ra natives <<<"$(native_libraries)"
    "${CC:-cc}" -shared -o "$so" -Wl,-soname,"$soname" -Wl,--version-script="$LIBDIR/libfreehold.map" \
        -Wl,--gc-sections -Wl,--strip-debug -Wl,-z,relro,-z,now -Wl,--whole-archive "$archive" \
        -Wl,--no-whole-archive "${natives[@]}"
}

# The paths of this machine that rustc would write into what it builds (where a panic comes from), under names that are the
# same everywhere: two machines then build the same bytes. Every product has the same flags: they share what is built.
remap() {
    local rust flags
    rust=$(rustc --print sysroot)
    read -ra flags <<<"${RUSTFLAGS:-}"
    flags+=("--remap-path-prefix=$ROOT=/freehold" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
        "--remap-path-prefix=$rust/lib/rustlib/src/rust=/rustc")
    # Not RUSTFLAGS, which a path with a blank would break in two.
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}")
    export CARGO_ENCODED_RUSTFLAGS
}

package() { "$PYTHON" scripts/package/python.py "$@"; }

# maturin with these arguments. Libraries of C++ find the extension by its SONAME, also when Python has loaded it already.
build_extension() {
    local flags=()
    if [ "$(uname)" = Linux ]; then flags=(-- -C "link-arg=-Wl,-soname,$(package library)"); fi
    package files
    VIRTUAL_ENV=$VENV "$VENV/bin/maturin" "$@" --manifest-path crates/freehold-python/Cargo.toml \
        ${flags[@]+"${flags[@]}"}
}

case ${1:-library} in
    library)
        scripts/setup.sh rust
        remap
        # The archive alone: each of cargo's products is a whole program to optimise.
        cargo rustc --profile dist -p freehold-capi --crate-type staticlib
        link_library
        ls -l "$LIBDIR/libfreehold.so.$(version)" "$LIBDIR/libfreehold.a"
        ;;
    python)
        scripts/setup.sh python
        remap
        build_extension develop --profile dist
        package finish "crates/freehold-python/python/freehold/$(package library)"
        ;;
    wheel)
        scripts/setup.sh python
        remap
        rm -rf build/wheel
        CARGO_PROFILE_DIST_STRIP=symbols build_extension build --profile dist --interpreter "$PYTHON" --out build/wheel
        package finish build/wheel/*.whl
        ls -l build/wheel
        ;;
    clean)
        cargo clean
        rm -rf build
        ;;
    *) die "unknown product '$1': library, python, wheel or clean" ;;
esac
