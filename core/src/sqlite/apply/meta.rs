//! [`Applied`]: how far the state machine has come, kept in the database next to the data: in the
//! last row of recent commands, or in `_quorumlite_meta` where the last entry has no such row.

use bytes::Bytes;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::recent;
use crate::sqlite::internal::{self, node_error};

/// The layout of the internal tables that this version writes.
pub(crate) const FORMAT_VERSION: i64 = 1;

/// A log id: the term in which an entry was proposed and its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// The log index; 1 for the first entry that a client can write.
    pub index: u64,
}

/// How far a database has come along the log, read and written with the data in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    /// The last entry applied; none in a database that has seen no log.
    pub position: Option<Position>,
    /// The last membership applied: where it stood in the log, and its bytes, opaque here.
    pub membership: Option<(Option<Position>, Bytes)>,
    /// The time of the last command, in microseconds since 1970 (UTC). Never goes back.
    pub timestamp_us: i64,
    /// The entries whose commands were taken back before they were applied, in rising order.
    pub voided: Vec<u64>,
}

/// So many voided entries are remembered; each was a crash of every replica.
const MAX_VOIDED: usize = 1024;

impl Applied {
    /// The applied index, 0 where nothing was applied.
    pub(crate) fn index(&self) -> u64 {
        self.position.map_or(0, |p| p.index)
    }

    /// Creates the internal tables in an empty database. Runs in the caller's transaction.
    pub(in crate::sqlite) fn create(conn: &Connection) -> Result<()> {
        internal::batch(
            conn,
            "CREATE TABLE _quorumlite_meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
             CREATE TABLE _quorumlite_recent(log_index INTEGER PRIMARY KEY, results BLOB NOT NULL);",
        )?;
        internal::with(conn, "INSERT INTO _quorumlite_meta VALUES ('format_version', ?1)", |s| {
            s.execute([FORMAT_VERSION])
        })?;
        Ok(())
    }

    /// Whether the database carries the internal tables.
    ///
    /// # Errors
    /// `Corruption` for a database with tables that are not ours: it was never a replica.
    pub(in crate::sqlite) fn exists(conn: &Connection) -> Result<bool> {
        let (ours, all): (i64, i64) = internal::with(
            conn,
            "SELECT count(*) FILTER (WHERE name IN ('_quorumlite_meta', '_quorumlite_recent')), \
             count(*) FROM sqlite_schema WHERE type = 'table'",
            |s| s.query_row([], |r| Ok((r.get(0)?, r.get(1)?))),
        )?;
        match (ours, all) {
            (2, _) => Ok(true),
            (0, 0) => Ok(false),
            _ => Err(not_a_replica("its internal tables are missing")),
        }
    }

    /// Reads what [`Applied::store`] wrote.
    ///
    /// # Errors
    /// `Corruption` where the rows make no sense, `Config` where a later version wrote them.
    pub(in crate::sqlite) fn load(conn: &Connection) -> Result<Applied> {
        let version = integer(conn, "format_version")?;
        match version {
            Some(FORMAT_VERSION) => {}
            Some(v) if v > FORMAT_VERSION => {
                return Err(Error::config(
                    "FORMAT_TOO_NEW",
                    format!(
                        "the database has format {v}, this version of quorumlite knows up to \
                         {FORMAT_VERSION}: upgrade this node"
                    ),
                ));
            }
            _ => return Err(not_a_replica("its format version is missing or wrong")),
        }
        let mut position = load_position(conn, ["applied_term", "applied_index"])?;
        let membership = match get(conn, "membership")? {
            None => None,
            Some(SqlValue::Blob(bytes)) => {
                let at = load_position(conn, ["membership_term", "membership_index"])?;
                Some((at, Bytes::from(bytes)))
            }
            Some(_) => return Err(not_a_replica("its membership is not a BLOB")),
        };
        let mut timestamp_us = integer(conn, "timestamp_us")?.unwrap_or(0);
        if let Some((at, time)) = recent::carried(conn)?
            && position.is_none_or(|p| at.index > p.index)
        {
            position = Some(at);
            // Also where it is earlier: the clock may have been reset.
            timestamp_us = time;
        }
        let voided = load_voided(conn)?;
        Ok(Applied { position, membership, timestamp_us, voided })
    }

