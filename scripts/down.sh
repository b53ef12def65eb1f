#!/usr/bin/env bash
# Ends what scripts/up.sh started, and takes its VMs away.
set -euo pipefail
cd "$(dirname "$0")/.."
pid=$(cat bin/.up.pid 2>/dev/null || true)
# The number may be another program's by now.
if [ -n "$pid" ] && grep -qa aetherium "/proc/$pid/cmdline" 2>/dev/null; then
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
fi
rm -f bin/.up.pid
./bin/aetherium cleanup
