#!/usr/bin/env bash
# End-to-end test of examples/cifar_resnet.cpp: it learns, from generated images and from files in CIFAR's format; exit
# codes; bit-exact continuation after an interruption.
# usage: cifar_resnet_cli.sh path/to/cifar_resnet
set -euo pipefail
program=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export SOLVENT_DATA=$work/none
export OMP_NUM_THREADS=1  # small steps: more threads would wait for each other where other programs run

fail() { echo "FAILED: $*" >&2; exit 1; }
# expect CODE "text" command...: runs it, checks exit code and that the output contains the text
expect() {
  local code=$1 text=$2 got=0
  shift 2
  "$@" >out.txt 2>&1 || got=$?
  [ "$got" -eq "$code" ] || { cat out.txt; fail "exit code $got instead of $code: $*"; }
  grep -qF -- "$text" out.txt || { cat out.txt; fail "\"$text\" not found in the output of: $*"; }
}
# falls RUN FACTOR: the mean loss of the last epoch is below FACTOR times that of the first
falls() {
  awk -F, -v factor="$2" 'NR > 1 && $4 != "" { if (!first) first = $4; last = $4; n++ }
    END { printf "  mean loss of the first epoch %s, of the last %s\n", first, last; exit !(n > 1 && last < factor * first) }' \
    "$1/metrics.csv" || fail "the loss of $1 did not fall below $2 of its start"
}

echo "- it learns generated images and writes its files"
expect 0 "test accuracy" "$program" --preset smoke --out whole --require-accuracy 0.3
falls whole 0.85
for file in config.toml build.txt summary.json log.txt metrics.jsonl training.png; do
  [ -s "whole/$file" ] || fail "whole/$file is missing"
done
head -1 whole/metrics.csv | grep -qF "train loss [nat],test loss [nat],test accuracy,speed [images/s]" || fail "columns"
grep -q '"accuracy"' whole/summary.json || fail "no accuracy in summary.json"

echo "- without learning the required accuracy is not reached, and that is exit code 5"
expect 5 "below the required 0.3" "$program" --preset smoke --learning-rate 1e-12 --out idle --require-accuracy 0.3
! (falls idle 0.85) >idle.txt 2>&1 || fail "a loss without learning fell"

echo "- files in CIFAR's binary format: a colour per class is learnt from 40 images"
mkdir -p data/cifar10
for part in data_batch_1 test_batch; do
  for label in $(seq 0 9) $(seq 0 9) $(seq 9 -1 0) $(seq 0 9); do
    printf "\\x0$label"
    for plane in 1 2 4; do  # red, green, blue: bits of the label, and its size
      head -c 1024 /dev/zero | tr '\0' "\\$(printf %o $(((label / plane % 2) * 150 + label * 10)))"
    done
  done >"data/cifar10/$part.bin"
done
expect 0 "40 training and 40 test images" "$program" --data-dir data --out colours --width 4 --batch-size 8 \
  --learning-rate 0.02 --epochs 12 --require-accuracy 0.5
falls colours 0.7

echo "- missing data exits with 3 and says how to get it; wrong usage with 2; a loss that is not finite with 4"
expect 3 "scripts/get-data cifar10" "$program" --out never
[ ! -e never ] || fail "a run was started without data"
expect 2 "--batch-size" "$program" --batchsize 4
expect 4 "step 2: the loss is" "$program" --preset smoke --learning-rate 1e30 --momentum 0 --epochs 1 --out exploded

echo "- interrupted and continued: the bits of the whole run, for any number of threads"
options=(--preset smoke --epochs 4)
expect 0 "test accuracy" "$program" "${options[@]}" --out long
"$program" "${options[@]}" --out part >part.txt 2>&1 &
pid=$!
for _ in $(seq 3000); do  # until some steps of the second epoch are done
  [ "$(cat part/metrics.csv 2>/dev/null | wc -l)" -gt 19 ] && break
  sleep 0.01
done
kill -INT $pid
wait $pid || { cat part.txt; fail "an interrupted run exits with $?"; }
expect 0 "resumed after step" "$program" --resume part --threads 2
last=$(ls long/checkpoint/*.safetensors | tail -1)
cmp "$last" "part/checkpoint/$(basename "$last")" || fail "resumed parameters differ"
diff <(cut -d, -f1-6 long/metrics.csv) <(cut -d, -f1-6 part/metrics.csv) || fail "resumed metrics differ"
for file in part/checkpoint/*.safetensors; do head -c 1000 "$last" >"$file"; done
expect 3 "start again without --resume" "$program" --resume part
echo "all passed"
