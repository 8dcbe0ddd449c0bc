//! The content hash: equal on two databases if and only if their logical content is.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use crate::sqlite::determinism::authorizer::INTERNAL_PREFIX;
use crate::sqlite::error;

/// What is hashed, so that a later way of hashing never equals this one by chance.
const FORMAT: &[u8] = b"quorumlite content 1";

/// Tags in front of what is hashed: no two contents give the same bytes.
mod tag {
    pub(in crate::sqlite) const NULL: u8 = 0;
    pub(in crate::sqlite) const INTEGER: u8 = 1;
    pub(in crate::sqlite) const REAL: u8 = 2;
    pub(in crate::sqlite) const TEXT: u8 = 3;
    pub(in crate::sqlite) const BLOB: u8 = 4;
    pub(in crate::sqlite) const TABLE: u8 = 16;
    pub(in crate::sqlite) const ROW: u8 = 17;
    pub(in crate::sqlite) const END: u8 = 18;
}

/// SHA-256 (64 hexadecimal digits) of the content, and the applied log index that it belongs to, 0
/// where nothing was applied yet. All in one read transaction on `conn`, which must have none open.
///
/// Content is the schema as `sqlite_schema` has it without root pages, `user_version` and
/// `application_id`, and every row of every ordinary table, with its rowid where SQL can see it:
/// also SQLite's own tables and those in which virtual tables keep theirs. Not content: the state
/// machine's own tables, virtual generated columns (they follow from the rest), and where on which
/// page things are.
///
/// # Errors
/// What SQLite says; `SQLITE_INTERRUPT` where the connection's deadline passed.
pub(crate) fn content_hash(conn: &Connection) -> crate::Result<(String, u64)> {
    content_hash_from(conn, || {})
}

/// As [`content_hash`]; calls `begun` once what will be hashed is fixed, whatever is committed
/// later.
pub(crate) fn content_hash_from(
    conn: &Connection,
    begun: impl FnOnce(),
) -> crate::Result<(String, u64)> {
    hash_all(conn, begun).map_err(error::internal)
}

fn hash_all(conn: &Connection, begun: impl FnOnce()) -> rusqlite::Result<(String, u64)> {
    let transaction = conn.unchecked_transaction()?;
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    let index = applied_index(&transaction)?;
    begun();
    for pragma in ["PRAGMA user_version", "PRAGMA application_id", "PRAGMA encoding"] {
        hash_rows(&transaction, pragma, &mut hash)?;
    }
    let schema = format!(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema \
         WHERE NOT {} ORDER BY type, name, tbl_name",
        is_internal("tbl_name")
    );
    hash_rows(&transaction, &schema, &mut hash)?;
    for table in tables(&transaction)? {
        hash.update([tag::TABLE]);
        hash_bytes(&mut hash, tag::TEXT, table.name.as_bytes());
        hash_rows(&transaction, &table.select(&transaction)?, &mut hash)?;
    }
    transaction.rollback()?;
    Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), index))
}

fn applied_index(conn: &Connection) -> rusqlite::Result<u64> {
    let exists: Option<i64> = conn
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = '_quorumlite_meta'", [], |row| {
            row.get(0)
        })
        .optional()?;
    if exists.is_none() {
        return Ok(0);
    }
    // Where the last row of recent commands carries it, the other one is older.
    let index: Option<i64> = conn.query_row(
        "SELECT max(index_) FROM (SELECT value AS index_ FROM _quorumlite_meta \
         WHERE key = 'applied_index' UNION ALL SELECT max(log_index) FROM _quorumlite_recent)",
        [],
        |row| row.get(0),
    )?;
    Ok(index.map_or(0, i64::cast_unsigned))
}

/// A condition in SQL: `column` names something of the state machine's own.
fn is_internal(column: &str) -> String {
    format!("(lower(substr({column}, 1, {})) = '{INTERNAL_PREFIX}')", INTERNAL_PREFIX.len())
}

struct Table {
    name: String,
}

/// Not by `pragma_table_list`, which compiles every view that there is.
fn tables(conn: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = format!(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND NOT {} \
         ORDER BY name",
        is_internal("name")
    );
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map([], |row| Ok(Table { name: row.get(0)? }))?;
    rows.collect()
}

impl Table {
    /// A SELECT of all that is stored, in the order of the rowid or the primary key.
    fn select(&self, conn: &Connection) -> rusqlite::Result<String> {
        let mut statement =
            conn.prepare("SELECT name, hidden FROM pragma_table_xinfo(?) ORDER BY cid")?;
        let columns = statement
            .query_map([&self.name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
        let visible = |name: &str| !columns.iter().any(|(c, _)| c.eq_ignore_ascii_case(name));
        // A table WITHOUT ROWID has none by any name.
        let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|name| {
            let sql = format!("SELECT {name} FROM main.{}", quote(&self.name));
            visible(name) && conn.prepare(&sql).is_ok()
        });
        // 0: ordinary, 3: generated and stored.
        let stored = columns
            .iter()
            .filter(|(_, hidden)| [0, 3].contains(hidden))
            .map(|(name, _)| quote(name));
        let list: Vec<String> = rowid.map(str::to_string).into_iter().chain(stored).collect();
        // NOT INDEXED: the table's own order, which is that of the rowid or the primary key also
        // where no name leads to it.
        let order = match rowid {
            Some(name) => format!(" ORDER BY {name}"),
            None => String::new(),
        };
        Ok(format!("SELECT {} FROM main.{} NOT INDEXED{order}", list.join(", "), quote(&self.name)))
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn hash_rows(conn: &Connection, sql: &str, hash: &mut Sha256) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        hash.update([tag::ROW]);
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => hash.update([tag::NULL]),
                ValueRef::Integer(v) => hash_fixed(hash, tag::INTEGER, v.to_le_bytes()),
                ValueRef::Real(v) => hash_fixed(hash, tag::REAL, v.to_bits().to_le_bytes()),
                ValueRef::Text(v) => hash_bytes(hash, tag::TEXT, v),
                ValueRef::Blob(v) => hash_bytes(hash, tag::BLOB, v),
            }
        }
    }
    hash.update([tag::END]);
    Ok(())
}

fn hash_fixed(hash: &mut Sha256, tag: u8, bytes: [u8; 8]) {
    hash.update([tag]);
    hash.update(bytes);
}

fn hash_bytes(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash_fixed(hash, tag, (bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
