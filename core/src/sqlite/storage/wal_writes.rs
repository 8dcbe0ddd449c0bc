//! Writing a transaction's frames to SQLite's write-ahead log at once.
//!
//! SQLite writes each frame in two parts, its header and its page: six system calls for a
//! transaction of three pages, which is most of what a small transaction costs. Frames are of no use
//! to anybody before the last one of their transaction, which the header tells (its "database size"
//! is not 0, <https://www.sqlite.org/fileformat2.html#walformat>): they wait here for that one. SQLite
//! tells other connections of a transaction only after its last frame was written.
//!
//! Whatever else is done with the file comes after what waits.

use std::ffi::{c_int, c_void};
use std::slice;

use rusqlite::ffi;

use crate::sqlite::storage::disk_full::{self, Watched};

/// The length of a frame's header.
const HEADER: usize = 24;

/// What SQLite is given to write at once: the default VFS takes less than 128 KiB.
const AT_ONCE: usize = 64 << 10;

/// What waits is written once it is longer than this, in bytes: large transactions gain nothing.
const MOST: usize = 256 << 10;

/// What waits to be written to one file.
#[derive(Default)]
pub(in crate::sqlite) struct Waiting {
    bytes: Vec<u8>,
    /// Where in the file it belongs.
    at: i64,
    /// A header came whose page is to come, and is the last of its transaction.
    last: bool,
    /// Where SQLite read last. A header written there replaces one, and no page follows it.
    read_at: i64,
}

impl Waiting {
    fn end(&self) -> i64 {
        self.at + self.bytes.len() as i64
    }
}

/// `methods` with ours in the place of those that see or change what is in the file.
pub(in crate::sqlite) fn methods(methods: ffi::sqlite3_io_methods) -> ffi::sqlite3_io_methods {
    ffi::sqlite3_io_methods {
        xWrite: Some(write),
        xRead: Some(read),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFileSize: Some(file_size),
        xClose: Some(close),
        ..methods
    }
}

/// What waits for `file`, which [`disk_full::watch`] was told to be a write-ahead log.
///
/// # Safety
/// `file` is such a file, is open, and nobody else uses it during this call, nor during the life of
/// the answer: SQLite uses a file from one thread at a time.
unsafe fn waiting<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Waiting {
    // SAFETY: `watch` put the box there, and `close` takes it away.
    unsafe { &mut **disk_full::waiting_of(file) }
}

/// The methods of the default VFS.
///
/// # Safety
/// As [`waiting`].
unsafe fn original<'a>(file: *mut ffi::sqlite3_file) -> &'a ffi::sqlite3_io_methods {
    // SAFETY: the methods of such a file are the first field of a `Watched`.
    unsafe { &*(*(*file).pMethods.cast::<Watched>()).original }
}

/// Writes what waits. What cannot be written is forgotten: the caller hears of it, and SQLite then
/// rolls its transaction back.
///
/// # Safety
/// As [`waiting`].
unsafe fn flush(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: promised by the caller.
    let waiting = unsafe { waiting(file) };
    if waiting.bytes.is_empty() {
        return ffi::SQLITE_OK;
    }
    let mut code = ffi::SQLITE_OK;
    let mut at = waiting.at;
    for part in waiting.bytes.chunks(AT_ONCE) {
        let length = part.len() as c_int;
        // SAFETY: the bytes live until the call returns.
        code = unsafe { disk_full::write(file, part.as_ptr().cast(), length, at) };
        if code != ffi::SQLITE_OK {
            break;
        }
        at += i64::from(length);
    }
    waiting.bytes.clear();
    waiting.last = false;
    code
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite passes one of our files, and `length` readable bytes.
    let (waiting, bytes) = unsafe {
        let length = usize::try_from(length).unwrap_or(0);
        (waiting(file), slice::from_raw_parts(data.cast::<u8>(), length))
    };
    let follows = !waiting.bytes.is_empty() && offset == waiting.end();
    // What follows frames that wait is a frame: a header is replaced right after it was read, and
    // reading leaves nothing waiting.
    let is_header = bytes.len() == HEADER && (follows || offset != waiting.read_at);
    if !follows {
        // SAFETY: as above.
        let code = unsafe { flush(file) };
        if code != ffi::SQLITE_OK {
            return code;
        }
        if !is_header {
            // SAFETY: the arguments are SQLite's own.
            return unsafe { disk_full::write(file, data, length, offset) };
        }
        waiting.at = offset;
    }
    waiting.bytes.extend_from_slice(bytes);
    if is_header {
        waiting.last = bytes[4..8] != [0; 4];
        return ffi::SQLITE_OK;
    }
    if waiting.last || waiting.bytes.len() > MOST {
        // SAFETY: as above.
        return unsafe { flush(file) };
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    data: *mut c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite passes one of our files and its own arguments.
    unsafe {
        let code = flush(file);
        waiting(file).read_at = offset;
        match original(file).xRead {
            Some(read) if code == ffi::SQLITE_OK => read(file, data, length, offset),
            Some(_) => code,
            None => ffi::SQLITE_IOERR_READ,
        }
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite passes one of our files.
    unsafe {
        let code = flush(file);
        match original(file).xTruncate {
            Some(truncate) if code == ffi::SQLITE_OK => truncate(file, size),
            Some(_) => code,
            None => ffi::SQLITE_IOERR_TRUNCATE,
        }
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite passes one of our files.
    unsafe {
        let code = flush(file);
        match original(file).xSync {
            Some(sync) if code == ffi::SQLITE_OK => sync(file, flags),
            Some(_) => code,
            None => ffi::SQLITE_IOERR_FSYNC,
        }
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite passes one of our files and a place for the answer.
    unsafe {
        let code = flush(file);
        match original(file).xFileSize {
            Some(file_size) if code == ffi::SQLITE_OK => file_size(file, size),
            Some(_) => code,
            None => ffi::SQLITE_IOERR_FSTAT,
        }
    }
}

/// What still waits belongs to a transaction without an end: nobody misses it.
unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite passes one of our files and will not use it again; the box is taken away once.
    unsafe {
        let slot = disk_full::waiting_of(file);
        drop(Box::from_raw(*slot));
        *slot = std::ptr::null_mut();
        match original(file).xClose {
            Some(close) => close(file),
            None => ffi::SQLITE_IOERR_CLOSE,
        }
    }
}
