//! What both ends of a connection share: reading frames, and the bounded queue in front of a writer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::limits::Limits;
use super::wire::Frame;

/// A TCP or TLS stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) type Reader = FrameReader<tokio::io::ReadHalf<Box<dyn Stream>>>;
pub(super) type Writer = tokio::io::WriteHalf<Box<dyn Stream>>;

/// Splits a stream; frames up to `max_frame` bytes are accepted.
pub(super) fn split(stream: Box<dyn Stream>, max_frame: usize) -> (Reader, Writer) {
    let (reader, writer) = tokio::io::split(stream);
    (FrameReader::new(reader, max_frame), writer)
}

/// Cuts a byte stream into frames.
pub(super) struct FrameReader<R> {
    io: R,
    codec: LengthDelimitedCodec,
    buf: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, max_frame: usize) -> Self {
        let codec = LengthDelimitedCodec::builder().max_frame_length(max_frame).new_codec();
        FrameReader { io, codec, buf: BytesMut::new() }
    }

    pub(super) fn set_max_frame(&mut self, max_frame: usize) {
        self.codec.set_max_frame_length(max_frame);
    }

    /// The content of the next frame, `None` at the end of the stream. Cancelling loses nothing.
    ///
    /// # Errors
    /// `TimedOut` when not one byte came for `silence`; `InvalidData` when a length is beyond the
    /// limit; `UnexpectedEof` in the middle of a frame.
    pub(super) async fn next(&mut self, silence: Duration) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.buf)? {
                return Ok(Some(frame.freeze()));
            }
            // While a long frame arrives the codec has reserved exactly the room for it.
            if self.buf.capacity() == self.buf.len() {
                self.buf.reserve(READ_BUFFER);
            }
            match timeout(silence, self.io.read_buf(&mut self.buf)).await {
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("nothing came from it for {silence:?}"),
                    ));
                }
                Ok(Err(e)) => return Err(e),
                Ok(Ok(0)) if self.buf.is_empty() => return Ok(None),
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// The next frame of the established connection.
    pub(super) async fn next_frame(&mut self, silence: Duration) -> io::Result<Option<Frame>> {
        let Some(content) = self.next(silence).await? else { return Ok(None) };
        Frame::decode(content)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("bad frame: {e}")))
    }

    /// Reads and drops what still comes until the end of the stream, for at most `limit`: closing a
    /// TCP socket with unread bytes resets it, which can destroy what was written last before the
    /// peer has read it.
    pub(super) async fn drain(&mut self, limit: Duration) {
        let _ = timeout(limit, async {
            loop {
                self.buf.clear();
                self.buf.reserve(4096);
                match self.io.read_buf(&mut self.buf).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        })
        .await;
    }
}

const READ_BUFFER: usize = 64 * 1024;
/// A batch of small frames is written once it has grown to this.
const WRITE_BUFFER: usize = 64 * 1024;
/// Bodies from this size on are written from where they are; copying smaller ones costs less than
/// another write.
const UNCOPIED_BODY: usize = 16 * 1024;

/// A frame that waits to be written, with its share of the queue's bytes.
pub(super) struct Queued {
    frame: Frame,
    _room: OwnedSemaphorePermit,
}

impl Queued {
    pub(super) fn id(&self) -> u64 {
        self.frame.id
    }
}

/// The way into a connection's writer: first in, first out, bounded in frames and in bytes.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    max_bytes: u32,
}

/// The connection is closed; nothing was queued.
pub(super) struct Closed;

impl Outbox {
    pub(super) fn new(limits: &Limits) -> (Outbox, mpsc::Receiver<Queued>) {
        let (queue, receiver) = mpsc::channel(limits.max_queued_frames);
        let max_bytes = limits.max_queued_bytes;
        let room = Arc::new(Semaphore::new(max_bytes as usize));
        (Outbox { queue, room, max_bytes }, receiver)
    }

    /// Queues a frame, waiting for room. Cancelling queues nothing.
    pub(super) async fn push(&self, frame: Frame) -> Result<(), Closed> {
        let bytes = share(frame.body.len(), self.max_bytes);
        // The writer drops its end of the queue, and with it all waiting shares, when it stops.
        tokio::select! {
            room = self.room.clone().acquire_many_owned(bytes) => {
                let Ok(_room) = room else { return Err(Closed) };
                self.queue.send(Queued { frame, _room }).await.map_err(|_| Closed)
            }
            () = self.queue.closed() => Err(Closed),
        }
    }
}

/// How many permits of a byte budget a body takes: never more than there are.
pub(super) fn share(bytes: usize, budget: u32) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, budget.max(1))
}

/// Writes queued frames, several to one flush, and a ping when there was nothing to write for a
/// while; returns once all senders are gone and everything is written and shut down.
///
/// # Errors
/// Of the stream; `TimedOut` when the peer takes in nothing. The rest stays in `queue`.
pub(super) async fn write_loop<W: AsyncWrite + Unpin>(
    io: &mut W,
    queue: &mut mpsc::Receiver<Queued>,
    limits: &Limits,
) -> io::Result<()> {
    const BATCH: usize = 64;
    let mut batch = Vec::with_capacity(BATCH);
    let mut buf = BytesMut::with_capacity(4096);
    loop {
        match timeout(limits.keep_alive, queue.recv_many(&mut batch, BATCH)).await {
            Ok(0) => return within(limits.write, io.shutdown()).await,
            Ok(_) => {}
            Err(_) => {
                Frame::ping().encode_head(&mut buf);
            }
        }
        // Each share of the queue's bytes is given back when its frame has been passed on.
        for Queued { frame, _room } in batch.drain(..) {
            let body = frame.encode_head(&mut buf);
            if body.len() < UNCOPIED_BODY {
                buf.extend_from_slice(&body);
                if buf.len() >= WRITE_BUFFER {
                    write(io, &buf, limits.write).await?;
                    buf.clear();
                }
            } else {
                write(io, &buf, limits.write).await?;
                buf.clear();
                write(io, &body, limits.write).await?;
            }
        }
        write(io, &buf, limits.write).await?;
        buf.clear();
        within(limits.write, io.flush()).await?;
    }
}

/// Writes all of `bytes`; the deadline is for each part that the peer takes in, so that a slow but
/// living link is not cut.
async fn write<W: AsyncWrite + Unpin>(
    io: &mut W,
    mut bytes: &[u8],
    deadline: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let part = &bytes[..bytes.len().min(WRITE_BUFFER)];
        match within(deadline, io.write(part)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => bytes = &bytes[n..],
        }
    }
    Ok(())
}

async fn within<T>(
    deadline: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(deadline, operation).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it did not take in what was sent for {deadline:?}"),
        ))
    })
}
