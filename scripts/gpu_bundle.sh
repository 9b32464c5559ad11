#!/usr/bin/env bash
# Builds all that a machine with a GPU needs to test and measure Freehold into build/gpu-bundle: it runs there as it is, with
# no Rust, no compiler and no internet. Usage: scripts/gpu_bundle.sh
#
# The machine: Linux on x86-64, Python 3.12 (FREEHOLD_GPU_PYTHON names another minor version) with PyTorch, CuPy and JAX, and
# a CUDA driver. This one needs none of these: the extension is built from a description of that Python.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

BUNDLE=$ROOT/build/gpu-bundle
MOST_MB=50
VERSION=${FREEHOLD_GPU_PYTHON:-3.12}

scripts/setup.sh python
. scripts/lib.sh
case $(rustc -vV | sed -n 's/^host: //p') in
    x86_64-unknown-linux-gnu) ;;
    *) die "the bundle is for Linux on x86-64, and is built there" ;;
esac
rm -rf "$BUNDLE"
mkdir -p "$BUNDLE/bin" "$BUNDLE/lib" "$BUNDLE/python" "$BUNDLE/tests"

# What the tests need and such a machine may lack, in Python alone.
tools() {
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-compile --target "$BUNDLE/tools" \
        "$(grep '^pytest' "$REQUIREMENTS/test.txt")"
    if find "$BUNDLE/tools" -name '*.so' | grep -q .; then die "pytest has come with compiled code"; fi
}

# The extension for that Python, with what PyO3 would ask its interpreter. The flags rebuild PyO3, hence the folder.
extension() {
    local tag=cpython-${VERSION/./}-x86_64-linux-gnu config=$BUNDLE/pyo3.txt so
    so=_freehold.$tag.so
    printf '%s\n' implementation=CPython "version=$VERSION" shared=true pointer_width=64 build_flags= \
        suppress_build_script_link_lines=true >"$config"
    env -u PYO3_PYTHON PYO3_CONFIG_FILE="$config" PYO3_BUILD_EXTENSION_MODULE=1 CARGO_TARGET_DIR="$TARGET/gpu" \
        cargo rustc --quiet --profile dist -p freehold-python --lib -- -C "link-arg=-Wl,-soname,$so"
    rm "$config"
    mkdir "$BUNDLE/python/freehold"
    (cd crates/freehold-python/python/freehold && cp ./*.py ./*.pyi py.typed "$BUNDLE/python/freehold")
    strip --strip-debug -o "$BUNDLE/python/freehold/$so" "$TARGET/gpu/dist/lib_freehold.so"
    # An extension that asks for a libpython would bring a second interpreter along.
    if objdump -p "$BUNDLE/python/freehold/$so" | grep -q 'NEEDED.*libpython'; then die "$so links libpython"; fi
}

# Programs of the device crate: its tests of a real driver, and whatever it measures with.
programs() {
    local built name
    built=$(cargo build --quiet --release -p freehold-device --test gpu --examples --message-format=json |
        sed -n 's/.*"target":{"kind":\["\(test\|example\)"\].*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2 \3/p')
    while read -r kind name path; do
        case $kind-$name in
            test-gpu | example-cuda_*) strip --strip-debug -o "$BUNDLE/bin/$name" "$path" ;;
        esac
    done <<<"$built"
    [ -x "$BUNDLE/bin/gpu" ] || die "the tests of a real driver were not built"
}

# A driver that forgets one thing: a library with that one function, and the real driver behind it for all others. The
# tests of races must fail with it.
forgetful() {
    local stub=$BUNDLE/libcuda.so.1
    "${CC:-cc}" -shared -nostdlib -Wl,-soname,libcuda.so.1 -x c /dev/null -o "$stub"
    local drop
    for drop in cuStreamWaitEvent cuEventQuery cuEventSynchronize; do
        "${CC:-cc}" -O1 -shared -fPIC -Wall -Werror -DDROP_"$drop" tests/gpu/forgetful.c -Wl,--no-as-needed "$stub" \
            -o "$BUNDLE/lib/forgets-$drop.so"
    done
    rm "$stub"
}

say "the Python package, for Python $VERSION"
extension
say "the C library"
scripts/build.sh library >/dev/null
cp -L "$LIBDIR/$(soname "$LIBDIR/libfreehold.so")" "$BUNDLE/lib/"
say "tests and benchmarks"
programs
forgetful
tools
cp tests/gpu/*.py "$BUNDLE/tests"
if [ -d crates/freehold-device/kernels ]; then cp -r crates/freehold-device/kernels "$BUNDLE/kernels"; fi
cp tests/gpu/run.sh "$BUNDLE/run.sh"
commit=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
printf '{"version": "%s", "commit": "%s", "python": "%s", "rustc": "%s"}\n' "$(version)" "$commit" "$VERSION" \
    "$(rustc --version | cut -d' ' -f2)" >"$BUNDLE/bundle.json"

# The oldest glibc that everything runs with.
glibc=$(objdump -T "$BUNDLE"/bin/* "$BUNDLE"/lib/* "$BUNDLE"/python/freehold/*.so | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -n 1)
size=$(megabytes "$BUNDLE")
say "build/gpu-bundle: $size MB, needs ${glibc/_/ } and Python $VERSION; there: ./run.sh OUT_DIR [--quick]"
[ "$size" -lt $MOST_MB ] || die "the bundle must be smaller than $MOST_MB MB"
