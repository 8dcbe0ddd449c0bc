//! Tests of the state machine, by concern: `engine_*` for connections and statements,
//! `state_*` for applying, checkpoints and images.

#[cfg(not(debug_assertions))]
mod apply_cost;
mod engine_bounds;
mod engine_content_hash;
mod engine_determinism;
mod engine_disk_full;
mod engine_explain;
mod engine_forbidden;
mod engine_functions;
mod engine_plans;
mod engine_readers;
mod engine_statements;
mod engine_streams;
mod engine_strings;
mod engine_texts;
mod engine_wal_writes;
mod state_apply;
mod state_byte_level;
mod state_image;
mod state_splits;
mod state_support;
mod state_void;

use rusqlite::Connection;

use crate::error::Error;
use crate::statement::Statement;
use crate::value::Value;

use crate::sqlite::apply::budget::{self, Budget};
use crate::sqlite::apply::execute::{self, Failure, StatementOutcome};
use crate::sqlite::connection::{open_reader, open_writer};
use crate::sqlite::determinism::context::{self, CommandContext};
use crate::sqlite::determinism::precheck;

/// A writer and a directory that lives as long.
struct Engine {
    conn: Connection,
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Engine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.replica");
        let conn = open_writer(&path).unwrap();
        conn.execute_batch(
            "CREATE TABLE _quorumlite_meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID; \
             CREATE TABLE _quorumlite_recent(log_index INTEGER PRIMARY KEY, results BLOB NOT NULL)",
        )
        .unwrap();
        Engine { conn, path, _dir: dir }
    }

    fn reader(&self) -> Connection {
        open_reader(&self.path).unwrap()
    }

    fn try_run(&self, statement: impl Into<Statement>) -> Result<StatementOutcome, Failure> {
        let _budget = Budget::begin(&self.conn, budget::DEFAULT_STEPS, true);
        execute::run(&self.conn, &statement.into(), execute::COMMAND_RESULT_LIMIT)
    }

    /// Runs a statement that must succeed.
    fn run(&self, statement: impl Into<Statement>) -> StatementOutcome {
        let statement = statement.into();
        let sql = statement.sql.clone();
        self.try_run(statement).unwrap_or_else(|failure| panic!("{sql}: {failure:?}"))
    }

    /// Runs a statement that must fail the same way on every node.
    fn refused(&self, statement: impl Into<Statement>) -> Error {
        let statement = statement.into();
        let sql = statement.sql.clone();
        match self.try_run(statement) {
            Err(Failure::Statement(error)) => error,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// Runs a statement as a command of its own: with a clock, a seed and fresh counters.
    fn command(&self, context: CommandContext, sql: &str) -> StatementOutcome {
        let _guard = context::enter(context);
        execute::reset_connection_state(&self.conn, true).unwrap();
        self.run(sql)
    }

    fn values(&self, sql: &str) -> Vec<Vec<Value>> {
        self.run(sql).rows.into_values()
    }

    fn one(&self, sql: &str) -> Value {
        self.values(sql).remove(0).remove(0)
    }
}

fn text(value: &str) -> Value {
    Value::from(value)
}
