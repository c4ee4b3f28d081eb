#!/usr/bin/env bash
# A real Kubernetes control plane on this machine, for the demo and the tests: finds or builds it, starts it, stops it.
# There is no kubelet, so pods never run; the operator runs beside it as a process. `help` tells the commands.
#
# The parts use one another's variables, and some functions are called by traps only; shellcheck cannot see either.
# shellcheck disable=SC2034,SC2317
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in common clients servers build pki plane other current; do
  # shellcheck source=/dev/null
  . "$HERE/lib/$part.sh"
done

usage() {
  cat <<'TEXT'
usage: control-plane.sh COMMAND

  install            find the servers, kubectl and helm; fetch or build what is missing (once, about seven minutes)
  up DIR             start a control plane that keeps everything under DIR; prints where its kubeconfig is
  down DIR           stop it and remove its data; DIR/logs and DIR/audit.log stay
  run [--] CMD…      start one in a temporary directory, run CMD with KUBECONFIG, PATH and DCI_CONTROL_PLANE_DIR set, and
                     stop it whatever happens; the exit code is CMD's
  env                print shell exports for the tools that were found (installs nothing)
  help               this text

The servers come from the first of these: KUBECONFIG with DCI_E2E_EXISTING_CLUSTER=1 (a cluster of your own);
KUBEBUILDER_ASSETS; /usr/local/kubebuilder/bin; the cache; kind, where Docker runs; a build of Kubernetes 1.20.2 from
Debian's source package into the cache, ${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/control-plane.
DCI_AUDIT_DIR: where `run` leaves the API server's audit log when all is over (nowhere).
DCI_CURRENT=1: custom resources, definitions and policies are served by a current API server's code, behind the older server;
`up` leaves DIR/current.kubeconfig beside DIR/kubeconfig for definitions and policies. Exit code 75 of `install`: not to be had.
DCI_UP_TIMEOUT: seconds that `up` waits for the servers (120).
TEXT
}

ensure_all() {
  ensure_servers
  ensure_clients
  if current_wanted; then
    [[ $SERVERS == binaries ]] || die "DCI_CURRENT=1 needs a control plane of processes (this one is $SERVERS_FROM)"
    ensure_current
  fi
}

absolute() { # DIR; made when it is not there
  mkdir -p "$1"
  (cd "$1" && pwd)
}

up() { # DIR
  case $SERVERS in
    existing) existing_up "$1" ;;
    kind) kind_up "$1" ;;
    *) plane_up "$1" ;;
  esac
}

down() { # DIR
  # By what is in the directory, not by what the environment says today.
  other_down "$1" || plane_down "$1"
}

