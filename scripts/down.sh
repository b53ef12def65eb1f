#!/usr/bin/env bash
# Ends what scripts/up.sh started, and takes its VMs away.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -f bin/.up.pid ] && kill "$(cat bin/.up.pid)" 2>/dev/null; then
  while kill -0 "$(cat bin/.up.pid)" 2>/dev/null; do sleep 0.1; done
fi
rm -f bin/.up.pid
./bin/aetherium cleanup
