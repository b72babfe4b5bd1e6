#!/usr/bin/env bash
# Counts the AArch64 instructions that the compute programs and the vector code of tests/guests execute, compiled for
# AArch64 and translated from x86-64, and prints the ratio once warm:
#   scripts/arm-cost.sh [--json[=FILE]] [--opt=LEVEL] [PROGRAM|compute|v2|v3|v4…]
#
# Both kinds run under qemu-aarch64 with a plugin that counts instructions by block (tests/arm-cost/count.c): no ARM
# processor is needed, and the figures repeat. A program's cost is the difference between two problem sizes, over the
# same difference natively, so that starting and translating don't count; they are shown as the fixed cost. Which
# tier ran what is known from `xlate run --perf-map`.
#
# Programs are linked statically, which keeps both sides alike and the emulator out of library paths. The C libraries
# differ all the same: glibc's string functions are written by hand for each processor.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
scripts/setup.sh
cargo build --release --quiet -p xlate
cargo build --release --quiet -p xlate-tests --bin arm-cost
RUSTC=/usr/bin/rustc cargo build --release --quiet -p xlate-runtime --target aarch64-unknown-linux-gnu
exec target/release/arm-cost "$@"