cmd_up() {
  [[ $# == 1 ]] || die "usage: control-plane.sh up DIR"
  ensure_all
  if [[ $SERVERS == binaries && -z $CONTROLLER_MANAGER ]]; then describe_tools; fi
  up "$(absolute "$1")"
}

cmd_down() {
  [[ $# == 1 ]] || die "usage: control-plane.sh down DIR"
  [[ -d $1 ]] || return 0
  down "$(absolute "$1")"
}

export_lines() {
  # Helm may come from elsewhere than kubectl.
  local path=${KUBECTL%/*}
  if [[ ${HELM%/*} != "$path" ]]; then path+=:${HELM%/*}; fi
  # shellcheck disable=SC2016 # $PATH is for whoever reads the line
  printf 'export PATH=%q:"$PATH"\n' "$path"
  printf 'export DCI_KUBECTL=%q DCI_HELM=%q\n' "$KUBECTL" "$HELM"
  if [[ $SERVERS == binaries ]]; then
    printf 'export DCI_KUBE_APISERVER=%q DCI_ETCD=%q DCI_KUBE_CONTROLLER_MANAGER=%q DCI_KUBE_VERSION=%q\n' \
      "$APISERVER" "$ETCD" "$CONTROLLER_MANAGER" "$KUBE_VERSION"
  fi
  if current_wanted && find_current; then printf 'export DCI_CURRENT_SERVER=%q\n' "$CURRENT"; fi
}

cmd_env() {
  find_servers
  [[ $SERVERS != none ]] || die "no control plane here yet: run control-plane.sh install"
  find_clients || die "no kubectl and helm here yet: run control-plane.sh install"
  export_lines
}

# --- run -------------------------------------------------------------------------------------------------------------

CMD_PID='' CMD_GROUP='' CMD_SIGNALS=0

# Passes a signal on to the command. A second one means that the first was not heard.
forward() { # SIGNAL
  CMD_SIGNALS=$((CMD_SIGNALS + 1))
  local signal=$1
  if ((CMD_SIGNALS > 1)); then signal=KILL; fi
  if [[ -n $CMD_GROUP ]]; then
    kill "-$signal" -- "-$CMD_PID" 2>/dev/null || true
  elif [[ $signal != INT ]]; then
    # Ctrl-C has come to the whole foreground group by itself; sending it again would look like a second one.
    kill "-$signal" "$CMD_PID" 2>/dev/null || true
  fi
}

# Whatever the command left behind goes too, where it has a group of its own.
stop_command() {
  [[ -n $CMD_GROUP ]] || return 0
  kill -TERM -- "-$CMD_PID" 2>/dev/null || return 0
  local i
  for ((i = 0; i < 40; i++)); do
    kill -0 -- "-$CMD_PID" 2>/dev/null || return 0
    sleep 0.05
  done
  kill -KILL -- "-$CMD_PID" 2>/dev/null
}

# For those who read it when all is over. A cluster of somebody else's has none.
keep_audit() { # DIR
  [[ -n ${DCI_AUDIT_DIR:-} && -f $1/audit.log ]] || return 0
  mkdir -p "$DCI_AUDIT_DIR"
  cp "$1/audit.log" "$DCI_AUDIT_DIR/${1##*/}.log"
}

cmd_run() {
  if [[ ${1:-} == -- ]]; then shift; fi
  (($#)) || die "usage: control-plane.sh run [--] CMD…"
  ensure_all
  if [[ $SERVERS == binaries && -z $CONTROLLER_MANAGER ]]; then describe_tools; fi
  local dir lock rc=0 wrap=()
  dir=$(mktemp -d "${TMPDIR:-/tmp}/dci-operator-run.XXXXXX")
  # Held as long as we live; `sweep` removes the directories of those who died without cleaning up.
  exec {lock}>"$dir/.alive.new"
  flock "$lock"
  mv "$dir/.alive.new" "$dir/.alive"
  at_exit "rm -rf $(printf %q "$dir")"
  at_exit "keep_audit $(printf %q "$dir")"
  at_exit "down $(printf %q "$dir")"
  at_exit stop_command
  BOUND_TO_US=1
  up "$dir" >&2

  eval "$(export_lines)"
  export KUBECONFIG=$dir/kubeconfig DCI_CONTROL_PLANE_DIR=$dir
  # In a terminal the command shares our group, so that it can read from the terminal and gets Ctrl-C itself. Elsewhere
  # it gets a group of its own, so that a signal reaches all of it.
  if ! in_terminal_foreground; then
    wrap=(setsid)
    CMD_GROUP=1
  fi
  trap 'forward INT' INT
  trap 'forward TERM' TERM
  trap 'forward HUP' HUP
  # In the background, since bash runs no trap while it waits for a command in the foreground. A shell starts background
  # commands with Ctrl-C ignored, which has to be taken back.
  "${wrap[@]}" "${ENDS_WITH_US[@]}" env --default-signal=INT,QUIT "$@" <&0 {lock}>&- &
  CMD_PID=$!
  while :; do
    wait "$CMD_PID" && rc=0 || rc=$?
    # wait also returns when a signal arrives; only a command that is gone has an exit code.
    [[ -n $(start_time "$CMD_PID") ]] || break
  done
  trap_exits
  exit "$rc"
}

main() {
  trap_exits
  local command=${1:-help}
  if (($#)); then shift; fi
  case $command in
    install)
      (($# == 0)) || die "install takes no arguments"
      ensure_all
      describe_tools
      ;;
    up) cmd_up "$@" ;;
    down) cmd_down "$@" ;;
    run) cmd_run "$@" ;;
    env) cmd_env ;;
    help | -h | --help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

# On one line with exit: bash reads a script as it goes, and this one may be replaced while it runs for hours.
main "$@"; exit
