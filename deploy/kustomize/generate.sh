#!/usr/bin/env bash
# Writes bases and overlays anew from the chart; with --check only says, by the exit code, whether they are what the chart
# makes. Needs Helm: DCI_HELM, or helm on PATH.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHART=$HERE/../../charts/dci-operator
VALUES=$HERE/values
HELM=${DCI_HELM:-helm}
NAMESPACE=dci-system
# The server that the output is for, so that it is the same whatever this Helm was built with.
KUBE_VERSION=1.33.0

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

check=''
case ${1:-} in
  '') ;;
  --check) check=1 ;;
  *) die "usage: generate.sh [--check]" ;;
esac
command -v "$HELM" >/dev/null || die "helm is missing: set DCI_HELM, or run deploy/local/control-plane.sh install"

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

header() { printf '# Made from the chart by deploy/kustomize/generate.sh. Do not edit.\n'; }

# Without the words that are Helm's alone: what is applied in another way must not look like a part of a release.
render() { # OUT ARGUMENT…
  local out=$new/$1
  shift
  mkdir -p "${out%/*}"
  {
    header
    "$HELM" template dci-operator "$CHART" --namespace "$NAMESPACE" --kube-version "$KUBE_VERSION" "$@" |
      sed -e '/^ *helm\.sh\//d' -e 's|app.kubernetes.io/managed-by: Helm|app.kubernetes.io/managed-by: kustomize|' -e '/^# Source: /d'
  } >"$out"
}

kustomization() { # DIR, the rest from stdin
  mkdir -p "$new/$1"
  {
    header
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n'
    cat
  } >"$new/$1/kustomization.yaml"
}

# Enforced: nothing else has to run beside the operator. Kept by whatever prunes: the locks of servers that are taken are in it.
namespace() { # DIR
  {
    header
    cat <<YAML
apiVersion: v1
kind: Namespace
metadata:
  name: $NAMESPACE
  annotations:
    argocd.argoproj.io/sync-options: Prune=false,Delete=false
    kustomize.toolkit.fluxcd.io/prune: disabled
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: latest
YAML
  } >"$new/$1/namespace.yaml"
}

# As they are, so that `make crds` writes them too. Whatever prunes must not prune these: every order goes with them.
mkdir -p "$new/base/crds"
cp "$CHART"/files/crds/*.yaml "$new/base/crds"
crds=("$new"/base/crds/*.yaml)
kustomization base/crds <<YAML
resources: [$(printf '%s\n' "${crds[@]##*/}" | paste -sd, - | sed 's/,/, /g')]
commonAnnotations:
  argocd.argoproj.io/sync-options: Prune=false,Delete=false
  kustomize.toolkit.fluxcd.io/prune: disabled
YAML

render base/operator/operator.yaml --values "$VALUES/operator.yaml"
kustomization base/operator <<'YAML'
resources: [operator.yaml]
YAML

kustomization overlays/cluster-wide <<'YAML'
resources: [namespace.yaml, ../../base/crds, ../../base/operator]
YAML
namespace overlays/cluster-wide

ha=(--values "$VALUES/operator.yaml" --values "$VALUES/highly-available.yaml")
render overlays/highly-available/deployment.yaml "${ha[@]}" --show-only templates/deployment.yaml
render overlays/highly-available/poddisruptionbudget.yaml "${ha[@]}" --show-only templates/poddisruptionbudget.yaml
kustomization overlays/highly-available <<'YAML'
resources: [../cluster-wide, poddisruptionbudget.yaml]
patches:
  - path: deployment.yaml
YAML

render overlays/namespaced/operator.yaml --values "$VALUES/operator.yaml" --values "$VALUES/namespaced.yaml"
kustomization overlays/namespaced <<'YAML'
resources: [namespace.yaml, ../../base/crds, operator.yaml]
YAML
namespace overlays/namespaced

for part in base overlays; do
  if [[ -n $check ]]; then
    diff -ru "$HERE/$part" "$new/$part" || die "deploy/kustomize is not what the chart makes; write it anew: make kustomize"
  else
    rm -rf "${HERE:?}/$part"
    mv "$new/$part" "$HERE/$part"
  fi
done
