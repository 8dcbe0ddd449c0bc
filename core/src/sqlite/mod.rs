//! SQLite as the state machine: the only folder that names rusqlite. One writer applies commands
//! deterministically, many readers answer queries, checkpoints and page images are ours.

mod analyze;
mod authorizer;
mod budget;
mod check;
mod checkpoint;
mod clock_vfs;
mod command;
mod connection;
mod content_hash;
mod context;
mod database;
mod disk_full;
mod error;
mod execute;
mod functions;
mod image;
mod install;
mod internal;
mod math;
mod meta;
mod new_names;
mod precheck;
mod readers;
mod recent;
mod record;
mod wal_writes;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use check::check_database;
pub(crate) use command::{Command, CommandResult};
pub(crate) use database::Database;
pub(crate) use image::{Image, verify_image};
pub(crate) use meta::{Applied, Position};
pub(crate) use precheck::refuse_early;
pub(crate) use writer::{Entry, EntryKind, Writer};
