//! The way out for a command that no node can apply: it is voided on all of them. And a leader that has
//! halted hands over to a voter that has not.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::ClusterCore;
use super::client::remaining_ms;
use crate::config::Role;
use crate::consensus::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::proto::{self, Method};

/// How often a leader that has halted looks for another one.
const LOOK: Duration = Duration::from_secs(1);

/// What a member says when the leader asks it before a decision.
struct Said {
    node_id: String,
    applied_index: u64,
    halted_index: u64,
}

impl ClusterCore {
    /// Has the leader void the commands at log index `index`; returns the index of the decision.
    pub(crate) async fn void_on_leader(
        &self,
        index: u64,
        force: bool,
        deadline: Instant,
    ) -> Result<u64> {
        let request = proto::VoidRequest { index, force, timeout_ms: remaining_ms(deadline) };
        let local = || self.carry_out_void(index, force);
        self.member_change(deadline, Method::VoidCommand, codec::encode(&request), local).await
    }

    /// Voids the commands at log index `index` on this node, which must lead.
    ///
    /// # Errors
    /// `Config` (`CONFIG_VOID`) where a node is known to have applied them.
    pub(super) async fn carry_out_void(&self, index: u64, force: bool) -> Result<u64> {
        // Only the leader may answer, even where there is nothing to do; and what it has applied is
        // known only once it knows that it leads.
        let barrier = self.consensus.log_barrier().await?;
        let database = self.consensus.database();
        if database.voided().contains(&index) {
            return Ok(barrier);
        }
        if index == 0 || index > barrier {
            return Err(refused(format!(
                "the log holds no committed entry with the index {index}"
            )));
        }
        if database.applied_index() >= index {
            let me = self.node_id();
            return Err(refused(format!(
                "{me}, which leads, has applied the entry at log index {index}: there is nothing to \
                 take back. A member that cannot apply it should be removed and join again with an \
                 empty directory, or retry_apply()"
            )));
        }
        if self.consensus.commands_at(index)?.unwrap_or(0) == 0 {
            return Err(refused(format!("the entry at log index {index} holds no command")));
        }
        if !force {
            self.check_nobody_applied(index).await?;
        }
        self.consensus.void_command(index).await
    }

    async fn check_nobody_applied(&self, index: u64) -> Result<()> {
        let members = self.ask_members().await;
        if let Some(ahead) = members.iter().find(|m| m.applied_index >= index) {
            return Err(refused(format!(
                "{} has applied the entry at log index {index} and would differ from all others. Let \
                 it lead (transfer_leadership), and let the members that cannot apply the entry join \
                 again with empty directories; or say force, and {} will stop and must be removed",
                ahead.node_id, ahead.node_id
            )));
        }
        let halted_here = self.consensus.database().halted().is_some_and(|h| h.index == index);
        if !halted_here && members.iter().all(|m| m.halted_index != index) {
            return Err(refused(format!(
                "no member that answers has halted before the entry at log index {index}: it may just \
                 be applied. See status().halted"
            )));
        }
        Ok(())
    }

    /// What the other members that answer have applied.
    async fn ask_members(&self) -> Vec<Said> {
        let others = self.consensus.members().into_iter().filter(|m| m.node_id != self.node_id());
        let asked = others.map(|m| async move {
            let pong = self.ping(&m.address, &m.node_id).await?;
            Some(Said {
                node_id: m.node_id,
                applied_index: pong.applied_index,
                halted_index: pong.halted_index,
            })
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Tries once more what is halted on this node.
    pub(crate) async fn retry_apply(&self, deadline: Instant) -> Result<()> {
        if let Some(e) = self.stopped() {
            return Err(e);
        }
        let Some(halted) = self.consensus.database().halted() else { return Ok(()) };
        let at = tokio::time::Instant::from_std(deadline);
        tokio::time::timeout_at(at, self.consensus.retry_apply()).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                "TIMEOUT",
                "what was held back is still being applied: status() shows how far it is",
            ))
        })?;
        // Right after opening Raft may not have handed the entry over yet.
        self.wait_applied(halted.index, deadline).await
    }

    /// Hands the leadership to a voter that has applied what this node has not.
    async fn hand_over_if_halted(&self) {
        let Some(halted) = self.consensus.database().halted().filter(|_| self.leads()) else {
            return;
        };
        let voters: Vec<_> = self
            .consensus
            .members()
            .into_iter()
            .filter(|m| m.role == Role::Voter)
            .map(|m| m.node_id)
            .collect();
        let able = self
            .ask_members()
            .await
            .into_iter()
            .filter(|m| m.applied_index >= halted.index && voters.contains(&m.node_id))
            .max_by_key(|m| m.applied_index);
        if let Some(to) = able
            && let Err(e) = self.consensus.transfer_leadership(&to.node_id).await
        {
            tracing::debug!(error = %e, "a leader that has halted did not hand over");
        }
    }
}

fn refused(why: String) -> Error {
    Error::config("CONFIG_VOID", format!("the command is not voided: {why}"))
}

/// Starts the task of one node; it ends with it.
pub(super) fn start(core: &Arc<ClusterCore>) {
    let weak: Weak<ClusterCore> = Arc::downgrade(core);
    tokio::spawn(async move {
        while let Some(core) = weak.upgrade().filter(|core| core.stopped().is_none()) {
            core.hand_over_if_halted().await;
            drop(core);
            tokio::time::sleep(LOOK).await;
        }
    });
}
