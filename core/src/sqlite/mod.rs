//! SQLite as the state machine: the only folder that names rusqlite. One writer applies commands
//! deterministically, many readers answer queries, checkpoints and page images are ours.

mod apply;
mod build;
mod connection;
mod database;
mod determinism;
mod error;
mod internal;
mod memory;
mod preflight;
mod read;
mod storage;
mod text;

#[cfg(test)]
mod tests;

pub(crate) use apply::command::{Command, CommandResult};
pub(crate) use apply::execute::too_complex;
pub(crate) use apply::halt::{ApplyPace, halted_in};
pub(crate) use apply::meta::{Applied, Position};
pub(crate) use apply::writer::{Entry, EntryKind, Writer};
pub(crate) use build::{APPLY_LEVEL, fingerprint};
pub(crate) use database::Database;
pub(crate) use determinism::precheck::refuse_early;
pub(crate) use read::stream::{Pace, RowSource};
pub(crate) use storage::check::check_database;
pub(crate) use storage::image::{Image, verify_image};
