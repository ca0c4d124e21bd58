#!/usr/bin/env bash
# Fuzzes one target, or all of them one after another: `scripts/fuzz.sh [TARGET] [--for 60s]`.
#
# libFuzzer with coverage on a stable toolchain: what `cargo fuzz` needs a nightly one for are the
# sanitizers. What is found lies in fuzz/target/found; mend it, and put the input into fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
targets=()
while (($#)); do
    case $1 in
        --for)
            [[ ${2:-} =~ ^([0-9]+)([smh])$ ]] || { echo "--for takes a time such as 60s" >&2; exit 2; }
            case ${BASH_REMATCH[2]} in s) unit=1 ;; m) unit=60 ;; h) unit=3600 ;; esac
            seconds=$((BASH_REMATCH[1] * unit))
            shift 2
            ;;
        -*) echo "unknown argument $1" >&2; exit 2 ;;
        *) targets+=("$1"); shift ;;
    esac
done
if ((${#targets[@]} == 0)); then
    for file in fuzz/src/bin/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
binaries=()
for target in "${targets[@]}"; do binaries+=(--bin "$target"); done
# With a target named, the flags are not those of build scripts and macros. The lock file follows
# that of the workspace where its crates have come to use more.
RUSTFLAGS="$coverage --cfg fuzzing" CARGO_INCREMENTAL=0 cargo build --quiet --release \
    --manifest-path fuzz/Cargo.toml --target-dir fuzz/target --target "$host" "${binaries[@]}"

mkdir -p fuzz/target/found fuzz/target/logs
failed=0
for target in "${targets[@]}"; do
    # What it finds worth keeping goes to the first folder, so that the committed one stays small.
    mkdir -p "fuzz/target/corpus/$target"
    log=fuzz/target/logs/$target.log
    if "fuzz/target/$host/release/$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" \
        -max_total_time="$seconds" -max_len=131072 -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="fuzz/target/found/$target-" >"$log" 2>&1; then
        result=ok
    else
        result=FAILED
        failed=1
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    memory=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
    echo "$target: ${executions:-?} executions in $seconds s, ${memory:-?} MiB, $result"
    if [[ $result == FAILED ]]; then
        grep -aE 'panicked at|ERROR|Test unit written' -A1 "$log" | head -20
    fi
done
exit "$failed"
