#!/usr/bin/env bash
# From a clone to a workload in a VM: sets up, builds, starts the platform, runs
# a real workload, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

scripts/setup.sh quickstart
say "Building (the first time takes a few minutes)"
make --no-print-directory build

if ss -ltn 2>/dev/null | grep -q '127.0.0.1:8080\|0.0.0.0:8080\|\*:8080'; then
  echo "quickstart: port 8080 is in use (ss -ltnp shows by whom); end that program first, or make down if it is ours" >&2
  exit 2
fi

data=$(mktemp -d /tmp/aetherium-quickstart.XXXXXX)
log=$data/aetherium.log
bridge=aetherqs0 subnet=10.89.0.0/24
before=$(scripts/footprint.sh)
server=

cleanup() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; fi
  ./bin/aetherium cleanup --data-dir "$data" --bridge $bridge --subnet $subnet >/dev/null || status=1
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
trap cleanup EXIT INT TERM

say "Starting the platform"
printf '$ %s\n' "aetherium up"
./bin/aetherium up --data-dir "$data" --bridge $bridge --subnet $subnet >"$log" 2>&1 &
server=$!
for _ in $(seq 100); do
  curl -fs http://localhost:8080/readyz >/dev/null 2>&1 && break
  kill -0 $server 2>/dev/null || { echo "quickstart: the platform did not start" >&2; exit 1; }
  sleep 0.1
done
curl -fs http://localhost:8080/readyz >/dev/null
head -1 "$log"

say "Creating a VM"
run ./bin/aether-cli -type vm:create -name my-vm
VM_ID=$(./bin/aether-cli vm get my-vm -o id)

say "Copying this repository in"
rm -rf "$data/repo.bundle"
if [ -d .git ] || git rev-parse --git-dir >/dev/null 2>&1; then
  branch=$(git -c safe.directory='*' symbolic-ref -q --short HEAD || true)
  git -c safe.directory='*' bundle create -q "$data/repo.bundle" HEAD ${branch:+"$branch"}
else
  echo "quickstart: this is no git checkout" >&2; exit 2
fi
run ./bin/aether-cli cp "$data/repo.bundle" my-vm:/root/aetherium.bundle

say "Cloning it inside the VM"
run ./bin/aether-cli -type vm:execute -vm-id "$VM_ID" -cmd git -args "clone,/root/aetherium.bundle,/root/aetherium"

say "Counting its lines of Go inside the VM"
run ./bin/aether-cli -type vm:execute -vm-id "$VM_ID" -cmd sh -args '-c,"cd /root/aetherium && uname -a && git log -1 --format=%h%x20%s && git ls-files | grep -c . && find . -name ''*.go'' | xargs cat | wc -l"'

say "Listing VMs"
echo '$ curl http://localhost:8080/api/v1/vms | jq'
curl -fsS http://localhost:8080/api/v1/vms | jq '.items[] | {name, id, state, image, vcpus, memory_mib, ip}'

say "Deleting the VM"
run ./bin/aether-cli -type vm:delete -vm-id "$VM_ID"

say "Done"
cat <<TEXT
A VM was created, a repository cloned and counted in it, and the VM deleted.
The dashboard is still to come; while the platform runs (make up), a browser
finds the API's pages at http://localhost:8080/api/v1/docs
TEXT
