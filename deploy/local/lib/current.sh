# shellcheck shell=bash disable=SC2034 # its variables are read by the other parts
# Custom resources by a current API server's code: Debian has no such server for us to build whole, but its unstable suite
# has the libraries of which one is made, and they are enough for the part that matters here. With DCI_CURRENT=1 a control
# plane gets that part as an extension: requests to our group go through the older server to it.

# The Kubernetes that the program was written against: 1.36 is 0.36 in the libraries' own count.
CURRENT_LIBRARIES=0.36
CURRENT_KUBE=1.36
# Where the libraries and a Go for them come from, and an etcd of the same age. Never installed, only unpacked.
CURRENT_SUITE=sid
CURRENT_GO=1.26
# Packages that the program uses, and so those on which they depend.
CURRENT_PACKAGES=(golang-k8s-apiextensions-apiserver-dev golang-k8s-apiserver-dev)
# Exit code of `current`, when it is not the project's fault that there is no such server.
CURRENT_NOT_TO_BE_HAD=75

CURRENT=''

current_wanted() { [[ ${DCI_CURRENT:-} == 1 ]]; }

current_key() {
  local sum
  sum=$(cat "$HERE"/current/*.go "$HERE"/current/*.yaml "$HERE/lib/current.sh" | sha256sum)
  printf 'current-%s' "${sum:0:12}"
}

# Only looks; says no when it has to be built.
find_current() {
  CURRENT=$CACHE/$(current_key)/current
  [[ -x $CURRENT ]] || CURRENT=''
  [[ -n $CURRENT ]]
}

ensure_current() {
  if find_current; then return; fi
  say "No server of current custom resources here yet: building it once, which takes about five minutes of two cores."
  cached "$(current_key)" build_current
  find_current
}

not_to_be_had() {
  say "not to be had: $*"
  exit "$CURRENT_NOT_TO_BE_HAD"
}

# The machine's own entries for Debian with another suite in them: mirror and keys are as trusted as for all else. Updates
# and the security archive have no such suite.
current_sources() { # DIR
  local dir=$1 file kept
  for file in "$dir"/sources/*; do
    if [[ $file == *.sources ]]; then
      kept=$(awk -v suite="$CURRENT_SUITE" '
        BEGIN { RS = ""; FS = "\n" }
        /URIs:[^\n]*\/debian\/?[ \n]/ {
          gsub(/Types:[^\n]*/, "Types: deb"); gsub(/Suites:[^\n]*/, "Suites: " suite); gsub(/Components:[^\n]*/, "Components: main")
          print $0 "\n"
        }' "$file")
    else
      kept=$(sed -nE "s|^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+/debian/?)[[:space:]].*|deb \1\2 $CURRENT_SUITE main|p" "$file" | sort -u)
    fi
    if [[ -n $kept ]]; then printf '%s\n' "$kept" >"$file"; else rm "$file"; fi
  done
  compgen -G "$dir/sources/*" >/dev/null
}

# All that one package needs, and what that needs; the versions are apt's choice.
current_closure() {
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    "${CURRENT_PACKAGES[@]}" | grep -oE '^golang-[^ ]*-dev$' | sort -u
}

