//! The data of the workloads: rows numbered from 1 in the order in which they are written, one
//! after the other; and what must be true of them after any accident.

use std::time::Duration;

use quorumlite::{Config, Consistency, Error, Node, Result, Statement, Value, params};

use crate::calls::Watch;
use crate::model::{Mark, Op};
use crate::support::{eventually, query};

/// Bytes of one of the rows that make SQLite's write-ahead log grow.
pub const LARGE: i64 = 900_000;

/// Writes rows, and marks in the recording what is handed over and what is acknowledged.
pub struct Ledger<'a> {
    watch: &'a Watch,
    pub last: i64,
}

const INSERT: &str = "INSERT INTO ledger(seq, ballast) VALUES (?, ?)";

impl<'a> Ledger<'a> {
    /// Goes on after row `last`.
    pub fn after(watch: &'a Watch, last: i64) -> Self {
        Ledger { watch, last }
    }

    async fn write(&mut self, node: &Node, rows: i64, statements: Vec<Statement>) -> Result<()> {
        let last = self.last + rows;
        self.watch.mark(Mark::Submitted(last));
        node.execute_batch(statements).await?;
        self.watch.mark(Mark::Acknowledged(last));
        self.last = last;
        Ok(())
    }

    /// The tables, with the first row.
    pub async fn create(&mut self, node: &Node) -> Result<()> {
        let statements = [
            "CREATE TABLE ledger(seq INTEGER PRIMARY KEY, dice INTEGER DEFAULT (random()),
                                 at TEXT DEFAULT CURRENT_TIMESTAMP, ballast BLOB)",
            "CREATE TABLE total(rows INTEGER, sum INTEGER)",
            "INSERT INTO total VALUES (0, 0)",
            "CREATE TRIGGER counted AFTER INSERT ON ledger BEGIN
                 UPDATE total SET rows = rows + 1, sum = sum + new.seq; END",
            "INSERT INTO ledger(seq) VALUES (1)",
        ];
        self.write(node, 1, statements.map(Statement::from).to_vec()).await
    }

    /// Some rows with few bytes.
    pub async fn small(&mut self, node: &Node, count: i64) -> Result<()> {
        self.with_payload(node, count, 20).await
    }

    /// Rows that carry their bytes through the Raft log.
    pub async fn with_payload(&mut self, node: &Node, count: i64, bytes: usize) -> Result<()> {
        for _ in 0..count {
            let payload = vec![self.last as u8; bytes];
            let row = Statement::new(INSERT, params![self.last + 1, payload]);
            self.write(node, 1, vec![row]).await?;
        }
        Ok(())
    }

    /// As many rows as it takes until the log is purged.
    pub async fn fill_log(&mut self, node: &Node) -> Result<()> {
        self.with_payload(node, 9, 150_000).await?;
        eventually("the log is purged", || async {
            (node.status().expect("a status").purged_index > 0).then_some(())
        })
        .await;
        Ok(())
    }

    /// Rows that are large in SQLite alone.
    pub async fn large(&mut self, node: &Node, count: i64) -> Result<()> {
        for _ in 0..count {
            let sql = "INSERT INTO ledger(seq, ballast) VALUES (?, randomblob(?))";
            let row = Statement::new(sql, params![self.last + 1, LARGE]);
            self.write(node, 1, vec![row]).await?;
        }
        Ok(())
    }

    /// Three rows in one write.
    pub async fn batch(&mut self, node: &Node) -> Result<()> {
        let rows = (1..=3).map(|i| Statement::new(INSERT, params![self.last + i, "batch"]));
        self.write(node, 3, rows.collect()).await
    }
}

/// What a script had reached at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The last row that was handed over.
    pub submitted: i64,
    /// The last row that was acknowledged.
    pub acknowledged: i64,
    /// How many copies must have it.
    pub copies: u8,
    /// A member is removed, or is about to be.
    pub removing: bool,
}

impl Default for Reached {
    fn default() -> Self {
        Reached { submitted: 0, acknowledged: 0, copies: 1, removing: false }
    }
}

impl Reached {
    pub fn note(&mut self, op: &Op) {
        match op {
            Op::Mark(Mark::Submitted(seq)) => self.submitted = *seq,
            Op::Mark(Mark::Acknowledged(seq)) => self.acknowledged = *seq,
            Op::Mark(Mark::Copies(copies)) => self.copies = *copies,
            Op::Mark(Mark::Removing) => self.removing = true,
            _ => {}
        }
    }

    pub fn of(ops: &[Op]) -> Reached {
        let mut reached = Reached::default();
        ops.iter().for_each(|op| reached.note(op));
        reached
    }
}

/// A small log, so that it is purged.
pub fn config(dir: &std::path::Path) -> Config {
    Config::new(dir).max_log_bytes(1024 * 1024).timeout(Duration::from_secs(60))
}

/// All rows, with enough of each to tell it from any other.
///
/// # Errors
/// Those of reading.
pub async fn rows(node: &Node, consistency: Consistency) -> Result<Vec<Vec<Value>>> {
    let sql =
        "SELECT seq, dice, at, length(ballast), substr(ballast, 1, 16) FROM ledger ORDER BY seq";
    match query(node, sql, consistency).await {
        Ok(rows) => Ok(rows.iter().map(|row| row.values().to_vec()).collect()),
        Err(e) if e.message().contains("no such table") => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Checks what a node that was opened after an accident has. Returns how many rows that is.
pub async fn verify(
    node: &Node,
    consistency: Consistency,
    reached: Reached,
    story: Option<&[Vec<Value>]>,
) -> std::result::Result<i64, String> {
    let found = rows(node, consistency).await.map_err(|e| format!("reading the ledger: {e}"))?;
    let count = found.len() as i64;
    if count < reached.acknowledged {
        return Err(format!("{} rows were acknowledged, {count} are left", reached.acknowledged));
    }
    if count > reached.submitted {
        return Err(format!("{} rows were handed over, {count} are there", reached.submitted));
    }
    if let Some(story) = story
        && let Some(at) = (0..found.len()).find(|at| found[*at] != story[*at])
    {
        return Err(format!("row {} is {:?}, it was {:?}", at + 1, found[at], story[at]));
    }
    if found.iter().zip(1..).any(|(row, seq)| row[0].as_i64() != Some(seq)) {
        return Err("the numbers have a gap".into());
    }
    if count > 0 {
        let total = query(node, "SELECT rows, sum FROM total", Consistency::None).await;
        let total = total.map_err(|e: Error| format!("reading the total: {e}"))?;
        let expected = [Value::Integer(count), Value::Integer(count * (count + 1) / 2)];
        if total.get(0).is_none_or(|row| *row.values() != expected) {
            return Err(format!("{count} rows, and the trigger counted {total:?}"));
        }
    }
    Ok(count)
}
