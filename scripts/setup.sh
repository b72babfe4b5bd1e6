#!/usr/bin/env bash
# Installs what a bare Debian 12 machine with rustup's cargo lacks for building and testing xlate.
# Idempotent, and quick when nothing is missing. Needs root, or sudo.
set -euo pipefail

packages=(
  # LLVM 22 for tier 2, and what llvm-sys links with it (libstdc++: from g++)
  llvm-22-dev llvm-22 libpolly-22-dev libzstd-dev zlib1g-dev libffi-dev
  # the AArch64 side: cross linker, Debian's rustc with its AArch64 standard library, user-mode emulation
  gcc g++ libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross rustc-web libstd-rust-web-dev libstd-rust-web-dev:arm64 qemu-user
  # what the tests look at images and programs with
  gdb strace binutils gawk
  # programs that compile at run time, for the tests
  luajit pcre2-utils mujs
  # programs of vector code, for the tests
  openssl libssl-dev zstd x264 ffmpeg python3-numpy libopenblas0-serial
  # the whole programs that are benchmarked
  gzip xz-utils sqlite3 perl python3 lua5.4
)

say() { printf 'setup: %s\n' "$*" >&2; }

export PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || { say "cargo not found: install Rust with rustup (https://rustup.rs) first"; exit 1; }

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f="\${db:Status-Status}\n" "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
[ ${#missing[@]} = 0 ] && exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { say "missing packages: ${missing[*]}; run this as root, or install sudo"; exit 1; }
  as_root=(sudo)
fi
say "installing ${missing[*]}"
dpkg --print-foreign-architectures | grep -qx arm64 || "${as_root[@]}" dpkg --add-architecture arm64
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
