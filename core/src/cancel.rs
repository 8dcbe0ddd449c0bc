//! [`Cancel`]: ends reads from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};

/// Ends the reads that were begun with it ([`ReadOptions::cancel`](crate::ReadOptions::cancel)):
/// those that wait, and those that SQLite is carrying out, here or on the leader. They fail at once
/// with `Timeout`, code `CANCELLED`. Clones are the same; once cancelled it stays so. May be used
/// from any thread.
///
/// Not needed where the future of a read can be dropped: that ends the read, too. Writes cannot be
/// cancelled.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: AtomicU8,
    /// Whatever ends one of these ends this.
    parents: Vec<Cancel>,
    check: Option<Check>,
    listeners: Mutex<Listeners>,
}

type Check = Box<dyn Fn() -> bool + Send + Sync>;
type Listener = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Listeners {
    next: u64,
    by_id: BTreeMap<u64, Listener>,
}

const GOES_ON: u8 = 0;
const CANCELLED: u8 = 1;
const CLOSED: u8 = 2;

impl Cancel {
    /// Not cancelled.
    pub fn new() -> Self {
        Cancel::default()
    }

    /// Asks `go_on` while SQLite carries a read out, on the thread that does it, about 20 times a
    /// second: false cancels. For languages whose signals have to be looked for.
    pub fn asking(go_on: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Cancel(Arc::new(Inner { check: Some(Box::new(go_on)), ..Default::default() }))
    }

    /// Ends the reads that were begun with this, and those that will be.
    pub fn cancel(&self) {
        self.end(CANCELLED);
    }

    /// Whether this was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.why().is_some()
    }

    /// Ends by itself whatever ends one of `parents`.
    pub(crate) fn child<'a>(parents: impl IntoIterator<Item = &'a Cancel>) -> Self {
        let parents = parents.into_iter().cloned().collect();
        Cancel(Arc::new(Inner { parents, ..Default::default() }))
    }

    /// As [`Cancel::cancel`], but what it ends fails with [`Error::closed`].
    pub(crate) fn close(&self) {
        self.end(CLOSED);
    }

    fn end(&self, state: u8) {
        let _ = self.0.state.compare_exchange(GOES_ON, state, Ordering::AcqRel, Ordering::Acquire);
        // Without the lock: a listener may wake somebody who stops listening at once.
        let listeners: Vec<_> = self.0.listeners.lock().by_id.values().cloned().collect();
        for listener in listeners {
            listener();
        }
    }

    fn state(&self) -> u8 {
        match self.0.state.load(Ordering::Acquire) {
            GOES_ON => self.0.parents.iter().map(Cancel::state).find(|s| *s != GOES_ON),
            state => Some(state),
        }
        .unwrap_or(GOES_ON)
    }

    /// The error of what this has ended, if it has.
    pub(crate) fn why(&self) -> Option<Error> {
        match self.state() {
            GOES_ON => None,
            CLOSED => Some(Error::closed()),
            _ => Some(Error::new(
                ErrorKind::Timeout,
                "CANCELLED",
                "the read was cancelled by its caller before it had ended; nothing was changed",
            )),
        }
    }

    /// Cheaper than [`Cancel::why`].
    pub(crate) fn ended(&self) -> bool {
        self.state() != GOES_ON
    }

    /// Whether [`Cancel::ask`] does anything.
    pub(crate) fn asks(&self) -> bool {
        self.0.check.is_some() || self.0.parents.iter().any(Cancel::asks)
    }

    /// Asks whether to go on, where somebody wants to be asked. May run the caller's code.
    pub(crate) fn ask(&self) {
        if self.0.check.as_ref().is_some_and(|go_on| !go_on()) {
            self.cancel();
        }
        self.0.parents.iter().for_each(Cancel::ask);
    }

    /// Calls `listener` when this is ended, until what is returned is dropped; at once where it has
    /// ended. It may be called more than once, and a call that has begun may outlast the drop.
    pub(crate) fn listen(&self, listener: Listener) -> Listening {
        let mut listening = Listening(Vec::new());
        self.register(&listener, &mut listening);
        if self.ended() {
            listener();
        }
        listening
    }

    fn register(&self, listener: &Listener, listening: &mut Listening) {
        let mut listeners = self.0.listeners.lock();
        let id = listeners.next;
        listeners.next += 1;
        listeners.by_id.insert(id, listener.clone());
        drop(listeners);
        listening.0.push((self.clone(), id));
        for parent in &self.0.parents {
            parent.register(listener, listening);
        }
    }

    /// Carries out `work` unless this is ended before.
    pub(crate) async fn unless<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let notify = Arc::new(Notify::new());
        let _listening = self.listen({
            let notify = notify.clone();
            Arc::new(move || notify.notify_one())
        });
        tokio::select! {
            biased;
            () = notify.notified() => Err(self.why().unwrap_or_else(Error::closed)),
            result = work => result,
        }
    }

    /// Cancels this when it is dropped.
    pub(crate) fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }

    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Cancel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many listen.
    #[cfg(test)]
    pub(crate) fn listeners(&self) -> usize {
        self.0.listeners.lock().by_id.len()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.ended()).finish_non_exhaustive()
    }
}

/// See [`Cancel::listen`].
#[must_use = "nobody listens when this is dropped"]
pub(crate) struct Listening(Vec<(Cancel, u64)>);

impl Drop for Listening {
    fn drop(&mut self) {
        for (cancel, id) in &self.0 {
            cancel.0.listeners.lock().by_id.remove(id);
        }
    }
}

/// See [`Cancel::on_drop`].
#[must_use = "this cancels when it is dropped"]
pub(crate) struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn what_ends_a_parent_ends_its_children() {
        let (handle, own) = (Cancel::new(), Cancel::new());
        let read = Cancel::child([&handle, &own]);
        let other = Cancel::child([&handle]);
        let calls = Arc::new(AtomicUsize::new(0));
        let listening = read.listen({
            let calls = calls.clone();
            Arc::new(move || {
                calls.fetch_add(1, Ordering::SeqCst);
            })
        });
        own.cancel();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(read.why().unwrap().code(), "CANCELLED");
        assert!(!other.is_cancelled() && !handle.is_cancelled());
        handle.close();
        assert_eq!(other.why().unwrap().code(), "CLOSED");
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        drop(listening);
        assert_eq!((read.listeners(), own.listeners(), handle.listeners()), (0, 0, 0));
        // Who comes late is told at once.
        let late = calls.clone();
        drop(read.listen(Arc::new(move || {
            late.fetch_add(1, Ordering::SeqCst);
        })));
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn who_asks_may_say_no() {
        let asked = Cancel::asking(|| false);
        let read = Cancel::child([&asked]);
        assert!(read.asks() && !read.ended());
        read.ask();
        assert!(read.ended());
        assert!(!Cancel::child([&Cancel::new()]).asks());
    }

    #[tokio::test]
    async fn waiting_ends_too() {
        let cancel = Cancel::new();
        let waits = cancel.unless(std::future::pending::<Result<()>>());
        let (error, ()) = tokio::join!(waits, async { cancel.cancel() });
        assert_eq!(error.unwrap_err().code(), "CANCELLED");
        let error = cancel.unless(async { Ok(()) }).await.unwrap_err();
        assert_eq!(error.code(), "CANCELLED");
    }
}
