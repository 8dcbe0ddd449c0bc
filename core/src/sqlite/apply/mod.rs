//! How a command becomes rows: the writer, its transaction, one command, one statement, and what is
//! remembered of it so that it is never applied twice.

pub(super) mod budget;
pub(super) mod command;
pub(super) mod execute;
#[cfg(debug_assertions)]
pub(super) mod fault;
pub(super) mod halt;
pub(super) mod meta;
pub(super) mod recent;
pub(super) mod record;
pub(super) mod write_steps;
pub(super) mod writer;
