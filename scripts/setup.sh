#!/usr/bin/env bash
# Installs what a task needs, and nothing that is there already.
#   scripts/setup.sh quickstart   to build and run the platform
#   scripts/setup.sh test         and what the tests need
#   scripts/setup.sh bench        and Docker, to measure beside it
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-quickstart}
[ "$(id -u)" = 0 ] || { echo "setup: run this as root (sudo $0 $profile): VMs need namespaces, mounts and cgroups" >&2; exit 2; }

if ! command -v go >/dev/null; then
  echo "setup: Go is not installed; get Go $(sed -n 's/^go //p' go.mod) or later from https://go.dev/dl and put it on PATH" >&2
  exit 2
fi

# Each line: the program that shows the package is there, and the package.
need() {
  case $1 in
    quickstart) echo "nft nftables
ip iproute2
mkfs.ext4 e2fsprogs
jq jq
git git
curl curl
python3 python3-minimal" ;;
    test) need quickstart; echo "redis-server redis-server
/usr/lib/postgresql postgresql
gcc gcc
losetup mount
pgrep procps" ;;
    bench) need test; echo "dockerd docker.io" ;;
    *) echo "setup: $1 is no profile: use quickstart, test or bench" >&2; exit 2 ;;
  esac
}
wanted=$(need "$profile")

missing=()
while read -r program package; do
  command -v "$program" >/dev/null || [ -e "$program" ] || missing+=("$package")
done <<<"$wanted"

if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "setup: no apt-get here; install these yourself: ${missing[*]}" >&2; exit 2; }
  echo "setup: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The packages' own services are not wanted: the tests start private ones.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  log=$(mktemp)
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "setup: apt-get failed; the lines above say why" >&2
    exit 1
  fi
  rm -f "$log"
fi
