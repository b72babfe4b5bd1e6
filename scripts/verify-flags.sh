#!/bin/sh
# Compares random programs that pass status flags over calls, returns and jumps with this machine's CPU, in every mode.
# Options are those of `verify-flags --help`: --programs N, --cases N, --seed S, --mode SUBSTRING, --seconds N.
#
# --aarch64 runs them on the AArch64 runtime under emulation. On an AArch64 machine: --record DIR on an x86-64 one first,
# then --replay DIR here.
set -eu
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
cargo build --release --quiet -p xlate -p xlate-runtime
cargo build --release --quiet -p xlate-tests --bin verify-flags
exec target/release/verify-flags "$@"
