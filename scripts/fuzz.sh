#!/usr/bin/env bash
# Every fuzz target of wire/fuzz: each decoder, the path from packet to window, each file format.
#   scripts/fuzz.sh smoke [SECONDS]   first every input kept from before (corpus, regressions), then new ones; SECONDS (60) in all
#   scripts/fuzz.sh long [INPUTS]     at least INPUTS (ten million) new inputs a target; report to docs/measurements/
# FUZZ_TARGETS="mqtt packets" takes those alone; FUZZ_KEEP=FOLDER keeps what a long run found worth keeping and goes on
# from it. An input that breaks something is left in wire/target/fuzz/found/TARGET/.
set -uo pipefail
cd "$(dirname "$0")/../wire/fuzz"
mode=${1:-smoke} amount=${2:-}
host=$(rustc -vV | awk '/^host:/ {print $2}')
target_dir=$PWD/../target/fuzz
# What cargo-fuzz asks of the compiler, as a stable one takes it; --target keeps build scripts free of it.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS=$flags cargo build --quiet --locked --package hopwatch-fuzz --profile fuzz --target "$host" --target-dir "$target_dir" || exit 1
fuzzer=$target_dir/$host/fuzz/hopwatch-fuzz

read -r -a targets <<< "${FUZZ_TARGETS:-$("$fuzzer" 2>/dev/null)}"
[ ${#targets[@]} -gt 0 ] || { echo "the fuzzer names no target"; exit 1; }
found=$target_dir/found work=${FUZZ_KEEP:-$(mktemp -d)} logs=$(mktemp -d)
trap '[ -n "${FUZZ_KEEP:-}" ] || rm -rf "$work"; rm -rf "$logs"' EXIT
common=(-max_len=8192 -timeout=20 -rss_limit_mb=1024 -print_final_stats=1)

one() {   # one TARGET LIMIT...
    local name=$1
    shift
    mkdir -p "$work/$name" "$found/$name" "corpus/$name" "regressions/$name"
    FUZZ_TARGET=$name "$fuzzer" "${common[@]}" "$@" -artifact_prefix="$found/$name/" "$work/$name" "corpus/$name" "regressions/$name" \
        > "$logs/$name" 2>&1
    echo $? > "$logs/$name.code"
}
figure() { awk -v key="stat::$2:" '$1 == key {print $2}' "$logs/$1"; }
edges() { grep -o 'cov: [0-9]*' "$logs/$1" | tail -n1 | cut -d' ' -f2; }

# The short run repeats itself (one seed), so that the same tree passes or fails each time; the long one explores.
if [ "$mode" = long ]; then limit=(-runs="${amount:-10000000}"); else limit=(-seed=1 -max_total_time="$((${amount:-60} / ${#targets[@]} + 1))"); fi
start=$SECONDS
for name in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    one "$name" "${limit[@]}" &
done
wait

outcome=0
table="| target | inputs | a second | edges seen | outcome |
| --- | --- | --- | --- | --- |
"
for name in "${targets[@]}"; do
    code=$(cat "$logs/$name.code")
    said=ok
    if [ "$code" != 0 ]; then
        outcome=1 said="FAILED ($code)"
        echo "$name: FAILED, its input is in $found/$name"
        grep -E -A4 "panicked at|ERROR: libFuzzer" "$logs/$name" | cut -c1-600 | head -n 12
    fi
    table+="| $name | $(figure "$name" number_of_executed_units) | $(figure "$name" average_exec_per_sec) | $(edges "$name") | $said |
"
done
printf '%s' "$table" | tr -d '|' | column -t -s ' ' 2>/dev/null || printf '%s' "$table"
if [ "$mode" = long ]; then
    report=../../docs/measurements/fuzz-$(date -u +%F).md
    {
        echo "# Fuzzing of $(date -u +%F)"
        echo
        echo "Commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with changes'), $(rustc --version), $(nproc) cores, $(((SECONDS - start) / 60)) minutes. What each target checks: wire/fuzz/src/properties.rs."
        echo
        printf '%s' "$table"
    } > "$report"
    echo "report: ${report#../../}"
fi
exit $outcome
