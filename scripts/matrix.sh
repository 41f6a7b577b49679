#!/usr/bin/env bash
# Builds the client and server stacks of tests/matrix in Java and Rust, then runs the table with all of them.
#   scripts/matrix.sh [arguments of `python -m tests.matrix`]
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"
for versioned in /usr/lib/rust-1.*/bin; do [ -d "$versioned" ] && PATH="$PATH:$versioned"; done
export PATH
here=tests/matrix build=$PWD/tests/matrix/build
mkdir -p "$build/classes"

if [ ! -e "$build/jars/.whole" ] || [ "$here/java/pom.xml" -nt "$build/jars/.whole" ]; then
    rm -rf "$build/jars"
    mvn -q -B -f "$here/java/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$build/jars"
    touch "$build/jars/.whole"
fi
javac -Xlint:-options -cp "$build/jars/*" -d "$build/classes" "$here"/java/src/*.java
if [ -e "$here/rust/Cargo.toml" ]; then
    cargo build --quiet --release --locked --manifest-path "$here/rust/Cargo.toml" --target-dir "$build/rust"
fi

python=.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" -m tests.matrix "$@"
