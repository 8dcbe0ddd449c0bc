//! [`Image`]: the pages of the database at one position of the log, for a node that needs all of
//! it; and the checks of one that was received.

use std::ffi::c_int;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::meta::{Applied, Position};
use crate::sqlite::apply::recent::{Limits, Recent};
use crate::sqlite::database::{Database, Files, disk_error};
use crate::sqlite::determinism::functions;
use crate::sqlite::error;
use crate::sqlite::internal::node_error;
use crate::sqlite::storage::checkpoint::{Mode, sqlite_io_error};
use crate::sqlite::{connection, memory};

/// How long reads and writes may hold up an image, each time that it tries.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often it tries; from the middle on it interrupts reads.
const ATTEMPTS: u32 = 20;

/// How far SQLite's write-ahead log may grow while an image is read, in bytes, where the image is not
/// longer than that itself. What has come over is not lost: the next image is compared with it.
const HELD_UP: u64 = 1 << 30;

/// The database file as it is after a complete checkpoint. While it lives, commits go into the
/// write-ahead log only and no checkpoint is made, so do not keep it for longer than needed.
#[derive(Clone)]
pub(crate) struct Image(Arc<ImageFile>);

pub(in crate::sqlite) struct ImageFile {
    /// Only its file is used. Opened through SQLite, since opening and closing the file by any
    /// other means would drop the locks that SQLite holds on it in this process.
    conn: Mutex<Connection>,
    applied: Applied,
    len: u64,
    page_size: u32,
    wal: PathBuf,
    /// It may not be read any more once the write-ahead log is longer than this.
    held_up: u64,
}

impl Database {
    /// The database as a page image. Completes a checkpoint, for which reads and writes wait a
    /// moment; afterwards they go on. Images that live at the same time are the same image.
    ///
    /// # Errors
    /// `Busy` where reads and writes never made way, `Closed`, or the disk failed.
    pub(crate) fn image(&self) -> Result<Image> {
        self.image_holding_up(HELD_UP)
    }

    /// As [`Database::image`], with another limit to how much the image may hold up.
    pub(in crate::sqlite) fn image_holding_up(&self, bytes: u64) -> Result<Image> {
        let shared = &self.shared;
        shared.check()?;
        let mut checkpointer = shared.checkpointer.lock();
        checkpointer.check_open()?;
        if let Some(image) = checkpointer.image.upgrade() {
            return Ok(Image(image));
        }
        for attempt in 0..ATTEMPTS {
            let interrupt = attempt >= ATTEMPTS / 2;
            let image =
                checkpointer.emptied(shared, Mode::Truncate, PATIENCE, interrupt, || {
                    ImageFile::open(&shared.files, self.applied(), bytes)
                })?;
            if let Some(image) = image {
                let image = Arc::new(image);
                checkpointer.image = Arc::downgrade(&image);
                return Ok(Image(image));
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            "BUSY_IMAGE",
            "reads and writes left no moment for a checkpoint: try again",
        ))
    }
}

impl Image {
    /// The last log entry that the image contains.
    pub(crate) fn position(&self) -> Option<Position> {
        self.0.applied.position
    }

    /// The membership at that entry.
    pub(crate) fn membership(&self) -> Option<(Option<Position>, Bytes)> {
        self.0.applied.membership.clone()
    }

    /// The size in bytes; a multiple of the page size.
    pub(crate) fn len(&self) -> u64 {
        self.0.len
    }

    /// The size of a page in bytes.
    pub(crate) fn page_size(&self) -> u32 {
        self.0.page_size
    }

    /// The `len` bytes from `offset` on, fewer at the end of the image.
    ///
    /// # Errors
    /// `Busy` where too much was written since the image was made: checkpoints cannot wait for it any
    /// longer, so it must go, and another one be asked for. Otherwise the disk failed.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if fs::metadata(&self.0.wal).is_ok_and(|wal| wal.len() > self.0.held_up) {
            return Err(Error::new(
                ErrorKind::Busy,
                "BUSY_IMAGE",
                "more was written than a checkpoint may leave while a snapshot is sent: it begins \
                 again with a new one",
            ));
        }
        let left = self.0.len.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        let mut bytes = vec![0; len];
        let conn = self.0.conn.lock();
        let mut done = 0;
        while done < len {
            // SQLite counts in a C int.
            let chunk = (len - done).min(1 << 20);
            read_main(&conn, offset + done as u64, &mut bytes[done..done + chunk])?;
            done += chunk;
        }
        Ok(bytes)
    }
}

impl ImageFile {
    fn open(files: &Files, applied: Applied, held_up: u64) -> Result<ImageFile> {
        let conn = connection::open_reader(&files.main)?;
        let len = main_size(&conn)?;
        let mut header = [0; HEADER];
        read_main(&conn, 0, &mut header)?;
        let page_size = check_header(&header, len)?;
        let (wal, held_up) = (files.wal.clone(), held_up.max(len));
        Ok(ImageFile { conn: Mutex::new(conn), applied, len, page_size, wal, held_up })
    }

    pub(in crate::sqlite) fn position(&self) -> Option<Position> {
        self.applied.position
    }
}

