#!/usr/bin/env bash
# Builds the C library or the Python package, or removes what was built. Usage: scripts/build.sh library|python|clean
set -euo pipefail
. "$(dirname "$0")/lib.sh"

case ${1:-library} in
    library)
        scripts/setup.sh rust
        # The Python extension is maturin's to build: it must not link libpython, and only maturin says so.
        cargo build --release --workspace --exclude freehold-python
        # Programs ask for the library by its SONAME, here as after an installation.
        ln -sf libfreehold.so "$TARGET/release/$(soname "$TARGET/release/libfreehold.so")"
        ls -l "$TARGET"/release/libfreehold.so "$TARGET"/release/libfreehold.a
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
