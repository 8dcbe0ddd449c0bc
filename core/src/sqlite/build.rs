//! What decides what a command does, beside the command: two builds that differ in it could compute
//! different rows, so nodes compare it before they replicate.

use std::sync::OnceLock;

use rusqlite::{Connection, ffi};
use sha2::{Digest, Sha256};

use crate::sqlite::determinism::functions;
use crate::sqlite::{connection, memory};

/// Raised whenever the same entry of the log comes to mean something else.
pub(crate) const APPLY_LEVEL: u32 = 1;

/// Compile options of SQLite's that decide what a statement does. The others name the compiler or the
/// platform.
const OPTIONS: [&str; 5] = ["ENABLE_", "OMIT_", "MAX_", "DQS=", "LIKE_"];
/// Those among them that do not.
const NEITHER: [&str; 2] = ["MAX_MMAP_SIZE", "MAX_WORKER_THREADS"];

/// 16 hexadecimal digits: equal for builds of one apply level that compute the same.
pub(crate) fn fingerprint() -> &'static str {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    FINGERPRINT.get_or_init(|| {
        let mut hash = Sha256::new();
        for part in parts() {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    })
}

fn parts() -> Vec<String> {
    let mut parts = vec![
        format!("level {APPLY_LEVEL}"),
        format!("sqlite {}", source_id()),
        format!("pointers {}", usize::BITS),
        format!("little-endian {}", cfg!(target_endian = "little")),
        format!("limits {}", connection::limits()),
    ];
    // Peers are greeted before the database is opened.
    memory::install();
    let conn = Connection::open_in_memory();
    // A connection that cannot be made gives a fingerprint that equals nobody's.
    let listed = conn.map_err(|e| e.to_string()).and_then(|conn| {
        functions::install(&conn).map_err(|e| e.to_string())?;
        functions::install_seeded_random(&conn).map_err(|e| e.to_string())?;
        let options = "SELECT compile_options FROM pragma_compile_options ORDER BY 1";
        let all = "SELECT name || ' ' || type || ' ' || narg || ' ' || flags || ' ' || builtin \
                   FROM pragma_function_list ORDER BY 1";
        Ok((list(&conn, options)?, list(&conn, all)?))
    });
    match listed {
        Ok((options, functions)) => {
            let matters = |option: &String| {
                OPTIONS.iter().any(|o| option.starts_with(o))
                    && !NEITHER.iter().any(|o| option.starts_with(o))
            };
            parts.extend(options.into_iter().filter(matters));
            parts.extend(functions);
        }
        Err(e) => parts.push(e),
    }
    parts
}

fn list(conn: &Connection, sql: &str) -> Result<Vec<String>, String> {
    let mut statement = conn.prepare(sql).map_err(|e| e.to_string())?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(|e| e.to_string())?;
    rows.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn source_id() -> String {
    // SAFETY: SQLite answers with a string of its own that lives for ever.
    let id = unsafe { std::ffi::CStr::from_ptr(ffi::sqlite3_sourceid()) };
    id.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_made_of_everything_that_matters_and_of_no_compiler() {
        let parts = parts();
        for expected in ["level ", "sqlite 20", "pointers 64", "limits ", "ENABLE_FTS5", "uuid7 s "]
        {
            assert!(parts.iter().any(|p| p.starts_with(expected)), "{expected}: {parts:?}");
        }
        assert!(!parts.iter().any(|p| p.contains("COMPILER") || p.contains("MUTEX")), "{parts:?}");
        assert_eq!(parts, super::parts());
        assert_eq!(fingerprint().len(), 16);
    }
}
