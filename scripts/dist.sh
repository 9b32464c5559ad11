#!/usr/bin/env bash
# The C library for machines without Rust: build/dist/freehold-VERSION-ARCH-linux-gnu.tar.gz, to be unpacked anywhere.
# Usage: scripts/dist.sh pack|verify. The same sources give the same bytes wherever they are built by the same compilers: `verify` builds
# a copy of them in another folder and compares.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

NAME=freehold-$(version)-$(uname -m)-linux-gnu
OUT=${FREEHOLD_DIST:-$ROOT/build/dist}
# What every file in it is dated: the last commit, unless somebody says otherwise.
EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

pack() {
    local stage=$OUT/stage root=$OUT/stage/$NAME
    rm -rf "$stage" "$OUT/$NAME.tar.gz"
    PREFIX=/ DESTDIR=$root scripts/install.sh install
    # Programs need the exported symbols, debuggers get nothing from a library without sources. `D`: no dates in the archive.
    strip --strip-unneeded "$root/lib/libfreehold.so.$(version)"
    strip --strip-debug -D "$root/lib/libfreehold.a"
    sed "s/@VERSION@/$(version)/g" scripts/package/README.md.in >"$root/README.md"
    cp CHANGELOG.md "$root/"
    # Modes as well, or they would be those of the builder's umask.
    (cd "$stage" && LC_ALL=C tar --sort=name --format=ustar --mtime="@$EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode=u=rwX,go=rX -cf - "$NAME") | gzip -9n >"$OUT/$NAME.tar.gz"
    rm -rf "$stage"
    ls -l "$OUT/$NAME.tar.gz"
}

verify() {
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    scripts/build.sh library && pack
    # What git knows, as it is in the working tree.
    git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$copy"
    (
        cd "$copy"
        export SOURCE_DATE_EPOCH=$EPOCH CARGO_TARGET_DIR=$copy/other-target FREEHOLD_VENV=$VENV FREEHOLD_DIST=$copy/dist
        scripts/build.sh library && scripts/dist.sh pack
    )
    cmp "$OUT/$NAME.tar.gz" "$copy/dist/$NAME.tar.gz" && say "two builds, the same bytes: $(sha256sum <"$OUT/$NAME.tar.gz")"
}

case ${1:-pack} in
    pack) pack ;;
    verify) verify ;;
    *) die "usage: scripts/dist.sh pack|verify" ;;
esac
