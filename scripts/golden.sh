#!/bin/sh
# Renews the listings of what tier 2 makes of the idioms in tests/golden, for both hosts.
set -eu
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
XLATE_RENEW_GOLDEN=1 cargo test --release --quiet -p xlate-tests --test golden
git diff --stat -- tests/golden
