#!/usr/bin/env bash
# Measures what docs/benchmarks.md states, on this machine, and prints its tables as they stand there.
# Arguments go to `muster-bench`.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --bins
printf '## The system\n\n'
target/release/muster-bench "$@"
printf '\n## The system as processes\n\n'
target/release/muster-bench-processes
printf '\n## The solver\n\n'
cargo bench --locked --quiet -p muster-core --bench solve
