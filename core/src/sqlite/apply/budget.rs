//! The budget of a command that is applied, in steps.
//!
//! A clock cannot bound what a command does, since nodes differ in speed, and without any bound one
//! endless statement would hold up the whole cluster, again after each restart. A step is an
//! instruction of SQLite's virtual machine, or [`BYTES_PER_STEP`] bytes of a large value that is
//! made, or as many that one of our functions looks at.
//!
//! Some instructions copy a value into memory that is there already. So the more instructions a command
//! has run, the smaller are the values that it may make or read ([`BYTES`]); where there are virtual
//! tables, whose own pieces must not be cut, not smaller than those are. What the budget allows to copy
//! in all ([`BYTES_PER_STEP`] for each step) is never cut: that many rows, of a dozen instructions
//! each, stay below.
//!
//! What virtual tables do for themselves counts as well, and that depends a little on what they have
//! in memory. So a command that comes near to the end of its budget is rolled back and run once more
//! on a connection that remembers nothing, and that run decides (`command.rs`): nodes that differ by
//! less than half of the budget decide alike.

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;

use rusqlite::{Connection, Statement, StatementStatus, ffi};

use crate::sqlite::connection::LONGEST_VALUE;
use crate::sqlite::error;

/// Instructions from one look at the budget to the next.
const INSTRUCTIONS_PER_TICK: i32 = 1000;

/// What one command may use unless the content says otherwise: some seconds.
pub(in crate::sqlite) const DEFAULT_STEPS: u64 = 250_000_000;

/// About what is copied in the time of an instruction.
const BYTES_PER_STEP: u64 = 16;

/// The longest value, in bytes, that a command may make or read after `n` instructions is this over `n`.
const BYTES: u64 = 32 << 30;

/// The shortest bound on values, and that where there are virtual tables: FTS5 keeps pages of up to
/// 64 KiB.
const SHORTEST: u64 = 16 << 10;
const SHORTEST_VIRTUAL: u64 = 256 << 10;

#[derive(Clone, Copy)]
struct Purse {
    left: u64,
    all: u64,
    instructions: u64,
    /// The budget was overdrawn, not only used up.
    spent: bool,
    shortest: u64,
}

thread_local! {
    static PURSE: Cell<Option<Purse>> = const { Cell::new(None) };
    #[cfg(test)]
    static PRETEND: Cell<Option<u64>> = const { Cell::new(None) };
}

impl Purse {
    fn longest_value(&self) -> c_int {
        let most = BYTES / self.instructions.max(1);
        let most = most.max(self.shortest).min(LONGEST_VALUE as u64);
        c_int::try_from(most).unwrap_or(LONGEST_VALUE)
    }
}

/// The handle of an open connection.
struct Handle(*mut ffi::sqlite3);

// SAFETY: it is used by the callback of that connection only, on the thread that runs it.
unsafe impl Send for Handle {}

impl Handle {
    fn of(conn: &Connection) -> Self {
        // SAFETY: the handle is only used while the connection lives.
        Handle(unsafe { conn.handle() })
    }

    fn limit_values(&self, bytes: c_int) {
        // SAFETY: the connection is open, and this thread has it to itself.
        unsafe { ffi::sqlite3_limit(self.0, ffi::SQLITE_LIMIT_LENGTH, bytes) };
    }
}

/// While it lives, what this thread runs is charged.
pub(in crate::sqlite) struct Budget {
    previous: Option<Purse>,
    handle: Handle,
}

/// While it lives, what this thread runs is not charged: compiling, which some nodes have done
/// before.
pub(in crate::sqlite) struct Free {
    previous: Option<Purse>,
    not_send: PhantomData<*const ()>,
}

/// Makes the statements that `conn` runs under a [`Budget`] stop when they have used it.
pub(in crate::sqlite) fn install(conn: &mut Connection) -> crate::Result<()> {
    let handle = Handle::of(conn);
    let must_end = move || {
        let enough = charge(INSTRUCTIONS_PER_TICK as u64);
        if let Some(mut purse) = PURSE.get() {
            purse.instructions += INSTRUCTIONS_PER_TICK as u64;
            handle.limit_values(purse.longest_value());
            PURSE.set(Some(purse));
        }
        !enough
    };
    conn.progress_handler(INSTRUCTIONS_PER_TICK, Some(must_end)).map_err(error::internal)
}

/// Takes steps from the budget of this thread, if there is one; false where it has too few.
fn charge(steps: u64) -> bool {
    let Some(mut purse) = PURSE.get() else { return true };
    let enough = purse.left >= steps;
    purse.left = purse.left.saturating_sub(steps);
    purse.spent |= !enough;
    PURSE.set(Some(purse));
    enough
}

/// Takes what making or looking at so many bytes costs; false where the budget has too little.
pub(in crate::sqlite) fn charge_bytes(bytes: i32) -> bool {
    charge(u64::try_from(bytes).unwrap_or(0) / BYTES_PER_STEP)
}

impl Budget {
    /// Begins to charge a command on `conn`, which may use `steps`.
    pub(in crate::sqlite) fn begin(conn: &Connection, steps: u64, virtual_tables: bool) -> Self {
        #[cfg(test)]
        let steps = PRETEND.get().unwrap_or(steps);
        let shortest = if virtual_tables { SHORTEST_VIRTUAL } else { SHORTEST };
        let purse = Purse { left: steps, all: steps, instructions: 0, spent: false, shortest };
        Budget { previous: PURSE.replace(Some(purse)), handle: Handle::of(conn) }
    }

    /// Begins to charge for `statement`, which is about to run. SQLite's ticks go on from where a
    /// compiled statement stopped the last time, which depends on what each node has in its cache.
    pub(in crate::sqlite) fn of(statement: &Statement<'_>) {
        statement.reset_status(StatementStatus::VmStep);
    }

    /// Whether more was wanted than there was.
    pub(in crate::sqlite) fn is_spent() -> bool {
        PURSE.get().is_some_and(|purse| purse.spent)
    }

    /// Whether the longest value has become shorter.
    pub(in crate::sqlite) fn limits_values() -> bool {
        PURSE.get().is_some_and(|purse| purse.longest_value() < LONGEST_VALUE)
    }

    /// Whether the command used so much that another node may have come to the end of it.
    pub(in crate::sqlite) fn is_nearly_spent() -> bool {
        PURSE.get().is_some_and(|purse| purse.left < purse.all / 2)
    }

    /// Lets nothing count while it lives.
    pub(in crate::sqlite) fn free() -> Free {
        Free { previous: PURSE.take(), not_send: PhantomData }
    }

    /// Gives the commands of this thread another budget.
    #[cfg(test)]
    pub(in crate::sqlite) fn pretend(steps: Option<u64>) {
        PRETEND.set(steps);
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.handle.limit_values(LONGEST_VALUE);
        PURSE.set(self.previous);
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        PURSE.set(self.previous);
    }
}
