#!/usr/bin/env bash
# The package from a project of its own, outside of the repository: fresh.sh SCRATCH
# Its programs end without shutdown, so it tests the end of a process too.
set -euo pipefail
scratch=$1
package=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
toolchain=$package/toolchain.sh
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"

mkdir -p Sources/app
cat >Package.swift <<SWIFT
// swift-tools-version:6.0
import PackageDescription
let package = Package(
    name: "app",
    dependencies: [.package(name: "Quorumlite", path: "$package")],
    targets: [
        .executableTarget(
            name: "app", dependencies: [.product(name: "Quorumlite", package: "Quorumlite")])
    ]
)
SWIFT
cat >Sources/app/main.swift <<'SWIFT'
import Quorumlite

let node = try await Quorumlite.open(Config(directory: CommandLine.arguments[1]))
try await node.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, name TEXT)")
try await node.execute("INSERT INTO t(name) VALUES (?)", ["ann"])
for row in try await node.query("SELECT * FROM t") {
    print(row[0], row["name"] ?? "?")
}
do {
    try await node.execute("INSERT INTO t VALUES (1, 'x')")
} catch QuorumliteError.constraint(let details) {
    print(details.code)
}
SWIFT

"$toolchain" run swift build --scratch-path "$scratch"
app=$("$toolchain" run swift build --scratch-path "$scratch" --show-bin-path)/app
printed=$("$toolchain" run "$app" "$project/data" && "$toolchain" run "$app" "$project/data")
diff - <(printf '%s\n' "1 ann" SQLITE_CONSTRAINT_PRIMARYKEY "1 ann" "2 ann" \
    SQLITE_CONSTRAINT_PRIMARYKEY) <<<"$printed"
