//! Snapshots between nodes: the live file's pages, streamed without a second copy on the sender,
//! collected beside the live file and verified on the receiver.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use super::codec;
use super::types::{self, Snapshot, SnapshotMeta, StoredMembership, Vote};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::{self, Method};
use crate::sqlite::{self, Image};
use crate::transport::{CallError, Client, Lane, PendingCall};

/// Uncompressed bytes of one chunk.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks that may be on their way at once.
const WINDOW: usize = 4;
/// How long the receiver may take for one chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the receiver may take to verify and install the image.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// What stands for the data of a snapshot.
pub(crate) enum SnapshotData {
    /// Only the durable applied index was recorded; there is nothing to send.
    Recorded,
    /// The live file, held still.
    Image(Image),
    /// A received and verified image beside the live file.
    Received(PathBuf),
}

impl SnapshotData {
    /// The path of a file with the image, ready to be swapped in.
    pub(crate) async fn into_file(self, incoming: &Path) -> Result<PathBuf> {
        match self {
            SnapshotData::Received(path) => Ok(path),
            SnapshotData::Image(image) => {
                let path = incoming.join("local.image");
                let target = path.clone();
                blocking(move || copy_image(&image, &target)).await?;
                Ok(path)
            }
            SnapshotData::Recorded => Err(Error::new(
                ErrorKind::Corruption,
                "CORRUPTION_SNAPSHOT",
                "a snapshot without data cannot be installed",
            )),
        }
    }
}

fn copy_image(image: &Image, path: &Path) -> Result<()> {
    use std::io::Write;
    let io = |e: std::io::Error| storage_failed(path, e);
    let mut file = std::fs::File::create(path).map_err(io)?;
    let mut offset = 0;
    while offset < image.len() {
        let chunk = image.read(offset, CHUNK_BYTES)?;
        offset += chunk.len() as u64;
        file.write_all(&chunk).map_err(io)?;
    }
    file.sync_all().map_err(io)
}

fn storage_failed(path: &Path, e: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "STORAGE_FAILED",
        format!("cannot write {}: {e}; is the disk full?", path.display()),
    )
    .with_source(e)
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(e) => Err(Error::closed().with_source(e)),
    }
}

/// Streams `snapshot` to the node at `address` and returns its vote after it has installed it.
pub(crate) async fn send(
    client: &Client,
    address: &str,
    target: &str,
    vote: &Vote,
    snapshot: Snapshot,
) -> Result<Vote, CallError> {
    let SnapshotData::Image(image) = snapshot.snapshot else {
        return Err(CallError::NotSent(Error::new(
            ErrorKind::Unavailable,
            "SNAPSHOT_NOT_READY",
            "no snapshot is ready to be sent yet",
        )));
    };
    let image = Arc::new(image);
    let transfer = random_u64().map_err(CallError::NotSent)?;
    let begin = proto::SnapshotBegin {
        vote: Some(codec::vote_to_proto(vote)),
        last_log_id: snapshot.meta.last_log_id.as_ref().map(codec::log_id_to_proto),
        membership_log_id: snapshot
            .meta
            .last_membership
            .log_id()
            .as_ref()
            .map(codec::log_id_to_proto),
        membership: Some(codec::membership_to_proto(snapshot.meta.last_membership.membership())),
        length: image.len(),
        transfer,
    };
    let post = |method: Method, body: Bytes, timeout: Duration| {
        client.send(address, Some(target), Lane::Bulk, method as u32, body, timeout)
    };
    post(Method::SnapshotBegin, codec::encode(&begin), CHUNK_TIMEOUT).await?.wait().await?;
    let mut in_flight: VecDeque<PendingCall> = VecDeque::new();
    let mut offset = 0;
    while offset < image.len() {
        let source = image.clone();
        let chunk = blocking(move || {
            let bytes = source.read(offset, CHUNK_BYTES)?;
            let read = bytes.len() as u64;
            let message = proto::SnapshotChunk {
                transfer,
                offset,
                crc: crc32c::crc32c(&bytes),
                data: lz4_flex::compress_prepend_size(&bytes).into(),
            };
            Ok((read, codec::encode(&message)))
        });
        let (read, body) = chunk.await.map_err(CallError::NotSent)?;
        if read == 0 {
            break;
        }
        offset += read;
        in_flight.push_back(post(Method::SnapshotChunk, body, CHUNK_TIMEOUT).await?);
        if in_flight.len() >= WINDOW
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.wait().await?;
        }
    }
    for call in in_flight {
        call.wait().await?;
    }
    let end = proto::SnapshotEnd { transfer };
    let reply =
        post(Method::SnapshotEnd, codec::encode(&end), INSTALL_TIMEOUT).await?.wait().await?;
    // Until here the image kept the log that the receiver needs next from being purged.
    drop(image);
    let response: proto::SnapshotResponse =
        codec::decode(reply, "the answer to a snapshot").map_err(CallError::Remote)?;
    codec::vote_from_proto(response.vote).map_err(CallError::Remote)
}

fn random_u64() -> Result<u64> {
    getrandom::u64().map_err(|e| {
        Error::new(
            ErrorKind::Unavailable,
            "NO_RANDOMNESS",
            format!("the operating system gives no randomness: {e}"),
        )
    })
}

/// The receiving side: at most one transfer at a time, a newer one replaces it.
pub(crate) struct Incoming {
    dir: PathBuf,
    current: Mutex<Option<Transfer>>,
}

