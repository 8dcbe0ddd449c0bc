//! The budget of a statement that is applied, in instructions of SQLite's virtual machine.
//!
//! A clock cannot bound what a command does, since nodes differ in speed, and without any bound one
//! endless statement would hold up the whole cluster, again after each restart. The number of
//! instructions is the same on each node.

use std::cell::Cell;

use rusqlite::{Connection, Statement, StatementStatus};

use crate::sqlite::error;

/// Instructions from one look at the budget to the next.
const INSTRUCTIONS_PER_TICK: i32 = 100_000;

/// What one statement may use: 5 billion instructions, a minute or some.
const TICKS: u32 = 50_000;

thread_local! {
    /// What the statement that this thread is applying may still use.
    static REMAINING: Cell<Option<u32>> = const { Cell::new(None) };
    #[cfg(test)]
    static PRETEND: Cell<Option<u32>> = const { Cell::new(None) };
}

/// While it lives, the statement that this thread runs is charged.
pub(in crate::sqlite) struct Budget;

/// Makes the statements that `conn` runs under a [`Budget`] stop when they have used it.
pub(in crate::sqlite) fn install(conn: &mut Connection) -> crate::Result<()> {
    let must_end = || match REMAINING.get() {
        None => false,
        Some(0) => true,
        Some(ticks) => {
            REMAINING.set(Some(ticks - 1));
            false
        }
    };
    conn.progress_handler(INSTRUCTIONS_PER_TICK, Some(must_end)).map_err(error::internal)
}

impl Budget {
    /// Begins to charge for `statement`, which is about to run.
    pub(in crate::sqlite) fn begin(statement: &Statement<'_>) -> Self {
        // SQLite's ticks go on from where the compiled statement stopped the last time, which
        // depends on what each node has in its cache: begin at 0.
        statement.reset_status(StatementStatus::VmStep);
        #[cfg(test)]
        if let Some(ticks) = PRETEND.get() {
            REMAINING.set(Some(ticks));
            return Budget;
        }
        REMAINING.set(Some(TICKS));
        Budget
    }

    /// Whether nothing is left.
    pub(in crate::sqlite) fn is_spent() -> bool {
        REMAINING.get() == Some(0)
    }

    /// Gives the statements of this thread another budget.
    #[cfg(test)]
    pub(in crate::sqlite) fn pretend(ticks: Option<u32>) {
        PRETEND.set(ticks);
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        REMAINING.set(None);
    }
}
