# shellcheck shell=bash disable=SC2034 # its variables are read by the other parts
# Builds kube-apiserver and kube-controller-manager from Debian's source package, and takes etcd from Debian's binary one.
#
# Debian has no package of the servers, but its source package of the client is the complete tree with everything
# vendored, so that the build itself needs no network. apt checks the whole chain: the archive's signature on the
# index, the index's hash of the .dsc, the .dsc's hashes of the files.

KUBE_SOURCE_VERSION='1.20.5+really1.20.2'
# The upstream part never changes, so it is pinned on top of apt's own checks. Debian's patches may be updated.
KUBE_ORIG_SHA256=b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc
# The commit of the tag v1.20.2; only shown by `kubectl version`.
KUBE_COMMIT=faecb196815e248d3ecfb03c680a4507229c2a56
# Debian's Go 1.19 by its versioned name: it brings no `go` to PATH and cannot become another version.
GO_ROOT=/usr/lib/go-1.19
# What the build took when it was last measured; only for the eyes of who waits.
KUBE_PACKAGES=1900

# Whatever the machine's configuration allows, nothing unsigned is used here. On the command line, since apt reads the
# machine's files after the one that APT_CONFIG names.
SIGNED_ONLY=(-o APT::Get::AllowUnauthenticated=false -o Acquire::AllowInsecureRepositories=false)
SIGNED_ONLY+=(-o Acquire::AllowWeakRepositories=false -o Acquire::AllowDowngradeToInsecureRepositories=false)

# An apt configuration of our own: it also knows sources (machines usually have no deb-src entries), and it leaves the
# machine's lists and configuration alone. Which archive and which mirror, the machine's own entries tell.
private_apt() { # DIR
  local dir=$1 file name
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/sources"
  shopt -s nullglob
  for file in /etc/apt/sources.list.d/*.sources; do
    name=${file##*/}
    # "Trusted: yes" would switch the signatures off.
    sed -e 's/^Types:.*/Types: deb deb-src/' -e '/^Trusted:/d' "$file" >"$dir/sources/$name"
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [[ -f $file ]] || continue
    name=${file##*/}
    sed -n -e 's/trusted=yes//' -e 's/^deb[[:space:]]\(.*\)/deb \1\ndeb-src \1/p' "$file" >"$dir/sources/${name%.list}-lines.list"
  done
  shopt -u nullglob
  cat >"$dir/apt.conf" <<CONF
Dir::State::lists "$dir/lists";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$dir/sources";
// The files lie in a directory of the user's that the sandbox's own user could not enter.
APT::Sandbox::User "root";
// Another package manager may be busy on this machine.
DPkg::Lock::Timeout "600";
CONF
  APT_CONFIG=$dir/apt.conf
}

# The commands that the build calls, and the packages that have them.
install_build_tools() { # WORK
  local missing=()
  [[ -x $GO_ROOT/bin/go ]] || missing+=(golang-1.19-go)
  command -v rsync >/dev/null || missing+=(rsync)
  command -v make >/dev/null || missing+=(make)
  command -v dpkg-source >/dev/null || missing+=(dpkg-dev)
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    die "the build needs packages that only root can install. Run this, then try again:
  sudo apt-get install --no-install-recommends ${missing[*]}"
  fi
  # Stopped in the middle it would leave the machine's packages broken, so an interrupt waits for it, and even our own
  # violent death leaves it alone.
  local ENDS_WITH_US=()
  STEP_ON_EXIT=finish_step
  step "Installing ${missing[*]}" "$1/apt-install.log" \
    env DEBIAN_FRONTEND=noninteractive apt-get "${SIGNED_ONLY[@]}" install -y --no-install-recommends "${missing[@]}"
  STEP_ON_EXIT=stop_step
}

# The newest version of the source that the signed index has, within the upstream version that we know.
source_version() {
  apt-cache showsrc --only-source kubernetes 2>/dev/null |
    awk -v want="$KUBE_SOURCE_VERSION-" '$1 == "Version:" && index($2, want) == 1 {print $2}' | sort -V | tail -n 1
}

build_progress() { # LOG
  # With -v the Go compiler names each package when it is done with it; the script's own lines start otherwise.
  local done_ phase
  done_=$(grep -cE '^[a-z0-9][^ ]*$' "$1" || true)
  phase='generators'
  if grep -q '^    cmd/kube-apiserver' "$1"; then phase='servers'; fi
  printf '%s, %s of about %s packages compiled' "$phase" "$done_" "$KUBE_PACKAGES"
}

