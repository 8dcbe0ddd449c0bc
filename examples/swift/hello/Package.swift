// swift-tools-version:6.0

import PackageDescription

let package = Package(
    name: "hello",
    platforms: [.macOS(.v10_15)],
    dependencies: [.package(name: "Quorumlite", path: "../../../bindings-uniffi/swift")],
    targets: [
        .executableTarget(
            name: "hello", dependencies: [.product(name: "Quorumlite", package: "Quorumlite")])
    ]
)