struct Transfer {
    id: u64,
    vote: Vote,
    meta: SnapshotMeta,
    length: u64,
    received: u64,
    path: PathBuf,
    file: tokio::fs::File,
}

/// A complete, verified image that is ready to be installed.
pub(crate) struct Arrived {
    pub(crate) vote: Vote,
    pub(crate) snapshot: Snapshot,
}

impl Incoming {
    /// Images are collected in `dir`, which is emptied now: what lies there is from a transfer that
    /// a crash ended.
    pub(crate) fn new(dir: PathBuf) -> Result<Incoming> {
        let io = |e| storage_failed(&dir, e);
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
        std::fs::create_dir_all(&dir).map_err(io)?;
        Ok(Incoming { dir, current: Mutex::new(None) })
    }

    /// Where images are collected.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A transfer begins; one that was under way is given up.
    pub(crate) async fn begin(&self, body: Bytes) -> Result<()> {
        let begin: proto::SnapshotBegin = codec::decode(body, "a snapshot")?;
        let membership = begin.membership.ok_or_else(|| codec::malformed("a snapshot"))?;
        let meta = SnapshotMeta {
            last_log_id: begin.last_log_id.as_ref().map(codec::log_id_from_proto),
            last_membership: StoredMembership::new(
                begin.membership_log_id.as_ref().map(codec::log_id_from_proto),
                codec::membership_from_proto(membership)?,
            ),
        };
        let vote = codec::vote_from_proto(begin.vote)?;
        let mut current = self.current.lock().await;
        if let Some(old) = current.take() {
            old.discard().await;
        }
        let path = self.dir.join(format!("{:016x}.image", begin.transfer));
        let file = tokio::fs::File::create(&path).await.map_err(|e| storage_failed(&path, e))?;
        *current = Some(Transfer {
            id: begin.transfer,
            vote,
            meta,
            length: begin.length,
            received: 0,
            path,
            file,
        });
        Ok(())
    }

    /// The next piece of the image.
    pub(crate) async fn chunk(&self, body: Bytes) -> Result<()> {
        let chunk: proto::SnapshotChunk = codec::decode(body, "a snapshot chunk")?;
        // The lock is fair, so chunks are written in the order in which they arrived.
        let mut current = self.current.lock().await;
        let transfer = expect(&mut current, chunk.transfer)?;
        let claimed = chunk.data.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        if claimed.is_none_or(|n| n as usize > CHUNK_BYTES) {
            return Err(codec::malformed("a snapshot chunk"));
        }
        let bytes = lz4_flex::decompress_size_prepended(&chunk.data)
            .map_err(|e| codec::malformed("a snapshot chunk").with_source(e))?;
        let end = chunk.offset.checked_add(bytes.len() as u64);
        if chunk.offset != transfer.received
            || end.is_none_or(|end| end > transfer.length)
            || crc32c::crc32c(&bytes) != chunk.crc
        {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "SNAPSHOT_DAMAGED",
                "a piece of a snapshot was damaged or out of order on its way; it is sent again",
            ));
        }
        transfer.file.write_all(&bytes).await.map_err(|e| storage_failed(&transfer.path, e))?;
        transfer.received += bytes.len() as u64;
        Ok(())
    }

    /// The image is complete: makes it durable and verifies that it is what was announced.
    pub(crate) async fn end(&self, body: Bytes) -> Result<Arrived> {
        let end: proto::SnapshotEnd = codec::decode(body, "the end of a snapshot")?;
        let mut current = self.current.lock().await;
        expect(&mut current, end.transfer)?;
        let Some(mut transfer) = current.take() else {
            return Err(codec::malformed("the end of a snapshot"));
        };
        match transfer.verify().await {
            Ok(()) => Ok(Arrived {
                vote: transfer.vote,
                snapshot: Snapshot {
                    meta: transfer.meta,
                    snapshot: SnapshotData::Received(transfer.path),
                },
            }),
            Err(e) => {
                transfer.discard().await;
                Err(e)
            }
        }
    }
}

fn expect(current: &mut Option<Transfer>, id: u64) -> Result<&mut Transfer> {
    current.as_mut().filter(|t| t.id == id).ok_or_else(|| {
        Error::new(
            ErrorKind::Unavailable,
            "SNAPSHOT_REPLACED",
            "this snapshot transfer was replaced by another one",
        )
    })
}

impl Transfer {
    async fn verify(&mut self) -> Result<()> {
        self.file.flush().await.map_err(|e| storage_failed(&self.path, e))?;
        self.file.sync_all().await.map_err(|e| storage_failed(&self.path, e))?;
        let damaged = |what: &str| {
            Error::new(
                ErrorKind::Unavailable,
                "SNAPSHOT_DAMAGED",
                format!("the received snapshot {what}; it is sent again"),
            )
        };
        if self.received != self.length {
            return Err(damaged("is incomplete"));
        }
        let path = self.path.clone();
        let applied = blocking(move || sqlite::verify_image(&path)).await?;
        let last = applied.position.map(|p| types::log_id(p.term, p.index));
        let stored = codec::stored_membership(
            applied.membership.map(|(p, bytes)| (p.map(|p| types::log_id(p.term, p.index)), bytes)),
        )?;
        if last != self.meta.last_log_id || stored != self.meta.last_membership {
            return Err(damaged("is not what was announced"));
        }
        Ok(())
    }

    async fn discard(self) {
        drop(self.file);
        if let Err(e) = tokio::fs::remove_file(&self.path).await {
            tracing::warn!(path = %self.path.display(), error = %e, "cannot remove a partial snapshot");
        }
    }
}
