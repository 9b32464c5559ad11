#!/usr/bin/env bash
# Installs the library as a packager would, moves the tree, and builds against it with pkg-config and with CMake,
# shared and static, C and C++. Then removes it and looks for what was left behind.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$ROOT/tests/install
ok() { echo "ok: $*"; }

make --no-print-directory install PREFIX=/opt/fh DESTDIR="$work/stage"
mv "$work/stage/opt/fh" "$work/moved"
prefix=$work/moved
expected=$(version)

# Runs a program that was built against the installed library and compares the version it reports.
check() {
    local what=$1 program=$2 got
    got=$(LD_LIBRARY_PATH=${3-} "$program")
    [ "$got" = "$expected" ] || die "$what reports version '$got', not '$expected'"
    ok "$what"
}

foreign=$(nm -D --defined-only "$prefix/lib/libfreehold.so" | awk '$2 != "A" { print $3 }' | grep -v '^fh_' || true)
[ -z "$foreign" ] || die "the library exports names that are not its own: $foreign"
ok "only fh_ names are exported"
nm -D "$prefix/lib/libfreehold.so" | grep 'fh_abi_version@@FREEHOLD_' >/dev/null || die "the symbols have no version"
ok "symbols have a version"

needed() { LC_ALL=C objdump -p "$1" | awk '$1 == "NEEDED" { print $2 }'; }

if have pkg-config; then
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    [ "$(pkg-config --modversion freehold)" = "$expected" ] || die "freehold.pc has another version"
    read -ra cflags <<<"$(pkg-config --cflags freehold)"
    read -ra libs <<<"$(pkg-config --libs freehold)"
    read -ra private <<<"$(pkg-config --static --libs freehold | sed 's/-lfreehold *//')"
    cc -std=c11 -Wall -Wextra -Werror "$here/version.c" "${cflags[@]}" "${libs[@]}" -o "$work/shared"
    check "pkg-config, C, shared" "$work/shared" "$prefix/lib"
    needed "$work/shared" | grep -qx 'libfreehold\.so\.[0-9.]*' || die "the program does not need the SONAME"
    # A linker takes the shared library where both are in reach; naming the archive is how to ask for the other.
    cc -std=c11 -Wall -Wextra -Werror "$here/version.c" "${cflags[@]}" "$prefix/lib/libfreehold.a" \
        "${private[@]}" -o "$work/static"
    check "pkg-config, C, static" "$work/static"
    if needed "$work/static" | grep -q freehold; then die "the static program needs the shared library"; fi
    c++ -std=c++17 -Wall -Wextra -Werror -x c++ "$here/version.c" "${cflags[@]}" "${libs[@]}" -o "$work/cpp"
    check "pkg-config, C++" "$work/cpp" "$prefix/lib"
else
    echo "SKIP: pkg-config is not installed"
fi

if have cmake; then
    cmake -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DFREEHOLD_VERSION="$expected" >"$work/cmake.log" ||
        { cat "$work/cmake.log"; die "CMake does not find the package"; }
    cmake --build "$work/build" >"$work/cmake.log" || { cat "$work/cmake.log"; die "the CMake project does not build"; }
    # No LD_LIBRARY_PATH: CMake gives the program the path of the library it was built against.
    check "CMake, shared" "$work/build/with_shared"
    check "CMake, static" "$work/build/with_static"
    # Before 1.0 a higher minor version may break, so asking for one must not be answered with this.
    if cmake -S "$here" -B "$work/wrong" -DCMAKE_PREFIX_PATH="$prefix" -DFREEHOLD_VERSION=0.99 >/dev/null 2>&1; then
        die "CMake takes this version for 0.99"
    fi
    ok "CMake, wrong version refused"
else
    echo "SKIP: cmake is not installed"
fi

PREFIX=$prefix DESTDIR='' scripts/install.sh uninstall
left=$(find "$prefix" ! -type d)
[ -z "$left" ] || die "uninstall leaves: $left"
ok "uninstall leaves nothing"
