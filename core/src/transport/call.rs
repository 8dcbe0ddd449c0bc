//! [`CallError`] and [`PendingCall`]: how a call ends, and the wait for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// Why a call has no answer. The variants differ in whether the request may have been executed.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// Not executed: the peer is unreachable, refused us, or is another node than expected.
    NotSent(Error),
    /// Sent, then the connection broke: may have been executed.
    Lost(Error),
    /// Sent, no answer in time: may have been executed, now or later.
    TimedOut(Error),
    /// The error of the peer's handler, carried over whole.
    Remote(Error),
}

impl CallError {
    /// The error itself, for a caller to whom the distinction does not matter.
    pub(crate) fn into_error(self) -> Error {
        match self {
            CallError::NotSent(e)
            | CallError::Lost(e)
            | CallError::TimedOut(e)
            | CallError::Remote(e) => e,
        }
    }

    /// The error inside.
    pub(crate) fn error(&self) -> &Error {
        match self {
            CallError::NotSent(e)
            | CallError::Lost(e)
            | CallError::TimedOut(e)
            | CallError::Remote(e) => e,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl std::error::Error for CallError {}

/// The answer to a call.
pub(super) type Answer = Result<Bytes, CallError>;

/// The calls of one connection that wait for their answers.
#[derive(Default)]
pub(super) struct Calls(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next_id: u64,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    /// Set once; from then on nothing waits.
    closed: Option<Error>,
}

impl Calls {
    /// A new id and the place where its answer will arrive, or why the connection is closed.
    pub(super) fn register(&self) -> Result<(u64, oneshot::Receiver<Answer>), Error> {
        let mut waiting = self.0.lock();
        if let Some(error) = &waiting.closed {
            return Err(error.clone());
        }
        let id = waiting.next_id;
        waiting.next_id += 1;
        let (sender, receiver) = oneshot::channel();
        waiting.answers.insert(id, sender);
        Ok((id, receiver))
    }

    /// Hands over an answer. Nobody waiting for it any more is normal.
    pub(super) fn answer(&self, id: u64, answer: Answer) {
        let sender = self.0.lock().answers.remove(&id);
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }

    /// Stops waiting for `id`.
    pub(super) fn forget(&self, id: u64) {
        self.0.lock().answers.remove(&id);
    }

    /// Refuses calls from now on; those whose request may still be unsent keep waiting until
    /// [`Calls::fail_all`].
    pub(super) fn close(&self, error: Error) {
        self.0.lock().closed.get_or_insert(error);
    }

    /// Ends every waiting call as lost. Call after [`Calls::close`].
    pub(super) fn fail_all(&self) {
        let (answers, error) = {
            let mut waiting = self.0.lock();
            let error = waiting.closed.get_or_insert_with(Error::closed).clone();
            (std::mem::take(&mut waiting.answers), error)
        };
        for sender in answers.into_values() {
            let _ = sender.send(Err(CallError::Lost(error.clone())));
        }
    }

    /// Why the connection is closed, if it is.
    pub(super) fn closed(&self) -> Option<Error> {
        self.0.lock().closed.clone()
    }
}

/// A request that is on its way, in order, on its connection. Dropping it gives up the answer, not
/// the request.
pub(crate) struct PendingCall {
    id: u64,
    calls: Arc<Calls>,
    answer: oneshot::Receiver<Answer>,
    address: Arc<str>,
    deadline: Instant,
}

impl PendingCall {
    pub(super) fn new(
        id: u64,
        calls: Arc<Calls>,
        answer: oneshot::Receiver<Answer>,
        address: Arc<str>,
        deadline: Instant,
    ) -> Self {
        PendingCall { id, calls, answer, address, deadline }
    }

    /// The response.
    ///
    /// # Errors
    /// [`CallError`]; `TimedOut` once the timeout given to the call has passed since its start.
    pub(crate) async fn wait(mut self) -> Result<Bytes, CallError> {
        match tokio::time::timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Lost(Error::new(
                ErrorKind::Unavailable,
                "PEER_LOST",
                format!("the connection to {} was closed; try again", self.address),
            ))),
            Err(_) => Err(CallError::TimedOut(Error::new(
                ErrorKind::Timeout,
                "PEER_TIMEOUT",
                format!(
                    "{} did not answer in time; the request may still be executed",
                    self.address
                ),
            ))),
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.calls.forget(self.id);
    }
}
