//! Sending a snapshot: the live file's pages, streamed without a second copy. A receiver that has an
//! old copy, or a part of this one, gets the pages' hashes first and then only what it lacks.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::types::{Snapshot, Vote};
use super::{codec, incoming};
use crate::disk::{self, Cause};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::{self, Method};
use crate::sqlite::Image;
use crate::transport::{CallError, Client, Lane, PendingCall};

/// Uncompressed bytes of one chunk.
pub(super) const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks, and questions about pages, that may be on their way at once.
const WINDOW: usize = 4;
/// Pages whose hashes are sent in one message.
pub(super) const PAGES_AT_ONCE: usize = 1024;
/// How long the receiver may take to see what it has: it reads all of its old copy.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(600);
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
    let mut file = crate::private::create_file().truncate(true).open(path).map_err(io)?;
    let mut offset = 0;
    while offset < image.len() {
        let chunk = image.read(offset, CHUNK_BYTES)?;
        offset += chunk.len() as u64;
        file.write_all(&chunk).map_err(io)?;
    }
    file.sync_all().map_err(io)
}

pub(super) fn storage_failed(path: &Path, e: std::io::Error) -> Error {
    let cause = Cause::of(&e);
    if cause == Cause::TooManyFiles {
        return disk::too_many_files(format!("{}: {e}", path.display()));
    }
    Error::new(
        ErrorKind::Unavailable,
        "STORAGE_FAILED",
        format!("cannot write {}: {e}; {}", path.display(), cause.advice()),
    )
    .with_retryable(false)
    .with_source(e)
}

pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
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
    let page_size = image.page_size() as usize;
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
        page_size: page_size as u32,
    };
    let link = Link { client, address, target, transfer, image };
    let answer = link.post(Method::SnapshotBegin, codec::encode(&begin), BEGIN_TIMEOUT).await?;
    let answer: proto::SnapshotBeginResponse =
        codec::decode(answer.wait().await?, "the answer to a snapshot")
            .map_err(CallError::Remote)?;
    if answer.compare {
        link.send_difference(page_size).await?;
    } else {
        link.send_all().await?;
    }
    let end = proto::SnapshotEnd { transfer };
    let reply = link.post(Method::SnapshotEnd, codec::encode(&end), INSTALL_TIMEOUT).await?;
    let reply = reply.wait().await?;
    // Until here the image kept the log that the receiver needs next from being purged.
    drop(link);
    let response: proto::SnapshotResponse =
        codec::decode(reply, "the answer to a snapshot").map_err(CallError::Remote)?;
    codec::vote_from_proto(response.vote).map_err(CallError::Remote)
}

/// One transfer, on the sender's side.
struct Link<'a> {
    client: &'a Client,
    address: &'a str,
    target: &'a str,
    transfer: u64,
    image: Arc<Image>,
}

/// Chunks on their way, the oldest first.
#[derive(Default)]
struct InFlight(VecDeque<PendingCall>);

impl InFlight {
    /// Adds one, and waits until there is room for the next.
    async fn push(&mut self, call: PendingCall) -> Result<(), CallError> {
        self.0.push_back(call);
        if self.0.len() >= WINDOW
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.wait().await?;
        }
        Ok(())
    }

    async fn finish(self) -> Result<(), CallError> {
        for call in self.0 {
            call.wait().await?;
        }
        Ok(())
    }
}

/// Pages whose hashes were sent.
struct Asked {
    offset: u64,
    bytes: Vec<u8>,
    answer: PendingCall,
}

