//! openraft's own storage test suite, on the real log and the real state machine.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::log_store::LogStore;
use super::state_machine::{ApplyThread, StateMachine, TRANSACTION_ENTRIES};
use super::types::TypeConfig;
use crate::log::{Log, LogOptions};
use crate::sqlite::Database;

struct Builder;

/// Keeps the directory and the apply thread of one store until its test has ended.
struct Guard {
    log: Log,
    database: Database,
    _thread: ApplyThread,
    _dir: tempfile::TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.database.close();
        if let Err(e) = self.log.close() {
            tracing::debug!(error = %e, "closed twice");
        }
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a directory");
        let options = LogOptions { segment_bytes: 64 * 1024, ..Default::default() };
        let log = Log::open(&dir.path().join("log"), options).expect("a log");
        let (database, writer) = Database::open(dir.path()).expect("a database");
        let incoming = dir.path().join("incoming");
        std::fs::create_dir_all(&incoming).expect("a directory");
        let (machine, thread) =
            StateMachine::start(database.clone(), writer, &log, incoming, TRANSACTION_ENTRIES)
                .expect("an apply thread");
        let store = LogStore::new(log.clone());
        Ok((Guard { log, database, _thread: thread, _dir: dir }, store, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openraft_storage_suite() {
    Suite::test_all(Builder).await.expect("the suite passes");
}
