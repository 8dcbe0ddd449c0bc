//! [`Writer`]: applies log entries to the database, exactly once and the same on every node.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::sqlite::apply::command::{Command, CommandResult, Outcome, Running};
use crate::sqlite::apply::execute::{after_blanks, first_keyword};
use crate::sqlite::apply::meta::{Applied, Position};
use crate::sqlite::apply::recent::{self, Identity, Known, Recent};
use crate::sqlite::database::Shared;
use crate::sqlite::determinism::analyze;
use crate::sqlite::internal::{self, node_error};
use crate::statement::Statement;

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

impl Entry {
    fn commands(&self) -> &[Command] {
        match &self.kind {
            EntryKind::Commands { commands, .. } => commands,
            EntryKind::Blank | EntryKind::Membership(_) => &[],
        }
    }
}

/// The only one who changes the database.
///
/// After an error that is this node's own (a full disk, say) it refuses everything: what was
/// committed stands, the rest is applied again from the log after a restart.
pub(crate) struct Writer {
    pub(in crate::sqlite) shared: Arc<Shared>,
    /// None only when reopening after an install failed.
    pub(in crate::sqlite) conn: Option<Connection>,
    pub(in crate::sqlite) recent: Recent,
    pub(in crate::sqlite) applied: Applied,
    /// The planner's statistics in memory may not be those of the file: the next command begins
    /// with reading them anew.
    pub(in crate::sqlite) stale_statistics: bool,
    /// There may be virtual tables. They write what they hold back at each savepoint, so there must
    /// be one for each command.
    pub(in crate::sqlite) virtual_tables: bool,
    /// A statement, or a trigger or view, may ask for `changes()`.
    pub(in crate::sqlite) uses_changes: bool,
    /// How many transactions are to come in which each command gets a savepoint: after a failure
    /// another one is likely.
    pub(in crate::sqlite) careful: u32,
}

/// The [`Writer::careful`] after a failure. Few in tests, which are full of failures.
const CAREFUL_TRANSACTIONS: u32 = if cfg!(test) { 1 } else { 16 };

/// How one try at a transaction ended.
enum Attempt {
    Committed(Vec<Vec<CommandResult>>),
    /// A command took the whole transaction with it (`INSERT OR ROLLBACK`); nothing was applied.
    RolledBack {
        entry: usize,
        slot: usize,
        error: Error,
    },
    /// A command without a savepoint failed, and nobody knows what it left behind; the transaction
    /// is still open.
    Unprotected,
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
                    self.check_statistics(entries.get(range.clone()).unwrap_or_default())?;
                    if entry > range.start {
                        range.end = entry;
                    }
                }
                Ok(Attempt::Unprotected) => {
                    self.recent.rolled_back();
                    internal::run(connection(&self.conn)?, "ROLLBACK")?;
                    self.careful = CAREFUL_TRANSACTIONS;
                    self.check_statistics(entries.get(range.clone()).unwrap_or_default())?;
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

    /// `entries` were rolled back: what the planner made of them is not.
    fn check_statistics(&mut self, entries: &[Entry]) -> Result<()> {
        let conn = connection(&self.conn)?;
        for command in entries.iter().flat_map(Entry::commands) {
            self.stale_statistics |= analyze::may_have_changed(conn, &command.statements)?;
        }
        Ok(())
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
                            // What refused the command is there once this entry is applied; an
                            // answer that was kept has the index of its own entry already.
                            Outcome::Done(Err(error)) if error.index().is_none() => {
                                answers.push(Err(error.with_index(at.index)));
                            }
                            Outcome::Done(result) => answers.push(result),
                            Outcome::RolledBack(error) => {
                                return Ok(Attempt::RolledBack { entry: i, slot, error });
                            }
                            Outcome::Unprotected => return Ok(Attempt::Unprotected),
                        }
                    }
                }
            }
            applied.position = Some(at);
            results.push(answers);
        }
        let conn = connection(&self.conn)?;
        let carried = self.recent.store(conn, &applied)?;
        applied.store(&self.applied, carried, conn)?;
        internal::run(conn, "COMMIT")?;
        self.recent.committed();
        self.careful = self.careful.saturating_sub(1);
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
        let needs_savepoint = self.needs_savepoint(command);
        self.uses_changes = self.uses_changes || command.mentions("changes");
        let uses_changes = self.uses_changes;
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
            None => {
                let running = Running { conn, index, timestamp_us, command, uses_changes };
                if needs_savepoint {
                    running.protected(&mut self.stale_statistics)?
                } else {
                    running.unprotected()?
                }
            }
        };
        if let Outcome::Done(result) = &outcome {
            self.recent.record(index, &identity, result);
        }
        Ok(outcome)
    }

    /// A lone INSERT, UPDATE, DELETE or SELECT that succeeds needs none: SQLite undoes what it
    /// must by itself. If it fails, the transaction is begun again with savepoints, so no result
    /// depends on this.
    fn needs_savepoint(&mut self, command: &Command) -> bool {
        let creates_virtual = |s: &Statement| {
            let keyword = first_keyword(&s.sql);
            keyword.eq_ignore_ascii_case("CREATE")
                && first_keyword(&after_blanks(&s.sql)[keyword.len()..])
                    .eq_ignore_ascii_case("VIRTUAL")
        };
        self.virtual_tables |= command.statements.iter().any(creates_virtual);
        let simple = |word: &str| {
            ["INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "SELECT"]
                .iter()
                .any(|w| word.eq_ignore_ascii_case(w))
        };
        let lone = matches!(&command.statements[..], [s] if simple(first_keyword(&s.sql)));
        !lone || self.virtual_tables || self.stale_statistics || self.careful > 0
    }
}

pub(in crate::sqlite) fn connection(conn: &Option<Connection>) -> Result<&Connection> {
    conn.as_ref().ok_or_else(Error::closed)
}
