#!/bin/sh
# Builds the native library and generates the Kotlin half of it; called by Maven.
#   native.sh PROFILE OUT
# OUT/kotlin/ gets the sources, OUT/native/PLATFORM/ the library, PLATFORM as JNA names it.
set -eu
profile=$1
out=$2
cd "$(dirname "$0")/../../.."

command -v cargo >/dev/null || {
    echo "cargo was not found: install Rust (https://rustup.rs) and a C compiler" >&2
    exit 1
}

case $(uname -s) in
    Linux) system=linux name=libquorumlite_uniffi.so ;;
    Darwin) system=darwin name=libquorumlite_uniffi.dylib ;;
    *) echo "this platform has no build yet: $(uname -s)" >&2; exit 1 ;;
esac
case $(uname -m) in
    x86_64 | amd64) machine=x86-64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) echo "this platform has no build yet: $(uname -m)" >&2; exit 1 ;;
esac

case $profile in
    release) cargo build --locked --quiet --release --package quorumlite-uniffi --lib; built=release ;;
    debug) cargo build --locked --quiet --package quorumlite-uniffi --lib; built=debug ;;
    *) echo "the profile is release or debug, not $profile" >&2; exit 1 ;;
esac
target=$(cargo metadata --locked --quiet --no-deps --format-version 1 |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

# From the static library: in a stripped shared one, what the generator looks for is gone.
rm -rf "$out/kotlin"
cargo run --locked --quiet --package quorumlite-uniffi-bindgen -- generate \
    "$target/$built/libquorumlite_uniffi.a" --language kotlin --no-format --out-dir "$out/kotlin"

# Not in place: a process may have the old one loaded.
mkdir -p "$out/native/$system-$machine"
to=$out/native/$system-$machine/$name
cp "$target/$built/$name" "$to.partial"
mv "$to.partial" "$to"
