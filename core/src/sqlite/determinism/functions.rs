//! SQL functions of ours: `random()` and `randomblob()` that draw from the command's seed, and
//! `uuid()` and `uuid7()`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ffi};

use crate::sqlite::determinism::{context, math, strings};
use crate::sqlite::error;

/// INNOCUOUS, so that DEFAULTs, triggers and views may use them in an untrusted schema as they may
/// use SQLite's own; not DETERMINISTIC, so that indexes and generated columns may not, and each
/// row gets its own value.
const FLAGS: c_int = ffi::SQLITE_UTF8 | ffi::SQLITE_INNOCUOUS;

/// What every connection has: `uuid()`, `uuid7()`, the mathematical functions, and those on strings
/// whose cost SQLite leaves unbounded.
pub(in crate::sqlite) fn install(conn: &Connection) -> crate::Result<()> {
    define(conn, c"uuid", 0, FLAGS, std::ptr::null_mut(), uuid)?;
    define(conn, c"uuid7", 0, FLAGS, std::ptr::null_mut(), uuid7)?;
    strings::install(conn)?;
    math::install(conn)
}

/// Replaces SQLite's generator, which is shared by all connections of the process, on `conn`.
pub(in crate::sqlite) fn install_seeded_random(conn: &Connection) -> crate::Result<()> {
    define(conn, c"random", 0, FLAGS, std::ptr::null_mut(), random)?;
    define(conn, c"randomblob", 1, FLAGS, std::ptr::null_mut(), random_blob)
}

pub(in crate::sqlite) type ScalarFunction =
    unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int, *mut *mut ffi::sqlite3_value);

/// Defines a function on `conn`. `state` is what `sqlite3_user_data` gives; it must live for ever.
pub(in crate::sqlite) fn define(
    conn: &Connection,
    name: &CStr,
    arguments: c_int,
    flags: c_int,
    state: *mut c_void,
    function: ScalarFunction,
) -> crate::Result<()> {
    // SAFETY: the handle is open, the name is terminated and copied by SQLite, and the state is
    // never freed.
    let code = unsafe {
        ffi::sqlite3_create_function_v2(
            conn.handle(),
            name.as_ptr(),
            arguments,
            flags,
            state,
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

/// The arguments of a call.
pub(in crate::sqlite) struct Arguments<'a>(&'a [*mut ffi::sqlite3_value]);

impl Arguments<'_> {
    /// # Safety
    /// `count` and `values` are what SQLite passed to a function that has not returned yet.
    pub(in crate::sqlite) unsafe fn new(
        count: c_int,
        values: *mut *mut ffi::sqlite3_value,
    ) -> Self {
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 || values.is_null() {
            return Arguments(&[]);
        }
        // SAFETY: SQLite passes an array of `count` values.
        Arguments(unsafe { std::slice::from_raw_parts(values, count) })
    }

    /// Argument `i`, counted from 0.
    pub(in crate::sqlite) fn get(&self, i: usize) -> Option<*mut ffi::sqlite3_value> {
        self.0.get(i).copied()
    }
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

/// `uuid()`: a random UUID, version 4 of RFC 9562, in its usual spelling with small letters.
unsafe extern "C" fn uuid(
    ctx: *mut ffi::sqlite3_context,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
) {
    let mut bytes = [0; 16];
    let drawn = fill(&mut bytes);
    // SAFETY: `ctx` is the live context of this call.
    unsafe { result_uuid(ctx, drawn.then_some((bytes, 4))) }
}

/// `uuid7()`: a UUID of version 7, which begins with the time in milliseconds. While a command is
/// applied that is the command's time, and what one command draws rises: the 12 bits after the
/// time count (RFC 9562, section 6.2, method 1), and run over into the time.
unsafe extern "C" fn uuid7(
    ctx: *mut ffi::sqlite3_context,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
) {
    let mut bytes = [0; 16];
    let drawn = fill(&mut bytes);
    let milliseconds = match context::next_ordinal() {
        Some((timestamp_us, ordinal)) => {
            let count = ordinal % 4096;
            bytes[6] = (count >> 8) as u8;
            bytes[7] = count as u8;
            u64::try_from(timestamp_us / 1000).unwrap_or(0).saturating_add(ordinal / 4096)
        }
        None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
    };
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    // SAFETY: `ctx` is the live context of this call.
    unsafe { result_uuid(ctx, drawn.then_some((bytes, 7))) }
}

/// Answers with a UUID of the given version, or an error where the system had no randomness.
///
/// # Safety
/// `ctx` is the live context of a call.
unsafe fn result_uuid(ctx: *mut ffi::sqlite3_context, drawn: Option<([u8; 16], u8)>) {
    let Some((mut bytes, version)) = drawn else {
        // SAFETY: as the caller promises.
        return unsafe { ffi::sqlite3_result_error_code(ctx, ffi::SQLITE_IOERR) };
    };
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    // SAFETY: as the caller promises; SQLite copies the text.
    unsafe {
        ffi::sqlite3_result_text(
            ctx,
            text.as_ptr().cast::<c_char>(),
            text.len() as c_int,
            ffi::SQLITE_TRANSIENT(),
        )
    }
}
