#!/usr/bin/env bash
# Builds the C library, the Python package or its wheel, or removes what was built.
# Usage: scripts/build.sh library|python|wheel|clean
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# cargo's shared library cannot have versioned symbols: rustc passes a version script of its own, and a linker takes one.
# So the library is linked again from the archive, with exactly the listed symbols, under one version.
link_library() {
    local soname archive=$TARGET/release/libfreehold_capi.a list=crates/freehold-capi/abi-symbols.txt so natives
    # Before 1.0 the interface may change with the minor version, so that is part of the name that programs load.
    soname=libfreehold.so.$(version | sed -E 's/^(0\.[0-9]+|[0-9]+).*/\1/')
    so=$LIBDIR/libfreehold.so.$(version)
    mkdir -p "$LIBDIR"
    ln -sf "libfreehold.so.$(version)" "$LIBDIR/$soname"
    ln -sf "$soname" "$LIBDIR/libfreehold.so"
    if [ "$so" -nt "$archive" ] && [ "$so" -nt "$list" ]; then return; fi
    ln -f "$archive" "$LIBDIR/libfreehold.a"
    { echo "FREEHOLD_${soname#libfreehold.so.} {" && echo "global:" && sed 's/$/;/' "$list" && echo "local: *; };"; } \
        >"$LIBDIR/libfreehold.map"
    read -ra natives <<<"$(native_libraries)"
    "${CC:-cc}" -shared -o "$so" -Wl,-soname,"$soname" -Wl,--version-script="$LIBDIR/libfreehold.map" \
        -Wl,--gc-sections -Wl,--strip-debug -Wl,-z,relro,-z,now -Wl,--whole-archive "$archive" \
        -Wl,--no-whole-archive "${natives[@]}"
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
        # The Python extension is maturin's to build: it must not link libpython, and only maturin says so.
        cargo build --release --workspace --exclude freehold-python --exclude freehold-example
        link_library
        ls -l "$LIBDIR/libfreehold.so.$(version)" "$LIBDIR/libfreehold.a"
        ;;
    python)
        scripts/setup.sh python
        build_extension develop --release
        package finish "crates/freehold-python/python/freehold/$(package library)"
        ;;
    wheel)
        scripts/setup.sh python
        rm -rf build/wheel
        build_extension build --profile wheel --interpreter "$PYTHON" --out build/wheel
        package finish build/wheel/*.whl
        ls -l build/wheel
        ;;
    clean)
        cargo clean
        rm -rf build
        ;;
    *) die "unknown product '$1': library, python, wheel or clean" ;;
esac
