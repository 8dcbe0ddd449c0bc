//! Temporary files lie beside the database: the system's folder may be small, or not writable.
//!
//! SQLite opens them without a name. They are unlinked as soon as they are open, so one name for each
//! folder is enough; it is kept for ever, as the file object points to it.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::{Connection, ffi};

const NAME: &str = "temporary";

thread_local! {
    /// The connection that runs a statement on this thread.
    static RUNNING: Cell<*mut ffi::sqlite3> = const { Cell::new(std::ptr::null_mut()) };
}

static NAMES: Mutex<Option<HashMap<PathBuf, &'static CStr>>> = Mutex::new(None);

/// While it lives, what this thread opens without a name belongs to one connection.
pub(in crate::sqlite) struct TemporaryFiles {
    previous: *mut ffi::sqlite3,
}

impl TemporaryFiles {
    pub(in crate::sqlite) fn of(conn: &Connection) -> Self {
        // SAFETY: the handle is only compared and asked for its file's name while it is open.
        TemporaryFiles { previous: RUNNING.replace(unsafe { conn.handle() }) }
    }
}

impl Drop for TemporaryFiles {
    fn drop(&mut self) {
        RUNNING.set(self.previous);
    }
}

/// Opens a temporary file with `open`, which takes its name, or null where no connection is known.
pub(in crate::sqlite) fn open(open: impl FnOnce(ffi::sqlite3_filename) -> i32) -> i32 {
    let Some(folder) = folder() else { return open(std::ptr::null()) };
    // Held until the file has no name any more.
    let mut names = NAMES.lock();
    let names = names.get_or_insert_with(HashMap::new);
    let name = match names.get(&folder) {
        Some(name) => *name,
        None => {
            let path = folder.join(NAME);
            let mut bytes = path.as_os_str().as_bytes().to_vec();
            bytes.retain(|byte| *byte != 0);
            let Ok(name) = CString::new(bytes) else { return open(std::ptr::null()) };
            let name: &'static CStr = Box::leak(name.into_boxed_c_str());
            names.insert(folder.clone(), name);
            name
        }
    };
    // What a process left that ended between opening and unlinking.
    let _ = std::fs::remove_file(folder.join(NAME));
    open(name.as_ptr())
}

fn folder() -> Option<PathBuf> {
    let conn = RUNNING.get();
    if conn.is_null() {
        return None;
    }
    // SAFETY: a connection that runs a statement is open; the name is null or terminated.
    let name = unsafe {
        let name = ffi::sqlite3_db_filename(conn, c"main".as_ptr());
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name)
    };
    Path::new(OsStr::from_bytes(name.to_bytes())).parent().map(Path::to_owned)
}
