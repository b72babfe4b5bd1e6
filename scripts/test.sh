#!/usr/bin/env bash
# Sets the machine up, builds everything and runs all tests: `scripts/test.sh [--full]`.
# --full adds the long suites (300 s of native differential verification, a long record replayed on AArch64, and thousands
# of programs that pass status flags on, and that patch themselves; programs of vector code in all modes).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
full=no
[ "${1:-}" = --full ] && full=yes

step() { printf '\n== %s\n' "$*"; }

step set-up
scripts/setup.sh
step format
cargo fmt --all --check
step build
scripts/build.sh
step lint
cargo clippy --release --workspace --all-targets -- -D warnings
step tests
cargo test --release --workspace
if [ $full = yes ]; then
  step 'random programs that patch themselves, thousands'
  cargo test --release -p xlate-tests --test guests --test guests_aarch64 -- --ignored patching
  step 'programs of vector code, in all modes'
  cargo test --release -p xlate-tests --test vector_programs -- --ignored
  step 'native differential verification, long'
  scripts/verify-isa.sh --seconds 300
  step 'the same on AArch64, from a record'
  scripts/verify-isa.sh --aarch64 --rounds 5 --seed 5
  step 'status flags over transfers, long'
  scripts/verify-flags.sh --programs 20 --cases 200
  scripts/verify-flags.sh --aarch64 --programs 3 --seed 100
fi
