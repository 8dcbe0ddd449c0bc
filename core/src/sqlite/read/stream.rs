//! [`RowSource`]: a read whose rows are handed over piece by piece. A thread of its own carries it
//! out and waits, with the snapshot, until its consumer wants more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cancel::{Cancel, CancelOnDrop};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::execute;
use crate::sqlite::error::Failure;
use crate::sqlite::read::queue::{Place, Unparked, park_until};
use crate::sqlite::read::readers::{Lease, Readers};
use crate::statement::{Rows, Statement};
use crate::value::Value;

/// A batch ends at so many rows, or so many bytes...
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// ...or when the consumer would wait for longer than this.
const BATCH_TIME: Duration = Duration::from_millis(100);
/// While the consumer takes its time there is no deadline.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What bounds a stream in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long each batch may take, the first one with the waiting for a place.
    pub(crate) batch: Duration,
    /// How long the consumer may leave a batch that is ready.
    pub(crate) idle: Duration,
}

/// Rows, and a log index that the read has seen for certain.
type Batch = (Rows, u64);

/// The rows of one read, batch by batch. Dropping it ends the read.
pub(crate) struct RowSource {
    batches: mpsc::Receiver<Batch>,
    end: Arc<End>,
    /// Came while the read was opened.
    first: Option<Rows>,
    columns: Arc<[String]>,
    index: u64,
    ended: bool,
    cancel: Cancel,
    _on_drop: CancelOnDrop,
}

/// How the read ended, with the last batch; none while it goes on. It is not sent: nobody shall have
/// to wait for the consumer to take it.
type End = Mutex<Option<Result<Option<Batch>>>>;

impl Readers {
    /// Begins to read; the first batch is due at `deadline`. `kept` is dropped when the read has ended.
    ///
    /// # Errors
    /// As [`Readers::read`], and `BUSY_STREAMS`.
    pub(crate) async fn stream(
        &self,
        statement: Statement,
        pace: Pace,
        deadline: Instant,
        cancel: &Cancel,
        kept: impl Send + 'static,
    ) -> Result<RowSource> {
        let place = self.0.streams.place(deadline).await;
        let place = place.ok_or_else(|| too_many(self.0.places))?;
        let cancel = Cancel::child([cancel]);
        let on_drop = cancel.on_drop();
        let (sender, mut batches) = mpsc::channel(1);
        let end = Arc::new(End::default());
        let producer = Producer {
            readers: self.clone(),
            statement,
            pace,
            cancel: cancel.clone(),
            batches: sender,
            end: end.clone(),
            _place: place,
        };
        std::thread::Builder::new()
            .name("quorumlite-stream".into())
            .spawn(move || {
                producer.run(deadline);
                drop(kept);
            })
            .map_err(|e| no_thread(&e))?;
        let mut ended = false;
        let first = match batches.recv().await {
            Some(batch) => Some(batch),
            None => {
                ended = true;
                take_end(&end)?
            }
        };
        let (rows, index) = first.ok_or_else(ended_badly)?;
        let columns = rows.columns().clone();
        let first = (!rows.is_empty()).then_some(rows);
        Ok(RowSource { batches, end, first, columns, index, ended, cancel, _on_drop: on_drop })
    }
}

impl RowSource {
    /// The names of the columns.
    pub(crate) fn columns(&self) -> &Arc<[String]> {
        &self.columns
    }

    /// A log index that the read has seen for certain.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// What ends the read.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The next batch, never empty; none at the end, and after an error.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rows>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match self.batches.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some((rows, _))) => Poll::Ready(Some(Ok(rows))),
            Poll::Ready(None) => {
                self.ended = true;
                let last = take_end(&self.end).map(|last| last.map(|(rows, _)| rows));
                Poll::Ready(last.transpose())
            }
        }
    }
}

fn take_end(end: &End) -> Result<Option<Batch>> {
    end.lock().take().unwrap_or_else(|| Err(ended_badly()))
}

fn ended_badly() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "INTERNAL",
        "the thread of the read ended without a word; please report this with the node's log",
    )
    .with_retryable(false)
}

fn too_many(max: usize) -> Error {
    Error::new(
        ErrorKind::Busy,
        "BUSY_STREAMS",
        format!(
            "{max} streams are open on this node, which is the most, and none of them ended before \
             the deadline: read them to their end or close them, or use query() for small results"
        ),
    )
}