    /// Writes what differs from `before`. Runs in the caller's transaction, of which a row of recent
    /// commands may have `carried` the position and the time already.
    pub(in crate::sqlite) fn store(
        &self,
        before: &Applied,
        carried: bool,
        conn: &Connection,
    ) -> Result<()> {
        if self.membership != before.membership
            && let Some((at, bytes)) = &self.membership
        {
            put(conn, "membership", &bytes[..])?;
            store_position(conn, ["membership_term", "membership_index"], *at)?;
        }
        if self.voided != before.voided {
            let from = self.voided.len().saturating_sub(MAX_VOIDED);
            let bytes: Vec<u8> = self.voided[from..].iter().flat_map(|i| i.to_le_bytes()).collect();
            put(conn, "voided", bytes)?;
        }
        if carried {
            return Ok(());
        }
        put(conn, "timestamp_us", self.timestamp_us)?;
        store_position(conn, ["applied_term", "applied_index"], self.position)
    }
}

fn load_voided(conn: &Connection) -> Result<Vec<u64>> {
    match get(conn, "voided")? {
        None => Ok(Vec::new()),
        Some(SqlValue::Blob(bytes)) if bytes.len() % 8 == 0 => {
            let words = bytes.as_chunks::<8>().0;
            Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
        }
        Some(_) => Err(not_a_replica("its list of voided entries is damaged")),
    }
}

fn load_position(conn: &Connection, [term_key, index_key]: [&str; 2]) -> Result<Option<Position>> {
    let term = integer(conn, term_key)?;
    let index = integer(conn, index_key)?;
    match (term, index) {
        (None, None) => Ok(None),
        (Some(term), Some(index)) => match (u64::try_from(term), u64::try_from(index)) {
            (Ok(term), Ok(index)) => Ok(Some(Position { term, index })),
            _ => Err(not_a_replica("a log position in it is negative")),
        },
        _ => Err(not_a_replica("half of a log position is missing in it")),
    }
}

fn store_position(
    conn: &Connection,
    [term_key, index_key]: [&str; 2],
    position: Option<Position>,
) -> Result<()> {
    let Some(position) = position else { return Ok(()) };
    put(conn, term_key, to_integer(position.term)?)?;
    put(conn, index_key, to_integer(position.index)?)
}

pub(super) fn put(conn: &Connection, key: &str, value: impl ToSql) -> Result<()> {
    internal::with(conn, "REPLACE INTO _quorumlite_meta VALUES (?1, ?2)", |s| {
        s.execute(params![key, value])
    })?;
    Ok(())
}

/// A log index or term as SQLite's signed integer.
pub(in crate::sqlite) fn to_integer(v: u64) -> Result<i64> {
    i64::try_from(v).map_err(|_| {
        node_error("INDEX_OVERFLOW", format!("log position {v} does not fit into 63 bits"))
    })
}

pub(super) fn integer(conn: &Connection, key: &str) -> Result<Option<i64>> {
    match get(conn, key)? {
        None => Ok(None),
        Some(SqlValue::Integer(v)) => Ok(Some(v)),
        Some(_) => Err(not_a_replica(&format!("its {key} is not an integer"))),
    }
}

fn get(conn: &Connection, key: &str) -> Result<Option<SqlValue>> {
    internal::with(conn, "SELECT value FROM _quorumlite_meta WHERE key = ?1", |s| {
        s.query_row([key], |r| r.get(0)).optional()
    })
}

/// The error of a file that is no replica, or no longer one.
pub(in crate::sqlite) fn not_a_replica(why: &str) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "NOT_A_REPLICA",
        format!(
            "the database file is not a usable quorumlite replica: {why}; remove this node's \
             directory and let it join again"
        ),
    )
}
