//! [`Writer`]: applies log entries to the database, exactly once and the same on every node.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::command::{Command, CommandResult, Outcome, Running, Verdict};
use crate::sqlite::apply::execute::{after_blanks, first_keyword};
use crate::sqlite::apply::halt::ApplyMark;
use crate::sqlite::apply::meta::{Applied, Position};
use crate::sqlite::apply::recent::{self, Identity, Known, Recent};
use crate::sqlite::apply::write_steps;
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
    /// The commands of the entry with this index, which stands before it, were taken back: nobody
    /// has applied them.
    Void(u64),
    /// The time of the commands after it begins here, whatever it was before.
    ResetClock(i64),
}

impl Entry {
    fn commands(&self) -> &[Command] {
        match &self.kind {
            EntryKind::Commands { commands, .. } => commands,
            EntryKind::Blank
            | EntryKind::Membership(_)
            | EntryKind::Void(_)
            | EntryKind::ResetClock(_) => &[],
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
    /// The planner's statistics in memory, or the options of a full-text index, may not be those of
    /// the file: the next command begins with reading the schema anew.
    pub(in crate::sqlite) stale_statistics: bool,
    /// There may be virtual tables. They write what they hold back at each savepoint, so there must
    /// be one for each command.
    pub(in crate::sqlite) virtual_tables: bool,
    /// A statement, or a trigger or view, may ask for `changes()`.
    pub(in crate::sqlite) uses_changes: bool,
    /// How many transactions are to come in which each command gets a savepoint: after a failure
    /// another one is likely.
    pub(in crate::sqlite) careful: u32,
    /// What one command may use, in steps: part of the content, or of a content that was rolled back
    /// where it is stale.
    pub(in crate::sqlite) budget: u64,
    pub(in crate::sqlite) stale_budget: bool,
    pub(in crate::sqlite) mark: ApplyMark,
    /// Entries that are not applied yet, and that a committed entry after them takes back.
    pub(in crate::sqlite) voids: BTreeSet<u64>,
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
        verdict: Verdict,
    },
    /// A command without a savepoint failed, and nobody knows what it left behind; the transaction
    /// is still open.
    Unprotected,
}

/// Commands that are known to take the transaction with them, by entry and slot.
type Doomed = HashMap<(usize, usize), Verdict>;

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
        self.apply_entries(&entries).map_err(|e| {
            self.mark.failed(&e);
            self.shared.fail(e)
        })
    }

    /// A committed entry takes back the commands of entry `index`: they are skipped if they were not
    /// applied yet.
    pub(crate) fn void(&mut self, index: u64) {
        if index > self.applied.index() {
            self.voids.insert(index);
            self.publish_halted();
        }
    }

    /// Tries what is halted once more.
    pub(crate) fn retry(&mut self) {
        self.mark.retry();
        self.publish_halted();
    }

    /// The node is closed.
    pub(crate) fn finish(&mut self) {
        self.mark.clear();
    }

    /// Says what is not applied any more because it ended the process before.
    pub(in crate::sqlite) fn publish_halted(&mut self) {
        self.mark.ended(self.applied.index());
        let halted = self.mark.halted().filter(|h| !self.voids.contains(&h.index));
        self.shared.publish_halted(halted);
    }

    fn apply_entries(&mut self, entries: &[Entry]) -> Result<Vec<Vec<CommandResult>>> {
        let shared = self.shared.clone();
        let _write = shared.write_lock.lock();
        let mut results = Vec::with_capacity(entries.len());
        let mut doomed = Doomed::new();
        let mut range = 0..entries.len();
        while !range.is_empty() {
            if entries.get(range.start).is_some_and(|e| self.mark.is_suspect(e.position.index)) {
                range.end = range.start + 1;
            }
            match self.transaction(entries, range.clone(), &doomed) {
                Ok(Attempt::Committed(more)) => {
                    results.extend(more);
                    range = range.end..entries.len();
                }
                Ok(Attempt::RolledBack { entry, slot, verdict }) => {
                    // The command as a whole has no effect and its error is known, so in the next
                    // attempt it is not run, or it is run in a way that does not depend on what came
                    // before: no replica can tell how many attempts there were. An
                    // entry stays in one transaction; those before it go first, to be done once.
                    self.recent.rolled_back();
                    doomed.insert((entry, slot), verdict);
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
        // See `command`.
        self.stale_statistics |= self.virtual_tables;
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
        if let Some([first, .., last] | [first @ last]) = entries.get(range.clone()) {
            self.mark.begin(first.position.index, last.position.index);
        }
        let conn = connection(&self.conn)?;
        internal::run(conn, "BEGIN IMMEDIATE")?;
        if std::mem::take(&mut self.stale_budget) {
            self.budget = write_steps::load(conn)?;
        }
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
            let voided = self.voids.contains(&at.index).then(|| Verdict::Fails(voided()));
            if voided.is_some() {
                applied.voided.push(at.index);
            }
            match &entry.kind {
                EntryKind::Blank => {}
                EntryKind::Membership(bytes) => {
                    applied.membership = Some((Some(at), bytes.clone()));
                }
                EntryKind::Commands { timestamp_us, commands } => {
                    applied.timestamp_us = applied.timestamp_us.max(*timestamp_us);
                    answers.reserve(commands.len());
                    for (slot, command) in commands.iter().enumerate() {
                        let verdict = voided.as_ref().or_else(|| doomed.get(&(i, slot)));
                        let now = applied.timestamp_us;
                        self.mark.command(true);
                        let outcome = self.command(at.index, now, command, verdict)?;
                        self.mark.command(false);
                        match outcome {
                            // What refused the command is there once this entry is applied; an
                            // answer that was kept has the index of its own entry already.
                            Outcome::Done(Err(error)) if error.index().is_none() => {
                                answers.push(Err(error.with_index(at.index)));
                            }
                            Outcome::Done(result) => answers.push(result),
                            Outcome::RolledBack(verdict) => {
                                return Ok(Attempt::RolledBack { entry: i, slot, verdict });
                            }
                            Outcome::Unprotected => return Ok(Attempt::Unprotected),
                        }
                    }
                }
                EntryKind::ResetClock(time) => applied.timestamp_us = *time,
                EntryKind::Void(index) => {
                    if !applied.voided.contains(index) {
                        return Err(applied_before(*index, at.index));
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
        if !self.voids.is_empty() {
            self.voids = self.voids.split_off(&(self.applied.index() + 1));
        }
        self.mark.ended(self.applied.index());
        self.shared.publish_applied(&self.applied);
        Ok(Attempt::Committed(results))
    }

    fn command(
        &mut self,
        index: u64,
        timestamp_us: i64,
        command: &Command,
        verdict: Option<&Verdict>,
    ) -> Result<Outcome> {
        let needs_savepoint = self.needs_savepoint(command);
        self.uses_changes = self.uses_changes || command.mentions("changes");
        let uses_changes = self.uses_changes;
        let conn = connection(&self.conn)?;
        if self.stale_budget {
            self.budget = write_steps::load(conn)?;
        }
        self.stale_budget |= command.statements.iter().any(write_steps::is_about);
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
        let running = Running {
            conn,
            index,
            timestamp_us,
            command,
            uses_changes,
            virtual_tables: self.virtual_tables,
            budget: self.budget,
        };
        let outcome = match verdict {
            Some(Verdict::Fails(error)) => Outcome::Done(Err(error.clone())),
            Some(Verdict::Close) => running.protected(&mut self.stale_statistics, true)?,
            None if needs_savepoint => running.protected(&mut self.stale_statistics, false)?,
            None => running.unprotected()?,
        };
        if let Outcome::Done(result) = &outcome {
            // FTS5 keeps some options of its tables in memory, where no rollback reaches them.
            self.stale_statistics |= self.virtual_tables && result.is_err();
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
        if !command.statements.iter().all(|s| simple(first_keyword(&s.sql))) {
            self.shared.preflight.forget();
        }
        let lone = matches!(&command.statements[..], [s] if simple(first_keyword(&s.sql)));
        !lone || self.virtual_tables || self.stale_statistics || self.careful > 0
    }
}

/// The result of every command of an entry that was taken back.
fn voided() -> Error {
    Error::new(
        ErrorKind::Sql,
        "COMMAND_VOIDED",
        "the write was taken back by void_command() before any node had applied it, and has no effect: \
         it, or another write in its log entry, had ended the nodes that applied it",
    )
}

fn applied_before(index: u64, at: u64) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "CORRUPTION_VOIDED",
        format!(
            "entry {at} of the log voids the command at index {index}, which this node has applied: its \
             data differs from that of the others. Remove this node's directory and let it join again"
        ),
    )
}

pub(in crate::sqlite) fn connection(conn: &Option<Connection>) -> Result<&Connection> {
    conn.as_ref().ok_or_else(Error::closed)
}
