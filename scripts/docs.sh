#!/usr/bin/env bash
# Builds the book, the reference of the C and C++ headers and that of the Rust crates into build/site, without a warning, and checks
# what they say: every link and anchor, every program. Usage: scripts/docs.sh [pages|programs|c|rust|book...]; all without one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

SITE=$ROOT/build/site

# Of the Markdown, before anything is built from it.
part_pages() { "$PYTHON" tests/docs/check.py links; }

# The programs of the pages and the samples of the headers, against an installed library.
part_programs() {
    local prefix
    have pkg-config || { echo "SKIP: pkg-config is not installed"; return; }
    prefix=$(mktemp -d)
    PREFIX=$prefix DESTDIR='' scripts/install.sh install >/dev/null
    "$PYTHON" tests/docs/check.py programs "$prefix"
    "$PYTHON" tests/docs/check.py samples "$prefix"
    rm -r "$prefix"
}

part_c() {
    have doxygen || { echo "SKIP: doxygen is not installed"; return; }
    mkdir -p "$SITE/c"
    { cat docs/Doxyfile && echo "OUTPUT_DIRECTORY = $SITE/c"; } | doxygen -
}

part_rust() {
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --workspace --exclude freehold-python --exclude freehold-fake-cuda \
        --exclude freehold-example
    mkdir -p "$SITE/rust"
    cp -r "$TARGET/doc/." "$SITE/rust/"
}

# mdBook says what is wrong and goes on; here that is an error. The links of the whole site are looked at last.
part_book() {
    local log=$ROOT/build/mdbook.log
    have mdbook || { echo "SKIP: mdbook is not installed"; return; }
    mdbook build docs 2>&1 | tee "$log"
    if grep -E 'WARN|ERROR' "$log"; then die "mdBook has something to say"; fi
    cp scripts/package/site.html "$SITE/index.html"
    "$PYTHON" tests/docs/check.py site "$SITE"
}

parts=("$@")
if [ ${#parts[@]} -eq 0 ]; then
    parts=(pages programs c rust book)
    rm -rf "$SITE"
fi
mkdir -p "$SITE"
for part in "${parts[@]}"; do
    start=$SECONDS
    "part_$part"
    say "$part: $((SECONDS - start)) s"
done
