#!/usr/bin/env bash
# cuda_smoke.sh <bench program>: runs all of its rows at tiny sizes. A row that fails is an error, but for one whose operation
# has no CUDA kernel.
set -euo pipefail
output=$(SOLVENT_BENCH_SIZE=smoke "$1" "${@:2}")
printf '%s\n' "$output"
if printf '%s\n' "$output" | grep FAILED | grep -v 'no kernel for cuda'; then
  exit 1
fi
