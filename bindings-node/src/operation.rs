//! Runs one call on the core and brings its outcome back to the event loop. Whoever stops waiting
//! leaves it running to its end: a write is never cut in half.

use std::future::Future;
use std::sync::Arc;

use napi::bindgen_prelude::{ClassInstance, Object};
use napi::{Env, Result};
use napi_derive::napi;
use tokio::sync::Notify;

use crate::outcome::{Ending, Failure, Outcome, Success};
use crate::runtime::runtime;

/// Ends the waiting for one call; made by the front for a call that has an `AbortSignal`.
#[napi]
pub struct Cancellation {
    notify: Arc<Notify>,
}

#[napi]
impl Cancellation {
    /// For one call.
    #[napi(constructor)]
    pub fn new() -> Self {
        Cancellation { notify: Arc::new(Notify::new()) }
    }

    /// The promise resolves soon, and no longer keeps the process alive.
    #[napi]
    pub fn cancel(&self) {
        self.notify.notify_one();
    }
}

/// A [`Cancellation`], if the call has one.
pub(crate) type Cancel<'a> = Option<ClassInstance<'a, Cancellation>>;

/// What cancelling does to the call itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnCancel {
    /// It goes on by itself.
    Detach,
    /// It is given up: for `open`, which closes what it has begun.
    Abandon,
}

/// Starts `work`; the promise resolves to its outcome.
pub(crate) fn start<'e, F>(
    env: &'e Env,
    bigint: bool,
    cancel: Cancel<'_>,
    on_cancel: OnCancel,
    work: F,
) -> Result<Object<'e>>
where
    F: Future<Output = quorumlite::Result<Success>> + Send + 'static,
{
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(e) => return ended(env, Failure::Threads(e)),
    };
    let cancelled = cancel.map(|c| c.notify.clone());
    let (deferred, promise) = env.create_deferred()?;
    runtime.spawn(async move {
        // A task of its own, so that it survives the waiting, and a panic ends nothing else.
        let mut call = tokio::spawn(work);
        let waiting = async {
            match (&mut call).await {
                Ok(Ok(success)) => Ending::Success(success),
                Ok(Err(e)) => Ending::Failure(e.into()),
                Err(_) => Ending::Failure(Failure::Panic),
            }
        };
        let ending = match cancelled {
            None => waiting.await,
            Some(cancelled) => {
                tokio::select! {
                    ending = waiting => ending,
                    () = cancelled.notified() => Ending::Cancelled,
                }
            }
        };
        if matches!(ending, Ending::Cancelled) && on_cancel == OnCancel::Abandon {
            call.abort();
        }
        let outcome = Outcome { ending, bigint };
        // The resolver runs on the event loop's thread, unless that has ended.
        deferred.resolve(move |_: Env| Ok(outcome));
    });
    Ok(promise)
}

/// An outcome that needs no waiting.
pub(crate) fn ended<'e>(env: &'e Env, failure: impl Into<Failure>) -> Result<Object<'e>> {
    Outcome { ending: Ending::Failure(failure.into()), bigint: false }.into_object(env)
}
