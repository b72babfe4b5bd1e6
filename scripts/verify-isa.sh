#!/bin/sh
# Compares every implemented instruction with this machine's CPU, on every engine, for --seconds (300 by default).
# Options are those of `verify-isa --help`: --seconds N, --filter SUBSTRING, --engine NAME, --seed S, --blocks,
# --native-only, --corpus FILE.
#
# With --aarch64 before them: records what the CPU does in --rounds rounds (2 by default), or takes a corpus, and compares
# the AArch64 engines with that under emulation.
set -eu
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
cargo build --release --quiet -p xlate-tests --bin verify-isa

if [ "${1:-}" = --aarch64 ]; then
  shift
  RUSTC=/usr/bin/rustc cargo build --release --quiet -p xlate-tests --no-default-features --bin replay-isa \
    --target aarch64-unknown-linux-gnu
  case " $* " in
  *" --rounds "* | *" --corpus "*) ;;
  *) set -- --rounds 2 "$@" ;;
  esac
  record=$(mktemp)
  trap 'rm -f "$record"' EXIT
  target/release/verify-isa --record "$record" "$@"
  qemu-aarch64 -cpu max target/aarch64-unknown-linux-gnu/release/replay-isa "$record"
  exit
fi

case " $* " in
*" --seconds "* | *" --rounds "* | *" --corpus "* | *" --help "*) ;;
*) set -- --seconds 300 "$@" ;;
esac
exec target/release/verify-isa "$@"
