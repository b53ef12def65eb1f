#!/usr/bin/env bash
# Says what state this machine's platform is in: for a bug report.
set -u
cd "$(dirname "$0")/.."
bin=bin; command -v aetherium >/dev/null && bin=$(dirname "$(command -v aetherium)")
echo "== version"; "$bin/aetherium" version
echo "== doctor"; "$bin/aetherium" doctor
echo "== server"; curl -sS -m 3 http://localhost:8080/readyz; echo
echo "== workers"; "$bin/aether-cli" worker list
echo "== VMs"; "$bin/aether-cli" vm list
echo "== what VMs hold of this machine"; scripts/footprint.sh
echo "== last lines of the log"; tail -30 /var/log/aetherium/aetherium.log 2>/dev/null || echo "no /var/log/aetherium/aetherium.log"
