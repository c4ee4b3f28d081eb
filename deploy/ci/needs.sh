#!/usr/bin/env bash
# Looks for what building, demo and tests need on this machine. On Debian and its kin root gets what is missing installed;
# everybody else is told what to install. Says nothing when everything is there.
set -euo pipefail

# The Rust release of Cargo.toml (rust-version).
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
RUST=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

packages=()
need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || packages+=("$2")
}
need make make
need cc build-essential
need python3 python3
need flock util-linux
need openssl openssl
# kubectl and Helm come as a wheel, unless they are given.
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
# Argo CD's scripts are tried with Lua, ours are read by shellcheck, and one test steps the clock. Without them this is skipped, so that
# nobody is stopped by their absence.
if [[ $EUID == 0 ]] && command -v apt-get >/dev/null; then
  need lua5.1 lua5.1
  need shellcheck shellcheck
  need faketime faketime
  # Alerts and dashboards are tried with it. The package starts a server, so it is not put on a machine that runs services.
  [[ -d /run/systemd/system ]] || need promtool prometheus
fi

if ((${#packages[@]})); then
  if [[ $EUID == 0 ]] && command -v apt-get >/dev/null; then
    printf 'installing: %s\n' "${packages[*]}" >&2
    apt-get -q update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${packages[@]}" >&2
  else
    die "this machine lacks (Debian's names): ${packages[*]}; as root: apt-get install ${packages[*]}"
  fi
fi

# Never installed by itself: which toolchain, and how, is the user's choice.
cargo=${CARGO:-cargo}
command -v "$cargo" >/dev/null ||
  die "cargo is missing: install Rust $RUST or newer with rustfmt and clippy (https://rustup.rs)"
version=$(cd "$ROOT" && "$cargo" --version | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
[[ $(printf '%s\n' "$RUST" "$version" | sort -V | head -n 1) == "$RUST" ]] ||
  die "cargo $version is too old: Rust $RUST or newer is needed"
