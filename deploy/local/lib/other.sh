# shellcheck shell=bash
# Control planes that are not processes of ours: a cluster that is there already, and kind. Both get a directory with a
# kubeconfig like our own, so that callers need not know the difference. Neither has an audit.log.

kind_name() { # DIR
  local sum
  sum=$(printf '%s' "$1" | sha256sum)
  printf 'dci-%s' "${sum:0:10}"
}

kind_up() { # DIR
  local dir=$1 name
  name=$(kind_name "$dir")
  # Written first: a cluster that is half made has to be removed too.
  printf '%s\n' "$name" >"$dir/kind"
  kind create cluster --name "$name" --kubeconfig "$dir/kubeconfig" --wait 180s >&2
  printf 'kind cluster %s is up: export KUBECONFIG=%q\n' "$name" "$dir/kubeconfig"
}

existing_up() { # DIR
  (
    umask 077
    "$KUBECTL" config view --raw --minify --flatten >"$1/kubeconfig"
  )
  touch "$1/existing"
  "$KUBECTL" --kubeconfig "$1/kubeconfig" --request-timeout=20s get --raw /readyz >/dev/null
  printf 'using the existing cluster: export KUBECONFIG=%q\n' "$1/kubeconfig"
}

# True when the directory was one of these.
other_down() { # DIR
  local dir=$1 name
  if [[ -f $dir/kind ]]; then
    name=$(<"$dir/kind")
    kind delete cluster --name "$name" --kubeconfig "$dir/kubeconfig" >&2
    rm -f "$dir/kind" "$dir/kubeconfig"
  elif [[ -f $dir/existing ]]; then
    rm -f "$dir/existing" "$dir/kubeconfig"
  else
    return 1
  fi
}
