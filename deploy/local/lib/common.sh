# shellcheck shell=bash disable=SC2034 # its variables are read by the other parts
# What every part of the local control plane needs: messages, cleaning up on every way out, and long steps that show
# what they do.

say() { printf '%s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Commands to run on exit, last one first. A stack rather than traps set here and there: a second `trap … EXIT` would
# silently replace the first.
CLEANUP=()
at_exit() { CLEANUP+=("$*"); }

run_cleanup() {
  local rc=$? i
  # A second Ctrl-C must not stop the cleaning half-way.
  trap '' INT TERM HUP
  trap - EXIT
  # The rest of the cleaning matters more than a command in it that fails.
  set +e
  # First of all: it may be writing to what the others remove.
  "$STEP_ON_EXIT"
  for ((i = ${#CLEANUP[@]} - 1; i >= 0; i--)); do
    eval "${CLEANUP[i]}"
  done
  exit "$rc"
}

trap_exits() {
  trap run_cleanup EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

now_ms() {
  local t=${EPOCHREALTIME/[.,]/}
  printf '%s' "${t%???}"
}

duration() { # SECONDS
  if (($1 < 60)); then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}

# The kernel's start time tells two processes with the same number apart. Empty for a process that is gone or that
# has ended and only waits for its parent (Z): neither can be signalled to any purpose.
start_time() { # PID
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  # The name in parentheses may hold blanks, so count the fields behind it: the state is first, the start time 20th.
  local -a fields
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} == Z ]] || printf '%s' "${fields[19]}"
}

# The terminal's foreground group gets Ctrl-C from the terminal itself; everybody else has to be told.
in_terminal_foreground() {
  local stat
  read -r stat </proc/self/stat
  local -a fields
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[2]} == "${fields[5]}" ]]
}

# For processes that must not outlive this script even if it is killed with SIGKILL, when no trap can run: the kernel
# sends them the signal.
ENDS_WITH_US=() DIES_WITH_US=()
if command -v setpriv >/dev/null; then
  ENDS_WITH_US=(setpriv --pdeathsig TERM)
  DIES_WITH_US=(setpriv --pdeathsig KILL)
fi

# --- long steps ------------------------------------------------------------------------------------------------------

STEP_PID=
STEP_ON_EXIT=stop_step
stop_step() {
  [[ -n $STEP_PID ]] || return 0
  kill -TERM -- "-$STEP_PID" 2>/dev/null
  local i
  for ((i = 0; i < 40; i++)); do
    kill -0 -- "-$STEP_PID" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL -- "-$STEP_PID" 2>/dev/null
  # Reaped here, so that the directories it wrote to are not removed under its feet.
  wait "$STEP_PID" 2>/dev/null
  STEP_PID=
}

# Waits for the running step instead of stopping it, where stopping would do harm.
finish_step() {
  [[ -n $STEP_PID ]] || return 0
  say "letting the package manager finish, so that it leaves no half-installed package"
  wait "$STEP_PID" 2>/dev/null
  STEP_PID=
}

# step LABEL LOG COMMAND… runs a command in its own process group, with its output in LOG, and shows that it is alive:
# one line that is rewritten on a terminal, a line now and then in a file. STEP_DETAIL may name a function that adds a
# few words on how far it is; STEP_ON_EXIT the function that ends it when this script is interrupted.
step() {
  local label=$1 log=$2 from=$SECONDS next=15 detail='' rc=0 ticks=0
  shift 2
  [[ -t 2 ]] || say "$label"
  # Its own group: make has children of its own, and all of them must go when we do.
  setsid "${ENDS_WITH_US[@]}" "$@" >"$log" 2>&1 </dev/null &
  STEP_PID=$!
  local elapsed
  while [[ -n $(start_time "$STEP_PID") ]]; do
    # Most steps are short: look often at first, so that they are not slowed down by being watched.
    if ((++ticks < 20)); then sleep 0.05; else sleep 0.5; fi
    elapsed=$((SECONDS - from))
    if [[ -t 2 ]] || ((elapsed >= next)); then
      if [[ -n ${STEP_DETAIL:-} ]]; then detail=", $("$STEP_DETAIL" "$log")"; fi
      if [[ -t 2 ]]; then
        printf '\r\033[K%s: %s%s' "$label" "$(duration "$elapsed")" "$detail" >&2
      else
        say "  $label: $(duration "$elapsed")$detail"
        next=$((elapsed + 15))
      fi
    fi
  done
  wait "$STEP_PID" || rc=$?
  STEP_PID=
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  if ((rc != 0)); then
    say "$label: failed with exit code $rc after $(duration $((SECONDS - from))). The end of its output:"
    tail -n 25 "$log" >&2
    return "$rc"
  fi
  say "$label: done in $(duration $((SECONDS - from)))"
}

# --- the cache -------------------------------------------------------------------------------------------------------

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/control-plane

discard() { # DIR
  [[ -d $1 ]] || return 0
  # Tens of thousands of files of source: on a busy disk that takes a while.
  say "removing what is half done in $CACHE"
  rm -rf "$1"
}

# Makes a directory in the cache all at once: NAME is either there and complete or not there. The builder, a function,
# gets an empty directory to fill.
cached() { # NAME BUILDER
  local name=$1 builder=$2 lock new from=$SECONDS next=0
  mkdir -p "$CACHE"
  exec {lock}>"$CACHE/.lock"
  until flock -n "$lock"; do
    if ((SECONDS - from >= next)); then
      say "another run is filling $CACHE; waiting for it: $(duration $((SECONDS - from)))"
      next=$((next + 15))
    fi
    sleep 0.5
  done
  # Whoever held the lock before us may have made it.
  if [[ ! -d $CACHE/$name ]]; then
    # We hold the lock, so whatever is half done belongs to a run that was killed.
    rm -rf "$CACHE"/.new.*
    new=$(mktemp -d "$CACHE/.new.XXXXXX")
    at_exit "discard $(printf %q "$new")"
    mkdir "$new/out" "$new/work"
    "$builder" "$new/out" "$new/work"
    mv -T "$new/out" "$CACHE/$name"
    rm -rf "$new"
  fi
  exec {lock}>&-
}
