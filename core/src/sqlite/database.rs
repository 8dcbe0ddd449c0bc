//! [`Database`]: the replica's SQLite database, as everybody but the writer sees it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::cancel::Cancel;
use crate::disk::{self, Cause};
use crate::error::{Error, ErrorKind, Result};
use crate::private;
use crate::sqlite::apply::budget;
use crate::sqlite::apply::halt::{ApplyMark, ApplyPace};
use crate::sqlite::apply::meta::{Applied, Position};
use crate::sqlite::apply::recent::{Limits, Recent};
use crate::sqlite::apply::writer::Writer;
use crate::sqlite::connection;
use crate::sqlite::determinism::content_hash;
use crate::sqlite::internal::{self, node_error};
use crate::sqlite::preflight::Preflight;
use crate::sqlite::read::readers::{self, Readers};
use crate::sqlite::storage::checkpoint::Checkpointer;
use crate::status::Halted;

/// The folder of the database within a node's directory.
const FOLDER: &str = "state";
/// Not called `.db`: another SQLite library that opens the file in this process destroys the locks.
const FILE: &str = "quorumlite.replica";
/// A page image that is being received.
const INCOMING: &str = "incoming.image";

/// The longest that hashing the content may take.
const HASH_TIME: Duration = Duration::from_secs(3600);
/// How often it is begun where checkpoints interrupt it.
const HASH_ATTEMPTS: u32 = 5;

/// The replica's database. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Database {
    pub(super) shared: Arc<Shared>,
}

/// What the writer, the readers and maintenance share.
///
/// Locks are taken in this order: `checkpointer`, the readers' gate, `write_lock`, the others.
pub(super) struct Shared {
    pub files: Files,
    pub readers: Readers,
    applied_index: Arc<AtomicU64>,
    applied: Mutex<Applied>,
    durable: Mutex<Option<Position>>,
    /// Held while a write transaction is open, and by those who need that there is none.
    pub write_lock: Mutex<()>,
    pub checkpointer: Mutex<Checkpointer>,
    /// The local failure that stopped this node, if there was one.
    failed: Mutex<Option<Error>>,
    has_failed: AtomicBool,
    /// What is not applied any more, and its index beside it, 0 where there is none.
    halted: Mutex<Option<Halted>>,
    halted_index: AtomicU64,
    /// Entries of which another node says that they were voided.
    void_hints: Mutex<Vec<u64>>,
    pub pace: Weak<ApplyPace>,
    pub preflight: Preflight,
}

impl Database {
    /// Whether there is a database in `dir`, a node's directory.
    pub(crate) fn exists(dir: &Path) -> bool {
        Files::in_directory(dir).main.exists()
    }

    /// Opens the database in `dir`, a node's directory, and creates it if there is none. The caller
    /// holds the directory's lock: a database must be open only once.
    ///
    /// # Errors
    /// `Corruption` where the file is damaged or not ours, `Unavailable` where the disk refuses.
    pub(crate) fn open(dir: &Path) -> Result<(Database, Writer)> {
        Database::open_with(dir, Limits::default())
    }

    pub(super) fn open_with(dir: &Path, limits: Limits) -> Result<(Database, Writer)> {
        let files = Files::prepare(dir)?;
        let (conn, applied, recent) = open_writer(&files, limits)?;
        let virtual_tables = has_virtual_tables(&conn)?;
        let uses_changes = uses_changes(&conn)?;
        let checkpointer = Checkpointer::open(&files.main)?;
        files.sync_dir()?;
        let mark = ApplyMark::open(dir, applied.index());
        let preflight = Preflight::new(&files.main);
        let applied_index = Arc::new(AtomicU64::new(applied.index()));
        let shared = Arc::new(Shared {
            readers: Readers::new(&files.main, applied_index.clone()),
            files,
            applied_index,
            applied: Mutex::new(applied.clone()),
            durable: Mutex::new(None),
            write_lock: Mutex::new(()),
            checkpointer: Mutex::new(checkpointer),
            failed: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            halted: Mutex::new(None),
            halted_index: AtomicU64::new(0),
            void_hints: Mutex::default(),
            pace: Arc::downgrade(&mark.pace()),
            preflight,
        });
        let mut writer = Writer {
            shared: shared.clone(),
            conn: Some(conn),
            recent,
            applied,
            stale_statistics: false,
            virtual_tables,
            uses_changes,
            careful: 0,
            budget: budget::DEFAULT_STEPS,
            stale_budget: true,
            mark,
            voids: BTreeSet::new(),
        };
        writer.publish_halted();
        Ok((Database { shared }, writer))
    }

    /// The pool of read connections.
    pub(crate) fn readers(&self) -> &Readers {
        &self.shared.readers
    }

    /// The applied index, published after each commit.
    pub(crate) fn applied_index(&self) -> u64 {
        self.shared.applied_index.load(Ordering::Acquire)
    }

    /// How far the database has come, published after each commit.
    pub(crate) fn applied(&self) -> Applied {
        self.shared.applied.lock().clone()
    }

