#!/usr/bin/env bash
# From a clone to a workload in a VM: sets up, builds, starts the platform, runs
# a real workload, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

SECONDS=0
say() { printf '\n\033[1m[%3d s] %s\033[0m\n' "$SECONDS" "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

# Neither settings nor proxies of this user's are meant for this run.
unset "${!AETHERIUM_@}"
export no_proxy=localhost,127.0.0.1 NO_PROXY=localhost,127.0.0.1

scripts/setup.sh quickstart
say "Building (the first time takes a few minutes)"
make --no-print-directory build

if [ -n "$(ss -Hltn 'sport = :8080')" ]; then
  echo "quickstart: port 8080 is in use (ss -ltnp shows by whom); end that program first, or make down if it is ours" >&2
  exit 2
fi

data=$(mktemp -d /tmp/aetherium-quickstart.XXXXXX)
log=$data/aetherium.log
place=(--data-dir "$data" --bridge aetherqs0 --subnet 10.213.88.0/24)
before=$(scripts/footprint.sh)
server=

cleanup() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; fi
  ./bin/aetherium cleanup "${place[@]}" >/dev/null || status=1
  if [ $status != 0 ]; then
    echo "quickstart failed; the server's last words:" >&2
    tail -20 "$log" >&2 2>/dev/null || true
    echo "./bin/aetherium doctor says what this machine lacks; docs/troubleshooting/vm-creation.md has more" >&2
  fi
  rm -rf "$data"
  after=$(scripts/footprint.sh)
  if [ "$before" = "$after" ]; then
    [ $status != 0 ] || say "Nothing is left: no process, mount, interface, rule or cgroup more than before."
  else
    echo "quickstart left something behind:" >&2
    diff <(echo "$before") <(echo "$after") >&2 || true
    status=1
  fi
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Starting the platform"
printf '$ aetherium up\n'
./bin/aetherium up "${place[@]}" >"$log" 2>&1 </dev/null &
server=$!
for _ in $(seq 100); do
  curl -fs http://localhost:8080/readyz >/dev/null 2>&1 && break
  kill -0 $server 2>/dev/null || { echo "quickstart: the platform did not start" >&2; exit 1; }
  sleep 0.1
done
curl -fsS http://localhost:8080/readyz >/dev/null
head -1 "$log"

say "Creating a VM"
run ./bin/aether-cli -type vm:create -name my-vm
VM_ID=$(./bin/aether-cli vm get my-vm -o id)

say "Copying this repository in"
# A clone, unlike a bundle, may be of a shallow checkout. git looks at who owns
# what it clones, which need not be root.
printf '[safe]\n\tdirectory = *\n' >"$data/gitconfig"
GIT_CONFIG_GLOBAL=$data/gitconfig git clone -q --bare "file://$PWD" "$data/aetherium.git" ||
  { echo "quickstart: this folder is no git checkout that can be cloned" >&2; exit 2; }
run ./bin/aether-cli cp "$data/aetherium.git" my-vm:/root/aetherium.git

say "Cloning it inside the VM"
run ./bin/aether-cli -type vm:execute -vm-id "$VM_ID" -cmd git -args "clone,/root/aetherium.git,/root/aetherium"

say "Counting its lines inside the VM"
run ./bin/aether-cli -type vm:execute -vm-id "$VM_ID" -cmd sh -args '-c,"cd /root/aetherium && uname -a && git log -1 --oneline && git ls-files -z | xargs -0 wc -l | sort -n | tail -6"'

say "Listing VMs"
printf '$ curl http://localhost:8080/api/v1/vms | jq\n'
curl -fsS http://localhost:8080/api/v1/vms | jq

say "Deleting the VM"
run ./bin/aether-cli -type vm:delete -vm-id "$VM_ID"

say "Done"
cat <<TEXT
A VM was created, this repository cloned in it and its lines counted, and the VM
deleted. The dashboard is still to come; while the platform runs (make up), a
browser finds the API's pages at http://localhost:8080/api/v1/docs
TEXT
