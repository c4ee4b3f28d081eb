#!/usr/bin/env bash
# Makes the decisions (src/provisioning) wrong, line by line, and looks whether a test notices. What is changed and what is left out
# stands in .cargo/mutants.toml. cargo-mutants, where it is not installed, is built once and kept in the cache.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
CARGO=${CARGO:-cargo}
: "${CARGO_TARGET_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/target}"
MUTANTS=$CARGO_TARGET_DIR/mutants
VERSION=27.1.0
TOOL=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/cargo-mutants-$VERSION
OUT=${DCI_MUTANTS_OUT:-$MUTANTS/report}
# How many of a hundred have to be caught.
GOAL=95
JOBS=${DCI_MUTANTS_JOBS:-$(nproc)}
# Each kind of tests tries what those before it missed. One that notices most goes first, the one that takes a minute last.
TESTS=(decisions lib sweeps)
# For every call of cargo: what stands behind `--` is told to the tests only, and all programs would be built for each mutant.
declare -A TARGET=([decisions]='-C=--test=decisions' [lib]='-C=--lib' [sweeps]='-C=--test=sweeps')
# A test program ends with its first failure: most mutants are noticed within a second, and a whole program takes longer. libtest has
# that only behind the flag of the nightly compiler.
FAIL_FAST=(-Zunstable-options --fail-fast)

# Half of the time of these tests is the C library's allocator's, where it is not told to keep small blocks with their threads.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.tcache_count=4000:glibc.malloc.tcache_max=4096}

usage() {
  cat <<'TEXT'
usage: mutants.sh changed   mutants of the lines that changed since the merge base with main, or since the commit before: which
                            of them the quick tests do not notice, for whoever reads it
       mutants.sh all       all of them, with all tests; hours. Fails where too many are missed
       mutants.sh missed    those that the last run missed once more, when there are more tests; lines that moved are not found

DCI_MUTANTS_SHARD=k/n  `all`: a part, drawn from all files (k from 0); its figures are added to those of other parts
DCI_MUTANTS_TESTS      `all`, `missed`: which tests, in this order ("decisions lib sweeps")
DCI_MUTANTS_SECONDS    after so many seconds `changed` counts what it has (120)
DCI_MUTANTS_JOBS       how many are tried at a time (as many as there are processors)
DCI_MUTANTS_OUT        directory of the report
TEXT
}

skipped() {
  printf 'SKIPPED: %s\n' "$*"
  exit 0
}

