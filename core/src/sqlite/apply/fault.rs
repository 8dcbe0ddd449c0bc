//! `quorumlite_fault(kind)`: in tests, a command that no node can apply. Neither the function nor
//! anything that would call it exists in a release build, and in others only in a process that is
//! started with [`VARIABLE`].

use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

use rusqlite::{Connection, ffi};

use crate::sqlite::determinism::{context, functions};

/// The kinds of faults that happen in this process, separated by commas: `abort` ends it, `nomem` is
/// out of memory, `sleep` takes three seconds. All others do nothing.
const VARIABLE: &str = "QUORUMLITE_TEST_FAULTS";

pub(in crate::sqlite) fn install(conn: &Connection) -> crate::Result<()> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(());
    }
    functions::define(conn, c"quorumlite_fault", 1, ffi::SQLITE_UTF8, std::ptr::null_mut(), fault)
}

unsafe extern "C" fn fault(
    ctx: *mut ffi::sqlite3_context,
    _: c_int,
    arguments: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes one value, as the function was defined with one argument, and its text is
    // terminated and lives until the function returns.
    let kind = unsafe {
        let text = ffi::sqlite3_value_text(*arguments).cast::<c_char>();
        if text.is_null() { c"" } else { CStr::from_ptr(text) }
    };
    let kind = kind.to_str().unwrap_or_default();
    let happening = std::env::var(VARIABLE).unwrap_or_default();
    if context::is_active() && happening.split(',').any(|k| k == kind) {
        match kind {
            "abort" => std::process::abort(),
            "sleep" => std::thread::sleep(Duration::from_secs(3)),
            // SAFETY: `ctx` is the live context of this call.
            "nomem" => return unsafe { ffi::sqlite3_result_error_nomem(ctx) },
            _ => {}
        }
    }
    // SAFETY: `ctx` is the live context of this call.
    unsafe { ffi::sqlite3_result_int(ctx, 0) }
}
