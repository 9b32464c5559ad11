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

needed() { LC_ALL=C objdump -p "$1" | awk '$1 == "NEEDED" { print $2 }'; }

# links NAME: from libfreehold.so over the SONAME to the file with the whole version.
links() {
    local lib=$prefix/lib name
    name=$(soname "$lib/libfreehold.so")
    [ "$(readlink "$lib/libfreehold.so")" = "$name" ] && [ "$(readlink "$lib/$name")" = "libfreehold.so.$expected" ] &&
        [ ! -L "$lib/libfreehold.so.$expected" ] || die "the library's links: $(ls -l "$lib")"
    ok "$1, links"
}

# with_pkg_config NAME: C and C++, shared and static, against $prefix.
with_pkg_config() {
    local cflags libs private
    if ! have pkg-config; then
        echo "SKIP: pkg-config is not installed"
        return
    fi
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    [ "$(pkg-config --modversion freehold)" = "$expected" ] || die "freehold.pc has another version"
    read -ra cflags <<<"$(pkg-config --cflags freehold)"
    read -ra libs <<<"$(pkg-config --libs freehold)"
    read -ra private <<<"$(pkg-config --static --libs freehold | sed 's/-lfreehold *//')"
    cc -std=c11 -Wall -Wextra -Werror "$here/version.c" "${cflags[@]}" "${libs[@]}" -o "$work/shared"
    check "$1, pkg-config, C, shared" "$work/shared" "$prefix/lib"
    needed "$work/shared" | grep -qx 'libfreehold\.so\.[0-9.]*' || die "the program does not need the SONAME"
    # A linker takes the shared library where both are in reach; naming the archive is how to ask for the other.
    cc -std=c11 -Wall -Wextra -Werror "$here/version.c" "${cflags[@]}" "$prefix/lib/libfreehold.a" \
        "${private[@]}" -o "$work/static"
    check "$1, pkg-config, C, static" "$work/static"
    if needed "$work/static" | grep -q freehold; then die "the static program needs the shared library"; fi
    c++ -std=c++17 -Wall -Wextra -Werror -x c++ "$here/version.c" "${cflags[@]}" "${libs[@]}" -o "$work/cpp"
    check "$1, pkg-config, C++" "$work/cpp" "$prefix/lib"
}

with_cmake() {
    if ! have cmake; then
        echo "SKIP: cmake is not installed"
        return
    fi
    rm -rf "$work/build" "$work/wrong"
    cmake -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DFREEHOLD_VERSION="$expected" >"$work/cmake.log" ||
        { cat "$work/cmake.log"; die "CMake does not find the package"; }
    cmake --build "$work/build" >"$work/cmake.log" || { cat "$work/cmake.log"; die "the CMake project does not build"; }
    # No LD_LIBRARY_PATH: CMake gives the program the path of the library it was built against.
    check "$1, CMake, shared" "$work/build/with_shared"
    check "$1, CMake, static" "$work/build/with_static"
    # Before 1.0 a higher minor version may break, so asking for one must not be answered with this.
    if cmake -S "$here" -B "$work/wrong" -DCMAKE_PREFIX_PATH="$prefix" -DFREEHOLD_VERSION=0.99 >/dev/null 2>&1; then
        die "CMake takes this version for 0.99"
    fi
    ok "$1, CMake, wrong version refused"
}

foreign=$(nm -D --defined-only "$prefix/lib/libfreehold.so" | awk '$2 != "A" { print $3 }' | grep -v '^fh_' || true)
[ -z "$foreign" ] || die "the library exports names that are not its own: $foreign"
ok "only fh_ names are exported"
nm -D "$prefix/lib/libfreehold.so" | grep 'fh_abi_version@@FREEHOLD_' >/dev/null || die "the symbols have no version"
ok "symbols have a version"
links installed
with_pkg_config installed
with_cmake installed

PREFIX=$prefix DESTDIR='' scripts/install.sh uninstall
left=$(find "$prefix" ! -type d)
[ -z "$left" ] || die "uninstall leaves: $left"
ok "uninstall leaves nothing"

# The archive, on a machine that has everything but Rust.
FREEHOLD_DIST=$work/dist scripts/dist.sh pack >"$work/dist.log" || { cat "$work/dist.log"; die "the archive is not packed"; }
archive=$(echo "$work"/dist/*.tar.gz)
sum=$(sha256sum <"$archive")
FREEHOLD_DIST=$work/dist scripts/dist.sh pack >"$work/dist.log"
[ "$sum" = "$(sha256sum <"$archive")" ] || die "packed twice, the archive has other bytes"
ok "packed twice, the same bytes"
mkdir "$work/tools" "$work/unpacked"
ln -s /usr/local/bin/* /usr/bin/* "$work/tools/" 2>/dev/null || true
for tool in cmake pkg-config; do if have $tool; then ln -sf "$(command -v $tool)" "$work/tools/"; fi; done
rm -f "$work"/tools/{cargo,rustc,rustup}
PATH=$work/tools
if have cargo || have rustc; then die "there is a Rust toolchain in $PATH"; fi
tar -xzf "$archive" -C "$work/unpacked"
prefix=$(echo "$work"/unpacked/*)
for file in README.md CHANGELOG.md share/licenses/freehold/LICENSE-{MIT,APACHE} include/freehold/freehold.{h,hpp} lib/libfreehold.a; do
    [ -s "$prefix/$file" ] || die "the archive has no $file"
done
links unpacked
with_pkg_config unpacked
with_cmake unpacked
lib=$prefix/lib/libfreehold.so.$expected
# Where rustc, cargo and this checkout are must not be in it: neither is where the next machine has them.
for path in "$ROOT" "$HOME/.cargo" "$HOME/.rustup"; do
    if grep -qF "$path/" "$lib" "$prefix/lib/libfreehold.a"; then die "a library has a path of this machine in it: $path"; fi
done
ok "no path of this machine in the libraries"
size=$(stat -c %s "$lib")
echo "libfreehold.so, stripped: $size bytes"
# What it has today and a tenth more: an accident, such as a second copy of the kernels, is caught.
[ "$size" -le 4950000 ] || die "the stripped library has grown to $size bytes"
