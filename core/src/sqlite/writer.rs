//! [`Writer`]: applies log entries to the database, exactly once and the same on every node.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, ffi};

use super::analyze;
use super::checkpoint::sync_wal;
use super::context::{self, CommandContext};
use super::database::Shared;
use super::error::Failure;
use super::execute::{self, reset_connection_state};
use super::internal::{self, node_error};
use super::meta::{Applied, Position};
use super::recent::{self, Identity, Known, Recent};
use crate::error::{Error, ErrorKind, Result};
use crate::statement::{ExecuteResult, Statement};

/// A committed entry of the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where it stands in the log.
    pub position: Position,
    /// What it carries.
    pub kind: EntryKind,
}

/// What an [`Entry`] carries.
#[derive(Debug, Clone)]
pub(crate) enum EntryKind {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A membership, opaque here.
    Membership(Bytes),
    /// Commands, applied in order.
    Commands {
        /// The leader's clock when it proposed, in microseconds since 1970 (UTC).
        timestamp_us: i64,
        /// The commands.
        commands: Vec<Command>,
    },
}

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

impl Entry {
    fn commands(&self) -> &[Command] {
        match &self.kind {
            EntryKind::Commands { commands, .. } => commands,
            EntryKind::Blank | EntryKind::Membership(_) => &[],
        }
    }
}

impl Command {
    /// Whether the text of a statement contains `word`, in upper or lower case.
    fn mentions(&self, word: &str) -> bool {
        let word = word.as_bytes();
        let of =
            |sql: &str| sql.as_bytes().windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
        self.statements.iter().any(|s| of(&s.sql))
    }
}

/// What came of a [`Command`]: one result per statement, or an error, the same on every node, and
/// then nothing of the command was applied.
pub(crate) type CommandResult = Result<Vec<ExecuteResult>, Error>;

/// The only one who changes the database.
///
/// After an error that is this node's own (a full disk, say) it refuses everything: what was
/// committed stands, the rest is applied again from the log after a restart.
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// None only when reopening after an install failed.
    pub(super) conn: Option<Connection>,
    pub(super) recent: Recent,
    pub(super) applied: Applied,
    /// The planner's statistics in memory may not be those of the file: the next command begins
    /// with reading them anew.
    pub(super) stale_statistics: bool,
}

/// How one try at a transaction ended.
enum Attempt {
    Committed(Vec<Vec<CommandResult>>),
    /// A command took the whole transaction with it (`INSERT OR ROLLBACK`); nothing was applied.
    RolledBack {
        entry: usize,
        slot: usize,
        error: Error,
    },
}

/// How one command ended.
enum Outcome {
    Done(CommandResult),
    RolledBack(Error),
}

/// Commands that are known to fail and to take the transaction with them, by entry and slot.
type Doomed = HashMap<(usize, usize), Error>;

impl Writer {
    /// How far the database has come.
    pub(crate) fn applied(&self) -> Applied {
        self.applied.clone()
    }

    /// Applies `entries`, which follow what was applied in rising order, and answers one list of
    /// results per entry (empty for an entry without commands). Usually one transaction.
    ///
    /// # Errors
    /// This node must stop. Whole entries from the front of `entries` may have been committed.
    pub(crate) fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Vec<CommandResult>>> {
        self.shared.check()?;
        self.apply_entries(&entries).map_err(|e| self.shared.fail(e))
    }

    /// Makes everything that was applied survive a power cut, and says up to where that is.
    ///
    /// Syncs SQLite's write-ahead log, as a commit with `synchronous=FULL` would do.
    ///
    /// # Errors
    /// The sync failed: this node must stop.
    pub(crate) fn barrier(&mut self) -> Result<Option<Position>> {
        self.shared.check()?;
        let conn = connection(&self.conn)?;
        sync_wal(conn).map_err(|e| self.shared.fail(e))?;
        self.shared.publish_durable(self.applied.position);
        Ok(self.applied.position)
    }

    fn apply_entries(&mut self, entries: &[Entry]) -> Result<Vec<Vec<CommandResult>>> {
        let shared = self.shared.clone();
        let _write = shared.write_lock.lock();
        let mut results = Vec::with_capacity(entries.len());
        let mut doomed = Doomed::new();
        let mut range = 0..entries.len();
        while !range.is_empty() {
            match self.transaction(entries, range.clone(), &doomed) {
                Ok(Attempt::Committed(more)) => {
                    results.extend(more);
                    range = range.end..entries.len();
                }
                Ok(Attempt::RolledBack { entry, slot, error }) => {
                    // The command as a whole has no effect and its error is known, so in the next
                    // attempt it is not run: no replica can tell how many attempts there were. An
                    // entry stays in one transaction; those before it go first, to be done once.
                    self.recent.rolled_back();
                    doomed.insert((entry, slot), error);
                    let tried = entries.get(range.clone()).unwrap_or_default();
                    for command in tried.iter().flat_map(Entry::commands) {
                        let conn = connection(&self.conn)?;
                        self.stale_statistics |=
                            analyze::may_have_changed(conn, &command.statements)?;
                    }
                    if entry > range.start {
                        range.end = entry;
                    }
                }
                Err(error) => {
                    self.recent.rolled_back();
                    let conn = connection(&self.conn)?;
                    if !conn.is_autocommit()
                        && let Err(e) = internal::run(conn, "ROLLBACK")
                    {
                        tracing::warn!(error = %e, "rolling back after a failure failed too");
                    }
                    return Err(error);
                }
            }
        }
        Ok(results)
    }

