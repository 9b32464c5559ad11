#!/usr/bin/env bash
# Tests and measures on a GPU, and writes the dated page into docs/gpu. Usage: scripts/gpu_check.sh [report OUT_DIR]
# Without arguments on this machine; `report` writes the page from what the bundle's run.sh left elsewhere.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# The script of the page needs no package, so any Python does.
python3=${PYTHON3:-python3}

case ${1:-run} in
    run)
        # Asked before anything is built. As Freehold does: a library of this name that starts and has a device.
        why=$("$python3" - 2>&1 <<'EOP'
import ctypes, sys
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    sys.exit(f"the CUDA driver library could not be loaded: {error}")
status, count = cuda.cuInit(0), ctypes.c_int(0)
if status != 0:
    sys.exit(f"the CUDA driver did not start: cuInit returned {status}")
if cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
    sys.exit("the CUDA driver found no device")
EOP
        ) || die "no GPU here: $why. On a machine that has one, run the folder that make gpu-bundle builds, then
       scripts/gpu_check.sh report OUT_DIR here"
        scripts/gpu_bundle.sh
        out=$ROOT/build/gpu-results
        rm -rf "$out"
        status=0
        env -u FREEHOLD_CUDA_LIBRARY build/gpu-bundle/run.sh "$out" || status=$?
        "$python3" tests/gpu/report.py "$out" docs/gpu
        exit $status
        ;;
    report)
        [ $# -eq 2 ] || die "usage: scripts/gpu_check.sh report OUT_DIR"
        "$python3" tests/gpu/report.py "$2" docs/gpu
        ;;
    *) die "unknown command '$1': nothing, or report OUT_DIR" ;;
esac
