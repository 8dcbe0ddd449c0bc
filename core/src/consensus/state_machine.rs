//! [`StateMachine`]: hands committed entries to the apply thread, which owns SQLite's writer.
//!
//! openraft waits for one `apply` call before it makes the next. So `apply` only queues, and the
//! apply thread puts everything that is queued into one transaction, across those calls. What
//! openraft calls applied may therefore run ahead of SQLite; everything that depends on SQLite's
//! own state (reads, snapshots, purging) uses [`StateMachine::applied`] or the apply thread.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::{mpsc, oneshot, watch};

use super::codec;
use super::held_back::{self, HeldBack};
use super::replica_hashes::ReplicaHashes;
use super::snapshot::SnapshotData;
use super::types::{self, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;
use crate::sqlite::{self, Applied, Database, EntryKind, Position, Writer};

/// Chunks that may wait for the apply thread; with [`CHUNK_BYTES`] it bounds memory.
const QUEUE_CHUNKS: usize = 16;
/// A chunk of the queue ends at this many bytes of entries...
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// ...or at this many entries.
const CHUNK_ENTRIES: usize = 64;
/// One transaction takes at most this many entries.
pub(crate) const TRANSACTION_ENTRIES: usize = 512;
/// How often a snapshot is tried to be installed while reads are in the way.
const INSTALL_ATTEMPTS: u32 = 30;

pub(super) type ToApply = (types::Entry, Option<ApplyResponder<TypeConfig>>);

enum Work {
    Apply(Vec<ToApply>),
    /// Reports the applied state once everything queued before is applied.
    State(oneshot::Sender<Result<Applied>>),
    /// Replaces the database by a verified image.
    Install(PathBuf, oneshot::Sender<Result<Applied>>),
    /// Tries once more what is halted, and everything after it.
    Retry(oneshot::Sender<Result<Applied>>),
}

/// The first failure of the apply thread; nothing is applied after it.
#[derive(Clone)]
struct Failure(Arc<watch::Sender<Option<Error>>>);

impl Failure {
    fn get(&self) -> Option<Error> {
        self.0.borrow().clone()
    }

    fn set(&self, error: Error) {
        self.0.send_if_modified(|first| {
            let fresh = first.is_none();
            first.get_or_insert(error);
            fresh
        });
    }
}

/// The state machine of one node. Clones share the apply thread.
#[derive(Clone)]
pub(crate) struct StateMachine {
    database: Database,
    work: mpsc::Sender<Work>,
    applied: watch::Receiver<u64>,
    failure: Failure,
    snapshot_built: Arc<AtomicBool>,
    incoming: PathBuf,
    hashes: ReplicaHashes,
}

/// Waits for the apply thread to end.
pub(crate) struct ApplyThread(std::thread::JoinHandle<()>);

impl ApplyThread {
    /// Returns when the thread has ended, which it does once all handles of its state machine are
    /// gone and its queue is empty.
    pub(crate) fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the apply thread panicked");
        }
    }
}

impl StateMachine {
    /// Starts the apply thread. `incoming` is where received snapshot images lie.
    pub(crate) fn start(
        database: Database,
        mut writer: Writer,
        log: &Log,
        incoming: PathBuf,
        transaction_entries: usize,
    ) -> Result<(StateMachine, ApplyThread)> {
        for index in held_back::look_ahead(log, writer.applied().index())? {
            writer.void(index);
        }
        let (work, queue) = mpsc::channel(QUEUE_CHUNKS);
        let index = writer.applied().position.map_or(0, |p| p.index);
        let (applied_tx, applied) = watch::channel(index);
        let failure = Failure(Arc::new(watch::Sender::new(None)));
        let hashes = ReplicaHashes::default();
        let apply = ApplyLoop {
            writer,
            queue,
            applied: applied_tx,
            failure: failure.clone(),
            database: database.clone(),
            hashes: hashes.clone(),
            transaction_entries,
            held_back: HeldBack::new(log.clone()),
        };
        let thread = std::thread::Builder::new()
            .name("quorumlite-apply".into())
            .spawn(move || apply.run())
            .map_err(|e| {
                Error::new(
                    ErrorKind::Unavailable,
                    "STORAGE_FAILED",
                    format!("cannot start the apply thread: {e}"),
                )
            })?;
        let machine = StateMachine {
            database,
            work,
            applied,
            failure,
            snapshot_built: Arc::default(),
            incoming,
            hashes,
        };
        Ok((machine, ApplyThread(thread)))
    }

