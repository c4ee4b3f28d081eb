#!/usr/bin/env bash
# The same e2e tests as everywhere, in a kind cluster: makes it, loads the image, installs the chart with Helm, network policy included,
# runs `helm test`, lets what was installed serve the demo's orders, uninstalls it, runs the tests from inside, collects what was logged,
# and deletes the cluster. Needs Docker, kind, kubectl, Helm.
#
# KUBERNETES_VERSION: the node image's tag, better with digest, from the notes of this kind's release (kind's default). LOGS: where logs go (a temporary directory).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
# What builds the tests also runs them, so that the C library is the same.
RUST_IMAGE=${RUST_IMAGE:-rust:1.95-bookworm}
RUNNER=dci-operator-runner:e2e
IMAGE=dci-operator:e2e
# The pods' network, in which the panels are; cluster.yaml has it too.
PODS=10.244.0.0/16
NAME=dci-e2e-$$

for tool in docker kind kubectl helm; do
  command -v "$tool" >/dev/null || {
    printf 'error: %s is missing\n' "$tool" >&2
    exit 1
  }
done

work=$(mktemp -d)
logs=${LOGS:-$(mktemp -d)}
made=''
export KUBECONFIG=$work/kubeconfig
mkdir -p "$logs" "$work/target" "$work/tools"

clean_up() {
  local rc=$?
  trap '' INT TERM HUP
  # What cannot be collected must not keep the cluster from going.
  set +e
  if [[ -n $made ]]; then
    kubectl logs --namespace dci-e2e pod/runner >"$logs/e2e.log" 2>&1
    kubectl get all,dci --all-namespaces --output yaml >"$logs/objects.yaml" 2>&1
    kind export logs --name "$NAME" "$logs/kind" >/dev/null 2>&1
    kind delete cluster --name "$NAME"
  fi
  printf 'logs: %s\n' "$logs" >&2
  # What was built in a container belongs to root.
  docker run --rm --pull never --volume "$work:$work" "$RUNNER" rm -rf "$work/target" >/dev/null 2>&1
  rm -rf "$work"
  exit "$rc"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

docker build --file "$ROOT/deploy/Dockerfile" --tag "$IMAGE" "$ROOT"
# Without Lua and Prometheus the tests of Argo CD's scripts and of the dashboards would be skipped.
docker build --tag "$RUNNER" - <<DOCKERFILE
FROM $RUST_IMAGE
RUN apt-get update && apt-get install -y --no-install-recommends lua5.1 prometheus && rm -rf /var/lib/apt/lists/*
DOCKERFILE
docker run --rm --volume "$ROOT:$ROOT" --volume "$work/target:$work/target" --env CARGO_TARGET_DIR="$work/target" --workdir "$ROOT" \
  "$RUNNER" cargo test --locked --no-run --test e2e --test e2e_rules
program() { find "$work/target/debug/deps" -maxdepth 1 -name "$1-*" -type f -executable | head -n 1; }
tests="$(program e2e), $(program e2e_rules)"
cp "$(command -v kubectl)" "$(command -v helm)" "$work/tools/"

fill() { sed -e "s|SOURCE|$ROOT|g" -e "s|TARGET|$work/target|g" -e "s|TOOLS|$work/tools|g" -e "s|RUNNER|$RUNNER|g" -e "s|PODS|$PODS|g" -e "s|TESTS|$tests|g" "$1"; }

# The image, its account and its pod at work: orders are served at panels in the cluster, taken back, and nothing of them stays.
serve_orders() {
  local pin
  fill "$HERE/panels.yaml" | kubectl create --filename -
  kubectl wait --for=condition=Ready --namespace panels pod/panels --timeout 3m
  pin=$(kubectl logs --namespace panels pod/panels | sed -n 's/^certificate sha256 //p')
  [[ -n $pin ]] || {
    printf 'error: the panels do not say which certificate they have\n' >&2
    return 1
  }
  sed -e 's|http://127.0.0.1:1500\(/[a-z]*\).*|https://panels.panels.svc:1500\1|' \
    -e "s|^    credentialsSecretRef: .*|&\n    tls: {pinnedSHA256: \"$pin\"}|" "$ROOT/deploy/demo/10-provider.yaml" | kubectl create --filename -
  kubectl create --filename "$ROOT/deploy/demo/20-orders.yaml"
  kubectl wait --for=condition=Ready --namespace shop --all dso --timeout 5m
  kubectl delete dso --all --namespace shop --timeout 5m
  kubectl delete ph,ipm --all --namespace hosting --timeout 3m
  kubectl delete namespace shop hosting panels --timeout 3m
}

node=()
if [[ -n ${KUBERNETES_VERSION:-} ]]; then node=(--image "kindest/node:$KUBERNETES_VERSION"); fi
# Before it is there: what is half made has to be removed too.
made=1
fill "$HERE/cluster.yaml" | kind create cluster --name "$NAME" --config - --wait 180s "${node[@]}"
kind load docker-image --name "$NAME" "$IMAGE" "$RUNNER"

kubectl create namespace dci-system
kubectl label namespace dci-system pod-security.kubernetes.io/enforce=restricted
# The API server is a process of the node; which of its addresses counts, its own or the Service's, is the network's matter.
node_ip=$(kubectl get nodes --output jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
service_ip=$(kubectl get service kubernetes --namespace default --output jsonpath='{.spec.clusterIP}')
helm install dci-operator "$ROOT/charts/dci-operator" --namespace dci-system --wait --timeout 3m \
  --set image.repository="${IMAGE%:*}" --set image.tag="${IMAGE#*:}" \
  --set networkPolicy.enabled=true --set "networkPolicy.apiServer.cidrs={$node_ip/32,$service_ip/32}" \
  --set "networkPolicy.panels[0].cidr=$PODS" --set 'networkPolicy.panels[0].ports={1500}'
helm test dci-operator --namespace dci-system
serve_orders
# The tests start operators of their own, under accounts of their own, and make the chart's objects anew: this operator would see
# all their namespaces, its policies would refuse what theirs do, and its roles have the same names. The definitions stay (crds.keep).
helm uninstall dci-operator --namespace dci-system --wait --timeout 3m

fill "$HERE/runner.yaml" | kubectl apply --filename -
kubectl wait --namespace dci-e2e --for=condition=Ready pod/runner --timeout 3m
kubectl logs --namespace dci-e2e --follow pod/runner
kubectl wait --namespace dci-e2e --for=jsonpath='{.status.phase}'=Succeeded pod/runner --timeout 1m
