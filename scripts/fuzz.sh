#!/usr/bin/env bash
# Every fuzz target of wire/fuzz: each decoder, the path from packet to window, each file format.
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
# --target keeps build scripts free of it.
RUSTC_WRAPPER=$PWD/instrument.sh cargo build --quiet --locked --package hopwatch-fuzz --profile fuzz --target "$host" --target-dir "$target_dir" || exit 1
fuzzer=$target_dir/$host/fuzz/hopwatch-fuzz

read -r -a targets <<< "${FUZZ_TARGETS:-$("$fuzzer" 2>/dev/null)}"
[ ${#targets[@]} -gt 0 ] || { echo "the fuzzer names no target"; exit 1; }
found=$target_dir/found work=${FUZZ_KEEP:-$(mktemp -d)} logs=$(mktemp -d)
trap '[ -n "${FUZZ_KEEP:-}" ] || rm -rf "$work"; rm -rf "$logs"' EXIT
common=(-timeout=20 -rss_limit_mb=1024 -print_final_stats=1 -reload=0)
# The short run repeats itself (one seed), so that the same tree passes or fails each time; the long one explores.
seed=1
[ "$mode" = long ] && seed=$(date +%s)

run() {   # run TARGET LENGTH EVERY LIMIT...: inputs of at most LENGTH bytes, one in EVERY checked for everything
    local name=$1 length=$2 every=$3
    shift 3
    FUZZ_TARGET=$name FUZZ_THOROUGH_EVERY=$every "$fuzzer" "${common[@]}" -max_len="$length" "$@" -artifact_prefix="$found/$name/" \
        "$work/$name" "corpus/$name" "regressions/$name" >> "$logs/$name" 2>&1
}
# Most inputs are short: they are quick, and what a decoder does first is in them. In the end whatever showed something new is
# checked for everything.
stages() {   # stages TARGET
    local name=$1 stage length share inputs=${amount:-10000000}
    for stage in 512:60 2048:30 8192:10; do
        length=${stage%:*} share=${stage#*:}
        run "$name" "$length" 16 -seed="$seed" -runs=$((inputs * share / 100)) ${FUZZ_SECONDS:+-max_total_time=$((FUZZ_SECONDS * share / 100 + 1))} || return
    done
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
figure() { awk '$1 == "stat::number_of_executed_units:" {sum += $2} END {print sum + 0}' "$logs/$1"; }
rate() { echo $(($(figure "$1") / ($(cat "$logs/$1.seconds") + 1))); }
edges() { grep -o 'cov: [0-9]*' "$logs/$1" | tail -n1 | cut -d' ' -f2; }

start=$SECONDS
for name in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "${FUZZ_JOBS:-$(nproc)}" ]; do wait -n; done
    one "$name" &
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
    table+="| $name | $(figure "$name") | $(rate "$name") | $(edges "$name") | $said |
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
