#!/usr/bin/env bash
# Every check, in the order of how soon each can fail; stops at the first failure; always ends with the minutes per part
# and one line that says whether everything held. Nothing is skipped: a missing tool is a failure.
#   scripts/checks.sh [long]     long: also the tests marked "long"
set -uo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"
# Ubuntu keeps its versioned compilers apart.
for versioned in /usr/lib/rust-1.*/bin; do [ -d "$versioned" ] && PATH="$PATH:$versioned"; done
export PATH
parts=() outcome=0

part() {   # part NAME COMMAND...
    local name=$1 start=$SECONDS code
    shift
    [ "$outcome" = 0 ] || { parts+=("not run|-|$name"); return; }
    printf '\033[1m== %s\033[0m  %s\n' "$name" "$*"
    "$@"
    code=$?
    parts+=("$([ $code = 0 ] && echo ok || echo FAILED)|$(awk "BEGIN {printf \"%.1f\", ($SECONDS - $start) / 60}") min|$name")
    [ $code = 0 ] || outcome=1
}

formatted() { ruff format --check . && in_wire cargo fmt --all --check; }
in_wire() { (cd wire && "$@"); }
# pytest takes two files of one name for one module, and would say so only after all that comes before it.
named_apart() { ! find tests -name 'test_*.py' -printf '%f\n' | sort | uniq -d | grep .; }
# The same examples in every run, so that a change is judged by what it changed; the long run draws new ones.
marks=(-m "not long") seed=(--hypothesis-seed 0)
if [ "${1:-}" = long ]; then
    SEED=${SEED:-$(date +%s)}
    marks=() seed=(--hypothesis-seed "$SEED")
    export MUTATIONS=${MUTATIONS:-20000}
fi

part "ruff"          ruff check .
part "format"        formatted
part "test names"    named_apart
part "mypy"          mypy
part "import-linter" lint-imports
part "clippy"        in_wire cargo clippy --quiet --locked --all-targets --all-features -- -D warnings
part "cargo test"    in_wire cargo test --quiet --locked
part "fuzz"          scripts/fuzz.sh smoke 60
part "conformance"   python -m scripts.conformance --if-there
if [ "${1:-}" = long ]; then part "memcheck" scripts/memcheck.sh; fi
part "pytest"        python -m pytest "${marks[@]}" "${seed[@]}"
if [ "${1:-}" = long ]; then part "matrix" scripts/matrix.sh; fi
if [ "${1:-}" = long ]; then part "compose" python -m tests.compose; fi

echo
for line in "${parts[@]}"; do
    IFS='|' read -r state minutes name <<< "$line"
    printf '  %-8s %8s  %s\n' "$state" "$minutes" "$name"
done
if [ "${1:-}" = long ]; then
    mkdir -p docs/measurements
    {
        echo "# Long run of $(date -u +%F)"
        echo
        echo "Commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with changes'), seed $SEED, $MUTATIONS mutations of every recording, $(nproc) cores."
        echo
        echo "| part | outcome | time |"
        echo "| --- | --- | --- |"
        for line in "${parts[@]}"; do IFS='|' read -r state minutes name <<< "$line"; echo "| $name | $state | $minutes |"; done
    } > "docs/measurements/long-$(date -u +%F).md"
    echo "report: docs/measurements/long-$(date -u +%F).md"
fi
if [ $outcome = 0 ]; then echo "all ${#parts[@]} parts passed"; else echo "FAILED"; fi
exit $outcome
