//! The files: checkpoints, SQLite's write-ahead log, page images and what a full disk looks like.

pub(super) mod check;
pub(super) mod checkpoint;
pub(super) mod disk_full;
pub(super) mod image;
pub(super) mod install;
pub(super) mod new_names;
pub(super) mod open_files;
#[cfg(unix)]
pub(super) mod temporary;
pub(super) mod wal_writes;
