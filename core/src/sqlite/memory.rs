//! What one statement may take of the process's memory.
//!
//! Nothing in SQLite bounds what compiling a statement takes (views, subqueries and generated columns
//! that name another twice double it each time), nor how large some values grow before they are
//! found to be too large. Such a statement would end every replica, and end it again after each
//! restart. So SQLite's allocator is wrapped: beyond its allowance a statement is told that there is
//! no memory, which SQLite handles everywhere, and [`was_refused`] says that it was we.
//!
//! While a statement runs only large pieces count, those that follow from the statement alone. Small
//! ones are also what the page cache and the memory of compiled statements happen to need on one
//! node; their number is bounded by the instructions that a statement may take.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::sync::OnceLock;

use rusqlite::ffi;

use crate::sqlite::apply::budget;

/// What compiling one statement may hold, in bytes. A text of 1 MiB takes a tenth.
const COMPILING: i64 = 256 << 20;

/// What one statement may hold in large pieces while it runs, in bytes: a dozen values of the
/// largest size.
const RUNNING: i64 = 256 << 20;

/// From this size on a piece is large; a page of the cache is smaller.
const LARGE: c_int = 8 << 10;

#[derive(Clone, Copy)]
struct Account {
    /// Pieces smaller than this do not count.
    smallest: c_int,
    held: i64,
    limit: i64,
    most: i64,
    /// What is taken is charged to the command's budget too.
    charged: bool,
    refused: bool,
}

const CLOSED: Account = Account {
    smallest: c_int::MAX,
    held: 0,
    limit: i64::MAX,
    most: 0,
    charged: false,
    refused: false,
};

thread_local! {
    static ACCOUNT: Cell<Account> = const { Cell::new(CLOSED) };
}

/// The allocator that SQLite had.
static ORIGINAL: OnceLock<Option<Original>> = OnceLock::new();

#[derive(Clone, Copy)]
struct Original {
    allocate: unsafe extern "C" fn(c_int) -> *mut c_void,
    release: unsafe extern "C" fn(*mut c_void),
    resize: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    size: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// Puts the wrapper in place; to be called before every first use of SQLite, since SQLite takes an
/// allocator only until it is initialized. Where somebody else in this process has done that already,
/// statements have no allowance.
///
/// SQLite's own statistics of memory are switched off: they take a lock of the whole process for
/// each piece.
pub(super) fn install() {
    ORIGINAL.get_or_init(|| {
        // SAFETY: all its fields may be null.
        let mut methods: ffi::sqlite3_mem_methods = unsafe { std::mem::zeroed() };
        // SAFETY: GETMALLOC takes the place for the methods.
        let code = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut methods) };
        if code != ffi::SQLITE_OK {
            return None;
        }
        let original = Original {
            allocate: methods.xMalloc?,
            release: methods.xFree?,
            resize: methods.xRealloc?,
            size: methods.xSize?,
        };
        methods.xMalloc = Some(allocate);
        methods.xFree = Some(release);
        methods.xRealloc = Some(resize);
        // SAFETY: MALLOC takes methods, which SQLite copies; it refuses once it is initialized, and
        // then never calls ours. MEMSTATUS takes an int.
        let code = unsafe {
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0 as c_int);
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw mut methods)
        };
        if code != ffi::SQLITE_OK {
            tracing::warn!(
                "this process has used SQLite before Quorumlite: what a statement takes of its memory is \
                 not bounded. Open the node first"
            );
        }
        (code == ffi::SQLITE_OK).then_some(original)
    });
}

/// SQLite calls the methods only after `install` has set what they call.
fn original() -> Option<&'static Original> {
    ORIGINAL.get()?.as_ref()
}

/// Takes `bytes` more from the account that is open on this thread, if one is.
fn take(bytes: c_int) -> bool {
    let mut account = ACCOUNT.get();
    if bytes < account.smallest {
        return true;
    }
    let held = account.held.saturating_add(i64::from(bytes));
    let refused = held > account.limit || (account.charged && !budget::charge_bytes(bytes));
    if refused {
        account.refused = true;
    } else {
        account.held = held;
        account.most = account.most.max(held);
    }
    ACCOUNT.set(account);
    !refused
}

