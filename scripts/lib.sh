# Shared by scripts/demo, scripts/test and .ci/run; sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=${SOLVENT_JOBS:-$(nproc)}

say() { printf '\n== %s\n' "$*"; }
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Installs what is missing, unless SOLVENT_SKIP_SETUP=1 says that the libraries come from elsewhere.
setup() {
  [ "${SOLVENT_SKIP_SETUP:-0}" = 1 ] || "$root/scripts/setup" "$@"
}

# configure <preset> [cmake arguments]: shows the summary only; everything if it fails.
configure() {
  local preset=$1
  shift
  local log
  log=$(mktemp)
  if ! (cd "$root" && cmake --preset "$preset" "$@") >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    fail "configuring the preset \"$preset\" failed"
  fi
  sed -n '/^-- Solvent /,/^-- Configuring/p' "$log" | sed '/^-- Configuring/d; s/^-- //'
  rm -f "$log"
}

# build <preset> [targets]
build() {
  local preset=$1
  shift
  local targets=()
  [ $# -eq 0 ] || targets=(--target "$@")
  (cd "$root" && cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}")
}

# Prints the folder of the datasets (SOLVENT_DATA, else data/), or nothing if neither holds any.
find_data() {
  local folder
  for folder in "${SOLVENT_DATA:-}" "$root/data"; do
    if [ -n "$folder" ] && { compgen -G "$folder/timeseries/*_TRAIN.ts*" || compgen -G "$folder/mnist/*.gz"; } >/dev/null; then
      (cd "$folder" && pwd)
      return
    fi
  done
}

# slowest_files <build folder>: the five slowest steps of the last build, from ninja's log (start and end in ms).
slowest_files() {
  [ -f "$1/.ninja_log" ] || return 0
  awk 'NR > 1 { time[$4] = ($2 - $1) / 1000 } END { for (file in time) printf "%7.1f s  %s\n", time[file], file }' \
    "$1/.ninja_log" | sort -rn | sed -n 1,5p  # sed reads to the end: no broken pipe, as with head
}
