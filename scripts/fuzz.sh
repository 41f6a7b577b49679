#!/usr/bin/env bash
# Every fuzz target of wire/fuzz: each decoder, the path from packet to window, each file format, the reader of windows.
#   scripts/fuzz.sh smoke [SECONDS]   first every input kept from before (corpus, regressions), then new ones; SECONDS (60) in all
#   scripts/fuzz.sh long [INPUTS]     at least INPUTS (ten million) new inputs a target; report to docs/measurements/
# FUZZ_TARGETS="mqtt packets" takes those alone; FUZZ_KEEP=FOLDER keeps what a long run found worth keeping and goes on
# from it; FUZZ_SECONDS=N ends a target after so long, FUZZ_JOBS=1 takes one at a time. An input that breaks something is left in
# wire/target/fuzz/found/TARGET/.
set -uo pipefail
cd "$(dirname "$0")/../wire/fuzz"
mode=${1:-smoke} amount=${2:-}
host=$(rustc -vV | awk '/^host:/ {print $2}')
target_dir=$PWD/../target/fuzz
build() {   # build FOLDER; --target keeps build scripts free of the wrapper
    RUSTC_WRAPPER=$PWD/instrument.sh cargo build --quiet --locked --package hopwatch-fuzz --profile fuzz --target "$host" --target-dir "$1" || exit 1
}
build "$target_dir"
fuzzer=$target_dir/$host/fuzz/hopwatch-fuzz
if [ "$mode" = long ]; then
    # The same without comparisons, for batches.
    FUZZ_COMPARES=0 build "$target_dir/plain"
    batcher=$target_dir/plain/$host/fuzz/hopwatch-fuzz
fi

read -r -a targets <<< "${FUZZ_TARGETS:-$("$fuzzer" 2>/dev/null)}"
[ ${#targets[@]} -gt 0 ] || { echo "the fuzzer names no target"; exit 1; }
found=$target_dir/found work=${FUZZ_KEEP:-$(mktemp -d)} logs=$(mktemp -d)
trap '[ -n "${FUZZ_KEEP:-}" ] || rm -rf "$work"; rm -rf "$logs"' EXIT
common=(-timeout=20 -rss_limit_mb=1024 -print_final_stats=1 -print_funcs=0 -reload=0)
# The short run repeats itself (one seed), so that the same tree passes or fails each time; the long one explores.
seed=1
[ "$mode" = long ] && seed=$(date +%s)

run() {   # run TARGET LENGTH EVERY LIMIT...: libFuzzer, inputs of at most LENGTH bytes, one in EVERY checked for everything
    local name=$1 length=$2 every=$3
    shift 3
    FUZZ_TARGET=$name FUZZ_THOROUGH_EVERY=$every "$fuzzer" "${common[@]}" -max_len="$length" "$@" -artifact_prefix="$found/$name/" \
        "$work/$name" "corpus/$name" "regressions/$name" >> "$logs/$name" 2>&1
}
# One input in twenty is libFuzzer's, which sees with what values are compared; most are short, since what a decoder does first is in
# them. The others are run in batches, from what it kept. In the end whatever showed something new is checked for everything, and
# its edges are counted.
stages() {   # stages TARGET
    local name=$1 stage length share inputs=${amount:-10000000} seconds=${FUZZ_SECONDS:-}
    for stage in 512:3500 2048:1200 8192:300; do
        length=${stage%:*} share=${stage#*:}
        run "$name" "$length" 64 -seed="$seed" -runs=$((inputs * share / 100000)) ${seconds:+-max_total_time=$((seconds * share / 100000 + 1))} || return
    done
    FUZZ_BATCHES=$((inputs * 95 / 100)) FUZZ_SEED=$seed FUZZ_SECONDS=${seconds:+$((seconds * 95 / 100))} FUZZ_TARGET=$name FUZZ_THOROUGH_EVERY=64 \
        FUZZ_ARTIFACT=$found/$name/crash-$seed "$batcher" "$work/$name" "corpus/$name" "regressions/$name" >> "$logs/$name" 2>&1 || return
    run "$name" 8192 1 -runs=0 -print_final_stats=0
}
one() {   # one TARGET
    local name=$1 since=$SECONDS
    mkdir -p "$work/$name" "$found/$name" "corpus/$name" "regressions/$name"
    if [ "$mode" = long ]; then
        stages "$name"
    else
        run "$name" 8192 16 -seed="$seed" -max_total_time=$((${amount:-60} / ${#targets[@]} + 1))
    fi
    echo $? > "$logs/$name.code"
    echo $((SECONDS - since)) > "$logs/$name.seconds"
}
figure() { awk -v what="stat::$2:" '$1 == what {sum += $2} END {print sum + 0}' "$logs/$1"; }
rate() { echo $(($(figure "$1" number_of_executed_units) / ($(cat "$logs/$1.seconds") + 1))); }
edges() { grep -o 'cov: [0-9]*' "$logs/$1" | tail -n1 | cut -d' ' -f2; }

start=$SECONDS
for name in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "${FUZZ_JOBS:-$(nproc)}" ]; do wait -n; done
    one "$name" &
done
wait

outcome=0
table="| target | inputs | checked for everything | a second | edges seen | outcome |
| --- | --- | --- | --- | --- | --- |
"
for name in "${targets[@]}"; do
    code=$(cat "$logs/$name.code")
    said=ok
    if [ "$code" != 0 ]; then
        outcome=1 said="FAILED ($code)"
        echo "$name: FAILED, its input is in $found/$name"
        grep -E -A4 "panicked at|ERROR: libFuzzer" "$logs/$name" | cut -c1-600 | head -n 12
    fi
    full=$(figure "$name" fully_checked_units)
    # What is always checked whole.
    case $name in lines | stream) full=all ;; esac
    table+="| $name | $(figure "$name" number_of_executed_units) | $full | $(rate "$name") | $(edges "$name") | $said |
"
done
printf '%s' "$table" | tr -d '|' | column -t -s ' ' 2>/dev/null || printf '%s' "$table"
if [ "$mode" = long ]; then
    report=../../docs/measurements/fuzz-$(date -u +%F).md
    {
        echo "# Fuzzing of $(date -u +%F)"
        echo
        echo "Commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with changes'), $(rustc --version), $(nproc) cores, $(((SECONDS - start) / 60)) minutes, seed $seed. What each target checks: wire/fuzz/src/properties.rs."
        echo
        printf '%s' "$table"
    } > "$report"
    echo "report: ${report#../../}"
fi
exit $outcome
