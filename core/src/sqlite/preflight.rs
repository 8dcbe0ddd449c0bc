//! [`Preflight`]: compiles what is to be proposed on a connection of its own, under a deadline. A
//! statement whose compilation does not end, or ends the process, must not reach the log, where every
//! replica would meet it.
//!
//! Nothing else is decided here: the schema may be older than the one to which the statement will be
//! applied, so what is wrong with it is said when it is applied, equally on each node.

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ffi};

use crate::error::Result;
use crate::sqlite::apply::execute::{self, first_keyword};
use crate::sqlite::connection;
use crate::sqlite::database::Database;
use crate::sqlite::determinism::authorizer::{Questions, UserStatement};
use crate::sqlite::error;

/// How long one statement may take to compile: the slowest honest one takes some milliseconds.
const COMPILE_TIME: Duration = Duration::from_secs(1);
/// Steps of the compiler between two looks at the clock: some take long.
const STEPS: i32 = 1;
/// Texts that are known to compile.
const KNOWN: usize = 8192;
/// Compilations at once.
const CONNECTIONS: usize = 2;
/// Statements that begin so cost something to compile. Of the others some act while they are
/// compiled.
const COMPILED: [&str; 8] =
    ["INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "SELECT", "VALUES", "CREATE"];

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// See the module's documentation.
pub(in crate::sqlite) struct Preflight {
    path: PathBuf,
    connections: [Mutex<Option<Connection>>; CONNECTIONS],
    /// Hashes of texts that have compiled with this schema.
    known: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// No connection of a [`Preflight`] is open while it lives.
pub(in crate::sqlite) struct Closed<'a>(
    #[expect(dead_code)] [MutexGuard<'a, Option<Connection>>; CONNECTIONS],
);

impl Preflight {
    /// For the database at `path`; connections are opened when they are needed.
    pub(in crate::sqlite) fn new(path: &Path) -> Preflight {
        Preflight {
            path: path.to_path_buf(),
            connections: Default::default(),
            known: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// The schema may have changed: what compiled at once may not any more.
    pub(in crate::sqlite) fn forget(&self) {
        self.known.lock().clear();
    }

    /// Closes the connections, and keeps them closed.
    pub(in crate::sqlite) fn close(&self) -> Closed<'_> {
        self.forget();
        Closed(self.connections.each_ref().map(|c| {
            let mut connection = c.lock();
            *connection = None;
            connection
        }))
    }

    fn unknown<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Vec<(u64, String)> {
        let hashes = texts.map(|sql| (self.hasher.hash_one(sql), sql));
        let known = self.known.lock();
        let mut seen = HashSet::new();
        hashes
            .filter(|(hash, _)| !known.contains(hash) && seen.insert(*hash))
            .filter(|(_, sql)| is_compiled(sql))
            .map(|(hash, sql)| (hash, sql.to_owned()))
            .collect()
    }

    fn remember(&self, hash: u64) {
        let mut known = self.known.lock();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(hash);
    }

    fn connection(&self) -> Option<MutexGuard<'_, Option<Connection>>> {
        let free = self.connections.iter().find_map(|c| c.try_lock());
        free.or_else(|| self.connections[0].try_lock_for(COMPILE_TIME))
    }
}

fn is_compiled(sql: &str) -> bool {
    let keyword = first_keyword(sql);
    COMPILED.iter().any(|word| keyword.eq_ignore_ascii_case(word))
}

impl Database {
    /// Those of `texts` that [`Database::preflight`] should look at: none, for most commands.
    pub(crate) fn unknown_texts<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
    ) -> Vec<(u64, String)> {
        self.shared.preflight.unknown(texts)
    }

    /// Compiles what [`Database::unknown_texts`] gave. Blocks. What is left once `deadline` has passed
    /// is not looked at.
    ///
    /// # Errors
    /// `Sql` (`SQL_TOO_COMPLEX`) where one does not end in time. Whatever else is wrong with it is not
    /// told here.
    pub(crate) fn preflight(&self, texts: &[(u64, String)], deadline: Instant) -> Result<()> {
        let preflight = &self.shared.preflight;
        // Two statements that do not end must not hold up all others.
        let Some(mut slot) = preflight.connection() else { return Ok(()) };
        if let Some(connection) = &*slot
            && execute::reload_schema(connection).is_err()
        {
            *slot = None;
        }
        for (hash, sql) in texts {
            let connection = match &mut *slot {
                Some(connection) => connection,
                // Without one, applying still has its own bounds.
                none => match open(&preflight.path) {
                    Ok(connection) => none.insert(connection),
                    Err(e) => {
                        tracing::debug!(error = %e, "nothing is compiled before it is proposed");
                        return Ok(());
                    }
                },
            };
            let now = Instant::now();
            if now >= deadline {
                return Ok(());
            }
            let code = compile(connection, sql, now + COMPILE_TIME);
            // SQLite does not ask everywhere whether it is to end, and then gives other codes too.
            if code.is_none() || now.elapsed() >= COMPILE_TIME {
                return Err(execute::too_complex());
            }
            if code == Some(ffi::SQLITE_OK) {
                preflight.remember(*hash);
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Connection> {
    let mut conn = connection::open_compiler(path)?;
    let must_end = || DEADLINE.get().is_some_and(|deadline| Instant::now() >= deadline);
    conn.progress_handler(STEPS, Some(must_end)).map_err(error::internal)?;
    Ok(conn)
}

/// Compiles the first statement of `sql` and answers SQLite's primary result code; none where it is
/// beyond the bound that applying it has.
fn compile(conn: &Connection, sql: &str, deadline: Instant) -> Option<i32> {
    let Ok(length) = i32::try_from(sql.len()) else { return Some(ffi::SQLITE_TOOBIG) };
    let user = UserStatement::begin(first_keyword(sql));
    let questions = Questions::begin(execute::MOST_QUESTIONS + sql.len());
    DEADLINE.set(Some(deadline));
    let mut statement = ptr::null_mut();
    // SAFETY: the handle is open and this thread has it to itself; the text has `length` bytes; a
    // statement that was made is finalized, and null is allowed there.
    let code = unsafe {
        let code = ffi::sqlite3_prepare_v3(
            conn.handle(),
            sql.as_ptr().cast(),
            length,
            0,
            &mut statement,
            ptr::null_mut(),
        );
        ffi::sqlite3_finalize(statement);
        code
    };
    DEADLINE.set(None);
    drop(user.denial());
    if questions.were_too_many() { None } else { Some(code & 0xff) }
}
