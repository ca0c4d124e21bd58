#!/usr/bin/env bash
# Measures what docs/benchmarks.md states, on this machine. Arguments go to `muster-bench`.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --workspace --bins
echo "== the solver"
cargo bench --locked --quiet -p muster-core --bench solve
echo "== the system"
target/release/muster-bench "$@"