fetch_source() { # WORK
  local version
  version=$(source_version)
  [[ -n $version ]] || die "the machine's package sources do not have the source package kubernetes $KUBE_SOURCE_VERSION (Debian 12 has it)"
  step "Fetching the source of Kubernetes ($version)" "$1/source.log" \
    env -C "$1" apt-get "${SIGNED_ONLY[@]}" source --download-only "kubernetes=$version"
  printf '%s  %s\n' "$KUBE_ORIG_SHA256" "$1/kubernetes_$KUBE_SOURCE_VERSION.orig.tar.gz" | sha256sum --check --status ||
    die "the source archive of Kubernetes is not the one that this script knows"
  # apt has just checked the .dsc against the signed index, and this checks the files against the .dsc once more. It warns
  # of the .dsc's own signature, which is by a developer's key that machines lack.
  step "Unpacking it" "$1/unpack.log" dpkg-source -x "$1/kubernetes_$version.dsc" "$1/tree"
  printf '%s' "$version" >"$1/version"
}

# Go 1.18 changed how maps are walked, under the feet of a library that json-iterator stands on: built as it is, the
# server compiles and then crashes at the first custom resource with labels. Debian packages the release that knows both.
replace_reflect2() { # WORK
  local new=usr/share/gocode/src/github.com/modern-go/reflect2 old=tree/vendor/github.com/modern-go/reflect2
  step "Fetching a newer reflect2" "$1/reflect2.log" env -C "$1" apt-get "${SIGNED_ONLY[@]}" download golang-github-modern-go-reflect2-dev
  dpkg -x "$1"/golang-github-modern-go-reflect2-dev_*.deb "$1/reflect2"
  [[ -f $1/reflect2/$new/go_above_118.go ]] || die "Debian's reflect2 is too old for Go 1.19"
  rm "$1/$old"/*.go
  cp "$1/reflect2/$new"/*.go "$1/$old/"
}

fetch_etcd() { # OUT WORK
  # Unpacked rather than installed: installing it starts a service.
  step "Fetching etcd" "$2/etcd.log" env -C "$2" apt-get "${SIGNED_ONLY[@]}" download etcd-server
  dpkg -x "$2"/etcd-server_*.deb "$2/etcd"
  install -m 755 "$2/etcd/usr/bin/etcd" "$1/etcd"
  "$1/etcd" --version >/dev/null || die "the etcd that was fetched does not run"
}

build_servers() { # OUT WORK
  local out=$1 work=$2 command
  for command in apt-get apt-cache dpkg; do
    command -v "$command" >/dev/null ||
      die "no control plane found, and one can be built on Debian 12 only ($command is missing). Set KUBEBUILDER_ASSETS to a directory with kube-apiserver and etcd, install kind and Docker, or point KUBECONFIG at a cluster of your own and set DCI_E2E_EXISTING_CLUSTER=1"
  done
  # make would take the two halves of such a path for two.
  [[ $work != *[[:space:]]* ]] || die "Kubernetes cannot be built under a path with blanks ($CACHE): set XDG_CACHE_HOME"
  local -x APT_CONFIG
  private_apt "$work/apt"
  # Some other archive of this machine's may be broken or unsigned; what we need from Debian's is checked by itself.
  step "Reading the package index" "$work/apt-update.log" apt-get "${SIGNED_ONLY[@]}" update ||
    warn "not all package sources could be read; going on with the others"
  install_build_tools "$work"
  fetch_etcd "$out" "$work"
  fetch_source "$work"
  replace_reflect2 "$work"
  cat >"$work/git-version" <<EOF_VERSION
KUBE_GIT_COMMIT=$KUBE_COMMIT
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=v1.20.2
KUBE_GIT_MAJOR=1
KUBE_GIT_MINOR=20
EOF_VERSION
  mkdir "$work/home"
  # A clean environment: a caller's GOFLAGS, GOPATH or MAKEFLAGS must not get into it. Everything is vendored, so a
  # download would be an error.
  STEP_DETAIL=build_progress step "Compiling kube-apiserver and kube-controller-manager" "$work/build.log" \
    env -i PATH="$GO_ROOT/bin:/usr/bin:/bin" HOME="$work/home" GOFLAGS=-v GOPROXY=off GOSUMDB=off CGO_ENABLED=0 \
    KUBE_GIT_VERSION_FILE="$work/git-version" \
    make -C "$work/tree" all WHAT="cmd/kube-apiserver cmd/kube-controller-manager"
  install -m 755 "$work/tree/_output/bin/kube-apiserver" "$work/tree/_output/bin/kube-controller-manager" "$out"
  [[ $(version_of "$out/kube-apiserver") == v1.20.2 ]] || die "the kube-apiserver that was built does not run"
  printf 'Kubernetes %s (Debian source package), %s\n' "$(<"$work/version")" "$("$out/etcd" --version | head -n 1)" >"$out/SOURCE"
}
