#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh environment with nothing else in it, and looks at what a user gets: size,
# what it needs, what an import brings in, C++ programs against the installed package, with Python in the process and without.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$ROOT/tests/wheel
# An installed package, in bytes: what `make wheel` promises.
MOST=$((5 * 1024 * 1024))
expected=$(version)
ok() { echo "ok: $*"; }

scripts/build.sh wheel
wheel=$(echo build/wheel/*.whl)
"$PYTHON" -m venv "$work/venv"
fresh=$work/venv/bin/python
"$fresh" -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$wheel"
cd "$work"

[ "$("$fresh" -m pip --disable-pip-version-check check)" = "No broken requirements found." ] || die "pip check complains"
needs=$("$fresh" -c 'import importlib.metadata as m; print(m.requires("freehold"))')
[ "$needs" = None ] || [ "$needs" = "[]" ] || die "the package needs $needs"
ok "no run-time dependency"

package=$("$fresh" -c 'import freehold; print(freehold.__path__[0])')
size=$("$fresh" - "$package" <<'EOF'
import pathlib, sys
print(sum(p.stat().st_size for p in pathlib.Path(sys.argv[1]).rglob("*") if p.is_file() and p.suffix != ".pyc"))
EOF
)
[ "$size" -le "$MOST" ] || die "the installed package has $size bytes, more than $MOST"
ok "installed size: $size bytes, at most $MOST"

# pip checks the list of files only when it uninstalls: a wheel that was rewritten must say what is in it.
"$fresh" - <<'EOF'
import base64, hashlib, importlib.metadata as m, sys
for file in m.files("freehold"):
    if file.hash:
        digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            sys.exit(f"RECORD is wrong about {file}")
EOF
ok "RECORD is right about every file"

brought=$("$fresh" -S -c "import sys; sys.path.insert(0, '$(dirname "$package")'); exec(open('$here/import_time.py').read())")
[ "$brought" = "[]" ] || die "an import of freehold brings in $brought"
ok "an import brings in nothing heavy"

"$fresh" - <<'EOF'
import array, freehold as fh
assert fh.__version__ and fh.share(array.array("f", [1.0, 2.0])).shape == (2,)
t = fh.copy([[1, 2], [3, 4]], dtype="float32", order="F")
assert memoryview(t).tolist() == [[1.0, 2.0], [3.0, 4.0]]
EOF
ok "it works without any framework"
"$fresh" -m freehold doctor >doctor.txt || die "doctor: $(cat doctor.txt)"
grep -q 'torch  *not installed' doctor.txt || die "doctor does not say what is missing"
ok "doctor"

cd "$ROOT"
library=$package/$("$PYTHON" scripts/package/python.py library)
names=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort)
[ "$names" = "$({ cat crates/freehold-capi/abi-symbols.txt; echo PyInit__freehold; } | sort)" ] ||
    die "the extension exports other names: $names"
ok "the extension exports the C interface, and nothing else"
# With that flag it does not load once a few large libraries did.
if readelf -d "$library" | grep STATIC_TLS >/dev/null; then die "the extension needs static TLS"; fi

if have cmake; then
    cmake -S "$here" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DFREEHOLD_VERSION="$expected" \
        -Dfreehold_DIR="$("$fresh" -m freehold --cmakedir)" >"$work/cmake.log" ||
        { cat "$work/cmake.log"; die "CMake does not find the package"; }
    cmake --build "$work/build" >"$work/cmake.log" || { cat "$work/cmake.log"; die "the CMake project does not build"; }
    got=$("$work/build/program") || die "the program without Python fails"
    [ "$got" = "$expected" ] || die "the program reports version '$got', not '$expected'"
    ok "CMake, a C++ program without Python"
    for first in package plugin; do
        got=$("$fresh" "$here/shared_ledger.py" "$work"/build/libplugin.* "$first")
        [ "$got" = "one ledger" ] || die "loaded first: $first: $got"
        ok "C++ in Python shares its ledger, $first loaded first"
    done
    # The example modules, built against the package: they share its runtime, which is loaded already or is loaded by them.
    cmake -S docs/examples/python -B "$work/modules" -DPython_EXECUTABLE="$PYTHON" -DCMAKE_BUILD_TYPE=Debug \
        -Dnanobind_ROOT="$("$PYTHON" -m nanobind --cmake_dir)" -Dpybind11_ROOT="$("$PYTHON" -m pybind11 --cmakedir)" \
        -Dfreehold_DIR="$("$fresh" -m freehold --cmakedir)" >"$work/cmake.log" ||
        { cat "$work/cmake.log"; die "CMake does not configure the modules"; }
    cmake --build "$work/modules" --parallel 2 >"$work/cmake.log" || { cat "$work/cmake.log"; die "the modules do not build"; }
    for module in nanobind_module pybind11_module; do
        PYTHONPATH=$work/modules:$(dirname "$package") "$PYTHON" docs/examples/python/try_module.py "$module" >"$work/module.txt" 2>&1 ||
            { cat "$work/module.txt"; die "$module, built against the package, fails"; }
        diff -u "tests/examples/expected/$module.txt" "$work/module.txt" || die "$module prints something else"
        PYTHONPATH=$work/modules:$(dirname "$package") "$PYTHON" - "$module" <<'EOF' || die "$module has a runtime of its own"
import importlib, sys
import freehold as fh, numpy as np
module = importlib.import_module(sys.argv[1])
before = len(fh.ledger.live())
made = module.unit_rows(np.ones((2, 2), "f4"))
assert len(fh.ledger.live()) > before, "what it made is not on the package's ledger"
EOF
        ok "$module, built against the package, is on its ledger"
    done
    if cmake -S "$here" -B "$work/wrong" -DFREEHOLD_VERSION=0.99 -Dfreehold_DIR="$("$fresh" -m freehold --cmakedir)" \
        >/dev/null 2>&1; then
        die "CMake takes this version for 0.99"
    fi
    ok "CMake, wrong version refused"
else
    echo "SKIP: cmake is not installed"
fi
include=$("$fresh" -m freehold --include)
"${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror -I"$include" "$here/program.cc" "$library" \
    -Wl,-rpath,"$package" -o "$work/by_hand"
[ "$("$work/by_hand")" = "$expected" ] || die "the program that was built by hand fails"
ok "a C++ program by hand, with --include"
