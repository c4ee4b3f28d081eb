#!/usr/bin/env bash
# The demo: a real API server, the operator, simulated panels; two orders from creation to release. See `make demo`.
# It checks what it shows: the exit code is not 0 when anything expected did not happen. Nothing is left running.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
CARGO=${CARGO:-cargo}
: "${CARGO_TARGET_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/target}"
export CARGO_TARGET_DIR
BIN=$CARGO_TARGET_DIR/debug
PROVIDER=hosting CLIENT=shop

title() { printf '\n\033[1m== %s\033[0m\n' "$*" | if [[ -t 1 ]]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
note() { printf '   %s\n' "$*"; }
# Shows a command as one would type it, and runs it.
show() {
  local word line=''
  for word in "$@"; do
    if [[ $word == *[^A-Za-z0-9_./=,:@-]* ]]; then word="'$word'"; fi
    line+=" $word"
  done
  printf '\n$%s\n' "$line"
  "$@"
}

FAILURE=''
fail() {
  FAILURE=$*
  exit 1
}

# --- outside: get everything, then start again inside a control plane ---------------------------------------------------

outside() {
  cd "$ROOT"
  title "1. A control plane"
  deploy/local/control-plane.sh install
  title "2. The programs (the first time this compiles everything)"
  "$CARGO" build --locked --bins
  exec deploy/local/control-plane.sh run -- "$HERE/run.sh" --inside
}

# --- inside: KUBECONFIG is the administrator's, DCI_CONTROL_PLANE_DIR is removed when we end ---------------------------

OPERATOR='' SIM='' WATCH='' SIM_URL='' DCI_URL='' IPM_URL='' APPLIED=''
LOGS=${DCI_CONTROL_PLANE_DIR:-}

stop() { # PID
  [[ -n $1 ]] && kill -0 "$1" 2>/dev/null || return 0
  kill -TERM "$1" 2>/dev/null || true
  local i
  for ((i = 0; i < 120; i++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

cleanup() {
  local rc=$?
  trap '' INT TERM HUP
  trap - EXIT
  set +e
  if ((rc != 0)) && [[ -z ${INTERRUPTED:-} ]]; then diagnose; fi
  stop "$WATCH"
  if [[ ${DCI_E2E_EXISTING_CLUSTER:-} == 1 && -n $APPLIED ]]; then leave_cluster; fi
  stop "$OPERATOR"
  stop "$SIM"
  if [[ -n ${INTERRUPTED:-} ]]; then
    printf '\ninterrupted; everything is stopped\n'
  elif ((rc == 0)); then
    printf '\nEverything is stopped. The demo went as expected, in %d seconds.\n' "$SECONDS"
  fi
  exit "$rc"
}

diagnose() {
  printf '\nTHE DEMO FAILED: %s\n' "${FAILURE:-a command ended with an error}"
  printf '\n--- orders and tasks\n'
  kubectl get dedicatedserverorders,manualtasks,processinghandlers,ipmanagers --all-namespaces --output wide 2>&1
  printf '\n--- the end of the operator'"'"'s log\n'
  tail -n 25 "$LOGS/operator.log" 2>/dev/null
  printf '\n--- the end of the panels'"'"' log\n'
  tail -n 5 "$LOGS/sim.log" 2>/dev/null
}

# A cluster that is not ours gets rid of what was put there; while the operator still runs, since it holds finalizers.
leave_cluster() {
  note "removing the demo's objects from the cluster"
  kubectl delete dedicatedserverorders --namespace "$CLIENT" --all --timeout 60s
  kubectl delete processinghandlers,ipmanagers,manualtasks --namespace "$PROVIDER" --all --timeout 60s
  kubectl delete namespace "$CLIENT" "$PROVIDER" --wait=false
}

start_panels() {
  : >"$LOGS/sim.log"
  "$BIN/dci-sim" --config "$HERE/panels.yaml" >>"$LOGS/sim.log" 2>&1 &
  SIM=$!
  local i
  for ((i = 0; i < 100; i++)); do
    SIM_URL=$(sed -n 's/^listening sim //p' "$LOGS/sim.log")
    [[ -z $SIM_URL ]] || break
    kill -0 "$SIM" 2>/dev/null || fail "dci-sim does not start"
    sleep 0.1
  done
  DCI_URL=$(sed -n 's/^listening dci //p' "$LOGS/sim.log")
  IPM_URL=$(sed -n 's/^listening ipm //p' "$LOGS/sim.log")
  [[ -n $SIM_URL && -n $DCI_URL && -n $IPM_URL ]] || fail "dci-sim did not say where it listens"
  note "DCImanager 5 at $DCI_URL, IPmanager 5 at $IPM_URL"
}

install_operator() {
  # Older servers do not know all that the definitions have.
  "$BIN/dci-operator" crds --for "1.$(minor)" >"$LOGS/crds.yaml"
  kubectl apply --filename "$LOGS/crds.yaml"
  kubectl wait --for=condition=Established --timeout=30s --filename "$LOGS/crds.yaml" >/dev/null
  "$ROOT/deploy/local/operator-identity.sh" "$KUBECONFIG" "$LOGS/operator.kubeconfig"
  KUBECONFIG=$LOGS/operator.kubeconfig "$BIN/dci-operator" run --health-addr 127.0.0.1:0 --metrics-addr 127.0.0.1:0 \
    >"$LOGS/operator.log" 2>&1 &
  OPERATOR=$!
}

minor() { kubectl get --raw /version | sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p'; }

# The manifests as they are in the repository, with the ports that the panels really have.
apply() { # FILE
  printf '\n$ kubectl apply -f deploy/demo/%s\n' "$1"
  sed -e "s|http://127.0.0.1:1500/dcimgr|$DCI_URL|" -e "s|http://127.0.0.1:1500/ipmgr|$IPM_URL|" "$HERE/$1" | kubectl apply --filename -
}

# What is printed of an order each time that its status changes.
FIELDS='{.type}|{.object.metadata.name}|{.object.status.phase}|{.object.status.progress.percent}|{.object.status.progress.step}'
FIELDS+='|{.object.status.server.id}|{.object.status.server.mainAddress}|{.object.status.waitingOn.kind}|{.object.status.waitingOn.message}|{.object.status.progress.message}{"\n"}'

# Follows orders, a line for each change, until a function says that it is enough.
follow() { # SECONDS UNTIL NAMES…
  local limit=$1 until=$2 from=$SECONDS type name phase percent step server address waiting why message line last=''
  shift 2
  printf '\n%5s  %-7s %-12s %4s  %-13s %-6s %-14s %-10s %s\n' TIME ORDER PHASE % STEP SERVER ADDRESS 'WAITS FOR' MESSAGE
  exec {events}< <(exec kubectl get dedicatedserverorders --namespace "$CLIENT" --watch --output-watch-events --output "jsonpath=$FIELDS")
  WATCH=$!
  while IFS='|' read -r -t $((limit - SECONDS + from > 0 ? limit - SECONDS + from : 1)) -u "$events" \
    type name phase percent step server address waiting why message; do
    [[ " $* " == *" $name "* ]] || continue
    if [[ $type == DELETED ]]; then phase=gone percent='' step='' server='' address='' waiting='' why='' message=''; fi
    line=$(printf '%-7s %-12s %3s%%  %-13s %-6s %-14s %-10s %s' \
      "$name" "${phase:-Pending}" "${percent:-0}" "${step:--}" "${server:--}" "${address:--}" "${waiting:--}" "${why:-$message}")
    if [[ $phase == gone ]]; then line=$(printf '%-7s gone' "$name"); fi
    # A change of something that is not shown.
    if [[ $line != "$last" ]]; then printf '%4ds  %s\n' $((SECONDS - from)) "$line"; fi
    last=$line
    if "$until" "$name" "$phase" "$step" "$waiting"; then
      exec {events}<&-
      stop "$WATCH"
      WATCH=''
      return 0
    fi
  done
  return 1
}

declare -A ACTIVE=()
both_active() { # NAME PHASE STEP WAITING
  if [[ $2 == Active ]]; then ACTIVE[$1]=1; else unset "ACTIVE[$1]"; fi
  ((${#ACTIVE[@]} == 2))
}
waits_for_department() { [[ $4 == Department ]]; }
gone() { [[ $2 == gone ]]; }

field() { # KIND NAMESPACE NAME JSONPATH
  kubectl get "$1" --namespace "$2" "$3" --output "jsonpath=$4"
}

sim() { # METHOD PATH [BODY]
  python3 - "$SIM_URL" "$@" <<'PY'
import sys, urllib.request
base, method, path, *body = sys.argv[1:]
request = urllib.request.Request(base + path, method=method, data=body[0].encode() if body else None)
print(urllib.request.urlopen(request, timeout=10).read().decode())
PY
}

# Fails with a sentence when something at the panels is not as it has to be.
check_panels() { # EXPECTATION ARGUMENT
  sim GET /state >"$LOGS/state.json"
  sim GET /journal >"$LOGS/journal.json"
  python3 "$HERE/panels.py" "$1" "$LOGS/state.json" "$LOGS/journal.json" "${@:2}" || fail "the panels are not as expected (see above)"
}

inside() {
  trap cleanup EXIT
  trap 'INTERRUPTED=1; exit 129' HUP
  trap 'INTERRUPTED=1; exit 130' INT
  trap 'INTERRUPTED=1; exit 143' TERM

  title "3. Panels and operator"
  start_panels
  install_operator
  note "the operator runs as process $OPERATOR, with the permissions of the chart's ServiceAccount only"

  title "4. The provider describes the panels"
  APPLIED=1
  apply 10-provider.yaml
  kubectl wait --namespace "$PROVIDER" --for=condition=Ready --timeout=30s ipmanager/main processinghandler/msk-1 >/dev/null ||
    fail "the handler does not become Ready"
  show kubectl get processinghandlers,ipmanagers --namespace "$PROVIDER"

  title "5. A client orders two servers"
  apply 20-orders.yaml
  follow 90 both_active web-01 db-01 || fail "the orders do not become Active"
  kubectl wait --namespace "$CLIENT" --for=condition=Ready --timeout=5s dedicatedserverorder/web-01 dedicatedserverorder/db-01 >/dev/null ||
    fail "the orders are Active and not Ready"
  show kubectl get dedicatedserverorders --namespace "$CLIENT" --output wide
  local server web_server
  web_server=$(field dedicatedserverorder "$CLIENT" web-01 '{.status.server.id}')
  server=$(field dedicatedserverorder "$CLIENT" db-01 '{.status.server.id}')
  check_panels sold "$web_server=acme" "$server=globex"
  note "the root password was generated into Secret web-01-root"

  if [[ -n ${DCI_DEMO_KEEP:-} ]]; then keep; fi

  title "6. The IPMI of server $web_server dies, and its order is deleted"
  sim POST "/servers/$web_server" '{"ipmi": "dead"}' >/dev/null
  show kubectl delete dedicatedserverorder --namespace "$CLIENT" web-01 --wait=false
  follow 60 waits_for_department web-01 || fail "no department was asked to stop the server"
  show kubectl get dedicatedserverorders --namespace "$CLIENT"
  show kubectl get manualtasks --namespace "$PROVIDER"
  local tasks task
  tasks=$(kubectl get manualtasks --namespace "$PROVIDER" --output 'jsonpath={.items[*].metadata.name}')
  [[ -n $tasks && $tasks != *' '* ]] || fail "expected exactly one task, found: ${tasks:-none}"
  task=$tasks
  show kubectl get manualtask --namespace "$PROVIDER" "$task" --output 'jsonpath={.spec.details}{"\n"}'
  sleep 3
  [[ $(field dedicatedserverorder "$CLIENT" web-01 '{.status.waitingOn.kind}') == Department ]] || fail "the order did not wait for the task"
  check_panels held "$web_server=acme"
  note "the order is held: nothing was released"

  title "7. Olga of the department Operations pulls the plug and closes the task"
  show kubectl patch manualtask --namespace "$PROVIDER" "$task" --as olga --type merge \
    --patch '{"spec": {"resolution": "Done", "note": "unplugged"}}'
  follow 60 gone web-01 || fail "the order does not go"
  check_panels free "$web_server"
  note "server $web_server is free again, with a parking address; its public addresses are back in the pool"

  title "8. The other order is deleted; its IPMI works"
  show kubectl delete dedicatedserverorder --namespace "$CLIENT" db-01 --wait=false
  follow 60 gone db-01 || fail "the order does not go"
  check_panels free "$server"

  title "9. Every change that was asked of the panels, once each"
  check_panels journal
  title "What next"
  cat <<'TEXT'
   make demo KEEP=1                      stops after step 5 and leaves everything running, to try kubectl by hand
   deploy/demo/*.yaml                    what was applied; README.md explains the first order line by line
   docs/reference.md                     every field; conditions and reasons are in README.md
   make test                             all tests
TEXT
}

keep() {
  local path
  path=$(dirname "$(command -v kubectl)")
  title "Everything stays up until Ctrl-C"
  cat <<TEXT
   In another terminal:

     export KUBECONFIG=$KUBECONFIG PATH=$path:\$PATH
     kubectl get dso -n shop -w
     kubectl describe dso -n shop web-01
     kubectl delete dso -n shop web-01
     kubectl get mt -n hosting

   The panels:    $SIM_URL/state, $SIM_URL/journal, $SIM_URL/faults
   An IPMI dies:  curl -X POST $SIM_URL/servers/17 -d '{"ipmi": "dead"}'
   Logs:          $LOGS/operator.log
TEXT
  # Not in the foreground: a trap runs only when the shell itself waits.
  wait "$OPERATOR" || fail "the operator ended by itself"
  fail "the operator ended by itself"
}

case ${1:-} in
  --inside) inside ;;
  '') outside ;;
  *)
    printf 'usage: deploy/demo/run.sh\n' >&2
    exit 2
    ;;
esac
