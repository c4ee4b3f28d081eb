#!/usr/bin/env bash
# Builds the operator's image without a Docker engine, with buildah from Debian: for x86-64, statically linked with glibc.
# The release workflow builds deploy/Dockerfile (musl, x86-64 and arm64) instead; both have the same files.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CARGO=${CARGO:-cargo}
: "${CARGO_TARGET_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/target}"
export CARGO_TARGET_DIR
TARGET=x86_64-unknown-linux-gnu
LIMIT_MIB=30
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

usage() {
  cat <<'TEXT'
usage: build.sh OUT.tar [--check]

Builds the program and the image, and writes an OCI archive. --check also looks into the image: its size, its user, that the
program is static, starts from the image's root filesystem, and resolves names there.
Needs buildah (Debian: apt-get install buildah); as root, or with user namespaces.
TEXT
}

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

out='' check=''
while (($#)); do
  case $1 in
    --check) check=1 ;;
    -h | --help)
      usage
      exit
      ;;
    -*) die "unknown option $1" ;;
    *) out=$1 ;;
  esac
  shift
done
if [[ -z $out ]]; then
  usage >&2
  exit 2
fi
command -v buildah >/dev/null || die "buildah is missing (Debian: apt-get install buildah)"
[[ -r $CERTIFICATES ]] || die "$CERTIFICATES is missing (Debian: apt-get install ca-certificates)"

# Every file has the commit's time, and paths of this machine are in no message of the program's.
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$ROOT" log -1 --format=%ct 2>/dev/null || printf '0')}
export SOURCE_DATE_EPOCH=$epoch
# With --target, or build scripts would be linked statically as well.
RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/registry --remap-path-prefix=$ROOT=/src" \
  "$CARGO" build --manifest-path "$ROOT/Cargo.toml" --release --locked --target "$TARGET" --bin dci-operator

# Everything of buildah's own in a directory that goes again. vfs mounts nothing. But where CAP_SYS_ADMIN is missing buildah starts
# itself anew in a user namespace, even as root, and Docker's seccomp profile refuses one: such a container has to be privileged.
work=$(mktemp -d)
container=''
clean_up() {
  if [[ -n $container ]]; then
    "${BUILDAH[@]}" umount "$container" >/dev/null 2>&1 || true
    "${BUILDAH[@]}" rm "$container" >/dev/null 2>&1 || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT
BUILDAH=(buildah --storage-driver vfs --root "$work/root" --runroot "$work/run")

mkdir -p "$work/fs/etc/ssl/certs"
install -m 755 "$CARGO_TARGET_DIR/$TARGET/release/dci-operator" "$work/fs/dci-operator"
install -m 644 "$CERTIFICATES" "$work/fs/etc/ssl/certs/ca-certificates.crt"
find "$work/fs" -exec touch --no-dereference --date "@$epoch" {} +

container=$("${BUILDAH[@]}" from scratch)
"${BUILDAH[@]}" copy --quiet "$container" "$work/fs" / >/dev/null
"${BUILDAH[@]}" config --user 65532:65532 --entrypoint '["/dci-operator"]' --cmd run --port 8080 --port 8081 \
  --label org.opencontainers.image.title=dci-operator --label org.opencontainers.image.licenses=Apache-2.0 "$container"
rm -f "$out"
"${BUILDAH[@]}" commit --quiet --timestamp "$epoch" "$container" "oci-archive:$out:dci-operator:latest" >/dev/null
size=$(du --apparent-size --block-size=1 "$work/fs/dci-operator" | cut -f 1)
printf 'image in %s: program %d.%d MiB\n' "$out" $((size / 1048576)) $((size % 1048576 * 10 / 1048576))
[[ -n $check ]] || exit 0

# --- looking into it --------------------------------------------------------------------------------------------------

# What a runtime would do: unpack the archive and start from there.
mkdir "$work/oci" "$work/rootfs"
tar -xf "$out" -C "$work/oci"
read -r manifest config layer < <(python3 - "$work/oci" <<'PY'
import json, os, sys

folder = sys.argv[1]
blob = lambda digest: os.path.join(folder, "blobs", *digest.split(":"))
index = json.load(open(os.path.join(folder, "index.json")))
manifest = json.load(open(blob(index["manifests"][0]["digest"])))
assert len(manifest["layers"]) == 1, manifest["layers"]
config = json.load(open(blob(manifest["config"]["digest"])))
said = config["config"]
assert said["User"] == "65532:65532", said
assert said["Entrypoint"] == ["/dci-operator"] and said["Cmd"] == ["run"], said
assert config["architecture"] == "amd64" and config["os"] == "linux", config
print(index["manifests"][0]["digest"], manifest["config"]["digest"], blob(manifest["layers"][0]["digest"]))
PY
)
tar -xf "$layer" -C "$work/rootfs"
total=$(du --apparent-size --summarize --block-size=1 "$work/rootfs" | cut -f 1)
((total < LIMIT_MIB * 1048576)) || die "the image has $((total / 1048576)) MiB; allowed are $LIMIT_MIB"
if readelf --dynamic "$work/rootfs/dci-operator" 2>/dev/null | grep -q NEEDED; then die "the program is not static"; fi

# As its user, in its filesystem, with nothing else there.
inside=(chroot --userspec=65532:65532 "$work/rootfs" /dci-operator)
"${inside[@]}" --version
[[ $("${inside[@]}" crds | grep -c '^kind: CustomResourceDefinition') == 4 ]] || die "the program does not print its definitions"
# A name that only DNS knows, asked of a server of our own: glibc's resolver has to work without its shared libraries.
python3 "$ROOT/deploy/image/resolves.py" "$work/rootfs" || die "the program does not resolve names"
printf 'ok: %d.%d MiB in all, static, user 65532, manifest %s, config %s\n' \
  $((total / 1048576)) $((total % 1048576 * 10 / 1048576)) "${manifest:7:12}" "${config:7:12}"
