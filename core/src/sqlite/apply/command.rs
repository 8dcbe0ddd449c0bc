//! [`Command`]: what is applied all or not at all, and how it is run within a transaction.

use rusqlite::{Connection, ffi};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::budget::Budget;
use crate::sqlite::apply::execute::{self, reset_connection_state};
use crate::sqlite::determinism::analyze;
use crate::sqlite::determinism::context::{self, CommandContext};
use crate::sqlite::error::Failure;
use crate::sqlite::internal::{self, node_error};
use crate::statement::{ExecuteResult, Statement};

/// Statements that are applied all or not at all, exactly once.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// Who sent it.
    pub client: u128,
    /// The client's number for it; a repeated proposal carries the same.
    pub sequence: u64,
    /// The client has seen the answers of all its commands below this.
    pub acked_below: u64,
    /// Where `random()` starts.
    pub seed: u64,
    /// The statements.
    pub statements: Vec<Statement>,
}

impl Command {
    /// Whether the text of a statement contains `word`, given in lower case, in upper or lower case.
    pub(in crate::sqlite) fn mentions(&self, word: &str) -> bool {
        let word = word.as_bytes();
        let of = |sql: &str| {
            let sql = sql.as_bytes();
            let mut from = 0;
            while let Some(at) = sql[from..].iter().position(|b| b | 0x20 == word[0]) {
                from += at + 1;
                let rest = &sql[from - 1..];
                if rest.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word)) {
                    return true;
                }
            }
            false
        };
        self.statements.iter().any(|s| of(&s.sql))
    }
}

/// What came of a [`Command`]: one result per statement, or an error, the same on every node, and
/// then nothing of the command was applied.
pub(crate) type CommandResult = Result<Vec<ExecuteResult>, Error>;

/// How one command ended.
pub(in crate::sqlite) enum Outcome {
    Done(CommandResult),
    /// It took the whole transaction with it (`INSERT OR ROLLBACK`).
    RolledBack(Verdict),
    /// It failed without a savepoint, and nobody knows what it left behind.
    Unprotected,
}

/// What is known of a command that has taken its transaction with it.
#[derive(Debug, Clone)]
pub(in crate::sqlite) enum Verdict {
    /// It fails so, and is not run again.
    Fails(Error),
    /// It came near to a bound: a connection that remembers nothing must decide.
    Close,
}

/// A command at its place in the log, about to be run in the open transaction of `conn`.
pub(in crate::sqlite) struct Running<'a> {
    pub conn: &'a Connection,
    pub index: u64,
    pub timestamp_us: i64,
    pub command: &'a Command,
    /// Somebody may ask for `changes()`.
    pub uses_changes: bool,
    /// There may be virtual tables.
    pub virtual_tables: bool,
    /// What the command may use, in steps.
    pub budget: u64,
}

