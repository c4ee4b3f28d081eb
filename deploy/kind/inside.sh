#!/usr/bin/env bash
# Runs in the pod of runner.yaml: makes a kubeconfig of the pod's account, and runs the programs of tests with it, one after another.
set -euo pipefail

account=/var/run/secrets/kubernetes.io/serviceaccount
DCI_CONTROL_PLANE_DIR=$(mktemp -d)
export DCI_CONTROL_PLANE_DIR KUBECONFIG=$DCI_CONTROL_PLANE_DIR/kubeconfig
umask 077
cat >"$KUBECONFIG" <<CONFIG
apiVersion: v1
kind: Config
current-context: inside
clusters:
  - name: inside
    cluster: {server: "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT", certificate-authority-data: $(base64 -w 0 "$account/ca.crt")}
users:
  - name: inside
    user: {token: $(<"$account/token")}
contexts:
  - name: inside
    context: {cluster: inside, user: inside}
CONFIG
rc=0
for program in "$@"; do "$program" --test-threads=6 || rc=1; done
exit "$rc"
