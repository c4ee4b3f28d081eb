# shellcheck shell=bash
# Starts and stops one control plane: etcd, kube-apiserver and kube-controller-manager as processes, with everything
# that belongs to them under one directory.

# Set by `run`: then the servers die with this script, whatever kills it.
BOUND_TO_US=
# A busy machine (a build beside it) may need many times the usual three seconds.
UP_TIMEOUT=${DCI_UP_TIMEOUT:-120}

# --- processes -------------------------------------------------------------------------------------------------------

# Its own session, so that Ctrl-C in the caller's terminal does not take the servers down under a test that is still
# cleaning up.
start_server() { # DIR NAME COMMAND…
  local dir=$1 name=$2 wrap=(setsid)
  shift 2
  if [[ -n $BOUND_TO_US ]]; then wrap+=("${DIES_WITH_US[@]}"); fi
  # Without the lock of `up`, or it would be held as long as the server lives.
  "${wrap[@]}" "$@" >"$dir/logs/$name.log" 2>&1 </dev/null {UP_LOCK}>&- &
  SERVER_PID=$!
  printf '%s %s\n' "$SERVER_PID" "$(start_time "$SERVER_PID")" >"$dir/pids/$name"
  # Or bash reports its end on our standard error.
  disown "$SERVER_PID"
}

# Process numbers are used again, and a directory may outlive a reboot: a process is ours only when it also started
# when we started it.
alive() { # DIR NAME
  local pid started
  { read -r pid started <"$1/pids/$2"; } 2>/dev/null || return 1
  [[ -n $started && $(start_time "$pid") == "$started" ]]
}

stop_servers() { # DIR
  local dir=$1 name pid i left
  # Not asked politely: their data is thrown away, each line of the audit log is on its way before a request is answered,
  # and a server that is asked waits for its open watches.
  for ((i = 0; i < 100; i++)); do
    left=''
    for name in kube-controller-manager current kube-apiserver etcd; do
      if alive "$dir" "$name"; then
        left=$name
        read -r pid _ <"$dir/pids/$name"
        kill -KILL "$pid" 2>/dev/null || true
      fi
    done
    [[ -n $left ]] || return 0
    sleep 0.03
  done
  warn "$left of $dir does not end; its number is in $dir/pids"
}

# True when this very process listens on the port: somebody else who answers there must not pass for ours.
listens() { # PID PORT
  local hex line inode
  hex=$(printf ':%04X' "$2")
  while read -r -a line; do
    if [[ ${line[1]} == *"$hex" && ${line[3]} == 0A ]]; then
      inode=${line[9]}
      if [[ -n $(find "/proc/$1/fd" -lname "socket:\[$inode\]" 2>/dev/null) ]]; then return; fi
    fi
  done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  return 1
}

# Below the range from which the kernel takes ports for outgoing connections, so that only another server can have it.
random_port() { printf '%s' $((20000 + SRANDOM % 10000)); }

# Starts a server on a port of its own: there is no way to reserve a port for somebody else, so take one, and take
# another when the server says that it was busy. The command is a function of DIR and port. Sets SERVER_PORT.
start_on_free_port() { # DIR NAME COMMAND-FUNCTION
  local dir=$1 name=$2 attempt
  for ((attempt = 0; attempt < 10; attempt++)); do
    SERVER_PORT=$(random_port)
    "$3" "$dir" "$SERVER_PORT"
    until listens "$SERVER_PID" "$SERVER_PORT"; do
      if ! alive "$dir" "$name"; then
        if grep -q 'address already in use' "$dir/logs/$name.log"; then continue 2; fi
        fail_up "$dir" "$name ended at once" "$name"
      fi
      check_deadline "$dir" "$name does not open its port" "$name"
      sleep 0.03
    done
    return
  done
  die "no free port found for $name in ten attempts"
}

fail_up() { # DIR WHAT LOG…
  local dir=$1 what=$2 name
  shift 2
  for name in "$@"; do
    say "--- the end of $dir/logs/$name.log"
    tail -n 20 "$dir/logs/$name.log" >&2
  done
  die "$what"
}

check_deadline() { # DIR WHAT LOG…
  if ((SECONDS > UP_DEADLINE)); then fail_up "$1" "$2 within $UP_TIMEOUT seconds" "${@:3}"; fi
}

# --- the three servers -----------------------------------------------------------------------------------------------

