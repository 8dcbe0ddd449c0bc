//! Telling a full disk from a full table: SQLite says SQLITE_FULL for both.
//!
//! The first is this node's trouble and must stop it; the second (AUTOINCREMENT at its end) is the
//! same on every node, and taking it for the first would let one statement stop the whole cluster,
//! again after each restart. Only a write to a file can find the disk full, so the VFS watches them.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rusqlite::ffi;

use crate::sqlite::storage::open_files;
use crate::sqlite::storage::wal_writes::{self, Waiting};

thread_local! {
    static SEEN: Cell<bool> = const { Cell::new(false) };
    #[cfg(test)]
    static PRETEND: Cell<bool> = const { Cell::new(false) };
}

/// Whether a write of this thread found the disk full since [`forget`].
pub(in crate::sqlite) fn seen() -> bool {
    SEEN.get()
}

/// Begins to look anew on this thread.
pub(in crate::sqlite) fn forget() {
    SEEN.set(false);
}

/// Makes the writes of this thread find the disk full, or no longer so.
#[cfg(test)]
pub(in crate::sqlite) fn pretend(full: bool) {
    PRETEND.set(full);
}

/// The methods of a file with ours in place of xWrite, and those that it had. SQLite sees only the
/// first field, at the same address.
#[repr(C)]
pub(in crate::sqlite) struct Watched {
    methods: ffi::sqlite3_io_methods,
    pub original: *const ffi::sqlite3_io_methods,
    is_log: bool,
}

/// One for each table of methods that the default VFS uses (a handful); they live as long as the
/// process.
struct Tables(Vec<&'static Watched>);

// SAFETY: tables of methods are immutable and live as long as the process.
unsafe impl Send for Tables {}

static TABLES: Mutex<Tables> = Mutex::new(Tables(Vec::new()));

/// The size of a file object of the default VFS; behind it [`watch`] keeps what is ours.
static OBJECT: AtomicUsize = AtomicUsize::new(0);

/// How large a file object must be where one of the default VFS takes `size` bytes.
pub(in crate::sqlite) fn object_size(size: c_int) -> c_int {
    let aligned = usize::try_from(size).unwrap_or(0).next_multiple_of(align_of::<*mut Waiting>());
    OBJECT.store(aligned, Ordering::Relaxed);
    c_int::try_from(aligned + size_of::<*mut Waiting>()).unwrap_or(c_int::MAX)
}

/// Where what waits for a write-ahead log is kept.
///
/// # Safety
/// `file` has the size that [`object_size`] says.
pub(in crate::sqlite) unsafe fn waiting_of(file: *mut ffi::sqlite3_file) -> *mut *mut Waiting {
    // SAFETY: within the object, and aligned as SQLite aligns the object itself.
    unsafe { file.cast::<u8>().add(OBJECT.load(Ordering::Relaxed)).cast() }
}

/// Watches the writes to `file`, and gathers them if `is_log`: if it is a write-ahead log.
///
/// # Safety
/// `file` was opened by the default VFS just now, on this thread, and has the size that
/// [`object_size`] says.
pub(in crate::sqlite) unsafe fn watch(file: *mut ffi::sqlite3_file, is_log: bool) {
    // SAFETY: an open file has methods, valid as long as the process.
    let original = unsafe { (*file).pMethods };
    if original.is_null() {
        return;
    }
    let mut tables = TABLES.lock();
    let known = |t: &&Watched| std::ptr::eq(t.original, original) && t.is_log == is_log;
    let known = tables.0.iter().copied().find(known);
    let watched = known.unwrap_or_else(|| {
        // SAFETY: as above.
        let methods = ffi::sqlite3_io_methods { xWrite: Some(write), ..unsafe { *original } };
        let methods = ffi::sqlite3_io_methods {
            xShmMap: methods.xShmMap.and(Some(open_files::shm_map)),
            ..methods
        };
        let methods = if is_log { wal_writes::methods(methods) } else { methods };
        let table: &'static Watched = Box::leak(Box::new(Watched { methods, original, is_log }));
        tables.0.push(table);
        table
    });
    if is_log {
        // SAFETY: promised by the caller. The methods that look there are those set below.
        unsafe { waiting_of(file).write(Box::into_raw(Box::default())) };
    }
    // SAFETY: the table outlives the file. The pointer is that of the whole `Watched`, so that
    // `write` may look behind the methods.
    unsafe { (*file).pMethods = std::ptr::from_ref(watched).cast() };
}

/// Writes as the default VFS does.
///
/// # Safety
/// That of xWrite, for a file that [`watch`] was given.
pub(in crate::sqlite) unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    #[cfg(test)]
    if PRETEND.get() {
        SEEN.set(true);
        return ffi::SQLITE_FULL;
    }
    // SAFETY: only files that `watch` was given have this method, so their methods are the first
    // field of a `Watched`.
    let original = unsafe { &*(*(*file).pMethods.cast::<Watched>()).original };
    let Some(original_write) = original.xWrite else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: the arguments are SQLite's own for this very file.
    let code = unsafe { original_write(file, data, length, offset) };
    if code & 0xff == ffi::SQLITE_FULL {
        SEEN.set(true);
    }
    code
}
