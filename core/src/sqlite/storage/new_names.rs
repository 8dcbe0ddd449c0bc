//! Making the name of a new file durable before anything relies on it.
//!
//! SQLite syncs the folder of a new journal by itself, but takes no notice of the result. So the folder
//! is synced when the file appears, where a failure can be told; SQLite's own sync only repeats that.

use std::ffi::{CStr, c_int};
use std::path::{Path, PathBuf};

use rusqlite::ffi;

/// The folder of the file that opening `name` with `flags` will create; None where it is there
/// already, or is a temporary one.
///
/// # Safety
/// `name` is what SQLite gives to xOpen: null or a C string.
pub(in crate::sqlite) unsafe fn folder_of_new(
    name: ffi::sqlite3_filename,
    flags: c_int,
) -> Option<PathBuf> {
    let creates = flags & ffi::SQLITE_OPEN_CREATE != 0;
    if name.is_null() || !creates || flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0 {
        return None;
    }
    // SAFETY: promised by the caller.
    let path = path(unsafe { CStr::from_ptr(name) })?;
    if path.exists() {
        return None;
    }
    path.parent().map(Path::to_owned)
}

#[cfg(unix)]
fn path(name: &CStr) -> Option<&Path> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(OsStr::from_bytes(name.to_bytes())))
}

#[cfg(not(unix))]
fn path(name: &CStr) -> Option<&Path> {
    name.to_str().ok().map(Path::new)
}
