#!/usr/bin/env bash
# Checks that the Python extension compiles for a free-threaded Python, which need not be installed: PyO3 is told about it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

config=$(mktemp)
trap 'rm -f "$config"' EXIT
cat >"$config" <<'EOF'
implementation=CPython
version=3.14
shared=true
lib_name=python3.14t
pointer_width=64
build_flags=Py_GIL_DISABLED
suppress_build_script_link_lines=true
EOF
# Another Python makes other crates of PyO3's, hence the folder.
PYO3_CONFIG_FILE=$config CARGO_TARGET_DIR=$TARGET/free-threaded \
    cargo clippy -p freehold-python --all-targets --quiet -- -D warnings
echo "compiled for CPython 3.14t"
