//! Generates the Kotlin and Swift halves of a built `quorumlite_uniffi` library:
//! `uniffi-bindgen generate LIBRARY --language kotlin --out-dir DIR`.

fn main() {
    uniffi::uniffi_bindgen_main();
}
