//! Joining: how an empty directory, a new address or a new role reaches the membership.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::ClusterCore;
use super::client::remaining_ms;
use crate::config::{Role, split_address};
use crate::consensus::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::proto::{self, Method};
use crate::transport::{CallError, Lane, Local, Peer};

const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// How long one peer may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// What this node wants the membership to say of it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) address: String,
    pub(crate) role: Role,
    /// Addresses to ask, besides those of the members that this node knows.
    pub(crate) join: Vec<String>,
}

impl ClusterCore {
    /// Whether the membership says of this node what it wants.
    pub(crate) fn is_member_as(&self, wanted: &Wanted) -> bool {
        self.consensus.members().iter().any(|m| {
            m.node_id == self.consensus.node_id()
                && m.address == wanted.address
                && m.role == wanted.role
        })
    }

    /// Asks every known address in turn until the leader has carried the join out and this node
    /// has applied it.
    ///
    /// # Errors
    /// `Forbidden` at once where a peer refuses this node for good (another secret, another
    /// cluster), `Config` where the cluster refuses the request or there is nobody to ask
    /// (`CONFIG_JOIN`), `Unavailable` (`JOIN_FAILED`) when the deadline passes.
    pub(crate) async fn join(&self, wanted: &Wanted, deadline: Instant) -> Result<()> {
        if self.candidates(wanted).is_empty() {
            return Err(Error::config(
                "CONFIG_JOIN",
                format!(
                    "join={:?} names only this node itself: name the address of a member, or, to \
                     start a new cluster, leave join out",
                    wanted.join
                ),
            ));
        }
        let mut pause = MIN_PAUSE;
        let mut last: Option<Error> = None;
        loop {
            for address in self.candidates(wanted) {
                match self.join_via(&address, wanted, deadline).await {
                    Ok(index) => return self.wait_caught_up(index, deadline).await,
                    Err(e) if matches!(e.kind(), ErrorKind::Forbidden | ErrorKind::Config) => {
                        return Err(e.context(format!("cannot join through {address}")));
                    }
                    Err(e) => {
                        tracing::debug!(address, error = %e, "not joined yet");
                        last = Some(e.context(address));
                    }
                }
                if let Some(e) = self.stopped() {
                    return Err(e);
                }
            }
            if Instant::now() + pause >= deadline {
                let last = last.map_or_else(String::new, |e| format!(" (last: {e})"));
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "JOIN_FAILED",
                    format!(
                        "could not join through {} in time{last}; is a member running there? The \
                         first node of a cluster is opened with listen and without join",
                        self.candidates(wanted).join(", ")
                    ),
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Refuses to serve as a cluster of one where somebody in `join` belongs to another cluster:
    /// this node was meant to join it, and its writes would silently stay apart. Whoever is not
    /// there, or is no node, does not keep the only member from starting.
    ///
    /// # Errors
    /// `Forbidden` (`FORBIDDEN_CLUSTER`).
    pub(crate) async fn refuse_other_clusters(
        &self,
        wanted: &Wanted,
        deadline: Instant,
    ) -> Result<()> {
        for (address, hello) in self.hellos(self.candidates(wanted), deadline).await {
            match hello {
                Err(e) if e.code() == "FORBIDDEN_CLUSTER" => {
                    return Err(e.context(format!("cannot join through {address}")));
                }
                Err(e) => tracing::debug!(address, error = %e, "an address in join is no member"),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Why this member cannot take part: so many voters refuse it for good (it has another secret
    /// than they, say) that the rest is no majority.
    ///
    /// # Errors
    /// The refusal, `Forbidden`.
    pub(crate) async fn refuse_if_shut_out(&self, deadline: Instant) -> Result<()> {
        let members = self.consensus.members();
        let voters = members.iter().filter(|m| m.role == Role::Voter).count();
        let others = members.into_iter().filter(|m| m.node_id != self.consensus.node_id());
        let addresses = others.filter(|m| m.role == Role::Voter).map(|m| m.address).collect();
        let mut refusals: Vec<_> = self
            .hellos(addresses, deadline)
            .await
            .into_iter()
            .filter_map(|(address, hello)| Some((address, hello.err()?)))
            .filter(|(_, e)| e.kind() == ErrorKind::Forbidden && e.code() != "FORBIDDEN_VERSION")
            .collect();
        // A member that is of another cluster now was recovered without this node.
        let recovered = refusals.iter().position(|(_, e)| e.code() == "FORBIDDEN_CLUSTER");
        if let Some(recovered) = recovered {
            let (address, e) = refusals.swap_remove(recovered);
            return Err(e.context(format!(
                "the member at {address} has left this cluster: was it made the start of a new one \
                 (recover_lost_quorum)? Then remove this node's data directory and join the new one"
            )));
        }
        if voters - refusals.len() > voters / 2 {
            return Ok(());
        }
        match refusals.pop() {
            Some((address, e)) => {
                Err(e.context(format!("cannot take part in the cluster with {address}")))
            }
            None => Ok(()),
        }
    }

    /// Asks all addresses at once who is there.
    async fn hellos(
        &self,
        addresses: Vec<String>,
        deadline: Instant,
    ) -> Vec<(String, Result<Peer>)> {
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = addresses.into_iter().map(|address| async move {
            let hello = self.client.hello(&address, left.min(HELLO_TIMEOUT)).await;
            (address, hello.map_err(CallError::into_error))
        });
        futures_util::future::join_all(asked).await
    }

    /// The addresses to ask, each once, without this node's own.
    fn candidates(&self, wanted: &Wanted) -> Vec<String> {
        let mut addresses = wanted.join.clone();
        addresses.extend(
            self.consensus
                .members()
                .into_iter()
                .filter(|m| m.node_id != self.consensus.node_id())
                .map(|m| m.address),
        );
        let mut seen = std::collections::HashSet::new();
        let bound = self.server.as_ref().map(|server| server.local_addr());
        addresses.retain(|a| {
            !a.is_empty() && !is_own(a, &wanted.address, bound) && seen.insert(a.clone())
        });
        addresses
    }

    async fn join_via(&self, address: &str, wanted: &Wanted, deadline: Instant) -> Result<u64> {
        let left = deadline.saturating_duration_since(Instant::now());
        let peer = self
            .client
            .hello(address, left.min(HELLO_TIMEOUT))
            .await
            .map_err(CallError::into_error)?;
        if peer.node_id == self.consensus.node_id() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "SAME_NODE_ID",
                format!(
                    "{address} is this node itself, or another one with the same node_id {:?}",
                    peer.node_id
                ),
            ));
        }
        let Some(cluster) = peer.cluster_id else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "NOT_A_MEMBER",
                format!("the node at {address} has not joined a cluster yet itself"),
            ));
        };
        self.identity.adopt(cluster)?;
        if self.consensus.is_fresh() && !self.admitted() {
            self.ask_to_join(address, wanted, true, deadline).await?;
            self.set_admitted();
        }
        self.ask_to_join(address, wanted, false, deadline).await
    }

    async fn ask_to_join(
        &self,
        address: &str,
        wanted: &Wanted,
        prepare: bool,
        deadline: Instant,
    ) -> Result<u64> {
        let request = proto::JoinRequest {
            node_id: self.identity.node_id(),
            address: wanted.address.clone(),
            learner: wanted.role == Role::Learner,
            timeout_ms: remaining_ms(deadline),
            prepare,
            instance: self.identities.instance(),
        };
        let timeout = deadline.saturating_duration_since(Instant::now());
        let body = codec::encode(&request);
        let reply = self
            .client
            .call(address, None, Lane::Control, Method::JoinVia as u32, body, timeout)
            .await
            .map_err(CallError::into_error)?;
        let response: proto::MemberResponse = codec::decode(reply, "the answer to a join")?;
        Ok(response.index)
    }
}

/// Whether an address is certainly this node's: the one that others are told, or another spelling of
/// where it listens. A name that has to be looked up may stand for several nodes.
fn is_own(address: &str, advertised: &str, bound: Option<SocketAddr>) -> bool {
    if address == advertised {
        return true;
    }
    let place = |address| {
        let (host, port) = split_address(address)?;
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().ok()?,
        };
        Some(SocketAddr::new(ip, port))
    };
    let Some(named) = place(address) else { return false };
    place(advertised) == Some(named)
        || bound.is_some_and(|bound| {
            let everywhere = bound.ip().is_unspecified() && named.ip().is_loopback();
            bound.port() == named.port() && (bound.ip() == named.ip() || everywhere)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_knows_its_own_address_in_every_spelling() {
        let bound = |address: &str| Some(address.parse().unwrap());
        for (address, advertised, bound, own) in [
            ("n1:7001", "n1:7001", bound("10.0.0.1:7001"), true),
            ("10.0.0.1:7001", "n1:7001", bound("10.0.0.1:7001"), true),
            ("localhost:7001", "127.0.0.1:7001", bound("127.0.0.1:7001"), true),
            ("127.0.0.1:7001", "localhost:7001", bound("127.0.0.1:7001"), true),
            ("[0::1]:7001", "[::1]:7001", bound("[::1]:7001"), true),
            ("localhost:7001", "n1:7001", bound("0.0.0.0:7001"), true),
            ("127.0.0.1:7002", "127.0.0.1:7001", bound("127.0.0.1:7001"), false),
            ("127.0.0.2:7001", "127.0.0.1:7001", bound("127.0.0.1:7001"), false),
            ("10.0.0.2:7001", "10.0.0.1:7001", bound("0.0.0.0:7001"), false),
            // It may come to stand for another node.
            ("nodes.internal:7001", "10.0.0.1:7001", bound("0.0.0.0:7001"), false),
        ] {
            assert_eq!(is_own(address, advertised, bound), own, "{address} {advertised} {bound:?}");
        }
    }
}
