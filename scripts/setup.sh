#!/usr/bin/env bash
# Installs what a task needs, and nothing that is there already.
#   scripts/setup.sh quickstart   to build and run the platform
#   scripts/setup.sh test         and what the tests need
#   scripts/setup.sh bench        and Docker, to measure beside it
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-quickstart}
fail() { echo "setup: $*" >&2; exit 2; }

[ "$(id -u)" = 0 ] || fail "run this as root (sudo env PATH=\"\$PATH\" make $profile): VMs need namespaces, mounts and cgroups"

# The Go that is there, whatever toolchain it may fetch for go.mod.
want=$(sed -n 's/^go //p' go.mod)
command -v go >/dev/null || fail "Go is not on PATH; get Go $want or later from https://go.dev/dl, or, if sudo lost it, sudo env PATH=\"\$PATH:/usr/local/go/bin\" make $profile"
have=$(GOTOOLCHAIN=local go version | sed -n 's/.* go\([0-9][0-9.]*\).*/\1/p')
if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" != "$want" ]; then
  case $(go env GOTOOLCHAIN) in
    local*) fail "Go $have is older than the $want that go.mod asks for, and GOTOOLCHAIN forbids to fetch it; get it from https://go.dev/dl" ;;
    *) echo "setup: Go $have is older than the $want that go.mod asks for; go fetches that one now" ;;
  esac
fi

# Each line: a program or a file that shows the package is there, and the package.
need() {
  case $1 in
    quickstart) echo "nft nftables
ip iproute2
mkfs.ext4 e2fsprogs
losetup mount
modprobe kmod
jq jq
git git
curl curl
pgrep procps" ;;
    test) need quickstart; echo "redis-server redis-server
/usr/lib/postgresql/*/bin/initdb postgresql
gcc gcc
/usr/include/stdlib.h libc6-dev
/usr/lib/python3*/http/server.py python3" ;;
    bench) need test; echo "dockerd docker.io" ;;
    *) fail "$1 is no profile: use quickstart, test or bench" ;;
  esac
}
wanted=$(need "$profile")

missing=()
while read -r sign package; do
  command -v "$sign" >/dev/null || compgen -G "$sign" >/dev/null || missing+=("$package")
done <<<"$wanted"

if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || fail "no apt-get here; install these yourself: ${missing[*]}"
  echo "setup: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  policy=/usr/sbin/policy-rc.d ours=
  trap 'rm -f "$log" $ours' EXIT
  # The packages' own services are not wanted: the tests start private ones.
  if [ ! -e $policy ]; then
    ours=$policy
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
  fi
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -20 "$log" >&2
    echo "setup: apt-get failed; the lines above say why" >&2
    exit 1
  fi
fi
