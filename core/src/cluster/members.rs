//! What the nodes ask each other about: who is reachable, who leads, who is who.

use std::time::{Duration, Instant};

use super::ClusterCore;
use crate::config::{Config, Consistency};
use crate::consensus::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::proto::{self, Method};
use crate::status::Member;
use crate::transport::Lane;

/// A member that does not answer a ping for so long is called unreachable.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

impl ClusterCore {
    pub(super) async fn ping(&self, address: &str, node_id: &str) -> Option<proto::PingResponse> {
        let body = bytes::Bytes::new();
        let method = Method::Ping as u32;
        let call =
            self.client.call(address, Some(node_id), Lane::Control, method, body, PING_TIMEOUT);
        codec::decode(call.await.ok()?, "the answer to a ping").ok()
    }

    /// All members, each asked how it is.
    pub(crate) async fn ping_members(&self) -> Vec<Member> {
        let asked = self.consensus.members().into_iter().map(|m| async move {
            let applied_index = if m.node_id == self.node_id() {
                Some(self.consensus.database().applied_index())
            } else {
                self.ping(&m.address, &m.node_id).await.map(|pong| pong.applied_index)
            };
            Member {
                node_id: m.node_id,
                address: m.address,
                role: m.role,
                reachable: Some(applied_index.is_some()),
                applied_index,
            }
        });
        futures_util::future::join_all(asked).await
    }

    /// Carries out a join on this node, which must lead, unless the name belongs to another node
    /// that is alive: two directories with one node id would push each other out.
    pub(crate) async fn carry_out_join(&self, request: &proto::JoinRequest) -> Result<u64> {
        let namesake = self.consensus.members().into_iter().find(|m| m.node_id == request.node_id);
        if let Some(member) = namesake.filter(|m| m.node_id != self.node_id())
            && member.address != request.address
            && let Some(pong) = self.ping(&member.address, &member.node_id).await
            && pong.instance != request.instance
        {
            return Err(Error::config(
                "CONFIG_NODE_ID",
                format!(
                    "node_id {:?} belongs to the node at {}, which is running; give every node \
                     another node_id",
                    request.node_id, member.address
                ),
            ));
        }
        self.consensus.add_member(request).await
    }

    /// The shared barrier of linearizable reads, tried again while there is time.
    pub(crate) async fn shared_read_index(&self, deadline: Instant) -> Result<u64> {
        let at = tokio::time::Instant::from_std(deadline);
        loop {
            match tokio::time::timeout_at(at, self.barrier.index()).await {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(e)) if Instant::now() >= deadline => return Err(e),
                Ok(Err(e)) => match e.kind() {
                    ErrorKind::Unavailable | ErrorKind::Timeout if self.stopped().is_none() => {}
                    _ => return Err(e),
                },
                Err(_) if self.consensus.leader().is_none() => return Err(self.no_leader()),
                Err(_) => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        "TIMEOUT",
                        "the leader could not confirm before the deadline that it still leads; it \
                         may have lost its majority",
                    ));
                }
            }
        }
    }

    /// Refuses a local read on a node whose data is too old: it was out of touch, or is behind.
    pub(crate) fn check_staleness(
        &self,
        consistency: Consistency,
        max_staleness: Option<Duration>,
    ) -> Result<()> {
        let Some(max) = max_staleness else { return Ok(()) };
        if !matches!(consistency, Consistency::None | Consistency::Session) {
            return Ok(());
        }
        match self.consensus.staleness() {
            Some(age) if age <= max => Ok(()),
            age => Err(Error::new(
                ErrorKind::Unavailable,
                "STALE",
                format!(
                    "the data of this node is {} old, max_staleness is {} s: it is out of touch with \
                     the leader, or has not applied yet what it heard of; read at another node, or \
                     allow more",
                    age.map_or("of before it was opened, or".to_owned(), |a| format!(
                        "{:.3} s",
                        a.as_secs_f64()
                    )),
                    max.as_secs_f64()
                ),
            )),
        }
    }

    /// Hands leadership over and waits until the new leader is known.
    pub(crate) async fn transfer_leadership(&self, node_id: &str, deadline: Instant) -> Result<()> {
        let mut watch = self.consensus.watch();
        while self.consensus.leader().as_deref() != Some(node_id) {
            self.transfer_on_leader(node_id, deadline).await?;
            let patience = deadline.min(Instant::now() + PING_TIMEOUT);
            while self.consensus.leader().as_deref() != Some(node_id) {
                if !watch.changed(patience).await {
                    break;
                }
            }
            if Instant::now() >= deadline && self.consensus.leader().as_deref() != Some(node_id) {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "TRANSFER_FAILED",
                    format!("{node_id} did not take over in time; is it running and up to date?"),
                ));
            }
        }
        Ok(())
    }

    /// A directory that is open in this process can be opened again only as the same node.
    pub(crate) fn check_same(&self, config: &Config) -> Result<()> {
        let same = config.node_id.as_deref().is_none_or(|id| id == self.node_id())
            && config.listen == self.listen;
        if same {
            return Ok(());
        }
        Err(Error::config(
            "CONFIG_IN_USE",
            format!(
                "{} is open in this process already, with another node_id or listen; close it \
                 first, or open it with the same options",
                config.dir().display()
            ),
        ))
    }
}
