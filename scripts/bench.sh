#!/usr/bin/env bash
# Measures what docs/benchmarks.md states, on this machine, and prints its tables as they stand there.
# Without arguments all of them; given the names of some (system, processes, kubernetes, leader, solver), only these.
# What follows the last name goes to the program behind that table: `bench.sh system --rows latency`.
set -euo pipefail
cd "$(dirname "$0")/.."

tables=()
while (($# > 0)); do
  case $1 in
    system | processes | kubernetes | leader | solver) tables+=("$1") ;;
    *) break ;;
  esac
  shift
done
if ((${#tables[@]} == 0)); then
  if (($# > 0)); then
    echo "which table? system, processes, kubernetes, leader or solver, then what is for its program: $*" >&2
    exit 2
  fi
  tables=(system processes kubernetes leader solver)
fi
last=${tables[-1]}

# What follows the names is for the last table alone.
measure() {
  local table=$1
  shift
  if [[ $table == "$last" ]]; then "$@" "${given[@]}"; else "$@"; fi
}
given=("$@")

for table in "${tables[@]}"; do
  case $table in
    system)
      cargo build --release --locked --quiet --bins
      printf '## The system\n\n'
      measure "$table" target/release/muster-bench
      ;;
    processes)
      cargo build --release --locked --quiet --bins
      printf '\n## The system as processes\n\n'
      measure "$table" target/release/muster-bench-processes
      ;;
    kubernetes)
      cargo build --release --locked --quiet --bins
      printf '\n## The Kubernetes executor\n\n'
      measure "$table" target/release/muster-bench-kubernetes
      ;;
    leader)
      cargo build --release --locked --quiet --bins
      printf '\n## The leader\n\n'
      measure "$table" target/release/muster-bench-leader
      ;;
    solver)
      printf '\n## The solver\n\n'
      measure "$table" cargo bench --locked --quiet -p muster-core --bench solve --
      ;;
  esac
done
