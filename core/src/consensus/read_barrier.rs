//! [`ReadBarrier`]: the log index that a linearizable read must have applied (Raft thesis 6.4).
//! Reads that wait while a round is under way share the next round.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

type Waiter = oneshot::Sender<Result<u64>>;

/// Shares rounds between concurrent reads.
#[derive(Clone)]
pub(crate) struct ReadBarrier {
    waiters: mpsc::UnboundedSender<Waiter>,
}

impl ReadBarrier {
    /// Starts the task that runs `round` whenever a read waits; it ends when all handles are gone.
    pub(crate) fn start<F, Fut>(round: F) -> ReadBarrier
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = Result<u64>> + Send,
    {
        let (waiters, mut queue) = mpsc::unbounded_channel::<Waiter>();
        tokio::spawn(async move {
            while let Some(first) = queue.recv().await {
                // Only reads that began before the round may use its answer.
                let mut sharing = vec![first];
                while let Ok(next) = queue.try_recv() {
                    sharing.push(next);
                }
                let answer = round().await;
                for waiter in sharing {
                    let _ = waiter.send(answer.clone());
                }
            }
        });
        ReadBarrier { waiters }
    }

    /// The index that covers everything acknowledged before this call.
    pub(crate) async fn index(&self) -> Result<u64> {
        let (tx, rx) = oneshot::channel();
        if self.waiters.send(tx).is_err() {
            return Err(Error::closed());
        }
        rx.await.unwrap_or_else(|_| Err(Error::closed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn reads_share_the_next_round_and_never_the_one_under_way() {
        let rounds = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let barrier = {
            let (rounds, gate) = (rounds.clone(), gate.clone());
            ReadBarrier::start(move || {
                let (rounds, gate) = (rounds.clone(), gate.clone());
                async move {
                    let round = rounds.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.acquire().await.map_err(|_| Error::closed())?.forget();
                    Ok(round)
                }
            })
        };
        let ask = || {
            let barrier = barrier.clone();
            tokio::spawn(async move { barrier.index().await })
        };
        let first = ask();
        while rounds.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..10).map(|_| ask()).collect();
        // Let all of them queue behind the round that is under way.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap().unwrap(), 1);
        for read in later {
            assert_eq!(read.await.unwrap().unwrap(), 2);
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
    }
}
