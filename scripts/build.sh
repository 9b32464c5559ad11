#!/usr/bin/env bash
# Builds the C library or the Python package, or removes what was built. Usage: scripts/build.sh library|python|clean
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# cargo's shared library cannot have versioned symbols: rustc passes a version script of its own, and a linker takes one.
# So the library is linked again from the archive, with exactly the listed symbols, under one version.
link_library() {
    local soname archive=$TARGET/release/libfreehold.a list=crates/freehold-capi/abi-symbols.txt so natives
    soname=$(soname "$TARGET/release/libfreehold.so")
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

case ${1:-library} in
    library)
        scripts/setup.sh rust
        # The Python extension is maturin's to build: it must not link libpython, and only maturin says so.
        cargo build --release --workspace --exclude freehold-python
        link_library
        ls -l "$LIBDIR/libfreehold.so.$(version)" "$LIBDIR/libfreehold.a"
        ;;
    python)
        scripts/setup.sh python
        VIRTUAL_ENV=$VENV "$VENV/bin/maturin" develop --release --manifest-path crates/freehold-python/Cargo.toml
        ;;
    clean)
        cargo clean
        rm -rf build
        ;;
    *) die "unknown product '$1': library, python or clean" ;;
esac
