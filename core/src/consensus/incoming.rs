//! [`Incoming`]: receiving a snapshot beside the live file.
//!
//! Whatever of it this node has already need not be sent: pages of its live database, wherever they
//! lie in it, and those that an earlier transfer brought before it broke. A page is known by 128
//! bits of its SHA-256.

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::codec;
use super::snapshot::{CHUNK_BYTES, PAGES_AT_ONCE, SnapshotData, blocking, storage_failed};
use super::types::{self, Snapshot, SnapshotMeta, StoredMembership, Vote};
use crate::error::{Error, ErrorKind, Result};
use crate::private;
use crate::proto;
use crate::sqlite::{self, Database, Image};
use crate::status::SnapshotProgress;

/// The file that collects the pages. What lies in it is never trusted, only compared.
const FILE: &str = "partial.image";
/// A file of an earlier transfer is removed when it is older than this: the node came along without.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A live database smaller than this, in bytes, is not worth comparing.
const WORTH_COMPARING: u64 = 256 << 10;
/// A transfer of which nothing was heard for so long is over.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that are read and hashed at once.
const HASHED_AT_ONCE: usize = 1 << 20;

/// What a page is known by.
type PageHash = [u8; 16];

/// See [`PageHash`].
pub(super) fn page_hash(page: &[u8]) -> PageHash {
    let mut hash = PageHash::default();
    hash.copy_from_slice(&Sha256::digest(page)[..16]);
    hash
}

/// The receiving side: at most one transfer at a time, a newer one replaces it.
pub(crate) struct Incoming {
    dir: PathBuf,
    database: Database,
    current: Arc<Mutex<Option<Transfer>>>,
    progress: Arc<parking_lot::Mutex<Option<SnapshotProgress>>>,
}

struct Transfer {
    id: u64,
    vote: Vote,
    meta: SnapshotMeta,
    length: u64,
    /// Bytes of the image that are in the file.
    present: u64,
    path: PathBuf,
    file: File,
    page_size: usize,
    had: Had,
    used: Instant,
}

/// What this node had when the transfer began.
#[derive(Default)]
struct Had {
    /// The pages in the file, each in its place.
    partial: Vec<PageHash>,
    /// The live database, and where each page is in it.
    live: Option<(Image, HashMap<PageHash, u64>)>,
}

/// A complete, verified image that is ready to be installed.
pub(crate) struct Arrived {
    pub(crate) vote: Vote,
    pub(crate) snapshot: Snapshot,
}

impl Incoming {
    /// Images are collected in `dir`.
    pub(crate) fn new(dir: PathBuf, database: Database) -> Result<Incoming> {
        let io = |e| storage_failed(&dir, e);
        private::create_dir_all(&dir).map_err(io)?;
        for entry in std::fs::read_dir(&dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            let age =
                entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if entry.file_name() != FILE || age.is_none_or(|age| age > KEPT) {
                std::fs::remove_file(entry.path()).map_err(io)?;
            }
        }
        Ok(Incoming { dir, database, current: Arc::default(), progress: Arc::default() })
    }

    /// Where images are collected.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How far the transfer is that is under way, or how far the last one came.
    pub(crate) fn progress(&self) -> Option<SnapshotProgress> {
        self.progress.lock().clone()
    }

    /// A transfer begins; one that was under way is given up. Answers whether hashes are wanted.
    pub(crate) async fn begin(&self, body: Bytes) -> Result<bool> {
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
        let page_size = begin.page_size as usize;
        let sound = page_size.is_power_of_two()
            && (512..=65_536).contains(&page_size)
            && begin.length.is_multiple_of(page_size as u64);
        if !sound {
            return Err(codec::malformed("a snapshot"));
        }
        let mut current = self.current.lock().await;
        drop(current.take());
        let (path, database) = (self.dir.join(FILE), self.database.clone());
        let length = begin.length;
        let (file, had) = blocking({
            let path = path.clone();
            move || open_partial(&path, length, page_size, &database)
        })
        .await?;
        let compare = !had.partial.is_empty() || had.live.is_some();
        *self.progress.lock() =
            Some(SnapshotProgress { total_bytes: length, present_bytes: 0, received_bytes: 0 });
        *current = Some(Transfer {
            id: begin.transfer,
            vote,
            meta,
            length,
            present: 0,
            path,
            file,
            page_size,
            had,
            used: Instant::now(),
        });
        self.watch(begin.transfer);
        Ok(compare)
    }

