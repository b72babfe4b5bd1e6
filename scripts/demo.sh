#!/usr/bin/env bash
# The main job, end to end: sets the machine up, builds, starts a computation natively, checkpoints it in the
# middle, resumes the image under translation here and on AArch64 (emulated), and compares the final outputs
# with an undisturbed run's. Exit status 0 only if both are equal.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

STEPS=5000
say() { printf '\n== %s\n' "$*"; }

say 'set-up and build'
scripts/setup.sh
cargo build --release -p xlate -p xlate-runtime
RUSTC=/usr/bin/rustc cargo build --release -p xlate-runtime --target aarch64-unknown-linux-gnu
xlate=target/release/xlate

work=$(mktemp -d)
pid=
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
gcc -O2 -o "$work/migrate" tests/features/migrate.c
out=$work/out.txt

say "an undisturbed native run: $STEPS steps, a tree in the heap, frames on the stack, a file being written"
"$work/migrate" $STEPS "$out"
mv "$out" "$work/undisturbed.txt"
tail -n 2 "$work/undisturbed.txt"

say 'the same again, checkpointed in the middle and ended'
"$work/migrate" $STEPS "$out" &
pid=$!
# Else the shell reports its death.
disown "$pid"
sleep 1.5
"$xlate" checkpoint "$pid" -o "$work/image.bin" --kill
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
pid=
cp "$out" "$work/half.txt"
printf 'the output file so far: %s of %s lines\n' "$(wc -l < "$work/half.txt")" "$(wc -l < "$work/undisturbed.txt")"
"$xlate" inspect "$work/image.bin" | head -n 20

result=0
resume() { # NAME OPTIONS…
  local name=$1
  shift
  say "resumed $name: xlate run image.bin $*"
  cp "$work/half.txt" "$out"
  "$xlate" run "$@" "$work/image.bin"
  if cmp "$out" "$work/undisturbed.txt"; then
    printf '%s: the final output equals the undisturbed run'"'"'s\n' "$name"
  else
    printf '%s: THE OUTPUT DIFFERS\n' "$name"
    result=1
  fi
}
resume 'here' --opt=O2
resume 'on AArch64' --target=aarch64 --opt=O2
exit $result
