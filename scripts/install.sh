#!/usr/bin/env bash
# Installs the C library as C libraries are installed, or removes it. Usage: PREFIX= DESTDIR= scripts/install.sh
# install|uninstall. The tree it writes can be moved: pkg-config and CMake find the rest from their own file's place.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

PREFIX=${PREFIX:-/usr/local}
case $PREFIX in /*) ;; *) PREFIX=$ROOT/$PREFIX ;; esac
DEST=${DESTDIR:-}$PREFIX
VERSION=$(version)

template() { sed -e "s/@VERSION@/$VERSION/g" -e "s/@SONAME@/$SONAME/g" "scripts/package/$1"; }

install_all() {
    local so=$LIBDIR/libfreehold.so.$VERSION
    [ -f "$so" ] || die "$so is not built: make build"
    SONAME=$(soname "$so")

    install -d "$DEST/include/freehold" "$DEST/lib/pkgconfig" "$DEST/lib/cmake/freehold" "$DEST/share/licenses/freehold"
    install -m 644 include/freehold/*.h* "$DEST/include/freehold/"
    install -m 755 "$so" "$DEST/lib/libfreehold.so.$VERSION"
    ln -sf "libfreehold.so.$VERSION" "$DEST/lib/$SONAME"
    ln -sf "$SONAME" "$DEST/lib/libfreehold.so"
    install -m 644 "$LIBDIR/libfreehold.a" "$DEST/lib/"
    template freehold.pc.in >"$DEST/lib/pkgconfig/freehold.pc"
    template freehold-config.cmake.in >"$DEST/lib/cmake/freehold/freehold-config.cmake"
    template freehold-config-version.cmake.in >"$DEST/lib/cmake/freehold/freehold-config-version.cmake"
    install -m 644 LICENSE-MIT LICENSE-APACHE "$DEST/share/licenses/freehold/"
    say "installed Freehold $VERSION under $DEST"
}

uninstall_all() {
    rm -rf "$DEST/include/freehold" "$DEST/lib/cmake/freehold" "$DEST/share/licenses/freehold"
    rm -f "$DEST"/lib/libfreehold.so* "$DEST/lib/libfreehold.a" "$DEST/lib/pkgconfig/freehold.pc"
    say "removed Freehold from $DEST"
}

case ${1:-} in
    install) install_all ;;
    uninstall) uninstall_all ;;
    *) die "usage: PREFIX= DESTDIR= scripts/install.sh install|uninstall" ;;
esac
