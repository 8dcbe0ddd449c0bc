//! SQLite as the state machine: the only folder that names rusqlite. One writer applies commands
//! deterministically, many readers answer queries, checkpoints and page images are ours.

mod authorizer;
mod budget;
mod clock_vfs;
mod connection;
mod content_hash;
mod context;
mod disk_full;
mod error;
mod execute;
mod functions;
mod readers;

#[cfg(test)]
mod tests;