/// Checks a page image in a file of its own that nobody has open, and says what it contains.
///
/// # Errors
/// `Corruption` where it is not a complete, sound replica.
pub(crate) fn verify_image(path: &Path) -> Result<Applied> {
    let mut file = File::open(path).map_err(|e| disk_error("open", path, e))?;
    let len = file.metadata().map_err(|e| disk_error("stat", path, e))?.len();
    let mut header = [0; HEADER];
    file.read_exact(&mut header)
        .map_err(|e| bad_image("it is shorter than a database").with_source(e))?;
    check_header(&header, len)?;
    drop(file);

    let conn = open_immutable(path)?;
    let problem: String = conn
        .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
        .map_err(|e| bad_image("it cannot be read").with_source(e))?;
    if problem != "ok" {
        return Err(bad_image(&problem));
    }
    // Tables of ours that are of another form make SQL of ours wrong.
    let of_image = |e: Error| match e.kind() {
        ErrorKind::Sql => bad_image(e.message()).with_source(e),
        _ => e,
    };
    if !Applied::exists(&conn).map_err(of_image)? {
        return Err(bad_image("it is empty"));
    }
    let applied = Applied::load(&conn).map_err(of_image)?;
    Recent::load(&conn, Limits::default()).map_err(of_image)?;
    Ok(applied)
}

/// Opens a file that nobody writes, without locks and without files beside it.
fn open_immutable(path: &Path) -> Result<Connection> {
    let path = std::path::absolute(path).map_err(|e| disk_error("find", path, e))?;
    let mut uri = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            b if b.is_ascii_alphanumeric() => uri.push(char::from(*b)),
            b => {
                let _ = write!(uri, "%{b:02x}");
            }
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    memory::install();
    let conn = Connection::open_with_flags(uri, flags).map_err(error::internal)?;
    prepare_to_check(&conn)?;
    Ok(conn)
}

/// Makes a connection that was just opened one on which `PRAGMA quick_check` asks for the soundness
/// of pages, and nothing of users' is run.
///
/// # Errors
/// SQLite refuses: the file may be damaged.
pub(in crate::sqlite) fn prepare_to_check(conn: &Connection) -> Result<()> {
    // SAFETY: the handle is that of the connection just opened; NULL means all modules.
    let rc = unsafe { ffi::sqlite3_drop_modules(conn.handle(), ptr::null_mut()) };
    if rc != ffi::SQLITE_OK {
        return Err(sqlite_io_error("cannot open the image", rc));
    }
    // The database and its write-ahead log are to stay as they are.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(error::internal)?;
    // Indexes and columns may be made of them.
    functions::install(conn)?;
    // Whether pages are sound is asked here, not whether users keep their own promises: a CHECK
    // may fail, or a full-text index lag behind, in a replica as good as all others.
    conn.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA ignore_check_constraints = ON;
         PRAGMA cell_size_check = ON;",
    )
    .map_err(|e| bad_image("it cannot be opened").with_source(e))
}

/// The size of SQLite's header, <https://www.sqlite.org/fileformat2.html#the_database_header>.
const HEADER: usize = 100;

/// Checks the header of a database file of `len` bytes and gives its page size.
fn check_header(header: &[u8; HEADER], len: u64) -> Result<u32> {
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(bad_image("it is not an SQLite database"));
    }
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        n => u32::from(n),
    };
    if !page_size.is_power_of_two() || page_size < 512 {
        return Err(bad_image("its page size is wrong"));
    }
    if header[18] != 2 || header[19] != 2 {
        return Err(bad_image("it is not in WAL mode"));
    }
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    if u64::from(pages) * u64::from(page_size) != len {
        return Err(bad_image("its size is not what its header says"));
    }
    Ok(page_size)
}

fn bad_image(why: &str) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "BAD_IMAGE",
        format!("the page image of the database is damaged: {why}; it has to be sent again"),
    )
}

fn main_size(conn: &Connection) -> Result<u64> {
    let mut size = 0;
    with_main_file(conn, |file, methods| {
        // SAFETY: `file` is open and these are its methods, see `with_main_file`.
        methods.xFileSize.map(|f| unsafe { f(file, &mut size) })
    })?;
    u64::try_from(size).map_err(|_| node_error("SQLITE_MISUSE", "a file of negative size"))
}

/// Fills `bytes` from the main database file of `conn`.
fn read_main(conn: &Connection, offset: u64, bytes: &mut [u8]) -> Result<()> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), c_int::try_from(bytes.len())) else {
        return Err(node_error("SQLITE_MISUSE", "reading beyond what SQLite can address"));
    };
    with_main_file(conn, |file, methods| {
        // SAFETY: `file` is open and these are its methods, see `with_main_file`; the buffer has
        // `len` bytes.
        methods.xRead.map(|f| unsafe { f(file, bytes.as_mut_ptr().cast(), len, offset) })
    })
}

fn with_main_file(
    conn: &Connection,
    f: impl FnOnce(*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods) -> Option<c_int>,
) -> Result<()> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is that of an open connection that the caller has to itself. FILE_POINTER
    // stores a `sqlite3_file*` through its argument; the main file stays open, with the same
    // methods, for as long as the connection.
    let (rc, methods) = unsafe {
        let rc = ffi::sqlite3_file_control(
            conn.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        );
        (rc, if file.is_null() { None } else { (*file).pMethods.as_ref() })
    };
    let rc = match (rc, methods) {
        (ffi::SQLITE_OK, Some(methods)) => f(file, methods).unwrap_or(ffi::SQLITE_MISUSE),
        (ffi::SQLITE_OK, None) => ffi::SQLITE_MISUSE,
        (rc, _) => rc,
    };
    if rc == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(sqlite_io_error("reading the database file", rc))
    }
}
