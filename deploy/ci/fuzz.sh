#!/usr/bin/env bash
# Fuzzes the parsers with libFuzzer, one target after the other; needs a C++ compiler, but neither cargo-fuzz nor nightly:
# the instrumentation is that of `cargo fuzz -s none`. Nothing in the core is unsafe, so no sanitizer is missed.
# Inputs that cover something new go to the cache, so that the next run goes on from there; a failure leaves its input in
# fuzz/artifacts/ and ends with exit code 1. The seeds in fuzz/corpus/ are only read.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
CARGO=${CARGO:-cargo}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator
: "${CARGO_TARGET_DIR:=$CACHE/target}"
# Beside the other builds, which would wait for this one otherwise.
export CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz
SECONDS_EACH=${DCI_FUZZ_SECONDS:-300}

usage() {
  cat <<'TEXT'
usage: fuzz.sh [TARGET…]

  TARGET   documents, dialect, durations, configurations; all when none is named
  DCI_FUZZ_SECONDS   how long each is fuzzed (300)
TEXT
}

case ${1:-} in -h | --help)
  usage
  exit
  ;;
esac

mapfile -t all < <(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"$|\1|p' fuzz/Cargo.toml)
targets=("$@")
if ((${#targets[@]} == 0)); then targets=("${all[@]}"); fi

host=$(rustc -vV | sed -n 's/^host: //p')
# With a target of its own the flags do not reach build scripts and procedural macros.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions=yes -Copt-level=2"
"$CARGO" build --locked --manifest-path fuzz/Cargo.toml --target "$host"

rc=0
for target in "${targets[@]}"; do
  found=$CACHE/fuzz/$target artifacts=fuzz/artifacts/$target/
  mkdir -p "$found" "$artifacts"
  printf '=== %s, %s seconds\n' "$target" "$SECONDS_EACH"
  "$CARGO_TARGET_DIR/$host/debug/$target" -max_total_time="$SECONDS_EACH" -max_len=65536 -rss_limit_mb=1024 -timeout=5 \
    -artifact_prefix="$artifacts" -print_final_stats=1 "$found" "fuzz/corpus/$target" || rc=1
done
exit "$rc"
