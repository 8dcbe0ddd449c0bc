#!/usr/bin/env bash
# Makes QuorumliteFFI.xcframework, with which the package works on iOS, the iOS simulator and macOS:
# the static library for each, with the C header. Then Package.swift takes it instead of
# Generated/lib. Needs macOS with Xcode, and Rust; adds the targets to Rust by itself.
#
# NOT RUN ON LINUX, where there is no xcodebuild: nor by the tests of this repository.
#
#   xcframework.sh [options for cargo, such as --locked]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
framework=$here/QuorumliteFFI.xcframework

command -v xcodebuild >/dev/null || {
    echo "xcodebuild was not found: an XCFramework can only be made on macOS with Xcode" >&2
    exit 1
}

# As in Package.swift: SQLite and ring are compiled for these too.
export IPHONEOS_DEPLOYMENT_TARGET=13.0 MACOSX_DEPLOYMENT_TARGET=10.15

triples=(
    aarch64-apple-ios                            # devices
    aarch64-apple-ios-sim x86_64-apple-ios       # the simulator, on either kind of Mac
    aarch64-apple-darwin x86_64-apple-darwin     # macOS
)
rustup target add "${triples[@]}"
for triple in "${triples[@]}"; do
    cargo build "$@" --release -p quorumlite-uniffi --lib --target "$triple"
done

# The Swift and the header, which are the same for all.
"$here/build.sh" "$@"

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
library() { echo "$target/$1/release/libquorumlite_uniffi.a"; }

# One library for each platform: those of its two machines put into one file.
mkdir -p "$made/simulator" "$made/macos" "$made/headers"
lipo -create "$(library aarch64-apple-ios-sim)" "$(library x86_64-apple-ios)" \
    -output "$made/simulator/libquorumlite_uniffi.a"
lipo -create "$(library aarch64-apple-darwin)" "$(library x86_64-apple-darwin)" \
    -output "$made/macos/libquorumlite_uniffi.a"
cp "$here/Generated/QuorumliteFFIFFI/"* "$made/headers/"

rm -rf "$framework"
xcodebuild -create-xcframework \
    -library "$(library aarch64-apple-ios)" -headers "$made/headers" \
    -library "$made/simulator/libquorumlite_uniffi.a" -headers "$made/headers" \
    -library "$made/macos/libquorumlite_uniffi.a" -headers "$made/headers" \
    -output "$framework"
echo "made $framework"
