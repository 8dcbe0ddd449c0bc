//! Link options of a Node.js addon.

fn main() {
    napi_build::setup();
    // Node.js unloads an addon when the worker thread that loaded it ends. The runtime's threads
    // would then run code that is no longer there.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux" || os == "android") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
