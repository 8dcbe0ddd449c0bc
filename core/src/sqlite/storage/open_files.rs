//! Telling that the process has too many files open: SQLite only says that it cannot open one.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;

use rusqlite::ffi;

use crate::disk::is_too_many_files;
use crate::sqlite::storage::disk_full::Watched;

thread_local! {
    static TOO_MANY: Cell<bool> = const { Cell::new(false) };
}

/// Remembers why a file could not be opened just now, on this thread.
pub(in crate::sqlite) fn note(reason: Option<i32>) {
    TOO_MANY.set(reason.is_some_and(is_too_many_files));
}

/// As [`note`], with the reason that the operating system gave last: what SQLite itself would tell.
pub(in crate::sqlite) fn note_last() {
    note(io::Error::last_os_error().raw_os_error());
}

/// Whether the last file that could not be opened was one too many. Forgets it.
pub(in crate::sqlite) fn too_many() -> bool {
    TOO_MANY.take()
}

/// Maps shared memory as the default VFS does; the first time opens a file for it.
///
/// # Safety
/// That of xShmMap, for a file whose methods are those of a [`Watched`] that had this one.
pub(in crate::sqlite) unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    place: *mut *mut c_void,
) -> c_int {
    // SAFETY: promised by the caller.
    let original = unsafe { &*(*(*file).pMethods.cast::<Watched>()).original };
    let Some(map) = original.xShmMap else { return ffi::SQLITE_IOERR_SHMMAP };
    // SAFETY: the arguments are SQLite's own for this very file.
    let code = unsafe { map(file, region, size, extend, place) };
    if code != ffi::SQLITE_OK {
        note_last();
    }
    code
}
