//! A VFS that is the default one with another clock: that of the command being applied.
//!
//! Replacing the clock below SQLite, not its date functions, covers every way to ask for the time
//! (CURRENT_TIMESTAMP, DEFAULTs, triggers, 'now') and keeps SQLite's own rules about which of them
//! an index or a generated column may use.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

use crate::error::{Error, ErrorKind};
use crate::sqlite::database;
use crate::sqlite::determinism::context;
use crate::sqlite::memory;
#[cfg(unix)]
use crate::sqlite::storage::temporary;
use crate::sqlite::storage::{disk_full, new_names, open_files};

const NAME: &CStr = c"quorumlite";

/// 1970-01-01 in milliseconds of the Julian day count that SQLite uses (day 2440587.5).
const UNIX_EPOCH_JULIAN_MS: i64 = 210_866_760_000_000;

/// 9999-12-31 23:59:59.999, the last instant that SQLite's date functions accept.
const LAST_JULIAN_MS: i64 = 464_269_060_799_999;

/// The default VFS as it was when ours was registered; its real clock serves reads.
struct DefaultVfs(*mut ffi::sqlite3_vfs);

// SAFETY: a registered VFS is immutable and lives as long as the process; SQLite itself calls the
// default one from every thread.
unsafe impl Send for DefaultVfs {}
// SAFETY: as above.
unsafe impl Sync for DefaultVfs {}

static DEFAULT: OnceLock<Option<DefaultVfs>> = OnceLock::new();

/// Registers the VFS on the first call (not as the default: other users of SQLite in this process
/// keep theirs) and gives its name. Also puts the gate on local time in place.
pub(in crate::sqlite) fn name() -> crate::Result<&'static CStr> {
    match DEFAULT.get_or_init(register) {
        Some(_) => Ok(NAME),
        None => Err(Error::new(
            ErrorKind::Unavailable,
            "SQLITE_VFS",
            "SQLite could not register its clock: the process is out of memory, or SQLite was \
             built without a default VFS",
        )
        .with_retryable(false)),
    }
}

fn register() -> Option<DefaultVfs> {
    // Before anything that initializes SQLite.
    memory::install();
    // SAFETY: finding the default VFS has no precondition; it initializes SQLite if need be.
    let default = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    if default.is_null() {
        return None;
    }
    // SAFETY: `default` points to a registered, immutable VFS. Every field is kept but the list
    // pointer, the name, the clock, xOpen and the size of a file: the methods find their state in pAppData and in the file
    // objects, not in the address of the VFS.
    let mut vfs = unsafe { *default };
    vfs.pNext = std::ptr::null_mut();
    vfs.zName = NAME.as_ptr();
    vfs.xOpen = Some(open);
    vfs.szOsFile = disk_full::object_size(vfs.szOsFile);
    vfs.xCurrentTime = Some(current_time);
    if vfs.iVersion >= 2 {
        vfs.xCurrentTimeInt64 = Some(current_time_int64);
    }
    // SQLite keeps the pointer for the life of the process.
    let vfs = Box::into_raw(Box::new(vfs));
    // SAFETY: `vfs` is a valid VFS that is never freed nor changed by us again.
    let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
    if code != ffi::SQLITE_OK {
        return None;
    }
    guard_local_time();
    Some(DefaultVfs(default))
}

/// Opens as the default VFS does, and watches the file's writes. Those to a write-ahead log wait for
/// the end of their transaction. The name of a new file is durable on return.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let Some(Some(DefaultVfs(default))) = DEFAULT.get() else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: the arguments are SQLite's own, for a VFS that has all that the default one has.
    unsafe {
        let Some(open) = (**default).xOpen else { return ffi::SQLITE_CANTOPEN };
        let folder = new_names::folder_of_new(name, flags);
        let code = open_named(name, |name| open(vfs, name, file, flags, flags_out));
        if code != ffi::SQLITE_OK {
            open_files::note_last();
            return code;
        }
        if let Some(folder) = folder
            && let Err(e) = database::sync_dir(&folder)
        {
            open_files::note(e.os_error());
            if let Some(methods) = (*file).pMethods.as_ref()
                && let Some(close) = methods.xClose
            {
                close(file);
            }
            // So that SQLite does not close it again.
            (*file).pMethods = std::ptr::null();
            return ffi::SQLITE_IOERR_DIR_FSYNC;
        }
        disk_full::watch(file, flags & ffi::SQLITE_OPEN_WAL != 0);
        ffi::SQLITE_OK
    }
}

