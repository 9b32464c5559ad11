#!/usr/bin/env bash
# The frozen interface: what the headers promise, as libabigail sees it. Usage: scripts/abi.sh dump|check [folder of headers]
#
# `check` compares the headers with the committed dump and fails on anything but additions; `dump` writes it anew. rustc's
# debug information has no C prototypes, so what is looked at is a library of empty functions compiled from the headers.
# That the real library has the same functions, types and numbers is tested beside it: crates/freehold-capi/tests/header.rs,
# layout.rs, and the symbols in tests/abi/run.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

what=${1:-check}
HEADERS=${2:-$ROOT/include}
DUMP=$ROOT/crates/freehold-capi/abi/freehold-$(abi_name).abi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Every declaration with a body, the SONAME and the symbols' version as scripts/build.sh links them.
{
    echo '#include <freehold/freehold.h>'
    "${CC:-cc}" -E -P -I"$HEADERS" -x c "$HEADERS/freehold/freehold.h" | tr '\n' ' ' | tr ';' '\n' |
        sed -n 's/.*__attribute__((visibility("default"))) *\(.*)\) *$/\1 { __builtin_trap(); }/p'
} >"$work/stub.c"
version_map >"$work/stub.map"
# Enumerations that no function names are kept: their numbers are frozen too.
"${CC:-cc}" -g -O0 -fno-eliminate-unused-debug-types -fdebug-prefix-map="$work"=. -shared -fPIC -I"$HEADERS" "$work/stub.c" \
    -Wl,-soname,"libfreehold.so.$(abi_name)" -Wl,--version-script="$work/stub.map" -o "$work/libfreehold.so"
abidw --load-all-types --type-id-style hash --no-show-locs --no-corpus-path --no-comp-dir-path \
    --headers-dir "$HEADERS/freehold" --drop-private-types "$work/libfreehold.so" >"$work/new.abi"

case $what in
    dump)
        mkdir -p "$(dirname "$DUMP")"
        cp "$work/new.abi" "$DUMP"
        ls -l "$DUMP"
        ;;
    check)
        [ -f "$DUMP" ] || die "$DUMP is not there: make abi-dump"
        if abidiff --no-added-syms --non-reachable-types "$DUMP" "$work/new.abi"; then exit 0; fi
        echo "The headers are not those of $(basename "$DUMP"). A program that was compiled before may break: see 'The interface is"
        echo "frozen' in CONTRIBUTING.md. Where it cannot (a field at the end of a struct that has a size, a new enumeration): make abi-dump"
        exit 1
        ;;
    *) die "usage: scripts/abi.sh dump|check [folder of headers]" ;;
esac