    /// Up to where the database survives a power cut: what a completed checkpoint, a barrier or an
    /// installed image covers. None after opening, until there was one of these.
    pub(crate) fn durable(&self) -> Option<Position> {
        *self.shared.durable.lock()
    }

    /// Why nothing may be written to the database any more, if that is so.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.shared.failed.lock().clone()
    }

    /// What this node does not apply, and nothing after it, because applying it ended the process or
    /// stopped the node before.
    pub(crate) fn halted(&self) -> Option<Halted> {
        if self.shared.halted_index.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.shared.halted.lock().clone()
    }

    /// A node that knows it says that these entries were voided.
    pub(crate) fn hint_voided(&self, indexes: impl IntoIterator<Item = u64>) {
        self.shared.void_hints.lock().extend(indexes);
    }

    /// What was hinted since the last call.
    pub(crate) fn take_void_hints(&self) -> Vec<u64> {
        std::mem::take(&mut self.shared.void_hints.lock())
    }

    /// Which of the entries that are applied were voided.
    pub(crate) fn voided(&self) -> Vec<u64> {
        self.shared.applied.lock().voided.clone()
    }

    /// How applying goes on, for the one who watches it.
    pub(crate) fn pace(&self) -> Weak<ApplyPace> {
        self.shared.pace.clone()
    }

    /// The size of the file of SQLite's write-ahead log, in bytes.
    pub(crate) fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.shared.files.wal).map_or(0, |m| m.len())
    }

    /// The database file, where somebody has removed it: SQLite would go on with a file that has no
    /// name, and all that is written to it would be lost at the end.
    pub(crate) fn removed_file(&self) -> Option<&Path> {
        // Held while an installation puts another file in its place.
        let _checkpointer = self.shared.checkpointer.try_lock()?;
        let main = &self.shared.files.main;
        match fs::metadata(main) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(main),
            _ => None,
        }
    }

    /// The size of the main database file, in bytes.
    #[cfg(test)]
    pub(crate) fn file_bytes(&self) -> u64 {
        fs::metadata(&self.shared.files.main).map_or(0, |m| m.len())
    }

    /// Holds up the writer, as a slow disk would, until what is returned is dropped.
    #[cfg(test)]
    pub(crate) fn hold_up_applying(&self) -> std::sync::mpsc::Sender<()> {
        let (held, holds) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            let _write = shared.write_lock.lock();
            let _ = held.send(());
            let _ = released.recv();
        });
        let _ = holds.recv();
        release
    }

    /// Where a test puts a page image for [`Writer::install`]. Removed when the database is opened.
    #[cfg(test)]
    pub(crate) fn incoming_path(&self) -> PathBuf {
        self.shared.files.incoming.clone()
    }

    /// Where the image ends that is being read, if there is one: the log after it is still needed
    /// by whoever receives it.
    pub(crate) fn image_position(&self) -> Option<Position> {
        // Not waiting for a checkpoint: no new image appears while one runs.
        self.shared.checkpointer.try_lock()?.image.upgrade()?.position()
    }

    /// A hash of the logical content (SHA-256, hexadecimal) and the applied index it belongs to. It
    /// gives way to checkpoints that cannot wait any longer, and begins again then.
    ///
    /// # Errors
    /// Those of reading, and what `cancel` says; `Busy` where it had to give way several times.
    pub(crate) fn content_hash_unless(&self, cancel: &Cancel) -> Result<(String, u64)> {
        for _ in 0..HASH_ATTEMPTS {
            let deadline = Instant::now() + HASH_TIME;
            let readers = &self.shared.readers;
            match readers.with_connection(deadline, cancel, content_hash::content_hash) {
                Err(e) if e.code() == "SQLITE_INTERRUPT" => {}
                result => return result,
            }
        }
        Err(readers::interrupted())
    }

    /// As [`Database::content_hash_unless`] nothing.
    #[cfg(test)]
    pub(crate) fn content_hash(&self) -> Result<(String, u64)> {
        self.content_hash_unless(&Cancel::new())
    }

    /// As [`Database::content_hash_unless`], but what it gives way to ends it. Calls `begun` once what will
    /// be hashed is fixed.
    ///
    /// # Errors
    /// Those of reading; `SQLITE_INTERRUPT` where it gave way.
    pub(crate) fn content_hash_from(&self, begun: impl FnOnce()) -> Result<(String, u64)> {
        let (deadline, cancel) = (Instant::now() + HASH_TIME, Cancel::new());
        self.shared
            .readers
            .with_connection(deadline, &cancel, |conn| content_hash::content_hash_from(conn, begun))
    }

    /// Closes what is not the writer's; the writer closes when dropped. Ends the reads that are
    /// running, and waits for them and for a checkpoint. Later calls fail with `Closed`.
    pub(crate) fn close(&self) {
        self.shared.readers.close();
        drop(self.shared.preflight.close());
        self.shared.checkpointer.lock().close();
    }
}

impl Shared {
    /// # Errors
    /// The failure that stopped this node.
    pub(super) fn check(&self) -> Result<()> {
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.failed.lock() {
            Some(e) => Err(e.clone().context("this node stopped writing after a failure")),
            None => Ok(()),
        }
    }