/// What was taken may have been so before the account was opened: it may fall below 0.
fn give(bytes: c_int) {
    let mut account = ACCOUNT.get();
    if bytes >= account.smallest {
        account.held -= i64::from(bytes);
        ACCOUNT.set(account);
    }
}

fn is_open() -> bool {
    ACCOUNT.get().smallest != c_int::MAX
}

unsafe extern "C" fn allocate(bytes: c_int) -> *mut c_void {
    let Some(original) = original() else { return std::ptr::null_mut() };
    if !take(bytes) {
        return std::ptr::null_mut();
    }
    // SAFETY: as SQLite calls us.
    unsafe { (original.allocate)(bytes) }
}

unsafe extern "C" fn release(piece: *mut c_void) {
    let Some(original) = original() else { return };
    if is_open() && !piece.is_null() {
        // SAFETY: the piece came from this allocator.
        give(unsafe { (original.size)(piece) });
    }
    // SAFETY: as SQLite calls us.
    unsafe { (original.release)(piece) }
}

unsafe extern "C" fn resize(piece: *mut c_void, bytes: c_int) -> *mut c_void {
    let Some(original) = original() else { return std::ptr::null_mut() };
    if !is_open() || piece.is_null() {
        // SAFETY: as SQLite calls us.
        return unsafe { (original.resize)(piece, bytes) };
    }
    // SAFETY: the piece came from this allocator.
    let before = unsafe { (original.size)(piece) };
    if !take(bytes) {
        return std::ptr::null_mut();
    }
    // SAFETY: as SQLite calls us.
    let resized = unsafe { (original.resize)(piece, bytes) };
    give(if resized.is_null() { bytes } else { before });
    resized
}

/// Whether the statement of this thread wanted more than it may have.
pub(super) fn was_refused() -> bool {
    ACCOUNT.get().refused
}

/// While it lives, this thread's statement has an allowance.
pub(super) struct Allowance {
    previous: Account,
    not_send: PhantomData<*const ()>,
}

impl Allowance {
    /// For compiling a statement.
    pub(super) fn compiling() -> Self {
        Self::open(Account { smallest: 0, limit: COMPILING, ..CLOSED })
    }

    /// For running one; `charged`: what it takes is charged to the command's budget too.
    pub(super) fn running(charged: bool) -> Self {
        Self::open(Account { smallest: LARGE, limit: RUNNING, charged, ..CLOSED })
    }

    fn open(account: Account) -> Self {
        Allowance { previous: ACCOUNT.replace(account), not_send: PhantomData }
    }

    /// As [`was_refused`].
    pub(super) fn was_refused(&self) -> bool {
        was_refused()
    }

    /// Whether it came near to that: the same on another node may depend on what is in its caches.
    pub(super) fn was_close(&self) -> bool {
        let account = ACCOUNT.get();
        account.refused || account.most > account.limit / 4
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        ACCOUNT.set(self.previous);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rusqlite::Connection;

    use super::Allowance;
    use crate::sqlite::build;
    use crate::sqlite::determinism::clock_vfs;

    const FIRST: &str = "QUORUMLITE_TEST_FIRST_USE";

    /// What a process may do first with SQLite.
    fn first_uses() -> [(&'static str, fn()); 2] {
        [
            ("greet a peer", || _ = build::fingerprint()),
            ("open a database", || _ = clock_vfs::name()),
        ]
    }

    /// Is run by the next test, in processes that have not used SQLite yet.
    #[test]
    fn child_that_uses_sqlite_for_the_first_time() {
        let Ok(first) = std::env::var(FIRST) else { return };
        let uses = first_uses();
        let (_, act) = uses.iter().find(|(name, _)| *name == first).unwrap();
        act();
        let conn = Connection::open_in_memory().unwrap();
        let allowance = Allowance::running(false);
        let much =
            "SELECT json_array(hex(v), hex(v), hex(v)) FROM (SELECT zeroblob(50000000) AS v)";
        assert!(conn.query_row(much, [], |row| row.get::<_, String>(0)).is_err());
        assert!(allowance.was_refused());
    }

    #[test]
    fn whatever_uses_sqlite_first_a_statement_has_an_allowance() {
        for (first, _) in first_uses() {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["child_that_uses_sqlite_for_the_first_time", "--test-threads=1"])
                .env(FIRST, first)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success() && said.contains("1 passed"), "{first}: {said}");
        }
    }
}
