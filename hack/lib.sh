# Shared by the scripts of this folder; sourced, not run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$REPO"

# Where hack/build leaves the programs.
TARGET=${CARGO_TARGET_DIR:-$REPO/target}
BIN=$TARGET/pintle/bin

# The oldest Rust that builds the workspace; also in Cargo.toml (rust-version).
RUST_NEEDED=1.90

# rustup's folder is not on the PATH of every root shell.
[[ ":$PATH:" == *":${CARGO_HOME:-$HOME/.cargo}/bin:"* ]] || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

# Says what happens now.
stage() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

need_root() { [[ $(id -u) -eq 0 ]] || die "$1 needs root: it makes namespaces, mounts, cgroups and links"; }

# Whether version $1 is at least version $2.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# The version of the cargo on the PATH; empty if there is none.
cargo_version() { cargo --version 2>/dev/null | cut -d ' ' -f 2 || true; }

# Removes what a killed test run or demo left behind; runs that are still going are left alone.
sweep() {
  local program
  for program in "$TARGET/debug/pintle-sweep" "$TARGET/release/pintle-sweep"; do
    if [[ -x $program ]]; then
      "$program" || true
      return
    fi
  done
}

# Installs those of the named Debian packages that are missing, without starting their services: registries and
# daemons are started by the tests, with ports and folders of their own.
install_debian() {
  local package missing=() policy=/usr/sbin/policy-rc.d made='' failed=''
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  need_root "installing packages (${missing[*]})"
  stage "Installing Debian packages: ${missing[*]}"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=$policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } || failed=1
  [[ -z $made ]] || rm -f "$made"
  [[ -z $failed ]] || die "apt-get could not install: ${missing[*]}"
}
