# shellcheck shell=bash disable=SC2034 # its variables are read by the other parts
# Where the control plane comes from: an existing cluster, binaries that are already here, kind, or a build of our own.

# existing | binaries | kind | none
SERVERS=none
APISERVER='' ETCD='' CONTROLLER_MANAGER='' KUBE_VERSION='' SERVERS_FROM=''

# The recipe's version stands in the name, so that a change of the recipe builds anew.
SERVERS_KEY=servers-1.20.2-r2

version_of() { "$1" --version 2>/dev/null | sed -n 's/^Kubernetes //p'; }

use_binaries() { # DIR DESCRIPTION
  local dir candidate
  dir=$(cd "$1" && pwd)
  APISERVER=$dir/kube-apiserver ETCD=$dir/etcd SERVERS_FROM=$2 SERVERS=binaries
  KUBE_VERSION=$(version_of "$APISERVER")
  [[ -n $KUBE_VERSION ]] || die "$APISERVER does not run"
  # envtest's archives have no controller manager. One of another version is worse than none: it may use an API that the
  # server does not have, and fail in ways that look like our fault.
  for candidate in "$dir" /usr/local/kubebuilder/bin "$CACHE/$SERVERS_KEY" "$(dirname "$(command -v kube-controller-manager || echo /nowhere/x)")"; do
    candidate+=/kube-controller-manager
    if [[ -x $candidate && $(version_of "$candidate") == "$KUBE_VERSION" ]]; then
      CONTROLLER_MANAGER=$candidate
      return
    fi
  done
}

docker_answers() {
  # The client alone says nothing: it is often installed where no engine runs. And an engine may hang.
  command -v kind >/dev/null && command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1
}

# Only looks; SERVERS=none when there is nothing yet.
find_servers() {
  SERVERS=none APISERVER='' ETCD='' CONTROLLER_MANAGER='' KUBE_VERSION='' SERVERS_FROM=''
  if [[ ${DCI_E2E_EXISTING_CLUSTER:-} == 1 ]]; then
    [[ -n ${KUBECONFIG:-} ]] || die "DCI_E2E_EXISTING_CLUSTER=1 needs KUBECONFIG: the cluster to use is never guessed"
    SERVERS=existing SERVERS_FROM="the cluster of KUBECONFIG=$KUBECONFIG"
  elif [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
    # Asked for by name, so anything else instead of it would be a surprise.
    [[ -x $KUBEBUILDER_ASSETS/kube-apiserver && -x $KUBEBUILDER_ASSETS/etcd ]] ||
      die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no kube-apiserver and etcd"
    use_binaries "$KUBEBUILDER_ASSETS" KUBEBUILDER_ASSETS
  elif [[ -x /usr/local/kubebuilder/bin/kube-apiserver && -x /usr/local/kubebuilder/bin/etcd ]]; then
    use_binaries /usr/local/kubebuilder/bin /usr/local/kubebuilder/bin
  elif [[ -d $CACHE/$SERVERS_KEY ]]; then
    use_binaries "$CACHE/$SERVERS_KEY" "the cache"
  elif docker_answers; then
    SERVERS=kind SERVERS_FROM="kind, which runs in Docker"
  fi
}

ensure_servers() {
  find_servers
  [[ $SERVERS == none ]] || return 0
  say "No control plane here yet: building Kubernetes 1.20.2 once, which takes about seven minutes of two cores."
  cached "$SERVERS_KEY" build_servers
  find_servers
}

# The second number of the version: 20 for v1.20.2.
kube_minor() {
  local rest=${KUBE_VERSION#v*.}
  printf '%s' "${rest%%.*}"
}

describe_tools() {
  say "control plane: ${KUBE_VERSION:+Kubernetes $KUBE_VERSION from }$SERVERS_FROM"
  if [[ $SERVERS == binaries && -z $CONTROLLER_MANAGER ]]; then
    say "  without kube-controller-manager (none of version $KUBE_VERSION found): namespaces stay Terminating, owner"
    say "  references are not collected, and roles are not aggregated"
  fi
  say "clients: $KUBECTL, $HELM"
}
