//! What the tests of the state machine share: a replica in a directory of its own, short ways to
//! make entries, and everything that must be equal on all replicas.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::Result;
use crate::sqlite::apply::command::{Command, CommandResult};
use crate::sqlite::apply::meta::{Applied, Position};
use crate::sqlite::apply::recent::{Limits, Recent};
use crate::sqlite::apply::writer::{Entry, EntryKind, Writer};
use crate::sqlite::connection;
use crate::sqlite::database::Database;
use crate::statement::Statement;
use crate::value::Value;

pub(super) struct Replica {
    pub dir: TempDir,
    pub db: Database,
    pub writer: Writer,
    limits: Limits,
}

impl Replica {
    pub(super) fn new() -> Replica {
        Replica::with_limits(Limits::default())
    }

    pub(super) fn with_limits(limits: Limits) -> Replica {
        Replica::open(tempfile::tempdir().unwrap(), limits)
    }

    pub(super) fn open(dir: TempDir, limits: Limits) -> Replica {
        let (db, writer) = Database::open_with(dir.path(), limits).unwrap();
        Replica { dir, db, writer, limits }
    }

    /// Drops everything without any goodbye, as a crash of the process does, and opens again.
    pub(super) fn reopen(self) -> Replica {
        let Replica { dir, db, writer, limits } = self;
        drop((db, writer));
        Replica::open(dir, limits)
    }

    pub(super) fn apply(&mut self, entry: Entry) -> Vec<CommandResult> {
        self.writer.apply(vec![entry]).unwrap().remove(0)
    }

    /// Applies one command of a fresh client at the next index.
    pub(super) fn execute(&mut self, sql: &[&str]) -> CommandResult {
        let index = self.writer.applied().index() + 1;
        self.apply(entry(index, vec![command(u128::from(index) << 64, 1, 0, sql)])).remove(0)
    }

    pub(super) fn query(&self, sql: &str) -> Vec<Vec<Value>> {
        self.try_query(sql).unwrap()
    }

    pub(super) fn try_query(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let (rows, _) = self.db.readers().query(&Statement::from(sql), deadline)?;
        Ok(rows.into_values())
    }

    pub(super) fn count(&self, table: &str) -> i64 {
        self.query(&format!("SELECT count(*) FROM {table}"))[0][0].as_i64().unwrap()
    }

    /// All that must be equal on all replicas that have applied the same entries: the content, and
    /// what the state machine keeps about the log.
    pub(super) fn state(&self) -> State {
        let conn = connection::open_reader(&self.db.shared.files.main).unwrap();
        State {
            content: self.db.content_hash().unwrap(),
            applied: Applied::load(&conn).unwrap(),
            kept: Recent::load(&conn, self.limits).unwrap().kept(&conn),
        }
    }

    /// Every row of every table of the content, for a look at where replicas differ.
    pub(super) fn tables(&self) -> Vec<String> {
        let names = self.query(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' \
             AND name NOT LIKE '~_quorumlite~_%' ESCAPE '~' ORDER BY 1",
        );
        let mut all = Vec::new();
        for name in names {
            for row in self.query(&format!("SELECT * FROM \"{}\"", name[0].as_str().unwrap())) {
                all.push(format!("{name:?}: {row:?}"));
            }
        }
        all
    }

    /// Checks that what is in memory is what a restart would find.
    pub(super) fn check_memory(&self) {
        let conn = connection::open_reader(&self.db.shared.files.main).unwrap();
        let rebuilt = Recent::load(&conn, self.limits).unwrap();
        assert!(
            rebuilt.same_as(&self.writer.recent),
            "in memory {:#?}\nrebuilt {rebuilt:#?}",
            self.writer.recent
        );
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct State {
    pub content: (String, u64),
    pub applied: Applied,
    pub kept: Vec<String>,
}

pub(super) fn at(index: u64) -> Position {
    Position { term: 1, index }
}

pub(super) fn entry(index: u64, commands: Vec<Command>) -> Entry {
    timed(index, index as i64 * 1_000_000, commands)
}

pub(super) fn timed(index: u64, timestamp_us: i64, commands: Vec<Command>) -> Entry {
    Entry { position: at(index), kind: EntryKind::Commands { timestamp_us, commands } }
}

pub(super) fn command(client: u128, sequence: u64, acked_below: u64, sql: &[&str]) -> Command {
    Command {
        client,
        sequence,
        acked_below,
        seed: sequence,
        statements: sql.iter().map(|s| Statement::from(*s)).collect(),
    }
}

pub(super) fn code(result: &CommandResult) -> &str {
    result.as_ref().unwrap_err().code()
}
