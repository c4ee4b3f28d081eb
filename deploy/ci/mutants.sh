#!/usr/bin/env bash
# Makes the decisions (src/provisioning) wrong, line by line, and looks whether a test notices. What is changed and what is left out
# stands in .cargo/mutants.toml; cargo-mutants makes the list (where it is not installed, it is built once and kept in the cache), and
# deploy/ci/mutants tries all of it in one build.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
CARGO=${CARGO:-cargo}
: "${CARGO_TARGET_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/target}"
VERSION=27.1.0
TOOL=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/cargo-mutants-$VERSION
OUT=${DCI_MUTANTS_OUT:-$CARGO_TARGET_DIR/mutants/report}
# A copy of the tree, which is changed. Builds of it are kept beside the others: another set of features would build them anew each time.
TREE=$CARGO_TARGET_DIR/mutants/tree
BUILDS=$CARGO_TARGET_DIR/mutants/target
# How many of a hundred have to be caught.
GOAL=95
TESTS=(decisions lib)
declare -A TARGET=([decisions]=--test=decisions [lib]=--lib [sweeps]=--test=sweeps)

# Half of the time of these tests is the C library's allocator's, where it is not told to keep small blocks with their threads.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.tcache_count=4000:glibc.malloc.tcache_max=4096}

usage() {
  cat <<'TEXT'
usage: mutants.sh changed   mutants of the lines that changed since the merge base with main, or since the commit before: which
                            of them the tests do not notice, for whoever reads it
       mutants.sh all       all of them. Fails where too many are missed
       mutants.sh missed    those that the last run missed once more, when there are more tests, and those of lines that have moved

DCI_MUTANTS_TESTS      which tests ("decisions lib"); "decisions lib sweeps" takes hours
DCI_MUTANTS_SECONDS    after so many seconds no further one is tried (`changed`: 120)
DCI_MUTANTS_JOBS       how many are tried at a time (as many as there are processors)
DCI_MUTANTS_OUT        directory of the report
TEXT
}

skipped() {
  printf 'SKIPPED: %s\n' "$*"
  exit 0
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
lines=() results=$OUT/results.json

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
  lines=(--in-diff "$OUT/changed.diff") results=$OUT/changed.json
  : "${DCI_MUTANTS_SECONDS:=120}"
fi

# Only now: most changes are of other lines, and building it takes minutes.
if ! "$CARGO" mutants --version >/dev/null 2>&1; then
  export PATH=$TOOL/bin:$PATH
  "$CARGO" mutants --version >/dev/null 2>&1 ||
    CARGO_TARGET_DIR=$TOOL/build "$CARGO" install cargo-mutants --quiet --locked --version "$VERSION" --root "$TOOL"
  rm -rf "$TOOL/build"
fi
"$CARGO" mutants --list --json --colors never "${lines[@]}" >"$OUT/list.json"
[[ $(<"$OUT/list.json") != '[]' ]] || skipped "no line changed that could be made wrong"
[[ $what == missed ]] || rm -f "$results"

rm -rf "$TREE"
mkdir -p "$TREE"
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from - --ignore-failed-read | tar --extract --directory "$TREE"
cd "$TREE"
tests=()
for name in "${TESTS[@]}"; do tests+=("${TARGET[$name]}"); done
[[ $what == changed ]] || export DCI_MUTANTS_GOAL=$GOAL
export DCI_MUTANTS_SECONDS
CARGO_TARGET_DIR=$BUILDS PYTHONDONTWRITEBYTECODE=1 python3 "$ROOT/deploy/ci/mutants" "$OUT/list.json" "$results" "${tests[@]}"
