#!/usr/bin/env bash
# Puts in place what the other targets need and what needs no root. Usage: scripts/setup.sh [rust|tools|python|demo|test|all]
# Each part leaves a stamp that names what it installed, so that a second run costs milliseconds.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Measured for torch 2.15.0 on x86-64 Linux: the wheels that pip fetches, and what they unpack to.
TORCH_DOWNLOAD_MB=3000
TORCH_DISK_MB=4400
# Measured for the pinned releases of scripts/requirements/frameworks.txt.
FRAMEWORKS_DOWNLOAD_MB=780
FRAMEWORKS_DISK_MB=3150

MSRV=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

newer_or_equal() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

need_rust() {
    if ! have cargo; then
        need_venv
        say "no cargo here: fetching a Rust toolchain into $VENV/rust with the puccinialin package (some 600 MB on disk)"
        pip_install puccinialin
        mkdir -p "$VENV/rust"
        "$PYTHON" - "$VENV/rust" >&2 <<'EOF'
import pathlib, shlex, sys
from puccinialin import setup_rust
env = setup_rust(installation_dir=sys.argv[1])
lines = [f"export {name}={shlex.quote(env[name])}" for name in ("RUSTUP_HOME", "CARGO_HOME")]
pathlib.Path(sys.argv[1], "env").write_text("\n".join([*lines, 'PATH="$CARGO_HOME/bin:$PATH"', ""]))
EOF
        . "$VENV/rust/env"
    fi
    have cc || have gcc || have clang || die "no C compiler, which Rust needs to link: install gcc or clang"
    local version
    version=$(cargo --version | cut -d' ' -f2)
    newer_or_equal "$version" "$MSRV" || die "cargo $version is too old: Freehold needs $MSRV (rustup update stable)"
}

need_rust_tools() {
    if have rustup; then
        cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
        cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
        [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu" ] ||
            rustup target add aarch64-unknown-linux-gnu || say "the step aarch64 will be left out"
    fi
    if ! have cargo-nextest; then
        say "building cargo-nextest into $VENV/tools (some minutes, once)"
        cargo install --quiet --locked --root "$VENV/tools" cargo-nextest --version "^0.9"
    fi
    if have rustup && ! { cargo +nightly miri --version && [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src" ]; } \
        >/dev/null 2>&1; then
        say "adding miri on the nightly toolchain"
        rustup component add --toolchain nightly miri rust-src 2>/dev/null ||
            rustup toolchain install nightly --profile minimal --component miri --component rust-src
    fi
}

# The newest Python that is good enough; python3 first, because that is where the user's own packages are.
find_python() {
    local candidate
    for candidate in ${FREEHOLD_PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "Freehold's Python package needs Python 3.11 or newer; set FREEHOLD_PYTHON to one"
}

# Prints the folder from which the user's own Python imports torch, or nothing.
host_torch() {
    "$1" - <<'EOF' 2>/dev/null || true
import importlib.util
spec = importlib.util.find_spec("torch")
if spec and spec.origin:
    import os
    print(os.path.dirname(os.path.dirname(os.path.abspath(spec.origin))))
EOF
}

need_venv() {
    if [ -x "$PYTHON" ]; then return; fi
    local host shared
    host=$(find_python)
    say "creating $VENV with $("$host" --version)"
    if ! "$host" -m venv "$VENV" 2>/dev/null; then
        rm -rf "$VENV"
        have virtualenv || die "$host cannot create a virtual environment: install python3-venv or virtualenv"
        virtualenv --quiet --python "$host" "$VENV"
    fi
    # PyTorch is large: one that the user's Python can import is used where it is. A .pth file puts its folder last on
    # the path, which works alike for a system Python, conda and another virtual environment, and never writes there.
    shared=$(host_torch "$host")
    if [ -n "$shared" ]; then
        say "using the PyTorch that $host imports from $shared"
        echo "$shared" >"$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/freehold-host.pth"
    fi
    export PYO3_PYTHON=$PYTHON
}

pip_install() {
    local progress=(--quiet)
    if [ -t 2 ]; then progress=(); fi
    "$PYTHON" -m pip install --disable-pip-version-check ${progress[@]+"${progress[@]}"} "$@"
}

# Installs one requirements file unless the stamp says that exactly this file is installed.
need_packages() {
    local name=$1 file=$REQUIREMENTS/$1.txt stamp key
    need_venv
    stamp=$VENV/.freehold-$name
    key=$(cksum <"$file")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then return; fi
    if grep -q '^torch' "$file" && ! "$PYTHON" -c 'import torch' 2>/dev/null; then
        say "PyTorch is not installed: pip fetches about $TORCH_DOWNLOAD_MB MB into $VENV, $TORCH_DISK_MB MB on disk"
        say "(its Linux wheel imports its CUDA libraries even where there is no GPU)"
    fi
    if [ "$name" = frameworks ]; then
        say "the frameworks that the tests talk to: pip fetches about $FRAMEWORKS_DOWNLOAD_MB MB into $VENV, $FRAMEWORKS_DISK_MB MB on disk"
    fi
    pip_install -r "$file"
    # The compiler of torch.compile for GPUs, which nothing here calls and torch does not import by itself: 1 GB on disk.
    if grep -q '^torch' "$file"; then "$PYTHON" -m pip uninstall --disable-pip-version-check --quiet --yes triton; fi
    echo "$key" >"$stamp"
}

case ${1:-all} in
    rust) need_rust ;;
    tools) need_rust; need_rust_tools ;;
    python) need_rust; need_packages build ;;
    demo) need_rust; need_packages build; need_packages demo ;;
    test | all)
        need_rust
        need_packages build
        # Cargo compiles while pip fetches.
        need_rust_tools &
        need_packages test
        need_packages frameworks
        wait $!
        ;;
    *) die "unknown part '$1': rust, tools, python, demo, test or all" ;;
esac
