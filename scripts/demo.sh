#!/usr/bin/env bash
# The main job on real frameworks: builds what is missing, then NumPy, PyTorch and a C library hand each other tensors.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

scripts/setup.sh demo
. scripts/lib.sh
scripts/build.sh library >/dev/null
scripts/build.sh python

mkdir -p build/demo
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -Iinclude docs/examples/demo/blur.c \
    -L"$LIBDIR" -lfreehold -Wl,-rpath,"$LIBDIR" -o build/demo/libblur.so
FREEHOLD_DEMO_LIBRARY=$ROOT/build/demo/libblur.so "$PYTHON" docs/examples/demo/demo.py