    /// Gives a transfer up whose sender is gone: while it lasts, the live database makes no
    /// checkpoints.
    fn watch(&self, id: u64) {
        let current = Arc::downgrade(&self.current);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SILENCE).await;
                let Some(current) = current.upgrade() else { return };
                let mut current = current.lock().await;
                let silent = |t: &mut Transfer| t.used.elapsed() >= SILENCE;
                match current.as_mut().filter(|t| t.id == id).map(silent) {
                    Some(false) => {}
                    Some(true) => {
                        *current = None;
                        return;
                    }
                    None => return,
                }
            }
        });
    }

    /// Says which of some pages this node lacks, one bit for each.
    pub(crate) async fn pages(&self, body: Bytes) -> Result<Vec<u8>> {
        let question: proto::SnapshotPages = codec::decode(body, "a snapshot's pages")?;
        self.on_transfer(question.transfer, 0, move |transfer| {
            transfer.find(question.offset, &question.hashes)
        })
        .await
    }

    /// The next pieces of the image.
    pub(crate) async fn chunk(&self, body: Bytes) -> Result<()> {
        let received = body.len() as u64;
        let chunk: proto::SnapshotChunk = codec::decode(body, "a snapshot chunk")?;
        self.on_transfer(chunk.transfer, received, move |transfer| transfer.write(&chunk)).await
    }

    /// Runs `f` on the current transfer, one call after the other.
    async fn on_transfer<T: Send + 'static>(
        &self,
        id: u64,
        received: u64,
        f: impl FnOnce(&mut Transfer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut current = self.current.lock().await;
        // Should this call be given up in between, the transfer is over; what it brought is kept.
        let mut transfer = current.take_if(|t| t.id == id).ok_or_else(replaced)?;
        let (transfer, result) = blocking(move || {
            let result = f(&mut transfer);
            transfer.used = Instant::now();
            Ok((transfer, result))
        })
        .await?;
        if let Some(progress) = &mut *self.progress.lock() {
            progress.present_bytes = transfer.present;
            progress.received_bytes += received;
        }
        *current = Some(transfer);
        result
    }

    /// The image is complete: makes it durable and verifies that it is what was announced.
    pub(crate) async fn end(&self, body: Bytes) -> Result<Arrived> {
        let end: proto::SnapshotEnd = codec::decode(body, "the end of a snapshot")?;
        let mut current = self.current.lock().await;
        let mut transfer = current.take_if(|t| t.id == end.transfer).ok_or_else(replaced)?;
        blocking(move || {
            // Nobody may have the live file open when it is replaced.
            transfer.had = Had::default();
            if let Err(e) = transfer.verify() {
                if let Err(e) = std::fs::remove_file(&transfer.path) {
                    tracing::warn!(error = %e, "cannot remove a damaged snapshot");
                }
                return Err(e);
            }
            Ok(Arrived {
                vote: transfer.vote,
                snapshot: Snapshot {
                    meta: transfer.meta,
                    snapshot: SnapshotData::Received(transfer.path),
                },
            })
        })
        .await
    }
}

fn replaced() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "SNAPSHOT_REPLACED",
        "this snapshot transfer was replaced by another one",
    )
}

/// Opens the file that collects an image of `length` bytes, and looks at what is there already.
fn open_partial(
    path: &Path,
    length: u64,
    page_size: usize,
    database: &Database,
) -> Result<(File, Had)> {
    let io = |e| storage_failed(path, e);
    let mut file = private::create_file().read(true).truncate(false).open(path).map_err(io)?;
    let mut had = Had::default();
    let mut left = file.metadata().map_err(io)?.len().min(length);
    let mut buffer = vec![0; HASHED_AT_ONCE];
    while left >= page_size as u64 {
        let part = usize::try_from(left).map_or(HASHED_AT_ONCE, |n| n.min(HASHED_AT_ONCE));
        let part = &mut buffer[..part - part % page_size];
        file.read_exact(part).map_err(io)?;
        had.partial.extend(part.chunks(page_size).map(page_hash));
        left -= part.len() as u64;
    }
    // Without an old copy, or while it is being changed too much, all is sent.
    had.live = match database.image() {
        Ok(image) if image.len() >= WORTH_COMPARING && image.page_size() as usize == page_size => {
            let pages = pages_of(&image, page_size)?;
            Some((image, pages))
        }
        Ok(_) => None,
        Err(e) => {
            tracing::info!(error = %e, "the snapshot is received without the help of the old copy");
            None
        }
    };
    let compared = !had.partial.is_empty() || had.live.is_some();
    file.set_len(if compared { length } else { 0 }).map_err(io)?;
    Ok((file, had))
}

