#!/usr/bin/env bash
# The device's kernels as PTX, which is committed: neither a build nor a test needs a compiler of CUDA.
# Usage: scripts/ptx.sh          compiles crates/freehold-device/kernels into kernels/ptx
#        scripts/ptx.sh check    that the PTX is what the sources give; that they compile for each kind of GPU that Freehold
#                                names, and fit its registers; that the library carries no more of it than it may
set -euo pipefail
. "$(dirname "$0")/lib.sh"

KERNELS=$ROOT/crates/freehold-device/kernels
TOOLS=$VENV/ptx
# The least compute capability whose PTX is committed, and those that are checked.
ARCHES=(75 80 86 89 90)
# Bytes of all modules as the library carries them.
MOST_PACKED=280000

need_tools() {
    local file=$REQUIREMENTS/ptx.txt key
    key=$(cksum <"$file")
    if [ -f "$TOOLS/.freehold" ] && [ "$(cat "$TOOLS/.freehold")" = "$key" ]; then return; fi
    say "NVRTC and ptxas: pip fetches about 35 MB into $TOOLS"
    "${FREEHOLD_PYTHON:-python3}" -m venv "$TOOLS" &&
        "$TOOLS/bin/python" -m pip install --quiet --disable-pip-version-check -r "$file" && echo "$key" >"$TOOLS/.freehold"
}

check() {
    local scratch failed=0 arch module log ptxas
    scratch=$(mktemp -d)
    trap 'rm -r "$scratch"' RETURN
    ptxas=$(echo "$TOOLS"/lib/python3*/site-packages/nvidia/cuda_nvcc/bin/ptxas)
    chmod +x "$ptxas"
    for arch in "${ARCHES[@]}"; do
        "$TOOLS/bin/python" "$KERNELS/compile.py" "$scratch/$arch" "$arch" || failed=1
        for module in "$KERNELS"/ptx/*.ptx; do
            log=$scratch/$arch.log
            if ! "$ptxas" -v -arch="sm_$arch" "$module" -o "$scratch/cubin" 2>"$log"; then
                cat "$log"
                failed=1
            elif grep -q '[1-9][0-9]* bytes spill' "$log"; then
                echo "$(basename "$module") does not fit the registers of sm_$arch:"
                grep -B2 '[1-9][0-9]* bytes spill' "$log"
                failed=1
            fi
        done
    done
    if ! diff -rq "$scratch/${ARCHES[0]}" "$KERNELS/ptx"; then
        echo "the PTX is not what the sources give: run make ptx, and commit it"
        failed=1
    fi
    "$TOOLS/bin/python" - "$MOST_PACKED" "$KERNELS"/ptx/*.ptx <<'EOF' || failed=1
import pathlib, sys, zlib
packed = sum(len(zlib.compress(pathlib.Path(name).read_bytes(), 9)) for name in sys.argv[2:])
print(f"{packed} bytes packed")
sys.exit(f"more than {sys.argv[1]}: the wheel has no room" if packed > int(sys.argv[1]) else 0)
EOF
    return $failed
}

if ! need_tools; then
    # For scripts/test.sh; by itself it is a failure all the same.
    echo "SKIP: NVRTC's wheel cannot be fetched"
    [ "${1:-}" = check ] || exit 1
    exit 0
fi
case ${1:-compile} in
    compile) "$TOOLS/bin/python" "$KERNELS/compile.py" "$KERNELS/ptx" "${ARCHES[0]}" ;;
    check) check ;;
    *) die "unknown: $1; there are: compile, check" ;;
esac
