# Sourced by the other scripts: where things are, and how to speak.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

# Both can point elsewhere, so that several checkouts share one.
VENV=${FREEHOLD_VENV:-$ROOT/.venv}
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in /*) ;; *) TARGET=$ROOT/$TARGET ;; esac
export CARGO_TARGET_DIR=$TARGET
PYTHON=$VENV/bin/python
REQUIREMENTS=$ROOT/scripts/requirements

# PyO3 asks this interpreter, in every cargo command alike, so that one build serves them all.
if [ -x "$PYTHON" ]; then export PYO3_PYTHON=$PYTHON; fi

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
megabytes() { du -sm "$1" 2>/dev/null | cut -f1; }

# The C library as programs link it and `make install` copies it: libfreehold.so and its other names, libfreehold.a.
LIBDIR=$TARGET/dist/lib

# The name by which programs ask for a shared library.
soname() {
    local name
    name=$(LC_ALL=C objdump -p "$1" | awk '$1 == "SONAME" { print $2 }')
    [ -n "$name" ] || die "$1 has no SONAME"
    echo "$name"
}

# The part of the version that names the interface: before 1.0 it may change with the minor version.
abi_name() { version | sed -E 's/^(0\.[0-9]+|[0-9]+).*/\1/'; }

# What the linker is told of the symbols: exactly the listed ones, under one version.
version_map() {
    echo "FREEHOLD_$(abi_name) {"
    echo "global:"
    sed 's/$/;/' "$ROOT/crates/freehold-capi/abi-symbols.txt"
    echo "local: *; };"
}

# Where the package apache-tvm-ffi is, which ships the real dlpack.h; nothing where it is not installed.
tvm_ffi_directory() {
    if [ ! -x "$PYTHON" ]; then return 0; fi
    "$PYTHON" -c 'import importlib.util, os
spec = importlib.util.find_spec("tvm_ffi")
if spec: print(os.path.dirname(spec.origin))' 2>/dev/null
}

# What a program needs beside libfreehold.a.
native_libraries() {
    local scratch
    scratch=$(mktemp -d)
    rustc --print native-static-libs --crate-type staticlib -o "$scratch/empty.a" - </dev/null 2>&1 |
        sed -n 's/.*native-static-libs: //p'
    rm -r "$scratch"
}

version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml; }

# What `make setup` fetched on a machine that lacked it.
if ! have cargo && [ -f "$VENV/rust/env" ]; then . "$VENV/rust/env"; fi
PATH=$PATH:$VENV/tools/bin:$VENV/bin