# What was found by all workers, in the first run over the mutants or in the later ones over those that were missed.
found() { # first|late NAME…
  local run=$1 name
  shift
  for name in "$@"; do cat "$OUT/$run"/*/mutants.out/"$name".txt 2>/dev/null || true; done
}

# The mutants that the first tests missed and later ones caught: cargo-mutants tries more than it is asked for (deleted fields). A
# mutant that never ends is noticed too.
caught_late() {
  found late caught timeout | grep --fixed-strings --line-regexp --file=<(found first missed) | sort --unique || true
}

missed() {
  found first missed | grep --fixed-strings --line-regexp --invert-match --file=<(caught_late) || true
}

# What was found; of all of them enough have to be caught.
report() {
  local late missed timeout unviable caught
  timeout=$(found first timeout | wc -l) caught=$(found first caught | wc -l) unviable=$(found first unviable | wc -l)
  late=$(caught_late | wc -l) missed=$(missed | wc -l)
  caught=$((caught + timeout + late))
  printf 'mutants: %d caught (%d by the later tests, %d by time), %d missed, %d do not compile\n' \
    "$caught" "$late" "$timeout" "$missed" "$unviable"
  missed | sed 's/^/  missed: /'
  if ((caught + missed > 0)); then printf 'caught: %d.%d %%\n' $((caught * 100 / (caught + missed))) $((caught * 1000 / (caught + missed) % 10)); fi
  [[ $what == changed ]] || ((caught * 100 >= GOAL * (caught + missed)))
}

# One worker of a run: tests against mutants, for so many seconds at most (0: to the end). It has a target directory of its own: copies
# of the tree that share one would take each other's builds for their own. Kept, so that only our crate is built the next time, and
# beside the other builds: another set of features would build them anew each time.
try() { # RUN WORKER SECONDS ARGUMENT…
  local out=$OUT/$1-$2 target=$MUTANTS/$2 limit=$3 rc=0
  shift 3
  rm -rf "$out"
  mkdir -p "$out"
  # Interrupted and not killed: it takes its copy of the tree away.
  CARGO_TARGET_DIR=$target RUSTC_BOOTSTRAP=1 timeout --signal=INT --kill-after=30 "$limit" \
    "$CARGO" mutants --output "$out" --no-shuffle --colors never "$@" || rc=$?
  case $rc in
    0 | 2 | 3) ;; # all caught; some missed; some ended by time
    124) printf 'ended after %s s\n' "$limit" ;;
    *)
      printf 'error: cargo mutants ended with %d\n' "$rc" >&2
      exit 1
      ;;
  esac
}

# Where nothing was built yet: with all processors for one worker, and the others begin with a copy. Each for itself takes as long again.
warm() {
  local worker
  for ((worker = 1; worker < JOBS; worker++)); do
    [[ -d $MUTANTS/$worker ]] && continue
    CARGO_TARGET_DIR=$MUTANTS/0 RUSTC_BOOTSTRAP=1 \
      "$CARGO" test --quiet --profile mutants --no-default-features --locked --no-run "${TARGET[${TESTS[0]}]#-C=}"
    cp -a "$MUTANTS/0" "$MUTANTS/$worker"
  done
}

# All workers of a run to the end. Each has a part, drawn from all files: a fair sample of them.
try_all() { # RUN PART PARTS ARGUMENT…
  local run=$1 part=$2 parts=$3 worker pids=()
  shift 3
  warm
  for ((worker = 0; worker < JOBS; worker++)); do
    try "$run" "$worker" 0 --shard "$((part + parts * worker))/$((parts * JOBS))" --sharding round-robin "$@" &
    pids+=($!)
  done
  for worker in "${pids[@]}"; do wait "$worker"; done
}

# What is missed so far, with the tests of one kind.
try_missed() { # TESTS
  local names
  mapfile -t names < <(missed | sed 's/[][\.^$*+?(){}|]/\\&/g; s/^/--re=^/; s/$/$/')
  ((${#names[@]} > 0)) || return 0
  try_all "late/$(date +%s)-$1" 0 1 "${TARGET[$1]}" "${names[@]}" -- -- "${FAIL_FAST[@]}"
}

case ${1:-} in
  changed | all | missed) what=$1 ;;
  *)
    usage >&2
    exit 2
    ;;
esac
[[ -z ${DCI_MUTANTS_TESTS:-} ]] || read -ra TESTS <<<"$DCI_MUTANTS_TESTS"
for tests in "${TESTS[@]}"; do
  [[ -n ${TARGET[$tests]:-} ]] || {
    printf 'error: no such tests: %s (there are: %s)\n' "$tests" "${!TARGET[*]}" >&2
    exit 2
  }
done
mkdir -p "$OUT"
arguments=()

if [[ $what == changed ]]; then
  head=$(git rev-parse HEAD 2>/dev/null) || skipped "no git history: nothing to compare with"
  base=''
  for main in origin/main main; do
    if base=$(git merge-base HEAD "$main" 2>/dev/null) && [[ $base != "$head" ]]; then break; fi
    base=''
  done
  [[ -n $base ]] || base=$(git rev-parse --verify --quiet 'HEAD~1') || skipped "no commit before this one"
  git diff "$base" -- src/provisioning >"$OUT/changed.diff"
  [[ -s $OUT/changed.diff ]] || skipped "src/provisioning is as in ${base:0:12}"
  arguments+=(--in-diff "$OUT/changed.diff")
fi

# Only now: most changes are of other lines, and building it takes minutes.
if ! "$CARGO" mutants --version >/dev/null 2>&1; then
  export PATH=$TOOL/bin:$PATH
  "$CARGO" mutants --version >/dev/null 2>&1 ||
    CARGO_TARGET_DIR=$TOOL/build "$CARGO" install cargo-mutants --quiet --locked --version "$VERSION" --root "$TOOL"
  rm -rf "$TOOL/build"
fi

if [[ $what == changed ]]; then
  count=$("$CARGO" mutants --list --colors never "${arguments[@]}" | wc -l)
  ((count > 0)) || skipped "no line changed that could be made wrong"
  printf '%d mutants of what changed\n' "$count"
  rm -rf "$OUT/first" "$OUT/late"
  try first/changed 0 "${DCI_MUTANTS_SECONDS:-120}" "${TARGET[lib]}" "${TARGET[decisions]}" "${arguments[@]}" -- -- "${FAIL_FAST[@]}"
  report
  exit
fi
if [[ $what == missed ]]; then
  for tests in "${TESTS[@]}"; do try_missed "$tests"; done
  report
  exit
fi
[[ -n ${DCI_MUTANTS_SHARD:-} ]] || rm -rf "$OUT/first" "$OUT/late"
shard=${DCI_MUTANTS_SHARD:-0/1}
try_all "first/${shard/\//-of-}" "${shard%/*}" "${shard#*/}" "${TARGET[${TESTS[0]}]}" -- -- "${FAIL_FAST[@]}"
for tests in "${TESTS[@]:1}"; do try_missed "$tests"; done
report
