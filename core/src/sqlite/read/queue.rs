//! [`Queue`]: who may read now. First come, first served.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out places, of which there are only so many.
#[derive(Clone)]
pub(crate) struct Queue {
    // Its waiters stand in line, and nobody overtakes them.
    places: Arc<Semaphore>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Queue {
    pub(super) fn new(places: usize) -> Queue {
        Queue { places: Arc::new(Semaphore::new(places)) }
    }

    /// A place, if one is free and nobody waits for it.
    pub(crate) fn try_place(&self) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    /// Waits for a place in the order of these calls. None: the deadline has passed.
    pub(crate) async fn place(&self, deadline: Instant) -> Option<Place> {
        let at = tokio::time::Instant::from_std(deadline);
        let permit = tokio::time::timeout_at(at, self.places.clone().acquire_owned()).await;
        Some(Place { _permit: permit.ok()?.ok()? })
    }

    /// As [`Queue::place`], on a thread that waits.
    #[cfg(test)]
    pub(super) fn wait(&self) -> Option<Place> {
        let permit = park_until(self.places.clone().acquire_owned(), None, || false).ok()?;
        Some(Place { _permit: permit.ok()? })
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Why [`park_until`] did not wait any longer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unparked {
    MustEnd,
    Late,
}

/// Waits for `future` on this thread, until `deadline`, or until the thread is unparked and `must_end`
/// says so.
pub(super) fn park_until<T>(
    future: impl Future<Output = T>,
    deadline: Option<Instant>,
    must_end: impl Fn() -> bool,
) -> Result<T, Unparked> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Ok(value);
        }
        if must_end() {
            return Err(Unparked::MustEnd);
        }
        let Some(deadline) = deadline else {
            std::thread::park();
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unparked::Late);
        }
        std::thread::park_timeout(left);
    }
}
