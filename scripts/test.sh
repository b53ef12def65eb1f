#!/usr/bin/env bash
# Runs every test: what shares state with the race detector, then what needs the
# built programs. Ends with a line of totals.
set -uo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test || exit $?
make --no-print-directory build || exit $?

results=$(mktemp)
trap 'rm -f "$results"' EXIT
status=0
step() {
  echo "== $1"; shift
  go test -json "$@" >>"$results" || status=1
}
step "unit, store, queue, worker and gateway tests, with the race detector" -race -timeout 15m ./libs/... ./services/... ./cmd/...
step "end-to-end tests against the built programs" -timeout 20m -count=1 ./test/...

# The failed tests' output, the skips with their reasons, and the totals.
python3 - "$results" <<'PY'
import json, sys, collections
out, ended = collections.defaultdict(list), {}
for line in open(sys.argv[1], errors="replace"):
    try: e = json.loads(line)
    except ValueError: continue
    key = (e.get("Package", ""), e.get("Test", ""))
    if e["Action"] == "output": out[key].append(e["Output"])
    elif e["Action"] in ("pass", "fail", "skip"): ended[key] = e["Action"]
    elif e["Action"] == "build-output": out[("build", "")].append(e["Output"])
for (pkg, test), action in sorted(ended.items()):
    text = "".join(out[(pkg, test)])
    if action == "fail": print(f"--- FAIL {pkg} {test}\n{text[-6000:]}")
    elif action == "skip" and test:
        print(f"--- SKIP {test}: " + " ".join(text.split("\n")[1].split()[1:] if len(text.split("\n")) > 1 else []))
if out[("build", "")]: print("".join(out[("build", "")]))
tests = {k: a for k, a in ended.items() if k[1]}
count = collections.Counter(tests.values())
broken = sum(1 for (p, t), a in ended.items() if a == "fail" and not t and not any(q == p and b == "fail" for (q, u), b in tests.items()))
print(f"{count['pass']} passed, {count['fail'] + broken} failed, {count['skip']} skipped")
sys.exit(1 if count["fail"] + broken or not count["pass"] else 0)
PY
totals=$?
[ $status = 0 ] && [ $totals = 0 ]