unpack_all() { # DIR WITH debs ROOT
  local deb
  for deb in "$1"/*.deb; do dpkg -x "$deb" "$2"; done
}

build_current() { # OUT WORK
  local out=$1 work=$2 command version packages
  for command in apt-get apt-cache dpkg; do
    command -v "$command" >/dev/null || not_to_be_had "it is made of Debian's packages, and $command is missing"
  done
  local -x APT_CONFIG
  private_apt "$work/apt"
  current_sources "$work/apt" || not_to_be_had "this machine's package sources are not Debian's"
  step "Reading the index of Debian $CURRENT_SUITE" "$work/update.log" apt-get "${SIGNED_ONLY[@]}" update ||
    not_to_be_had "the index of Debian $CURRENT_SUITE cannot be read"
  version=$(apt-cache policy golang-k8s-apiextensions-apiserver-dev | sed -n 's/^ *Candidate: //p')
  # Without Debian's own revision.
  version=${version%-*}
  [[ $version == "$CURRENT_LIBRARIES".* ]] ||
    not_to_be_had "the libraries of Kubernetes in Debian $CURRENT_SUITE are ${version:-missing}, and this program is for $CURRENT_LIBRARIES"
  mapfile -t packages < <(current_closure)
  mkdir "$work/debs" "$work/root" "$work/home" "$work/path"
  step "Fetching ${#packages[@]} libraries, Go and etcd" "$work/download.log" env -C "$work/debs" apt-get "${SIGNED_ONLY[@]}" \
    download "golang-$CURRENT_GO-go" "golang-$CURRENT_GO-src" etcd-server "${packages[@]}" ||
    not_to_be_had "the packages of Debian $CURRENT_SUITE cannot be fetched"
  step "Unpacking them" "$work/unpack.log" bash -c "$(declare -f unpack_all)"'; unpack_all "$@"' unpack "$work/debs" "$work/root"
  mkdir -p "$work/path/src/current"
  cp "$HERE"/current/*.go "$HERE"/current/*.yaml "$work/path/src/current"
  # As the servers are built: a clean environment, and nothing from the network.
  step "Compiling the server of custom resources" "$work/compile.log" \
    env -i PATH=/usr/bin:/bin HOME="$work/home" GOROOT="$work/root/usr/lib/go-$CURRENT_GO" GO111MODULE=off GOPROXY=off \
    GOTOOLCHAIN=local CGO_ENABLED=0 GOPATH="$work/path:$work/root/usr/share/gocode" GOCACHE="$work/home/cache" \
    "$work/root/usr/lib/go-$CURRENT_GO/bin/go" build -trimpath -o "$out/current" \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v1.${version#0.}" current
  install -m 755 "$work/root/usr/bin/etcd" "$out/etcd"
  "$out/etcd" --version >/dev/null || not_to_be_had "etcd of Debian $CURRENT_SUITE does not run here"
  printf 'Kubernetes v1.%s (libraries of Debian %s), %s\n' "${version#0.}" "$CURRENT_SUITE" "$("$out/etcd" --version | head -n 1)" >"$out/SOURCE"
}

# --- beside a control plane ------------------------------------------------------------------------------------------

# The older server shows by a certificate that it is the one that passes a request on, and tells in headers whose it is.
make_current_pki() { # DIR
  local pki=$1/pki
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=dci-operator-front-proxy \
      -addext keyUsage=critical,keyCertSign,digitalSignature -keyout "$pki/front-ca.key" -out "$pki/front-ca.crt"
    issue "$pki" front-ca front-proxy clientAuth DNS:front-proxy
    issue "$pki" ca current serverAuth IP:127.0.0.1,DNS:localhost,DNS:current.kube-system.svc
  } >"$1/logs/openssl-current.log" 2>&1 || {
    tail -n 20 "$1/logs/openssl-current.log" >&2
    die "the certificates of the server of custom resources could not be made"
  }
}

issue() { # PKI CA NAME USE NAMES
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$1/$3.key" -out "$1/$3.csr"
  openssl x509 -req -in "$1/$3.csr" -CA "$1/$2.crt" -CAkey "$1/$2.key" -CAcreateserial -days 30 -out "$1/$3.crt" -extfile <(
    printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' "extendedKeyUsage=$4" "subjectAltName=$5"
  )
}

front_proxy_flags() { # DIR
  local pki=$1/pki
  printf '%s\n' --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" \
    --requestheader-client-ca-file="$pki/front-ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User
}

run_current() { # DIR PORT
  local pki=$1/pki flags=()
  flags+=(--bind-address=127.0.0.1 --secure-port="$2" --tls-cert-file="$pki/current.crt" --tls-private-key-file="$pki/current.key")
  flags+=(--etcd-servers="http://127.0.0.1:$ETCD_PORT" --etcd-prefix=/current)
  # Nobody has a certificate of it but the older server; the older server has no such authority to tell.
  flags+=(--client-ca-file="$pki/front-ca.crt")
  flags+=(--kubeconfig="$1/kubeconfig" --authentication-kubeconfig="$1/kubeconfig" --authorization-kubeconfig="$1/kubeconfig")
  start_server "$1" current "$CURRENT" serve "${flags[@]}"
}

# What makes the older server pass requests on: a service by a name that leads to this machine, and our group.
register_current() { # PORT CA-FILE
  cat <<OBJECTS
apiVersion: v1
kind: Service
metadata: {name: current, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1alpha1.dci-operator.dev}
spec:
  group: dci-operator.dev
  version: v1alpha1
  groupPriorityMinimum: 1000
  versionPriority: 100
  service: {name: current, namespace: kube-system, port: $1}
  caBundle: $(base64 -w 0 "$2")
OBJECTS
}

# The definitions and policies of the served resources are told to the server itself: current.kubeconfig leads there.
current_up() { # DIR
  local dir=$1 url
  start_on_free_port "$dir" current run_current
  url=https://127.0.0.1:$SERVER_PORT
  write_kubeconfig "$dir/current.kubeconfig" "$url" "$dir/pki/ca.crt" "$ADMIN_TOKEN"
  until "$KUBECTL" --kubeconfig "$dir/current.kubeconfig" --request-timeout=5s get --raw /readyz >/dev/null 2>>"$dir/logs/readyz.log"; do
    alive "$dir" current || fail_up "$dir" "the server of custom resources ended" current
    check_deadline "$dir" "the server of custom resources is not ready" current
    sleep 0.1
  done
  register_current "$SERVER_PORT" "$dir/pki/ca.crt" | "$KUBECTL" --kubeconfig "$dir/kubeconfig" apply -f - >>"$dir/logs/readyz.log"
}