    /// Follows the index that SQLite has applied.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// The way to have what is halted tried again; it does not keep the apply thread alive.
    pub(crate) fn retries(&self) -> Retries {
        Retries(self.work.downgrade())
    }

    /// The hashes that this replica made because the log asked for them.
    pub(crate) fn hashes(&self) -> ReplicaHashes {
        self.hashes.clone()
    }

    /// Follows why nothing is applied any more, if that is so.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<Error>> {
        self.failure.0.subscribe()
    }

    async fn ask(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<Applied>>) -> Work,
    ) -> Result<Applied> {
        let (tx, rx) = oneshot::channel();
        if self.work.send(work(tx)).await.is_err() {
            return Err(self.stopped());
        }
        rx.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Makes durable what openraft calls applied, not on the apply thread: a sync of megabytes would
    /// hold up every write.
    async fn barrier(&self) -> Result<Applied> {
        self.ask(Work::State).await?;
        let database = self.database.clone();
        let result = tokio::task::spawn_blocking(move || database.barrier()).await;
        let result = result.unwrap_or_else(|e| {
            Err(Error::closed().context(format_args!("making the state durable did not end: {e}")))
        });
        if let Err(e) = &result
            && e.kind() != ErrorKind::Closed
        {
            self.failure.set(e.clone());
        }
        result
    }

    fn stopped(&self) -> Error {
        self.failure.get().unwrap_or_else(Error::closed)
    }
}

/// Has what is halted tried again.
pub(crate) struct Retries(mpsc::WeakSender<Work>);

impl Retries {
    /// Returns when everything that was held back is applied.
    pub(crate) async fn retry(&self) -> Result<()> {
        let work = self.0.upgrade().ok_or_else(Error::closed)?;
        let (tx, rx) = oneshot::channel();
        work.send(Work::Retry(tx)).await.map_err(|_| Error::closed())?;
        drop(work);
        rx.await.unwrap_or_else(|_| Err(Error::closed())).map(drop)
    }
}

fn storage_error(e: Error) -> io::Error {
    io::Error::other(e)
}

fn log_id(position: Option<Position>) -> Option<LogId> {
    position.map(|p| types::log_id(p.term, p.index))
}

fn membership(stored: Option<(Option<Position>, bytes::Bytes)>) -> Result<StoredMembership> {
    codec::stored_membership(stored.map(|(position, bytes)| (log_id(position), bytes)))
}

