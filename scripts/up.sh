#!/usr/bin/env bash
# Sets up, builds, and leaves the platform running in the background.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh quickstart
make --no-print-directory build
if curl -fs http://localhost:8080/readyz >/dev/null 2>&1; then echo "The platform is running already at http://localhost:8080"; exit 0; fi
mkdir -p /var/log/aetherium
setsid ./bin/aetherium up >/var/log/aetherium/aetherium.log 2>&1 </dev/null &
echo $! >bin/.up.pid
for _ in $(seq 100); do
  curl -fs http://localhost:8080/readyz >/dev/null 2>&1 && { echo "The platform runs at http://localhost:8080 (log: /var/log/aetherium/aetherium.log; end it with make down)"; exit 0; }
  kill -0 "$(cat bin/.up.pid)" 2>/dev/null || break
  sleep 0.1
done
tail -5 /var/log/aetherium/aetherium.log >&2
echo "up: the platform did not start; ./bin/aetherium doctor says what this machine lacks" >&2
exit 1
