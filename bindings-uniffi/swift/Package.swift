// swift-tools-version:6.0

import Foundation
import PackageDescription

// What build.sh makes: the native library, its C header, and the Swift that UniFFI generates.
// On Apple platforms xcframework.sh puts library and header into an XCFramework instead.
let framework = "QuorumliteFFI.xcframework"
let hasFramework = FileManager.default.fileExists(
    atPath: "\(Context.packageDirectory)/\(framework)")

let native: Target =
    hasFramework
    ? .binaryTarget(name: "QuorumliteFFIFFI", path: framework)
    : .systemLibrary(name: "QuorumliteFFIFFI", path: "Generated/QuorumliteFFIFFI")

let linking: [LinkerSetting] =
    hasFramework
    ? []
    : [
        .unsafeFlags(["-L\(Context.packageDirectory)/Generated/lib"]),
        .linkedLibrary("quorumlite_uniffi"),
        .linkedLibrary("m", .when(platforms: [.linux])),
        .linkedLibrary("dl", .when(platforms: [.linux])),
    ]

let package = Package(
    name: "Quorumlite",
    platforms: [.iOS(.v13), .macOS(.v10_15)],
    products: [.library(name: "Quorumlite", targets: ["Quorumlite"])],
    targets: [
        native,
        // A module of its own, in Swift 5 mode: generated code is not checked as strictly.
        .target(
            name: "QuorumliteFFI",
            dependencies: ["QuorumliteFFIFFI"],
            path: "Generated/QuorumliteFFI",
            swiftSettings: [.swiftLanguageMode(.v5)],
            linkerSettings: linking
        ),
        .target(name: "Quorumlite", dependencies: ["QuorumliteFFI"]),
        .testTarget(name: "QuorumliteTests", dependencies: ["Quorumlite", "QuorumliteFFI"]),
    ]
)
