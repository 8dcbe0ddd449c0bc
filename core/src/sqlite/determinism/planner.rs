//! What the writer's planner may look at: the text, the schema and `sqlite_stat1`.
//!
//! With samples (`sqlite_stat4`) it would also evaluate constant functions while it compiles, the
//! date functions among them, by our clock. A compiled statement is kept, so each node would plan by
//! the time at which it happened to compile, and other plans give rows other rowids. Readers use the
//! samples: nobody compares their plans.

use std::ffi::c_int;
use std::marker::PhantomData;

use rusqlite::{Connection, ffi};

/// SQLITE_Stat4 of SQLite's `sqliteInt.h`: a bit of what SQLITE_TESTCTRL_OPTIMIZATIONS switches off.
const STAT4: c_int = 0x800;

/// Makes the planner of `conn` disregard samples.
pub(in crate::sqlite) fn install(conn: &Connection) {
    switch_off(conn, STAT4);
}

/// While it lives `conn` collects samples: for ANALYZE, which has nothing to plan.
pub(in crate::sqlite) struct Sampling<'a>(&'a Connection, PhantomData<*const ()>);

impl<'a> Sampling<'a> {
    pub(in crate::sqlite) fn begin(conn: &'a Connection) -> Self {
        switch_off(conn, 0);
        Sampling(conn, PhantomData)
    }
}

impl Drop for Sampling<'_> {
    fn drop(&mut self) {
        switch_off(self.0, STAT4);
    }
}

fn switch_off(conn: &Connection, optimizations: c_int) {
    // SAFETY: the control takes an open connection, which this thread has to itself, and an int.
    unsafe {
        ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_OPTIMIZATIONS, conn.handle(), optimizations)
    };
}
