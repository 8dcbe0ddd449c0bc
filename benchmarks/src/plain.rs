//! The yardstick: rusqlite by itself, one connection for writes and one for reads.

use std::path::{Path, PathBuf};

use load::{CREATE, Caller, INSERT, MAX_ID, Result, SELECT, Subject};
use rusqlite::{Connection, OpenFlags};

/// Plain SQLite in a file.
pub struct Plain {
    path: PathBuf,
    synchronous: String,
}

impl Plain {
    /// Makes or opens the database in `dir`, in WAL mode.
    pub fn open(dir: &Path, synchronous: &str) -> Result<Plain> {
        let plain = Plain { path: dir.join("plain.db"), synchronous: synchronous.to_owned() };
        plain.writer()?.execute_batch(CREATE)?;
        Ok(plain)
    }

    fn writer(&self) -> Result<Connection> {
        let writer = Connection::open(&self.path)?;
        writer.pragma_update(None, "journal_mode", "wal")?;
        writer.pragma_update(None, "synchronous", &self.synchronous)?;
        Ok(writer)
    }

    /// With the settings of Quorumlite's readers.
    fn reader(&self) -> Result<Connection> {
        let reader = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        reader.execute_batch("PRAGMA query_only = ON; PRAGMA mmap_size = 268435456")?;
        Ok(reader)
    }
}

impl Subject for Plain {
    type Caller = Connections;

    async fn caller(&self, _node: usize) -> Result<Connections> {
        Ok(Connections { writer: self.writer()?, reader: self.reader()? })
    }

    async fn max_id(&self) -> Result<i64> {
        Ok(self.reader()?.query_row(MAX_ID, [], |row| row.get(0))?)
    }

    async fn database_bytes(&self) -> Result<u64> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        Ok(self.reader()?.query_row(sql, [], |row| row.get::<_, i64>(0))? as u64)
    }

    async fn stop(&self, _node: usize) -> Result<()> {
        Err("plain SQLite has no nodes".into())
    }

    async fn start(&self, _node: usize) -> Result<()> {
        Err("plain SQLite has no nodes".into())
    }
}

/// The connections of the one caller.
pub struct Connections {
    writer: Connection,
    reader: Connection,
}

impl Caller for Connections {
    async fn write(&mut self, row: Vec<u8>) -> Result<()> {
        self.writer.prepare_cached(INSERT)?.execute([row])?;
        Ok(())
    }

    async fn batch(&mut self, rows: Vec<Vec<u8>>) -> Result<()> {
        let transaction = self.writer.transaction()?;
        for row in rows {
            transaction.prepare_cached(INSERT)?.execute([row])?;
        }
        Ok(transaction.commit()?)
    }

    async fn read(&mut self, _level: &str, id: i64) -> Result<()> {
        let mut select = self.reader.prepare_cached(SELECT)?;
        let row: Vec<u8> = select.query_row([id], |row| row.get(0))?;
        if row.len() == load::ROW_BYTES { Ok(()) } else { Err("a row is missing".into()) }
    }
}
