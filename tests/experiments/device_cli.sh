#!/usr/bin/env bash
# Every program with --device says why it cannot use a device that is not there, before it does anything else, and exits
# with 2.
# usage: device_cli.sh path/to/deer path/to/mnist_cnn path/to/cifar_resnet
set -euo pipefail
deer=$(realpath "$1")
mnist_cnn=$(realpath "$2")
cifar_resnet=$(realpath "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export SOLVENT_DATA=$work/none

fail() { echo "FAILED: $*" >&2; exit 1; }
# refuses DEVICE "text" command...: exit code 2, a message with the text, no run directory
refuses() {
  local device=$1 text=$2 code=0
  shift 2
  "$@" --device "$device" >out.txt 2>&1 || code=$?
  [ "$code" -eq 2 ] || { cat out.txt; fail "exit code $code instead of 2: $* --device $device"; }
  grep -qF -- "$text" out.txt || { cat out.txt; fail "\"$text\" not found in the output of: $* --device $device"; }
  [ ! -e run ] || fail "a run was started: $*"
}

for program in "$deer demo --preset smoke --out run" "$deer classify --preset smoke --out run" "$mnist_cnn" \
  "$cifar_resnet --preset smoke --out run"; do
  read -ra command <<<"$program"
  echo "- $(basename "${command[0]}") ${command[*]:1}"
  refuses cuda:99 "[--device] got device cuda:99, but" "${command[@]}"  # nobody has it: no CUDA, no driver, or no such index
  refuses gpu "expected 'cpu', 'cuda' or 'cuda:N'" "${command[@]}"
done
echo "all passed"