fn meta(applied: &Applied) -> Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: log_id(applied.position),
        last_membership: membership(applied.membership.clone())?,
    })
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.ask(Work::State).await.map_err(storage_error)?;
        let meta = meta(&applied).map_err(storage_error)?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunk: Vec<ToApply> = Vec::new();
        let mut bytes = 0;
        loop {
            let next = entries.next().await.transpose()?;
            let end = next.is_none();
            if let Some((entry, responder)) = next {
                if let Payload::Normal(data) = &entry.payload {
                    bytes += data.0.len();
                }
                chunk.push((entry, responder));
            }
            let full = chunk.len() >= CHUNK_ENTRIES || bytes >= CHUNK_BYTES;
            if (full || end) && !chunk.is_empty() {
                let work = Work::Apply(std::mem::take(&mut chunk));
                bytes = 0;
                if self.work.send(work).await.is_err() {
                    return Err(storage_error(self.stopped()));
                }
            }
            if end {
                return match self.failure.get() {
                    Some(e) => Err(storage_error(e)),
                    None => Ok(()),
                };
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let path = snapshot.into_file(&self.incoming).await.map_err(storage_error)?;
        let applied = self.ask(|tx| Work::Install(path, tx)).await.map_err(storage_error)?;
        if log_id(applied.position) != meta.last_log_id {
            let e = Error::new(
                ErrorKind::Corruption,
                "CORRUPTION_SNAPSHOT",
                "the snapshot's image and its description disagree",
            );
            self.failure.set(e.clone());
            return Err(storage_error(e));
        }
        self.snapshot_built.store(true, Ordering::Release);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        // There is no second copy of the database: a snapshot is the live file, held still. Before
        // the first one was asked for there is nothing to send.
        if !self.snapshot_built.load(Ordering::Acquire) {
            return Ok(None);
        }
        let database = self.database.clone();
        let image = tokio::task::spawn_blocking(move || database.image())
            .await
            .map_err(io::Error::other)?
            .map_err(storage_error)?;
        let meta = SnapshotMeta {
            last_log_id: log_id(image.position()),
            last_membership: membership(image.membership()).map_err(storage_error)?,
        };
        Ok(Some(Snapshot { meta, snapshot: SnapshotData::Image(image) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    /// Records how far the database is durable, which is how far the log may be purged.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let applied = self.barrier().await.map_err(storage_error)?;
        self.snapshot_built.store(true, Ordering::Release);
        let meta = meta(&applied).map_err(storage_error)?;
        Ok(Snapshot { meta, snapshot: SnapshotData::Recorded })
    }
}

/// The apply thread: owns SQLite's only writer.
struct ApplyLoop {
    writer: Writer,
    queue: mpsc::Receiver<Work>,
    applied: watch::Sender<u64>,
    failure: Failure,
    database: Database,
    hashes: ReplicaHashes,
    transaction_entries: usize,
    held_back: HeldBack,
}

impl ApplyLoop {
    fn run(mut self) {
        let mut next = self.queue.blocking_recv();
        while let Some(work) = next.take() {
            match work {
                Work::Apply(mut entries) => {
                    // Whatever else is queued joins the same transaction.
                    while entries.len() < self.transaction_entries {
                        match self.queue.try_recv() {
                            Ok(Work::Apply(more)) => entries.extend(more),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    while !entries.is_empty() {
                        let later = entries.split_off(entries.len().min(self.transaction_entries));
                        self.apply_or_hold_back(entries);
                        entries = later;
                    }
                }
                Work::State(reply) => {
                    let _ = reply.send(self.guarded(|writer| Ok(writer.applied())));
                }
                Work::Install(path, reply) => {
                    let result = self.guarded(|writer| install(writer, &path));
                    if let Ok(applied) = &result {
                        self.publish(applied);
                    }
                    let _ = reply.send(result);
                }
                Work::Retry(reply) => {
                    self.writer.retry();
                    self.catch_up();
                    let _ = reply.send(self.guarded(|writer| Ok(writer.applied())));
                }
            }
            if next.is_none() {
                next = self.queue.blocking_recv();
            }
        }
        if self.failure.get().is_none() {
            self.writer.finish();
        }
    }

    /// Applies what may be applied, and holds back the rest. An entry among `entries` may end that.
    fn apply_or_hold_back(&mut self, mut entries: Vec<ToApply>) {
        for index in self.database.take_void_hints() {
            self.writer.void(index);
        }
        for (entry, _) in &entries {
            if let Some(index) = held_back::voided_by(entry) {
                self.writer.void(index);
            }
        }
        if !self.held_back.is_empty() {
            match self.database.halted() {
                Some(_) => return self.held_back.add(entries),
                None => self.catch_up(),
            }
        }
        if let Some(halted) = self.database.halted() {
            let before = entries.partition_point(|(e, _)| e.log_id.index < halted.index);
            self.held_back.add(entries.split_off(before));
        }
        if !entries.is_empty() {
            self.apply(entries);
        }
    }

    /// Applies what was held back, from the log.
    fn catch_up(&mut self) {
        while self.database.halted().is_none() && self.failure.get().is_none() {
            let from = self.writer.applied().index() + 1;
            match self.guarded_read(from) {
                Some(entries) if !entries.is_empty() => {
                    self.apply(entries.into_iter().map(|entry| (entry, None)).collect());
                }
                _ => return,
            }
        }
    }

    fn guarded_read(&mut self, from: u64) -> Option<Vec<types::Entry>> {
        let entries = self.held_back.next(from, self.transaction_entries);
        self.guarded(|_| entries).ok()
    }

    /// Runs `f` unless this node has failed, and remembers it if `f` does.
    fn guarded<T>(&mut self, f: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        if let Some(e) = self.failure.get() {
            return Err(e);
        }
        let result = f(&mut self.writer);
        if let Err(e) = &result {
            tracing::error!(error = %e, "this node stops applying");
            self.failure.set(e.clone());
        }
        result
    }

    fn publish(&self, applied: &Applied) {
        if let Some(position) = applied.position {
            self.applied.send_replace(position.index);
        }
    }

    fn apply(&mut self, entries: Vec<ToApply>) {
        let mut responders = Vec::with_capacity(entries.len());
        let mut decoded = Vec::with_capacity(entries.len());
        for (entry, responder) in entries {
            let index = entry.log_id.index;
            responders.push(responder);
            let (entry, check) = match self.guarded(|_| decode(entry)) {
                Ok(decoded) => decoded,
                Err(_) => return,
            };
            decoded.push(entry);
            if check {
                // What is hashed must be what this very entry left.
                self.commit(std::mem::take(&mut decoded), std::mem::take(&mut responders));
                self.hashes.make(&self.database, index);
            }
        }
        self.commit(decoded, responders);
    }

    fn commit(
        &mut self,
        entries: Vec<sqlite::Entry>,
        responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    ) {
        if entries.is_empty() {
            return;
        }
        let result = self.guarded(|writer| {
            let results = writer.apply(entries)?;
            Ok((results, writer.applied()))
        });
        // On failure the responders are dropped: their callers learn that the node has stopped.
        if let Ok((results, applied)) = result {
            self.publish(&applied);
            for (responder, result) in responders.into_iter().zip(results) {
                if let Some(responder) = responder {
                    responder.send(result);
                }
            }
        }
    }
}

/// Reads that do not end get several chances to: a node that cannot install must stop.
fn install(writer: &mut Writer, path: &std::path::Path) -> Result<Applied> {
    for _ in 1..INSTALL_ATTEMPTS {
        match writer.install(path) {
            Err(e) if e.kind() == ErrorKind::Busy => {
                tracing::warn!(error = %e, "a snapshot is not installed yet");
            }
            result => return result,
        }
    }
    writer.install(path)
}

/// The entry as SQLite's writer takes it, and whether the replicas are to be compared after it.
fn decode(entry: types::Entry) -> Result<(sqlite::Entry, bool)> {
    let position = Position { term: types::term_of(&entry.log_id), index: entry.log_id.index };
    let mut check = false;
    let kind = match entry.payload {
        Payload::Blank => EntryKind::Blank,
        Payload::Membership(m) => {
            EntryKind::Membership(codec::encode(&codec::membership_to_proto(&m)))
        }
        Payload::Normal(data) => match (codec::voided_by(&data)?, codec::clock_in(&data)?) {
            (Some(index), _) => EntryKind::Void(index),
            (None, Some(time)) => EntryKind::ResetClock(time),
            (None, None) => {
                let batch = codec::batch_from_entry(data)?;
                check = batch.check_replicas;
                EntryKind::Commands { timestamp_us: batch.timestamp_us, commands: batch.commands }
            }
        },
    };
    Ok((sqlite::Entry { position, kind }, check))
}