/// Temporary files have no name.
#[cfg(unix)]
fn open_named(
    name: ffi::sqlite3_filename,
    open: impl FnOnce(ffi::sqlite3_filename) -> c_int,
) -> c_int {
    if name.is_null() { temporary::open(open) } else { open(name) }
}

#[cfg(not(unix))]
fn open_named(
    name: ffi::sqlite3_filename,
    open: impl FnOnce(ffi::sqlite3_filename) -> c_int,
) -> c_int {
    open(name)
}

fn command_time() -> Option<i64> {
    let milliseconds = context::timestamp_us()?.div_euclid(1000);
    Some(milliseconds.saturating_add(UNIX_EPOCH_JULIAN_MS).clamp(0, LAST_JULIAN_MS))
}

/// Milliseconds of the Julian day count.
unsafe extern "C" fn current_time_int64(_: *mut ffi::sqlite3_vfs, now: *mut i64) -> c_int {
    if let Some(time) = command_time() {
        // SAFETY: SQLite passes a valid place for the answer.
        unsafe { *now = time };
        return ffi::SQLITE_OK;
    }
    let Some(Some(DefaultVfs(default))) = DEFAULT.get() else { return ffi::SQLITE_ERROR };
    // SAFETY: the default VFS lives as long as the process, and gets its own address as SQLite
    // would give it.
    unsafe {
        match (**default).xCurrentTimeInt64 {
            Some(clock) => clock(*default, now),
            None => ffi::SQLITE_ERROR,
        }
    }
}

/// Days of the Julian day count.
unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, now: *mut f64) -> c_int {
    if let Some(time) = command_time() {
        // SAFETY: SQLite passes a valid place for the answer.
        unsafe { *now = time as f64 / 86_400_000.0 };
        return ffi::SQLITE_OK;
    }
    let Some(Some(DefaultVfs(default))) = DEFAULT.get() else { return ffi::SQLITE_ERROR };
    // SAFETY: as in `current_time_int64`.
    unsafe {
        match (**default).xCurrentTime {
            Some(clock) => clock(*default, now),
            None => ffi::SQLITE_ERROR,
        }
    }
}

/// What SQLite says when [`local_time`] refuses.
pub(in crate::sqlite) const LOCAL_TIME_REFUSED: &str = "local time unavailable";

type LocalTime = unsafe extern "C" fn(*const c_void, *mut c_void) -> c_int;

/// Lets SQLite ask us for the local time. The switch is one of SQLite's test controls, is part of
/// every build without SQLITE_UNTESTABLE, and holds for the whole process: outside of a command
/// [`local_time`] answers what SQLite itself would.
fn guard_local_time() {
    let replacement: LocalTime = local_time;
    // SAFETY: the control takes an int and, for 2, a function of this type.
    unsafe {
        ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_LOCALTIME_FAULT, 2 as c_int, replacement)
    };
}

#[cfg(not(windows))]
unsafe extern "C" {
    fn localtime_r(time: *const c_void, tm: *mut c_void) -> *mut c_char;
}

#[cfg(windows)]
unsafe extern "C" {
    fn _localtime64_s(tm: *mut c_void, time: *const c_void) -> c_int;
}

/// Local time is the node's own affair: refused while a command is applied, the system's otherwise.
unsafe extern "C" fn local_time(time: *const c_void, tm: *mut c_void) -> c_int {
    if context::is_active() {
        return 1;
    }
    // SAFETY: SQLite passes a `const time_t*` and a `struct tm*`, which we only hand on.
    #[cfg(not(windows))]
    unsafe {
        c_int::from(localtime_r(time, tm).is_null())
    }
    // SAFETY: as above; time_t has 64 bits in the C runtime that SQLite is built for.
    #[cfg(windows)]
    unsafe {
        _localtime64_s(tm, time)
    }
}
