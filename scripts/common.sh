# common.sh - what the scripts share; read by them, not run. Sets `root`, the source folder, and goes there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

note() { printf '%s\n' "$*" >&2; }
die() {
  note "$(basename "$0"): $*"
  exit 1
}

# The comment at the top of a script is its help.
show_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

# configure PRESET [cmake options]: into the preset's folder (release: build, others: build-PRESET). Quiet unless it fails.
configure() {
  local preset=$1 launcher=()
  shift
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache); fi
  local log new=no
  if [ "$preset" != lint ] && [ ! -f "$(build_folder "$preset")/CMakeCache.txt" ]; then new=yes; fi
  log=$(mktemp)
  if ! cmake --preset "$preset" "${launcher[@]}" "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "cmake could not configure the build '$preset'"
  fi
  if [ $new = yes ]; then grep -o 'prunelua: .*' "$log" >&2 || true; fi
  rm -f "$log"
}

build_folder() { if [ "$1" = release ]; then echo build; else echo "build-$1"; fi; }

# build PRESET [targets]
build() {
  local preset=$1
  shift
  note "building $(build_folder "$preset")"
  cmake --build "$(build_folder "$preset")" ${1:+--target "$@"} >&2 || die "the build '$preset' failed"
}
