//! [`RowStream`]: rows that are read piece by piece.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::Mutex;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::sqlite::RowSource;
use crate::statement::Rows;
use crate::value::Value;

/// The rows of [`Node::query_stream`](crate::Node::query_stream), some at a time; also a
/// [`Stream`] of batches. May be used from any thread; where several ask, each gets other rows.
/// Dropping it ends the read, and so does [`RowStream::close`].
pub struct RowStream {
    columns: Arc<[String]>,
    cancel: Cancel,
    state: Mutex<State>,
}

struct State {
    /// None once it has ended.
    source: Option<RowSource>,
    /// Read, and not asked for yet.
    rest: std::vec::IntoIter<Vec<Value>>,
    /// The error that the next call gives.
    error: Option<Error>,
}

impl RowStream {
    pub(crate) fn new(rows: RowSource) -> RowStream {
        RowStream {
            columns: rows.columns().clone(),
            cancel: rows.cancel().clone(),
            state: Mutex::new(State {
                source: Some(rows),
                rest: Vec::new().into_iter(),
                error: None,
            }),
        }
    }

    /// The names of the columns, in order; a name may occur twice.
    pub fn columns(&self) -> &Arc<[String]> {
        &self.columns
    }

    /// The next rows: at least one, at most `max` (0 counts as 1), and never more than 1,000 or about
    /// 1 MiB. `None` at the end, and after an error. Whoever stops waiting for it loses nothing.
    ///
    /// # Errors
    /// `Timeout` where they do not come in time (`TIMEOUT`) or the read was cancelled (`CANCELLED`),
    /// `Busy` where the state that is read could not be held any longer (`BUSY_READ_INTERRUPTED`,
    /// `BUSY_STREAM_IDLE`), `Closed`, and what SQLite says. The rows so far are sound.
    pub async fn next_rows(&self, max: usize) -> Result<Option<Rows>> {
        let mut state = self.state.lock().await;
        let next = std::future::poll_fn(|cx| state.poll(&self.columns, &self.cancel, max, cx));
        next.await.transpose()
    }

    /// As [`RowStream::next_rows`], as many as have been read together.
    ///
    /// # Errors
    /// As [`RowStream::next_rows`].
    pub async fn next_batch(&self) -> Result<Option<Rows>> {
        self.next_rows(usize::MAX).await
    }

    /// Ends the read, from any thread; harmless if it has ended. Whoever waits for rows, or asks for
    /// more, gets `CANCELLED`, unless all of them were given before.
    pub fn close(&self) {
        self.cancel.cancel();
        // Somebody who has it locked waits for rows, and is told.
        if let Ok(mut state) = self.state.try_lock() {
            state.end(self.cancel.why());
        }
    }
}

impl State {
    fn poll(
        &mut self,
        columns: &Arc<[String]>,
        cancel: &Cancel,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Rows>>> {
        if cancel.ended() {
            // Though rows are left: nobody wants them.
            self.end(cancel.why());
        }
        let Some(source) = &mut self.source else {
            return Poll::Ready(self.error.take().map(Err));
        };
        if self.rest.as_slice().is_empty() {
            match source.poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(rows))) => self.rest = rows.into_values().into_iter(),
                Poll::Ready(last) => {
                    self.end(None);
                    return Poll::Ready(last);
                }
            }
        }
        let rows = self.rest.by_ref().take(max.max(1)).collect();
        Poll::Ready(Some(Ok(Rows::new(columns.clone(), rows))))
    }

    /// Lets go of everything.
    fn end(&mut self, error: Option<Error>) {
        if self.source.take().is_some() {
            self.rest = Vec::new().into_iter();
            self.error = error;
        }
    }
}

impl Stream for RowStream {
    type Item = Result<Rows>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let RowStream { columns, cancel, state } = &mut *self;
        state.get_mut().poll(columns, cancel, usize::MAX, cx)
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").field("columns", self.columns()).finish_non_exhaustive()
    }
}
