#!/usr/bin/env bash
# End-to-end test of the deer program: results, exit codes, interruption and bit-exact continuation.
# usage: deer_cli.sh path/to/deer
set -euo pipefail
deer=$(realpath "$1")
root=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export SOLVENT_DATA=$work/none

fail() { echo "FAILED: $*" >&2; exit 1; }
# expect CODE "text" command...: runs it, checks exit code and that the output contains the text
expect() {
  local code=$1 text=$2 got=0
  shift 2
  "$@" >out.txt 2>&1 || got=$?
  [ "$got" -eq "$code" ] || { cat out.txt; fail "exit code $got instead of $code: $*"; }
  grep -qF -- "$text" out.txt || { cat out.txt; fail "\"$text\" not found in the output of: $*"; }
}

echo "- demo writes its files, all methods agree"
expect 0 "shooting" "$deer" demo --preset smoke --out demo
for file in config.toml build.txt summary.json log.txt demo.png; do [ -s "demo/$file" ] || fail "demo/$file is missing"; done
grep -q '"status": "converged"' demo/summary.json || fail "no status in summary.json"
expect 0 "lstm" "$deer" demo --preset smoke --cell lstm --method deer,shooting --dtype float64 --out demo-lstm

echo "- wrong usage exits with 2 and names the nearest option"
expect 2 "--batchsize" "$deer" demo --batchsise 4
expect 2 "--learning-rate" "$deer" classify --learnig-rate 0.1
expect 2 "expected" "$deer" demo --length many
expect 2 "even number" "$deer" demo --cell lstm --inputsize 3
expect 2 "expected" "$deer" demo --dtype float16
printf '[training]\nlearning-rat = 0.1\n' >bad.toml
expect 2 "learning-rate" "$deer" classify --config bad.toml
expect 2 "classify" "$deer" clasify

echo "- missing or damaged data exits with 3 and says how to get it"
expect 3 "scripts/get-data" "$deer" classify --dataset acsf1
mkdir -p broken/timeseries
printf '@problemName X\n@data\n1,2,oops:a\n' >broken/timeseries/ACSF1_TRAIN.ts
cp broken/timeseries/ACSF1_TRAIN.ts broken/timeseries/ACSF1_TEST.ts
expect 3 "ACSF1_TRAIN.ts" "$deer" classify --dataset acsf1 --data-dir broken

echo "- a loss that is not finite exits with 4"
expect 4 "finite" "$deer" classify --preset smoke --learning-rate 1e30 --out exploded

echo "- training: losses of all methods agree, resume is bit-exact"
options=(--preset smoke --steps 40 --checkpoint-every 3 --eval-every 7)
expect 0 "agree to 1e-4" "$deer" classify "${options[@]}" --parity-steps 5 --out whole
! grep -q "DO NOT agree" out.txt || { cat out.txt; fail "losses differ between methods"; }
grep -q '"accuracy"' whole/summary.json || fail "no accuracy in summary.json"
[ -s whole/training.png ] || fail "no plot"
[ "$(wc -l <whole/metrics.jsonl)" -eq 40 ] || fail "metrics.jsonl has not one line per step"
ls whole/tensorboard/events.out.tfevents.* >/dev/null || fail "no event file"
"$deer" classify "${options[@]}" --parity-steps 0 --out part >part.txt 2>&1 &
pid=$!
for _ in $(seq 600); do  # until some steps are done
  [ "$(cat part/metrics.csv 2>/dev/null | wc -l)" -gt 8 ] && break
  sleep 0.01
done
kill -INT $pid
wait $pid || fail "an interrupted run exits with $?"
expect 0 "test accuracy" "$deer" classify --resume part
last=step-00000040.safetensors
cmp whole/checkpoint/$last part/checkpoint/$last || fail "resumed parameters differ"
diff <(cut -d, -f1-6,8- whole/metrics.csv | cut -d, -f1-6) <(cut -d, -f1-6,8- part/metrics.csv | cut -d, -f1-6) || fail "resumed metrics differ"

echo "- a damaged newest checkpoint: the one before it is used; all damaged: exit 3"
cp part/checkpoint/$last good
head -c 1000 good >part/checkpoint/$last
expect 0 "going on from the checkpoint of step 39" "$deer" classify --resume part
grep -qF "has 1000 bytes instead of" out.txt || { cat out.txt; fail "the damage is not described"; }
cmp good part/checkpoint/$last || fail "parameters differ after a damaged checkpoint"
for file in part/checkpoint/*.safetensors; do head -c 1000 good >"$file"; done
expect 3 "no checkpoint in" "$deer" classify --resume part
expect 2 "nowhere" "$deer" classify --resume nowhere

echo "- --check compares with expected.json; exit code 5 when a number is off"
expected=$root/experiments/deer/expected.json
expect 0 "21 of 21 numbers" "$deer" demo --preset smoke --out checked --check --expected "$expected"
expect 0 "6 of 6 numbers" "$deer" classify --preset smoke --out checked-classify --check --expected "$expected"
sed 's/"value": 4.08328/"value": 4.2/' "$expected" >wrong.json
expect 5 "FAIL  final_loss" "$deer" classify --preset smoke --out off --check --expected wrong.json
expect 2 "no numbers for" "$deer" classify --preset paper --out none --check --expected "$expected"
[ ! -e none ] || fail "a run was started although its numbers are unknown"
echo "all passed"
