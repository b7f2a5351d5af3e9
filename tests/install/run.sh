#!/usr/bin/env bash
# Installation test: static and shared installs into fresh prefixes, each used by a separate CMake project through
# find_package(Solvent); and the sources used by another one through add_subdirectory. Runs each consumer.
#
#   tests/install/run.sh [work folder [build folder]]
#
# The work folder defaults to build/install-test. A finished build with static libraries can be given to be installed
# instead of being built anew.
# CXX, CMAKE_BUILD_PARALLEL_LEVEL and a compiler cache are taken from the environment as usual.
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$source_dir/build/install-test}
static_build=${2:-}
export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
if [ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ] && command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)

quietly() {  # <log name> <command...>: shows the log only on failure
  local log=$work/$1.log
  shift
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "install test: failed: $*" >&2
    exit 1
  fi
}

check_consumer() {  # <name> <program>: the consumer runs and its last line says that its results are right
  local out
  out=$("$2") || { printf '%s\ninstall test: %s: the program failed\n' "$out" "$1" >&2; exit 1; }
  printf '%s: %s\n' "$1" "$(tail -n 1 <<<"$out")"
}

seconds_since() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.3f", b - a }'; }

max_library_bytes=15000000  # all shared libraries together, a budget of the project
for kind in static shared; do
  shared=$([ $kind = shared ] && echo ON || echo OFF)
  build=$work/build-$kind
  prefix=$work/prefix-$kind
  consumer=$work/consumer-$kind
  rm -rf "$prefix" "$consumer"  # the build folder is kept: only the installation must be fresh
  if [ $kind = static ] && [ -n "$static_build" ]; then
    build=$static_build
  else
    quietly "$kind-configure" cmake -S "$source_dir" -B "$build" -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG" -DBUILD_SHARED_LIBS=$shared \
      -DSOLVENT_BUILD_TESTS=OFF -DSOLVENT_BUILD_BENCH=OFF
    quietly "$kind-build" cmake --build "$build"
  fi
  quietly "$kind-install" cmake --install "$build" --prefix "$prefix"
  # Nothing of the source or build folder may be left in what a consumer reads.
  if grep -rIl -e "$source_dir" -e "$build" "$prefix/lib" "$prefix/include" --include='*.cmake' --include='*.h'; then
    echo "install test: $kind: the files above name the source or build folder" >&2
    exit 1
  fi
  quietly "$kind-consumer-configure" cmake -S "$source_dir/tests/install/consumer_find_package" -B "$consumer" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix"
  grep -h '^-- consumer:' "$work/$kind-consumer-configure.log" | sed 's/^-- //'
  start=$(date +%s.%N)
  quietly "$kind-consumer-build" cmake --build "$consumer"
  echo "find_package, $kind: consumer built in $(seconds_since "$start") s"
  check_consumer "find_package, $kind" "$consumer/consumer"
  check_consumer "find_package, $kind, core only" "$consumer/core_only"
  if [ $kind = shared ]; then
    bytes=$(find "$prefix" -type f -name 'libsolvent_*.so.*' -exec cat {} + | wc -c)
    echo "shared libraries: $bytes bytes"
    if [ "$bytes" -eq 0 ] || [ "$bytes" -gt "$max_library_bytes" ]; then
      echo "install test: expected shared libraries of 1 to $max_library_bytes bytes in all" >&2
      exit 1
    fi
    start=$(date +%s.%N)
    "$consumer/core_only" >/dev/null
    echo "shared, core only: started and ended in $(seconds_since "$start") s"
  fi
  # The tools find the libraries beside them, wherever the prefix was moved to.
  mv "$prefix" "$prefix-moved"
  check_consumer "solvent-info, $kind" "$prefix-moved/bin/solvent-info"
  rm -rf "$prefix-moved"
done

# Built quickly (no optimisation, one instruction set): here only the way in matters.
quietly subdirectory-configure cmake -S "$source_dir/tests/install/consumer_subdirectory" \
  -B "$work/consumer-subdirectory" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DSOLVENT_STATIC_SIMD=ON \
  -DSOLVENT_SOURCE="$source_dir"
quietly subdirectory-build cmake --build "$work/consumer-subdirectory" --target consumer
check_consumer "add_subdirectory" "$work/consumer-subdirectory/consumer"
echo "install test: all consumers work"
