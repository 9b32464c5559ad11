#!/usr/bin/env bash
# Builds the tensor crate for aarch64 and runs its tests under qemu-user. Usage: scripts/aarch64.sh [test name...]
#
# Needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user, and rustup's target
# aarch64-unknown-linux-gnu. Where one is missing, one line says so and nothing is run.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

TRIPLE=aarch64-unknown-linux-gnu
missing=()
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $tool >/dev/null || missing+=("$tool")
done
[ -d "$(rustc --print sysroot)/lib/rustlib/$TRIPLE" ] || missing+=("the Rust target $TRIPLE")
if [ ${#missing[@]} -ne 0 ]; then
    echo "SKIP: aarch64: missing $(printf '%s, ' "${missing[@]}" | sed 's/, $//')"
    exit 0
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
# Property tests are emulated too: a tenth of the cases.
export PROPTEST_CASES=${PROPTEST_CASES:-600}
# qemu-user 7.2 itself aborts in the forked child of a process that has threads.
exec cargo nextest run --profile watched -p freehold-tensor --target $TRIPLE --no-fail-fast -E 'not test(a_forked_child)' "$@"
