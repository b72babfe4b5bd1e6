#!/usr/bin/env bash
# Builds the command, the runtime, and, for AArch64, the runtime and what replays recorded cases. One profile: release.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
cargo build --release --workspace --all-targets
# rustup's AArch64 standard library may be out of reach; Debian's compiler brings one (rustc-web).
RUSTC=/usr/bin/rustc cargo build --release -p xlate-runtime --target aarch64-unknown-linux-gnu
RUSTC=/usr/bin/rustc cargo build --release -p xlate-tests --no-default-features --bin replay-isa --target aarch64-unknown-linux-gnu