    /// Remembers that this node's own failure forbids to go on; the first one counts.
    pub(super) fn fail(&self, error: Error) -> Error {
        self.failed.lock().get_or_insert_with(|| error.clone());
        self.has_failed.store(true, Ordering::Release);
        error
    }

    pub(super) fn publish_halted(&self, halted: Option<Halted>) {
        let index = halted.as_ref().map_or(0, |h| h.index);
        let mut current = self.halted.lock();
        *current = halted;
        self.halted_index.store(index, Ordering::Release);
    }

    pub(super) fn publish_applied(&self, applied: &Applied) {
        self.applied.lock().clone_from(applied);
        self.applied_index.store(applied.index(), Ordering::Release);
    }

    pub(super) fn applied_position(&self) -> Option<Position> {
        self.applied.lock().position
    }

    pub(super) fn publish_durable(&self, position: Option<Position>) {
        let mut durable = self.durable.lock();
        // Commits, barriers and checkpoints overlap: what is durable stays so.
        if position.map(|p| p.index) > durable.map(|p| p.index) {
            *durable = position;
        }
    }
}

/// Opens the write connection and reads what the node keeps in the database.
pub(super) fn open_writer(files: &Files, limits: Limits) -> Result<(Connection, Applied, Recent)> {
    let conn = connection::open_writer(&files.main)?;
    if !Applied::exists(&conn)? {
        internal::run(&conn, "BEGIN IMMEDIATE")?;
        Applied::create(&conn)?;
        internal::run(&conn, "COMMIT")?;
    }
    let applied = Applied::load(&conn)?;
    let recent = Recent::load(&conn, limits)?;
    Ok((conn, applied, recent))
}

/// Whether there are virtual tables, other than those that SQLite makes up.
pub(super) fn has_virtual_tables(conn: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND rootpage = 0";
    internal::with(conn, sql, |s| s.exists([]))
}

/// Whether a trigger, a view or another part of the schema may ask for `changes()`.
pub(super) fn uses_changes(conn: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE sql LIKE '%changes%'";
    internal::with(conn, sql, |s| s.exists([]))
}

/// The paths of the database.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
    pub main: PathBuf,
    pub wal: PathBuf,
    shm: PathBuf,
    incoming: PathBuf,
}

impl Files {
    /// Makes the folder and removes what an interrupted transfer left.
    fn prepare(dir: &Path) -> Result<Files> {
        let files = Files::in_directory(dir);
        if !files.folder.is_dir() {
            private::create_dir_all(&files.folder)
                .map_err(|e| disk_error("create", &files.folder, e))?;
            sync_dir(dir)?;
        }
        remove(&files.incoming)?;
        files.make_main()?;
        Ok(files)
    }

    /// Makes the database's file where it is missing, empty: SQLite would let others read it, and
    /// gives the files beside it the permissions of this one. Nobody can have it open yet.
    fn make_main(&self) -> Result<()> {
        match private::create_file().create_new(true).open(&self.main) {
            Ok(_) => self.sync_dir(),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(disk_error("create", &self.main, e)),
        }
    }

    /// Where the files are within `dir`, a node's directory.
    pub(super) fn in_directory(dir: &Path) -> Files {
        let folder = dir.join(FOLDER);
        Files {
            main: folder.join(FILE),
            wal: folder.join(format!("{FILE}-wal")),
            shm: folder.join(format!("{FILE}-shm")),
            incoming: folder.join(INCOMING),
            folder,
        }
    }

    pub(super) fn sync_dir(&self) -> Result<()> {
        sync_dir(&self.folder)
    }

    /// Puts `image` in the place of the database, which nobody has open and whose write-ahead log
    /// holds nothing that the main file lacks.
    ///
    /// The old log goes, durably, before the new file comes: after a crash there is the old
    /// database or the new one, never the new one with the old log.
    pub(super) fn replace_main(&self, image: &Path) -> Result<()> {
        remove(&self.wal)?;
        remove(&self.shm)?;
        self.sync_dir()?;
        fs::rename(image, &self.main).map_err(|e| disk_error("rename", image, e))?;
        self.sync_dir()
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(disk_error("remove", path, e)),
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    // Only Unix can and must sync a directory.
    if cfg!(unix) {
        File::open(path).and_then(|d| d.sync_all()).map_err(|e| disk_error("sync", path, e))?;
    }
    Ok(())
}

pub(super) fn disk_error(verb: &str, path: &Path, e: io::Error) -> Error {
    let text = format!("cannot {verb} {}: {e}", path.display());
    let cause = Cause::of(&e);
    let advised = format!("{text}; {}", cause.advice());
    match cause {
        Cause::TooManyFiles => disk::too_many_files(text),
        Cause::Permission | Cause::NoDirectory => {
            Error::new(ErrorKind::Config, "DATA_DIRECTORY", advised)
        }
        _ => node_error("DISK_ERROR", advised),
    }
    .with_source(e)
}
