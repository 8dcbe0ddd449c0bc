#!/usr/bin/env bash
# Makes Generated/: the native library for this machine, its C header, and the Swift that UniFFI
# generates from it. Run it once, and again after an update; needs Rust and a C compiler.
#
#   build.sh [options for cargo, such as --locked]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}

cargo build "$@" --release -p quorumlite-uniffi
cargo build "$@" -p quorumlite-uniffi-bindgen

library=$target/release/libquorumlite_uniffi.a
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
# From the static library: the shared one is stripped of what the generator reads.
"$target/debug/uniffi-bindgen" generate "$library" \
    --language swift --no-format --out-dir "$made"

# Replaced only where it differs, so that Swift builds nothing again without need.
put() {
    mkdir -p "$(dirname "$2")"
    cmp -s "$1" "$2" || cp "$1" "$2"
}
out=$here/Generated
put "$made/QuorumliteFFI.swift" "$out/QuorumliteFFI/QuorumliteFFI.swift"
put "$made/QuorumliteFFIFFI.h" "$out/QuorumliteFFIFFI/QuorumliteFFIFFI.h"
put "$made/QuorumliteFFIFFI.modulemap" "$out/QuorumliteFFIFFI/module.modulemap"
put "$library" "$out/lib/libquorumlite_uniffi.a"
