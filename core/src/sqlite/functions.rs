//! SQL functions of ours: `random()` and `randomblob()` that draw from the command's seed.

use std::ffi::{CStr, c_int, c_void};

use rusqlite::{Connection, ffi};

use super::{context, error};

/// Replaces SQLite's generator, which is shared by all connections of the process, on `conn`.
///
/// INNOCUOUS, so that DEFAULTs, triggers and views may use them in an untrusted schema as they may
/// use SQLite's own; not DETERMINISTIC, so that indexes and generated columns may not, and each
/// row gets its own value.
pub(super) fn install(conn: &Connection) -> crate::Result<()> {
    define(conn, c"random", 0, random)?;
    define(conn, c"randomblob", 1, random_blob)
}

type ScalarFunction =
    unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int, *mut *mut ffi::sqlite3_value);

fn define(
    conn: &Connection,
    name: &CStr,
    arguments: c_int,
    function: ScalarFunction,
) -> crate::Result<()> {
    // SAFETY: the handle is open, the name is terminated and copied by SQLite, and the function
    // keeps no state that would have to be freed.
    let code = unsafe {
        ffi::sqlite3_create_function_v2(
            conn.handle(),
            name.as_ptr(),
            arguments,
            ffi::SQLITE_UTF8 | ffi::SQLITE_INNOCUOUS,
            std::ptr::null_mut(),
            Some(function),
            None,
            None,
            None,
        )
    };
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(error::internal(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)))
}

/// Fills from the command's generator, or from the system where no command is being applied.
fn fill(bytes: &mut [u8]) -> bool {
    context::fill_random(bytes) || getrandom::fill(bytes).is_ok()
}

/// `random()`: as SQLite's own, never the one integer that `abs()` cannot take.
unsafe extern "C" fn random(
    ctx: *mut ffi::sqlite3_context,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
) {
    let mut bytes = [0; 8];
    if !fill(&mut bytes) {
        // SAFETY: `ctx` is the live context of this call.
        return unsafe { ffi::sqlite3_result_error_code(ctx, ffi::SQLITE_IOERR) };
    }
    let mut value = i64::from_le_bytes(bytes);
    if value < 0 {
        value = -(value & i64::MAX);
    }
    // SAFETY: `ctx` is the live context of this call.
    unsafe { ffi::sqlite3_result_int64(ctx, value) }
}

/// `randomblob(n)`: n bytes, at least one, at most what the connection's length limit allows.
unsafe extern "C" fn random_blob(
    ctx: *mut ffi::sqlite3_context,
    _: c_int,
    arguments: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes one value, as the function was defined with one argument.
    let wanted = unsafe { ffi::sqlite3_value_int64(*arguments) }.max(1);
    // SAFETY: the connection of a live context is open; -1 only asks for the limit.
    let limit = unsafe {
        ffi::sqlite3_limit(ffi::sqlite3_context_db_handle(ctx), ffi::SQLITE_LIMIT_LENGTH, -1)
    };
    if wanted > i64::from(limit) {
        // SAFETY: `ctx` is the live context of this call.
        return unsafe { ffi::sqlite3_result_error_toobig(ctx) };
    }
    let length = wanted as usize;
    // SAFETY: the allocation is checked, filled in full, and given away with SQLite's own way to
    // free it.
    unsafe {
        let memory = ffi::sqlite3_malloc64(wanted as u64).cast::<u8>();
        if memory.is_null() {
            return ffi::sqlite3_result_error_nomem(ctx);
        }
        std::ptr::write_bytes(memory, 0, length);
        if !fill(std::slice::from_raw_parts_mut(memory, length)) {
            ffi::sqlite3_free(memory.cast::<c_void>());
            return ffi::sqlite3_result_error_code(ctx, ffi::SQLITE_IOERR);
        }
        ffi::sqlite3_result_blob64(
            ctx,
            memory.cast::<c_void>(),
            wanted as u64,
            Some(ffi::sqlite3_free),
        );
    }
}
