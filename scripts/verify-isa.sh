#!/bin/sh
# Compares every implemented instruction with this machine's CPU, on every engine, for --seconds (300 by default).
# Options are those of `verify-isa --help`: --seconds N, --filter SUBSTRING, --engine NAME, --seed S, --blocks.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --quiet -p xlate-tests --bin verify-isa
case " $* " in
*" --seconds "* | *" --rounds "* | *" --help "*) ;;
*) set -- --seconds 300 "$@" ;;
esac
exec target/release/verify-isa "$@"
