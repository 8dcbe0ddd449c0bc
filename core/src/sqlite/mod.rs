//! SQLite as the state machine: the only folder that names rusqlite. One writer applies commands
//! deterministically, many readers answer queries, checkpoints and page images are ours.
