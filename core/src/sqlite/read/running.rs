//! [`Running`]: what may end the read that a thread carries out, asked by SQLite while it does.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;

/// Virtual machine instructions between two looks: few, since one of them may take long.
pub(super) const PROGRESS_INSTRUCTIONS: i32 = 200;
/// How often is asked whether to go on.
const ASK: Duration = Duration::from_millis(50);

thread_local! {
    static RUNNING: RefCell<Option<Read>> = const { RefCell::new(None) };
}

struct Read {
    deadline: Instant,
    cancel: Cancel,
    /// When to ask next, where somebody wants to be asked.
    ask: Option<Instant>,
}

/// While it lives, what SQLite does on this thread is one read.
pub(super) struct Running {
    /// The caller's code may be called while a read runs, and read as well.
    before: Option<Read>,
}

enum Look {
    GoOn,
    End,
    Ask(Cancel),
}

impl Running {
    pub(super) fn begin(deadline: Instant, cancel: &Cancel) -> Running {
        let ask = cancel.asks().then(|| Instant::now() + ASK);
        let read = Read { deadline, cancel: cancel.clone(), ask };
        Running { before: RUNNING.replace(Some(read)) }
    }

    /// Sets another deadline.
    pub(super) fn until(deadline: Instant) {
        RUNNING.with_borrow_mut(|read| {
            if let Some(read) = read {
                read.deadline = deadline;
            }
        });
    }

    /// Whether the read of this thread must end.
    pub(super) fn must_end() -> bool {
        match RUNNING.with_borrow_mut(|read| read.as_mut().map_or(Look::GoOn, Read::look)) {
            Look::GoOn => false,
            Look::End => true,
            Look::Ask(cancel) => {
                cancel.ask();
                cancel.ended()
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.replace(self.before.take());
    }
}

impl Read {
    fn look(&mut self) -> Look {
        let now = Instant::now();
        if now >= self.deadline || self.cancel.ended() {
            return Look::End;
        }
        match &mut self.ask {
            Some(at) if now >= *at => {
                *at = now + ASK;
                Look::Ask(self.cancel.clone())
            }
            _ => Look::GoOn,
        }
    }
}