fn pages_of(image: &Image, page_size: usize) -> Result<HashMap<PageHash, u64>> {
    let mut pages = HashMap::new();
    let mut offset = 0;
    while offset < image.len() {
        let bytes = image.read(offset, HASHED_AT_ONCE)?;
        for page in bytes.chunks(page_size) {
            pages.entry(page_hash(page)).or_insert(offset);
            offset += page.len() as u64;
        }
    }
    Ok(pages)
}

impl Transfer {
    /// Puts the pages from `offset` on that this node has into the file, and gives a bit for each
    /// that it lacks.
    fn find(&mut self, offset: u64, hashes: &[u8]) -> Result<Vec<u8>> {
        let count = hashes.len() / size_of::<PageHash>();
        let bytes = (count * self.page_size) as u64;
        let sound = hashes.len().is_multiple_of(size_of::<PageHash>())
            && count <= PAGES_AT_ONCE
            && offset.is_multiple_of(self.page_size as u64)
            && offset.checked_add(bytes).is_some_and(|end| end <= self.length);
        if !sound {
            return Err(codec::malformed("a snapshot's pages"));
        }
        let mut wanted = vec![0; count.div_ceil(8)];
        let mut at = offset;
        for (i, hash) in hashes.chunks_exact(size_of::<PageHash>()).enumerate() {
            let in_place = usize::try_from(at / self.page_size as u64)
                .ok()
                .and_then(|page| self.had.partial.get(page))
                .is_some_and(|had| had == hash);
            let live =
                self.had.live.as_ref().and_then(|(image, pages)| Some((image, *pages.get(hash)?)));
            if in_place {
                self.present += self.page_size as u64;
            } else if let Some((image, from)) = live {
                let page = image.read(from, self.page_size)?;
                self.put(at, &page)?;
            } else {
                wanted[i / 8] |= 1 << (i % 8);
            }
            at += self.page_size as u64;
        }
        Ok(wanted)
    }

    fn write(&mut self, chunk: &proto::SnapshotChunk) -> Result<()> {
        let claimed = chunk.data.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        if claimed.is_none_or(|n| n as usize > CHUNK_BYTES) || !chunk.runs.len().is_multiple_of(2) {
            return Err(codec::malformed("a snapshot chunk"));
        }
        let bytes = lz4_flex::decompress_size_prepended(&chunk.data)
            .map_err(|e| codec::malformed("a snapshot chunk").with_source(e))?;
        if crc32c::crc32c(&bytes) != chunk.crc {
            return Err(damaged("was damaged on its way"));
        }
        let mut rest = &bytes[..];
        for run in chunk.runs.chunks_exact(2) {
            let (offset, length) = (run[0], run[1]);
            let end = offset.checked_add(length);
            let split = usize::try_from(length).ok().filter(|length| *length <= rest.len());
            let (Some(split), true) = (split, end.is_some_and(|end| end <= self.length)) else {
                return Err(codec::malformed("a snapshot chunk"));
            };
            let (run, later) = rest.split_at(split);
            self.put(offset, run)?;
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { Err(codec::malformed("a snapshot chunk")) }
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.write_all(bytes))
            .map_err(|e| storage_failed(&self.path, e))?;
        self.present += bytes.len() as u64;
        Ok(())
    }

    fn verify(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| storage_failed(&self.path, e))?;
        if self.present != self.length {
            return Err(damaged("is incomplete"));
        }
        let applied = sqlite::verify_image(&self.path)?;
        let last = applied.position.map(|p| types::log_id(p.term, p.index));
        let stored = codec::stored_membership(
            applied.membership.map(|(p, bytes)| (p.map(|p| types::log_id(p.term, p.index)), bytes)),
        )?;
        if last != self.meta.last_log_id || stored != self.meta.last_membership {
            return Err(damaged("is not what was announced"));
        }
        Ok(())
    }
}

fn damaged(what: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "SNAPSHOT_DAMAGED",
        format!("the received snapshot {what}; it is sent again"),
    )
}
