//! Raft: the only folder that names openraft. The proposer puts many commands into one log entry,
//! the state machine hands committed entries to SQLite, the read barrier makes reads linearizable.

mod clock;
pub(crate) mod codec;
mod freshness;
#[cfg(test)]
mod fuzz;
mod held_back;
mod incoming;
mod log_store;
mod maintenance;
mod network;
mod proposer;
mod raft;
mod read_barrier;
pub(crate) mod repair;
mod replica_hashes;
mod service;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use raft::{Consensus, stopped_maybe_applied};
pub(crate) use read_barrier::ReadBarrier;