impl Link<'_> {
    async fn post(
        &self,
        method: Method,
        body: Bytes,
        timeout: Duration,
    ) -> Result<PendingCall, CallError> {
        let Link { client, address, target, .. } = self;
        client.send(address, Some(target), Lane::Bulk, method as u32, body, timeout).await
    }

    /// The image's bytes from `offset` on.
    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, CallError> {
        let image = self.image.clone();
        blocking(move || image.read(offset, length)).await.map_err(CallError::NotSent)
    }

    /// Sends the whole image.
    async fn send_all(&self) -> Result<(), CallError> {
        let mut in_flight = InFlight::default();
        let mut offset = 0;
        while offset < self.image.len() {
            let bytes = self.read(offset, CHUNK_BYTES).await?;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len() as u64;
            in_flight.push(self.post_chunk(vec![offset, length], bytes).await?).await?;
            offset += length;
        }
        in_flight.finish().await
    }

    /// Sends the hashes of all pages, and the pages that the receiver then asks for.
    async fn send_difference(&self, page_size: usize) -> Result<(), CallError> {
        let mut in_flight = InFlight::default();
        let mut asked: VecDeque<Asked> = VecDeque::new();
        let mut offset = 0;
        loop {
            let more = offset < self.image.len();
            if more {
                let bytes = self.read(offset, PAGES_AT_ONCE * page_size).await?;
                let (bytes, hashes) = blocking(move || {
                    let hashes = bytes.chunks(page_size).flat_map(incoming::page_hash).collect();
                    Ok::<(_, Vec<u8>), Error>((bytes, hashes))
                })
                .await
                .map_err(CallError::NotSent)?;
                let length = bytes.len() as u64;
                let question =
                    proto::SnapshotPages { transfer: self.transfer, offset, hashes: hashes.into() };
                let answer = self
                    .post(Method::SnapshotPages, codec::encode(&question), CHUNK_TIMEOUT)
                    .await?;
                asked.push_back(Asked { offset, bytes, answer });
                offset += length;
            }
            if asked.len() >= WINDOW || !more {
                let Some(oldest) = asked.pop_front() else { break };
                self.send_wanted(oldest, page_size, &mut in_flight).await?;
            }
        }
        in_flight.finish().await
    }

    /// Waits for the answer, and sends what it asks for.
    async fn send_wanted(
        &self,
        asked: Asked,
        page_size: usize,
        in_flight: &mut InFlight,
    ) -> Result<(), CallError> {
        let Asked { offset, bytes, answer } = asked;
        let wanted: proto::SnapshotPagesResponse =
            codec::decode(answer.wait().await?, "the answer to a snapshot's pages")
                .map_err(CallError::Remote)?;
        let mut runs: Vec<u64> = Vec::new();
        let mut data = Vec::new();
        for (i, page) in bytes.chunks(page_size).enumerate() {
            if wanted.pages.get(i / 8).is_none_or(|byte| byte >> (i % 8) & 1 == 0) {
                continue;
            }
            let at = offset + (i * page_size) as u64;
            let length = page.len() as u64;
            match runs[..] {
                [.., start, ref mut run] if start + *run == at => *run += length,
                _ => runs.extend([at, length]),
            }
            data.extend_from_slice(page);
            if data.len() + page_size > CHUNK_BYTES {
                let chunk = (std::mem::take(&mut runs), std::mem::take(&mut data));
                in_flight.push(self.post_chunk(chunk.0, chunk.1).await?).await?;
            }
        }
        if !data.is_empty() {
            in_flight.push(self.post_chunk(runs, data).await?).await?;
        }
        Ok(())
    }

    /// `runs`: offset and length of each piece of `bytes`.
    async fn post_chunk(&self, runs: Vec<u64>, bytes: Vec<u8>) -> Result<PendingCall, CallError> {
        let transfer = self.transfer;
        let body = blocking(move || {
            let crc = crc32c::crc32c(&bytes);
            let data = lz4_flex::compress_prepend_size(&bytes).into();
            Ok(codec::encode(&proto::SnapshotChunk { transfer, runs, data, crc }))
        });
        let body = body.await.map_err(CallError::NotSent)?;
        self.post(Method::SnapshotChunk, body, CHUNK_TIMEOUT).await
    }
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