impl Running<'_> {
    /// Runs a command in a savepoint. Where it comes near to a bound, or is known to (`close`), the
    /// run of a connection that remembers nothing counts.
    pub(in crate::sqlite) fn protected(
        &self,
        stale_statistics: &mut bool,
        close: bool,
    ) -> Result<Outcome> {
        let Running { conn, command, .. } = self;
        let mut afresh = close;
        let result = loop {
            internal::run(conn, "SAVEPOINT quorumlite_command")?;
            // After the savepoint, at which a full-text index writes what earlier commands left to it.
            if std::mem::take(stale_statistics) || afresh {
                analyze::reload(conn)?;
            }
            let (result, close) = self.run(afresh)?;
            if conn.is_autocommit() {
                return match result {
                    Err(_) if close && !afresh => Ok(Outcome::RolledBack(Verdict::Close)),
                    Err(error) => Ok(Outcome::RolledBack(Verdict::Fails(error))),
                    Ok(_) => Err(transaction_lost()),
                };
            }
            let again = close && !afresh;
            if result.is_err() || again {
                internal::run(conn, "ROLLBACK TO quorumlite_command")?;
            }
            internal::run(conn, "RELEASE quorumlite_command")?;
            *stale_statistics = analyze::may_have_changed(conn, &command.statements)?;
            if command.mentions("defer_foreign_keys") {
                // The flag outlives the command otherwise; it is set when the text is parsed, so a
                // cached statement would not do.
                internal::batch(conn, "PRAGMA defer_foreign_keys = OFF")?;
            }
            if !again {
                break result;
            }
            afresh = true;
        };
        Ok(Outcome::Done(result))
    }

    /// Runs a command of one statement as it is.
    pub(in crate::sqlite) fn unprotected(&self) -> Result<Outcome> {
        let (result, close) = self.run(false)?;
        match (self.conn.is_autocommit(), result) {
            (true, Err(_)) if close => Ok(Outcome::RolledBack(Verdict::Close)),
            (true, Err(error)) => Ok(Outcome::RolledBack(Verdict::Fails(error))),
            (true, Ok(_)) => Err(transaction_lost()),
            (false, Ok(results)) if !close => Ok(Outcome::Done(Ok(results))),
            (false, _) => Ok(Outcome::Unprotected),
        }
    }

    /// Runs the statements of a command up to the first that fails; also says whether that came near
    /// to the end of its budget. `afresh`: each on a connection that remembers nothing.
    fn run(&self, afresh: bool) -> Result<(CommandResult, bool)> {
        let _budget = Budget::begin(self.conn, self.budget, self.virtual_tables);
        let result = self.run_statements(afresh)?;
        Ok((result, Budget::is_nearly_spent()))
    }

    fn run_statements(&self, afresh: bool) -> Result<CommandResult> {
        let Running { conn, index, timestamp_us, command, uses_changes, .. } = *self;
        reset_connection_state(conn, uses_changes)?;
        let mut results = Vec::with_capacity(command.statements.len());
        let mut result_left = execute::COMMAND_RESULT_LIMIT;
        let _context = context::enter(CommandContext { timestamp_us, seed: command.seed });
        for (i, statement) in command.statements.iter().enumerate() {
            let forgotten = if afresh && i > 0 { execute::forget_all(conn) } else { Ok(()) };
            let outcome = forgotten.and_then(|()| execute::run(conn, statement, result_left));
            match outcome {
                Ok(o) => {
                    result_left = result_left.saturating_sub(o.result_bytes);
                    results.push(ExecuteResult {
                        rows_affected: o.rows_affected,
                        last_insert_rowid: o.last_insert_rowid,
                        index,
                        rows: o.rows,
                    });
                }
                Err(Failure::Node(error)) => return Err(error),
                Err(Failure::Statement(error)) if command.statements.len() > 1 => {
                    return Ok(Err(error.context(format_args!("statement {}", i + 1))));
                }
                Err(Failure::Statement(error)) => return Ok(Err(error)),
            }
            if conn.is_autocommit() {
                return Err(transaction_lost());
            }
        }
        if self.virtual_tables {
            match execute::flush_virtual_tables(conn) {
                Ok(()) => {}
                Err(Failure::Node(error)) => return Err(error),
                Err(Failure::Statement(error)) => return Ok(Err(error)),
            }
        }
        if deferred_foreign_keys(conn)? {
            return Ok(Err(Error::new(
                ErrorKind::Constraint,
                "SQLITE_CONSTRAINT_FOREIGNKEY",
                "FOREIGN KEY constraint failed",
            )
            .with_sqlite_code(ffi::SQLITE_CONSTRAINT_FOREIGNKEY)));
        }
        Ok(Ok(results))
    }
}

fn transaction_lost() -> Error {
    node_error("TRANSACTION_LOST", "a statement ended the transaction without an error")
}

/// Whether a foreign key is violated that would only be checked at COMMIT.
fn deferred_foreign_keys(conn: &Connection) -> Result<bool> {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the handle is that of an open connection, which this thread has to itself.
    let rc = unsafe {
        ffi::sqlite3_db_status(
            conn.handle(),
            ffi::SQLITE_DBSTATUS_DEFERRED_FKS,
            &mut current,
            &mut highest,
            0,
        )
    };
    if rc != ffi::SQLITE_OK {
        return Err(node_error("SQLITE_MISUSE", "SQLite does not tell about deferred keys"));
    }
    Ok(current != 0)
}
