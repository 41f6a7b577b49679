#!/usr/bin/env bash
# The tests of the one module with `unsafe` code (wire/src/capture.rs) under valgrind: reads and writes outside of what was
# allocated, values that were never set, and memory that is lost for good. Needs valgrind, and root as the tests do.
set -euo pipefail
cd "$(dirname "$0")/../wire"
command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install -y valgrind"; exit 1; }
binary=$(cargo test --locked --lib --no-run --message-format=json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n1)
[ -x "$binary" ] || { echo "the tests do not build"; exit 1; }
valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
    "$binary" --test-threads=1 capture::
