#!/usr/bin/env bash
# Gives an operator that runs beside the cluster, as a process, the identity that it would have inside: the chart's
# ServiceAccount with exactly the chart's permissions. A permission that the chart lacks fails in tests and demo then.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHART=$HERE/../../charts/dci-operator
for part in common clients; do
  # shellcheck source=/dev/null
  . "$HERE/lib/$part.sh"
done

usage() {
  cat <<'TEXT'
usage: operator-identity.sh KUBECONFIG OUT [options]

Installs the chart without pods and without the definitions, and writes OUT: a kubeconfig with a token for the chart's
ServiceAccount. KUBECONFIG must be an administrator's.

  --namespace NS             where the release goes; OUT's context has this namespace (dci-system)
  --release NAME             name of the release (dci-operator)
  --watch-namespaces A,B     permissions in these namespaces only; those that do not exist are made
  --cluster-id ID            required with --watch-namespaces
  --namespace-selectors      with the permission to read labels of namespaces
  --duration TIME            how long the token is good (12h)
TEXT
}

trap_exits
namespace=dci-system release=dci-operator watch='' cluster_id='' duration=12h selectors=''
positional=()
while (($#)); do
  case $1 in
    --namespace | --release | --watch-namespaces | --cluster-id | --duration)
      (($# > 1)) || die "$1 needs a value"
      case $1 in
        --namespace) namespace=$2 ;;
        --release) release=$2 ;;
        --watch-namespaces) watch=$2 ;;
        --cluster-id) cluster_id=$2 ;;
        --duration) duration=$2 ;;
      esac
      shift 2
      ;;
    --namespace-selectors)
      selectors=1
      shift
      ;;
    -h | --help)
      usage
      exit
      ;;
    -*) die "unknown option $1" ;;
    *)
      positional+=("$1")
      shift
      ;;
  esac
done
if ((${#positional[@]} != 2)); then
  usage >&2
  exit 2
fi
[[ -z $watch || -n $cluster_id ]] || die "--watch-namespaces needs --cluster-id: see the chart's values"
export KUBECONFIG=${positional[0]}
out=${positional[1]}
[[ -r $KUBECONFIG ]] || die "cannot read $KUBECONFIG"

ensure_clients

# Tests that start together on one cluster take turns: Helm refuses two operations on a release at a time.
exec {turn}<"$KUBECONFIG"
flock "$turn"

ensure_namespace() {
  "$KUBECTL" get namespace "$1" >/dev/null 2>&1 && return
  # Somebody may make it at the same moment.
  "$KUBECTL" create namespace "$1" >/dev/null 2>&1 || "$KUBECTL" get namespace "$1" >/dev/null
}

values=(--set replicaCount=0 --set crds.enabled=false)
if [[ -n $cluster_id ]]; then values+=(--set-string "clusterId=$cluster_id"); fi
if [[ -n $selectors ]]; then values+=(--set rbac.namespaceSelectors=true); fi
if [[ -n $watch ]]; then
  values+=(--set "watchNamespaces={$watch}")
  IFS=, read -ra namespaces <<<"$watch"
  for name in "${namespaces[@]}"; do ensure_namespace "$name"; done
fi
# The roles for people are one set for the whole cluster: the first release has them, another one must not claim them.
owner=$("$KUBECTL" get clusterrole dci-view --ignore-not-found \
  --output 'jsonpath={.metadata.annotations.meta\.helm\.sh/release-namespace}/{.metadata.annotations.meta\.helm\.sh/release-name}')
if [[ -n $owner && $owner != "$namespace/$release" ]]; then values+=(--set rbac.userRoles=false); fi
log=$(mktemp)
at_exit "rm -f '$log'"
# An operator that works there would be stopped, and the one that follows would take another cluster id.
running=$("$KUBECTL" get deployments --namespace "$namespace" --selector "app.kubernetes.io/instance=$release,app.kubernetes.io/managed-by=Helm" \
  --output 'jsonpath={.items[?(@.spec.replicas>0)].metadata.name}')
[[ -z $running ]] || die "release $release in $namespace runs an operator ($running): name another --release or --namespace, or scale it to 0 first"
# Installed as users install it, rather than applied from `helm template`: then what breaks an installation breaks here.
"$HELM" upgrade --install "$release" "$CHART" --namespace "$namespace" --create-namespace "${values[@]}" >"$log" 2>&1 || {
  cat "$log" >&2
  die "the chart could not be installed"
}

# The chart decides how the account is called, so ask the release.
account=$("$KUBECTL" get serviceaccounts --namespace "$namespace" \
  --selector "app.kubernetes.io/instance=$release,app.kubernetes.io/managed-by=Helm" --output 'jsonpath={.items[*].metadata.name}')
[[ -n $account && $account != *' '* ]] || die "expected one ServiceAccount of release $release in $namespace, found: ${account:-none}"
token=$("$KUBECTL" create token "$account" --namespace "$namespace" --duration "$duration")
cluster=$("$KUBECTL" config view --raw --minify --flatten --output 'jsonpath={.clusters[0].cluster}')

# Written by hand: with `kubectl config` the token would stand on a command line, for everybody to see. JSON, as the
# cluster's entry comes, is YAML too.
umask 077
new=$(mktemp "$out.XXXXXX")
at_exit "rm -f $(printf %q "$new")"
cat >"$new" <<CONFIG
apiVersion: v1
kind: Config
current-context: operator
clusters:
  - name: cluster
    cluster: $cluster
users:
  - name: $account
    user: {token: $token}
contexts:
  - name: operator
    context: {cluster: cluster, user: $account, namespace: $namespace}
CONFIG
mv "$new" "$out"
say "operator identity: system:serviceaccount:$namespace:$account in $out"
