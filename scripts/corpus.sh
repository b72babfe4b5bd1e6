#!/bin/sh
# Writes tests/corpus/avx512 anew: what this machine's CPU, which needs AVX-512, makes of each of its instructions.
set -eu
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
cargo build --release --quiet -p xlate-tests --bin verify-isa
exec target/release/verify-isa --write-corpus tests/corpus/avx512 --rounds 1 --states 2 --seed 17
