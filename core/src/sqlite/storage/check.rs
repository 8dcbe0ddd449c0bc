//! Checking the database of a directory that no node has open.

use std::path::Path;

use rusqlite::OpenFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::meta::Applied;
use crate::sqlite::apply::recent::{Limits, Recent};
use crate::sqlite::database::Files;
use crate::sqlite::determinism::clock_vfs;
use crate::sqlite::error;
use crate::sqlite::storage::image::prepare_to_check;

/// The most problems that one check lists.
const PROBLEMS: usize = 100;

/// What a check of the database found.
#[derive(Debug, Default)]
pub(crate) struct CheckedDatabase {
    /// How far the database has come; none where there is no database, or nothing in it yet.
    pub applied: Option<Applied>,
    /// What is wrong with it.
    pub problems: Vec<Error>,
}

/// Checks the database in `dir`, a node's directory, which the caller has locked: every page, and
/// what the node keeps in it. Content is not changed; SQLite may end what a crash interrupted.
pub(crate) fn check_database(dir: &Path) -> CheckedDatabase {
    let mut checked = CheckedDatabase::default();
    if let Err(problem) = check(&Files::in_directory(dir).main, &mut checked) {
        checked.problems.push(problem);
    }
    checked
}

fn check(main: &Path, checked: &mut CheckedDatabase) -> Result<()> {
    if !main.exists() {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = rusqlite::Connection::open_with_flags_and_vfs(main, flags, clock_vfs::name()?)
        .map_err(error::internal)?;
    prepare_to_check(&conn)?;
    let problems = conn
        .prepare(&format!("PRAGMA quick_check({PROBLEMS})"))
        .and_then(|mut statement| {
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        })
        .map_err(|e| error::internal(e).context(main.display()))?;
    let sound = |line: &String| line == "ok";
    checked.problems.extend(problems.into_iter().filter(|line| !sound(line)).map(damaged));
    if Applied::exists(&conn)? {
        checked.applied = Some(Applied::load(&conn)?);
        Recent::load(&conn, Limits::default())?;
    }
    Ok(())
}

fn damaged(line: String) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "CORRUPTION_DATABASE",
        format!(
            "the database file is damaged: {line}. Restore this node: remove its directory and let \
             it join the cluster again"
        ),
    )
}