fn no_thread(e: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Busy,
        "BUSY_STREAMS",
        format!(
            "the system gives no thread for another stream ({e}): close some, or raise its limit"
        ),
    )
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::Busy,
        "BUSY_READ_INTERRUPTED",
        "SQLite's write-ahead log grew too large while this stream held its snapshot, which was given \
         up to let a checkpoint or a copy to another node complete; the rows so far are sound, but \
         not all: begin again, and read faster or in parts",
    )
}

fn idle(limit: Duration) -> Error {
    Error::new(
        ErrorKind::Busy,
        "BUSY_STREAM_IDLE",
        format!(
            "nobody took the next rows of this stream for {} seconds, so the snapshot that it held \
             was given up; the rows so far are sound, but not all: begin again, read without long \
             pauses, close streams that are not read to their end, or allow more with idle_timeout",
            limit.as_secs_f64()
        ),
    )
}

struct Producer {
    readers: Readers,
    statement: Statement,
    pace: Pace,
    cancel: Cancel,
    batches: mpsc::Sender<Batch>,
    end: Arc<End>,
    _place: Place,
}

/// What was read and not handed over.
struct Gathered {
    rows: Vec<Vec<Value>>,
    bytes: usize,
    since: Instant,
}

impl Gathered {
    fn new() -> Self {
        Gathered { rows: Vec::new(), bytes: 0, since: Instant::now() }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS
            || self.bytes >= BATCH_BYTES
            || self.since.elapsed() >= BATCH_TIME
    }
}

/// While it lives, a stream is told when it must end though its consumer does not want more.
struct Registered<'a>(&'a Readers, u64);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.0.remove_stream(self.1);
    }
}

impl Producer {
    fn run(self, deadline: Instant) {
        let end = self.produce(deadline);
        *self.end.lock() = Some(end);
        // Only now may the consumer see that nothing more comes.
        drop(self.batches);
    }

    fn produce(&self, mut deadline: Instant) -> Result<Option<Batch>> {
        let thread = std::thread::current();
        let wake = Arc::new(move || thread.unpark());
        let _listening = self.cancel.listen(wake.clone());
        let (mut handed_over, mut interrupted_once) = (false, false);
        loop {
            let registered = Registered(&self.readers, self.readers.0.add_stream(wake.clone()));
            let lease = self.readers.lease(deadline, &self.cancel)?;
            // Loaded before the read begins: its snapshot is at least as new.
            let index = self.readers.0.applied.load(Ordering::Acquire);
            let mut gathered = Gathered::new();
            let mut columns: Option<Arc<[String]>> = None;
            let result = execute::read_each(
                &lease.reader.conn,
                &self.statement,
                &mut |statement, row, size| {
                    if columns.is_none() {
                        let names = execute::column_names(statement);
                        columns = Some(names.map_err(crate::sqlite::error::failure)?.into());
                    }
                    gathered.rows.push(row);
                    gathered.bytes += size;
                    if gathered.is_full() {
                        let rows = std::mem::take(&mut gathered.rows);
                        let columns = columns.clone().unwrap_or_default();
                        self.hand_over(&lease, (Rows::new(columns, rows), index))?;
                        gathered = Gathered::new();
                        handed_over = true;
                    }
                    Ok(())
                },
            );
            match result {
                Ok(names) => {
                    lease.give_back();
                    drop(registered);
                    let columns = columns.unwrap_or_else(|| names.into());
                    let last = Rows::new(columns, gathered.rows);
                    return Ok((!handed_over || !last.is_empty()).then_some((last, index)));
                }
                Err(failure) => match lease.failed(failure) {
                    Some(error) => return Err(error),
                    // What was handed over is of a snapshot that is gone.
                    None if handed_over || interrupted_once => return Err(interrupted()),
                    None => interrupted_once = true,
                },
            }
            deadline = deadline.max(Instant::now() + self.pace.batch);
        }
    }

    /// Waits until the consumer has taken the batch before this one.
    fn hand_over(&self, lease: &Lease<'_>, batch: Batch) -> Result<(), Failure> {
        lease.until(Instant::now() + NO_DEADLINE);
        let must_end = || self.readers.0.interrupt.load(Ordering::Relaxed) || self.cancel.ended();
        let patience = Instant::now().checked_add(self.pace.idle);
        let permit = match park_until(self.batches.reserve(), patience, must_end) {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Failure::Statement(Error::closed())),
            Err(Unparked::Late) => return Err(Failure::Statement(idle(self.pace.idle))),
            Err(Unparked::MustEnd) => {
                let code = "SQLITE_INTERRUPT";
                return Err(Failure::Node(Error::new(ErrorKind::Unavailable, code, "interrupted")));
            }
        };
        permit.send(batch);
        lease.until(Instant::now() + self.pace.batch);
        Ok(())
    }
}
