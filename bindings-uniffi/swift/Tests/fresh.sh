#!/usr/bin/env bash
# The package from a project of its own, outside of the repository, as the guide describes it; the
# programs of the guide; and a process that ends without shutdown.
#
#   fresh.sh SCRATCH      a folder that keeps what was built
set -euo pipefail
scratch=$1
package=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
guide=$package/../../docs/getting-started-swift.md
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"

# The swift block of the guide with that number, counted from 1.
block() {
    awk -v wanted="$1" '
        /^```swift$/ { inside = ++count == wanted; next }
        /^```$/ { inside = 0 }
        inside' "$guide"
}
run() { "$package/toolchain.sh" run "$@"; }
build() {
    run swift build --scratch-path "$scratch"
    app=$(run swift build --scratch-path "$scratch" --show-bin-path)/app
}
prints() { # the lines that a command must print, then --, then the command
    local lines=()
    while [ "$1" != -- ]; do lines+=("$1") && shift; done
    shift
    diff - <(printf '%s\n' "${lines[@]}") <<<"$("$@")"
}

mkdir -p Sources/app
block 1 | sed "s|\.\./quorumlite/bindings-uniffi/swift|$package|" >Package.swift
grep -qF "$package" Package.swift

echo "== the node in ten lines"
block 2 >Sources/app/main.swift
grep -q shutdown Sources/app/main.swift
build
prints "1 ann" -- run "$app"
prints "2 ann" -- run "$app"

echo "== the cluster in twenty"
block 3 >Sources/app/main.swift
grep -q secret: Sources/app/main.swift
build

echo "== a process that ends without shutdown"
cat >Sources/app/main.swift <<'SWIFT'
import Quorumlite

let node = try await Quorumlite.open(Config(directory: CommandLine.arguments[1]))
try await node.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, name TEXT)")
try await node.execute("INSERT INTO t(name) VALUES (?)", ["ann"])
do {
    try await node.execute("INSERT INTO t VALUES (1, 'x')")
} catch QuorumliteError.constraint(let details) {
    print(details.code, try await node.query("SELECT count(*) FROM t")[0][0])
}
SWIFT
build
prints "SQLITE_CONSTRAINT_PRIMARYKEY 1" -- run "$app" "$project/other"
prints "SQLITE_CONSTRAINT_PRIMARYKEY 2" -- run "$app" "$project/other"