    fn transaction(
        &mut self,
        entries: &[Entry],
        range: std::ops::Range<usize>,
        doomed: &Doomed,
    ) -> Result<Attempt> {
        let mut applied = self.applied.clone();
        let mut results = Vec::with_capacity(range.len());
        internal::run(connection(&self.conn)?, "BEGIN IMMEDIATE")?;
        for i in range {
            let Some(entry) = entries.get(i) else { break };
            let at = entry.position;
            if applied.position.is_some_and(|last| at.index <= last.index) {
                return Err(node_error(
                    "APPLY_OUT_OF_ORDER",
                    format!("entry {} came after {} was applied", at.index, applied.index()),
                ));
            }
            let mut answers = Vec::new();
            match &entry.kind {
                EntryKind::Blank => {}
                EntryKind::Membership(bytes) => {
                    applied.membership = Some((Some(at), bytes.clone()));
                }
                EntryKind::Commands { timestamp_us, commands } => {
                    applied.timestamp_us = applied.timestamp_us.max(*timestamp_us);
                    answers.reserve(commands.len());
                    for (slot, command) in commands.iter().enumerate() {
                        let known_error = doomed.get(&(i, slot));
                        let now = applied.timestamp_us;
                        match self.command(at.index, now, command, known_error)? {
                            Outcome::Done(result) => answers.push(result),
                            Outcome::RolledBack(error) => {
                                return Ok(Attempt::RolledBack { entry: i, slot, error });
                            }
                        }
                    }
                }
            }
            applied.position = Some(at);
            results.push(answers);
        }
        let conn = connection(&self.conn)?;
        self.recent.store(conn)?;
        applied.store(&self.applied, conn)?;
        internal::run(conn, "COMMIT")?;
        self.recent.committed();
        self.applied = applied;
        self.shared.publish_applied(&self.applied);
        Ok(Attempt::Committed(results))
    }

    fn command(
        &mut self,
        index: u64,
        timestamp_us: i64,
        command: &Command,
        known_error: Option<&Error>,
    ) -> Result<Outcome> {
        let conn = connection(&self.conn)?;
        let identity = Identity {
            client: command.client,
            sequence: command.sequence,
            acked_below: command.acked_below,
        };
        match self.recent.known(&identity) {
            Known::New => {}
            Known::Kept(place) => {
                return Ok(Outcome::Done(self.recent.result(conn, place)?));
            }
            Known::Expired => return Ok(Outcome::Done(Err(recent::expired()))),
        }
        let outcome = match known_error {
            Some(error) => Outcome::Done(Err(error.clone())),
            None => run(conn, index, timestamp_us, command, &mut self.stale_statistics)?,
        };
        if let Outcome::Done(result) = &outcome {
            self.recent.record(index, &identity, result);
        }
        Ok(outcome)
    }
}

/// Runs the statements of a command in a savepoint.
fn run(
    conn: &Connection,
    index: u64,
    timestamp_us: i64,
    command: &Command,
    stale_statistics: &mut bool,
) -> Result<Outcome> {
    internal::run(conn, "SAVEPOINT quorumlite_command")?;
    if std::mem::take(stale_statistics) {
        analyze::reload(conn)?;
    }
    // After the savepoint, at which a full-text index writes what earlier commands left to it.
    reset_connection_state(conn)?;
    let mut results = Vec::with_capacity(command.statements.len());
    let mut failed = None;
    let mut result_left = execute::COMMAND_RESULT_LIMIT;
    {
        let _context = context::enter(CommandContext { timestamp_us, seed: command.seed });
        for (i, statement) in command.statements.iter().enumerate() {
            match execute::run(conn, statement, result_left) {
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
                    failed = Some(error.context(format_args!("statement {i}")));
                }
                Err(Failure::Statement(error)) => failed = Some(error),
            }
            if conn.is_autocommit() {
                return match failed {
                    Some(error) => Ok(Outcome::RolledBack(error)),
                    None => Err(node_error(
                        "TRANSACTION_LOST",
                        "a statement ended the transaction without an error",
                    )),
                };
            }
            if failed.is_some() {
                break;
            }
        }
    }
    if failed.is_none() && deferred_foreign_keys(conn)? {
        failed = Some(
            Error::new(
                ErrorKind::Constraint,
                "SQLITE_CONSTRAINT_FOREIGNKEY",
                "FOREIGN KEY constraint failed",
            )
            .with_sqlite_code(ffi::SQLITE_CONSTRAINT_FOREIGNKEY),
        );
    }
    if failed.is_some() {
        internal::run(conn, "ROLLBACK TO quorumlite_command")?;
    }
    internal::run(conn, "RELEASE quorumlite_command")?;
    *stale_statistics = analyze::may_have_changed(conn, &command.statements)?;
    if command.mentions("defer_foreign_keys") {
        // The flag outlives the command otherwise; it is set when the text is parsed, so a cached
        // statement would not do.
        internal::batch(conn, "PRAGMA defer_foreign_keys = OFF")?;
    }
    Ok(Outcome::Done(failed.map_or(Ok(results), Err)))
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

pub(super) fn connection(conn: &Option<Connection>) -> Result<&Connection> {
    conn.as_ref().ok_or_else(Error::closed)
}
