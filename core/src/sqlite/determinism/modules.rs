//! The modules of virtual tables that a connection has.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use rusqlite::{Connection, ffi};

use crate::sqlite::error;

/// What is kept; `json_each` and its like, and the table-valued pragmas, come when they are named.
const KEPT: [&CStr; 5] = [c"fts5", c"fts5vocab", c"rtree", c"rtree_i32", c"dbstat"];

/// Takes every other module away, and what is left of FTS3 and FTS4: `fts3_tokenizer()` gives and
/// takes addresses as BLOBs, and whoever binds one makes SQLite call it.
pub(in crate::sqlite) fn install(conn: &Connection) -> crate::Result<()> {
    let mut kept: Vec<*const c_char> = KEPT.iter().map(|name| name.as_ptr()).collect();
    kept.push(ptr::null());
    // SAFETY: the handle is open, and the list of terminated names ends with null.
    check(unsafe { ffi::sqlite3_drop_modules(conn.handle(), kept.as_mut_ptr()) })?;
    for arguments in [1, 2] {
        remove_function(conn, c"fts3_tokenizer", arguments)?;
    }
    Ok(())
}

fn remove_function(conn: &Connection, name: &CStr, arguments: c_int) -> crate::Result<()> {
    // SAFETY: the handle is open, the name is terminated; no function at all removes the one there.
    check(unsafe {
        ffi::sqlite3_create_function_v2(
            conn.handle(),
            name.as_ptr(),
            arguments,
            ffi::SQLITE_UTF8,
            ptr::null_mut(),
            None,
            None,
            None,
            None,
        )
    })
}

fn check(code: c_int) -> crate::Result<()> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(error::internal(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)))
}
