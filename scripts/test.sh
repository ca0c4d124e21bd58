#!/usr/bin/env bash
# Builds the binaries, which the end-to-end tests start as processes, then runs every test.
# Arguments go to `cargo test`: `scripts/test.sh -p muster-core solve`.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo build --locked --workspace --bins
status=0
cargo test --locked --no-fail-fast "${@:---workspace}" 2>&1 | tee "$log" || status=$?

awk '
    /^test result:/ { passed += $4; failed += $6; ignored += $8 }
    /^test .* \.\.\. FAILED$/ { names = names "\n  " $2 }
    END {
        printf "\n%d passed, %d failed, %d ignored%s\n", passed, failed, ignored, names
    }
' "$log"
exit "$status"
