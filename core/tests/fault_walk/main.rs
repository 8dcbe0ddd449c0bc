//! Power cuts, failing disks and full disks, at every point at which they could matter.
//!
//! A scripted workload runs on real nodes while everything that they do to the disk is recorded
//! (`calls.rs`). For each sync point of the recording, the directories are laid down as a power cut
//! just before and just after it could leave them (`model.rs`): without anything that was not
//! synced, with a torn last write, with any part of it in any order. On each of them a node is
//! opened. It must open, or refuse with `Corruption`; nothing acknowledged may be missing, nothing
//! may be there twice or in part, and every row, its random number and its time included, must be
//! the one that the workload's own run had.
//!
//! `QUORUMLITE_FAULT_SEED` repeats a run; `QUORUMLITE_FAULT_ROUNDS` asks for more random losses.

#![cfg(target_os = "linux")]

mod calls;
mod cluster_walk;
mod cut_transaction;
mod failing_disk;
mod failing_member;
mod ledger;
mod model;
mod power_cut;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

/// The number in an environment variable.
fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value:?} is no number")))
}

/// The seed of this run, printed so that it can be repeated.
fn seed() -> u64 {
    let seed = number("QUORUMLITE_FAULT_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("a clock after 1970").as_nanos() as u64
    });
    println!("QUORUMLITE_FAULT_SEED={seed}");
    seed
}

/// A directory in memory where there is one: only the recording knows what is synced.
fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a directory")
}
