#!/bin/sh
# Cargo's RUSTC_WRAPPER: what reads strangers' bytes is compiled with what cargo-fuzz asks of the compiler, as a stable one takes it. Not
# the rest: writing JSON and the fuzzer's own checks would cost more time than they show.
case " $* " in
*" --crate-name hopwatch_wire "* | *" --crate-name ruzstd "* | *" --crate-name miniz_oxide "* | *" --crate-name flate2 "* \
    | *" --crate-name x509_parser "* | *" --crate-name der_parser "* | *" --crate-name asn1_rs "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
