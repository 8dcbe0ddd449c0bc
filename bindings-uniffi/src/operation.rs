//! Runs one call on the core and waits for its outcome. Whoever stops waiting (drops the future)
//! leaves it running to its end: a write is never cut in half.

use std::future::Future;

use tokio::task::{AbortHandle, JoinHandle};

use crate::error::NativeError;
use crate::runtime::runtime;

/// The outcome of every call.
pub(crate) type Result<T> = std::result::Result<T, NativeError>;

/// A task of its own, so that it survives the waiting, and a panic ends nothing else.
fn spawn<T, F>(work: F) -> Result<JoinHandle<quorumlite::Result<T>>>
where
    F: Future<Output = quorumlite::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    Ok(runtime()?.spawn(work))
}

async fn outcome<T>(call: JoinHandle<quorumlite::Result<T>>) -> Result<T> {
    match call.await {
        Ok(outcome) => outcome.map_err(Into::into),
        // The runtime is never shut down and only `abandonable` aborts, when nobody waits.
        Err(_) => Err(NativeError::panic()),
    }
}

/// Runs `work`; it goes on by itself where the future is dropped.
pub(crate) async fn detachable<T, F>(work: F) -> Result<T>
where
    F: Future<Output = quorumlite::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    outcome(spawn(work)?).await
}

/// Runs `work`, which is given up where the future is dropped: for opening, which closes what it
/// has begun.
pub(crate) async fn abandonable<T, F>(work: F) -> Result<T>
where
    F: Future<Output = quorumlite::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    struct Abort(AbortHandle);
    impl Drop for Abort {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let call = spawn(work)?;
    let _abort = Abort(call.abort_handle());
    outcome(call).await
}
