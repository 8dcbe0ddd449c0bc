//! [`Proposer`]: puts many commands into one log entry. Whatever arrives while a few entries are on
//! their way goes into the next one, so that one fsync and one round serve hundreds of callers.

use std::sync::Arc;

use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::clock::Clock;
use super::codec;
use super::raft::not_leader;
use super::types::{Raft, TypeConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::proto;
use crate::sqlite::CommandResult;

/// Commands in one log entry.
const MAX_COMMANDS: usize = 512;
/// Bytes after which no further command joins an entry.
const MAX_BYTES: usize = 1024 * 1024;
/// Entries that may be on their way at once: one is being written while the next is collected.
const IN_FLIGHT: usize = 4;
/// Commands that may wait to be proposed.
const QUEUE: usize = 4096;

struct Proposal {
    command: proto::Command,
    bytes: usize,
    /// The outer error says that the command's fate is not known or that this node does not lead;
    /// the inner one is the command's own result.
    reply: oneshot::Sender<Result<CommandResult>>,
}

/// Proposes commands on the leader.
#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Proposal>,
}

impl Proposer {
    /// Starts the proposer task; it ends when all handles are gone.
    pub(crate) fn start(raft: Raft, seed: u64, clock: Clock) -> Proposer {
        let (queue, proposals) = mpsc::channel(QUEUE);
        let task = ProposerTask {
            raft,
            proposals,
            carried: None,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            gathered: 0,
            clock,
            seed: SplitMix64(seed),
        };
        tokio::spawn(task.run());
        Proposer { queue }
    }

    /// Proposes one command and waits for its result.
    ///
    /// # Errors
    /// A retryable `Unavailable` where this node does not lead (`NOT_LEADER`), or does not any more
    /// (`LEADER_CHANGED`): then the command may still be applied, so only the same identity may be
    /// proposed again. `Closed` where the node stops: it may be applied too.
    pub(crate) async fn propose(
        &self,
        command: proto::Command,
        bytes: usize,
    ) -> Result<CommandResult> {
        let (reply, result) = oneshot::channel();
        if self.queue.send(Proposal { command, bytes, reply }).await.is_err() {
            return Err(Error::closed());
        }
        result.await.unwrap_or_else(|_| Err(Error::closed()))
    }
}

struct ProposerTask {
    raft: Raft,
    proposals: mpsc::Receiver<Proposal>,
    /// Was received but did not fit into the entry before.
    carried: Option<Proposal>,
    in_flight: Arc<Semaphore>,
    /// Commands in the entry before.
    gathered: usize,
    clock: Clock,
    seed: SplitMix64,
}

impl ProposerTask {
    async fn run(mut self) {
        loop {
            // The permit first: while none is free, proposals gather into a larger entry.
            let Ok(permit) = self.in_flight.clone().acquire_owned().await else { return };
            let Some(batch) = self.collect().await else { return };
            self.propose(batch, permit).await;
        }
    }

    async fn collect(&mut self) -> Option<Vec<Proposal>> {
        let first = match self.carried.take() {
            Some(carried) => carried,
            None => self.proposals.recv().await?,
        };
        if self.gathered > 1 {
            // Callers that were answered together ask again together: they come first, or this entry
            // would hold one of them and the others would wait for its sync.
            tokio::task::yield_now().await;
        }
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while batch.len() < MAX_COMMANDS {
            let Ok(next) = self.proposals.try_recv() else { break };
            bytes = bytes.saturating_add(next.bytes);
            if bytes > MAX_BYTES {
                self.carried = Some(next);
                break;
            }
            batch.push(next);
        }
        self.gathered = batch.len();
        Some(batch)
    }

    async fn propose(&mut self, batch: Vec<Proposal>, permit: OwnedSemaphorePermit) {
        let mut commands = Vec::with_capacity(batch.len());
        let mut replies = Vec::with_capacity(batch.len());
        for mut proposal in batch {
            proposal.command.seed = self.seed.next();
            commands.push(proposal.command);
            replies.push(proposal.reply);
        }
        let entry = codec::batch_to_entry(&proto::CommandBatch {
            timestamp_us: self.clock.stamp_us(),
            commands,
            check_replicas: false,
        });
        let (responder, result) = ProgressResponder::<TypeConfig, _>::complete_only();
        if let Err(fatal) = self.raft.write(entry).responder(responder).await {
            let e = Error::closed().with_source(fatal);
            return replies.into_iter().for_each(|reply| drop(reply.send(Err(e.clone()))));
        }
        tokio::spawn(async move {
            let outcome = match result.await {
                Ok(Ok(response)) => Ok(response.data),
                Ok(Err(e)) => Err(not_written(&e)),
                // The state machine has stopped without an answer.
                Err(_) => Err(Error::closed()),
            };
            drop(permit);
            match outcome {
                Ok(results) => {
                    for (reply, result) in replies.into_iter().zip(results) {
                        let _ = reply.send(Ok(result));
                    }
                }
                Err(e) => {
                    for reply in replies {
                        let _ = reply.send(Err(e.clone()));
                    }
                }
            }
        });
    }
}

fn not_written(e: &ClientWriteError<TypeConfig>) -> Error {
    let leader = match e {
        // It was never appended.
        ClientWriteError::ForwardToLeader(f) => return not_leader(f.leader_id.clone()),
        ClientWriteError::LogEntryDiscarded(f) => {
            f.leader_id.as_ref().map(|id| id.as_str().to_owned())
        }
        _ => None,
    };
    Error::new(ErrorKind::Unavailable, "LEADER_CHANGED", "the leader changed during the write")
        .with_leader(leader)
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