# In memory where there is room: etcd waits for the disk at every write, and this data is worth nothing.
make_etcd_dir() { # DIR
  local dir=$1 shm lock free
  free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) || true
  if [[ -w /dev/shm ]] && ((${free:-0} > 1024 * 1024)); then
    shm=$(mktemp -d /dev/shm/dci-operator-etcd.XXXXXX)
    ln -s "$shm" "$dir/etcd"
    # etcd inherits the lock and so holds it as long as it lives: see sweep.
    exec {lock}>"$shm/.alive.new"
    flock "$lock"
    mv "$shm/.alive.new" "$shm/.alive"
    ETCD_LOCK=$lock
  else
    mkdir "$dir/etcd"
  fi
}

run_etcd() { # DIR PORT
  local url=http://127.0.0.1:$2 flags=()
  # The peers' port is never used, so the kernel may choose it.
  flags+=(--name=default --data-dir="$1/etcd/data" --listen-client-urls="$url" --advertise-client-urls="$url")
  flags+=(--listen-peer-urls=http://127.0.0.1:0 --initial-advertise-peer-urls=http://127.0.0.1:2380)
  flags+=(--initial-cluster=default=http://127.0.0.1:2380)
  if current_wanted; then ETCD=${CURRENT%/*}/etcd; fi
  start_server "$1" etcd "$ETCD" "${flags[@]}"
}

run_apiserver() { # DIR PORT
  local pki=$1/pki flags=()
  # Nothing outside this machine may reach it, and it must start where there is no route to anywhere.
  flags+=(--bind-address=127.0.0.1 --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --secure-port="$2")
  flags+=(--etcd-servers="http://127.0.0.1:$ETCD_PORT" --service-cluster-ip-range=10.0.0.0/24)
  flags+=(--tls-cert-file="$pki/server.crt" --tls-private-key-file="$pki/server.key" --cert-dir="$pki")
  flags+=(--authorization-mode=RBAC --token-auth-file="$pki/tokens.csv")
  flags+=(--service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/service-account.key")
  flags+=(--service-account-signing-key-file="$pki/service-account.key")
  # Off by default in Kubernetes but on in some distributions: a missing permission on finalizers must fail here first.
  flags+=(--enable-admission-plugins=OwnerReferencesPermissionEnforcement)
  # Without the controller manager no namespace gets its default account, and then no pod could be created.
  if [[ -z $CONTROLLER_MANAGER ]]; then flags+=(--disable-admission-plugins=ServiceAccount); fi
  if current_wanted; then mapfile -t -O "${#flags[@]}" flags < <(front_proxy_flags "$1"); fi
  flags+=(--audit-policy-file="$HERE/audit-policy.yaml" --audit-log-path="$1/audit.log")
  # Rotation would take the beginning away from those who count lines.
  flags+=(--audit-log-maxsize=10240 --profiling=false)
  # With more memory left to it, its garbage collector takes a tenth of the time less; tests wait for this server most of all.
  start_server "$1" kube-apiserver env GOGC="${GOGC:-400}" "$APISERVER" "${flags[@]}"
}

run_controller_manager() { # DIR
  # What our tests need of it: namespaces end, owner references are collected, accounts and their tokens come about,
  # roles are aggregated, `helm --wait` sees a Deployment of no replicas as ready. The short names are accepted by old and
  # new servers alike.
  local controllers=namespace,garbagecollector,serviceaccount,serviceaccount-token,root-ca-cert-publisher
  controllers+=,clusterrole-aggregation,deployment,replicaset
  local flags=(--kubeconfig="$1/pki/controller-manager.kubeconfig" --controllers="$controllers" --leader-elect=false)
  flags+=(--service-account-private-key-file="$1/pki/service-account.key" --root-ca-file="$1/pki/ca.crt")
  # No ports at all, so that any number can run. The old flag for the insecure one went with 1.24.
  flags+=(--secure-port=0)
  if (($(kube_minor) < 23)); then flags+=(--port=0); fi
  start_server "$1" kube-controller-manager "$CONTROLLER_MANAGER" "${flags[@]}"
}

# --- up and down -----------------------------------------------------------------------------------------------------

# Data of runs that were killed with SIGKILL. The lock tells: whoever owns a directory holds it as long as it lives.
sweep() {
  local dir lock
  shopt -s nullglob
  for dir in /dev/shm/dci-operator-etcd.* "${TMPDIR:-/tmp}"/dci-operator-run.*; do
    [[ -O $dir && -f $dir/.alive ]] || continue
    exec {lock}<"$dir/.alive" || continue
    if flock -n "$lock"; then rm -rf "$dir"; fi
    exec {lock}>&-
  done
  shopt -u nullglob
}

ready() { # DIR
  "$KUBECTL" --kubeconfig "$1/kubeconfig" --request-timeout=5s get --raw /readyz >/dev/null 2>>"$1/logs/readyz.log"
}

# Two commands on one directory at once take turns. An `up` that is interrupted still has the lock when its own `down`
# comes to clean up, and must not wait for itself. The file stays: were it removed, somebody who waits for it and somebody
# who makes it anew would both have the lock.
UP_LOCK=''
lock_dir() { # DIR
  [[ -z $UP_LOCK ]] || return 0
  exec {UP_LOCK}>"$1/.lock"
  flock "$UP_LOCK"
}

unlock_dir() {
  exec {UP_LOCK}>&-
  UP_LOCK=''
}

plane_up() { # DIR
  local dir=$1 from
  from=$(now_ms)
  UP_DEADLINE=$((SECONDS + UP_TIMEOUT))
  lock_dir "$dir"
  if alive "$dir" kube-apiserver && alive "$dir" etcd && ready "$dir"; then
    unlock_dir
    printf 'Kubernetes is already up: export KUBECONFIG=%q\n' "$dir/kubeconfig"
    return
  fi
  remove_plane "$dir"
  sweep
  # Everything below holds tokens and keys.
  umask 077
  mkdir -p "$dir/logs" "$dir/pids"
  at_exit "plane_undo $(printf %q "$dir")"
  PLANE_UNFINISHED=1

  make_etcd_dir "$dir"
  start_on_free_port "$dir" etcd run_etcd
  ETCD_PORT=$SERVER_PORT
  if [[ -n ${ETCD_LOCK:-} ]]; then exec {ETCD_LOCK}>&-; fi
  make_pki "$dir"
  if current_wanted; then make_current_pki "$dir"; fi
  start_on_free_port "$dir" kube-apiserver run_apiserver
  local url=https://127.0.0.1:$SERVER_PORT
  write_kubeconfig "$dir/kubeconfig.new" "$url" "$dir/pki/ca.crt" "$ADMIN_TOKEN"
  mv "$dir/kubeconfig.new" "$dir/kubeconfig"

  until ready "$dir"; do
    alive "$dir" etcd || fail_up "$dir" "etcd ended" etcd
    alive "$dir" kube-apiserver || fail_up "$dir" "kube-apiserver ended" kube-apiserver
    check_deadline "$dir" "kube-apiserver is not ready" kube-apiserver
    sleep 0.05
  done
  if current_wanted; then current_up "$dir"; fi
  # Not before the API server is ready: it would look once a second only, and give up after ten.
  if [[ -n $CONTROLLER_MANAGER ]]; then
    write_kubeconfig "$dir/pki/controller-manager.kubeconfig" "$url" "$dir/pki/ca.crt" "$MANAGER_TOKEN"
    run_controller_manager "$dir"
    # It has no port to ask; that it has made the first account shows that it works.
    until "$KUBECTL" --kubeconfig "$dir/kubeconfig" get serviceaccount -n default default >/dev/null 2>>"$dir/logs/readyz.log"; do
      alive "$dir" kube-controller-manager || fail_up "$dir" "kube-controller-manager ended" kube-controller-manager
      check_deadline "$dir" "kube-controller-manager does not work" kube-controller-manager
      sleep 0.05
    done
  fi
  PLANE_UNFINISHED=
  unlock_dir
  local took=$(($(now_ms) - from))
  printf 'Kubernetes %s is up in %d.%d s: export KUBECONFIG=%q\n' "$KUBE_VERSION" $((took / 1000)) $((took % 1000 / 100)) "$dir/kubeconfig"
}

plane_undo() { # DIR
  [[ -z ${PLANE_UNFINISHED:-} ]] || remove_plane "$1"
}

# Logs stay: they are what one wants to see after a failure.
remove_plane() { # DIR
  local dir=$1 target
  stop_servers "$dir"
  if [[ -L $dir/etcd ]]; then
    target=$(readlink "$dir/etcd")
    # The link is data in a directory that others may write to: follow it to nothing but what we make ourselves.
    if [[ $target =~ ^/dev/shm/dci-operator-etcd\.[A-Za-z0-9]+$ ]]; then rm -rf "$target"; fi
  fi
  rm -rf "$dir/etcd" "$dir/pki" "$dir/pids" "$dir/kubeconfig" "$dir/kubeconfig.new" "$dir/current.kubeconfig"
}

plane_down() { # DIR
  local dir=$1
  [[ -d $dir ]] || return 0
  lock_dir "$dir"
  remove_plane "$dir"
  unlock_dir
}
