#!/bin/sh
# Cargo's RUSTC_WRAPPER: what reads strangers' bytes is compiled with what cargo-fuzz asks of the compiler, as a stable one takes it. Not
# the rest: writing JSON and the fuzzer's own checks would cost more time than they show. FUZZ_COMPARES=0 leaves out what tells the
# fuzzer with what a value was compared: a third of an input's time.
compares=-Cllvm-args=-sanitizer-coverage-trace-compares
[ "${FUZZ_COMPARES:-1}" = 1 ] || compares=-Cllvm-args=-sanitizer-coverage-prune-blocks
case " $* " in
*" --crate-name hopwatch_wire "* | *" --crate-name ruzstd "* | *" --crate-name miniz_oxide "* | *" --crate-name flate2 "* \
    | *" --crate-name x509_parser "* | *" --crate-name der_parser "* | *" --crate-name asn1_rs "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table "$compares"
    ;;
esac
exec "$@"
