//! [`Router`]: what is answered to other nodes, method by method.

use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::ClusterCore;
use crate::consensus::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::proto::{self, Method};
use crate::transport::{Handler, Peer};

/// No request of another node is worked on for longer than this.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Hands requests to the node, once it has started.
#[derive(Default)]
pub(crate) struct Router {
    core: OnceLock<Weak<ClusterCore>>,
}

impl Router {
    /// From now on requests reach `core`.
    pub(crate) fn connect(&self, core: Weak<ClusterCore>) {
        let _ = self.core.set(core);
    }
}

fn deadline(timeout_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms).min(MAX_TIMEOUT)
}

impl Handler for Router {
    fn handle(&self, peer: &Peer, method: u32, body: Bytes) -> BoxFuture<'static, Result<Bytes>> {
        let core = self.core.get().and_then(Weak::upgrade);
        let same_cluster = peer.cluster_id.is_some();
        Box::pin(async move {
            let core = core.ok_or_else(|| {
                Error::new(ErrorKind::Unavailable, "STARTING", "the node is starting or stopping")
            })?;
            let method = Method::from_number(method).ok_or_else(|| {
                Error::new(
                    ErrorKind::Forbidden,
                    "UNKNOWN_METHOD",
                    "the node runs an older version that does not know this request; update it",
                )
            })?;
            if !same_cluster && method != Method::JoinVia {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    "FORBIDDEN_CLUSTER",
                    "a node that belongs to no cluster may only ask to join",
                ));
            }
            core.answer(method, body).await
        })
    }

    fn is_only_for_its_answer(&self, method: u32) -> bool {
        method == Method::Query as u32
    }
}

impl ClusterCore {
    async fn answer(&self, method: Method, body: Bytes) -> Result<Bytes> {
        match method {
            Method::Execute => self.answer_execute(body).await,
            Method::Query => self.answer_query(body).await,
            Method::CancelQuery => {
                let request: proto::CancelRequest = codec::decode(body, "a cancellation")?;
                self.peers_reads.cancel(request.read);
                Ok(Bytes::new())
            }
            Method::ReadIndex => {
                let request: proto::BarrierRequest = codec::decode(body, "a read")?;
                let index = within(request.timeout_ms, self.consensus.read_index()).await?;
                Ok(codec::encode(&proto::BarrierResponse { index }))
            }
            Method::LogBarrier => {
                let request: proto::BarrierRequest = codec::decode(body, "a read")?;
                let index = within(request.timeout_ms, self.consensus.log_barrier()).await?;
                Ok(codec::encode(&proto::BarrierResponse { index }))
            }
            Method::Join => {
                let request = join_request(body)?;
                let change = self.carry_out_join(&request);
                member_response(within(request.timeout_ms, change).await?)
            }
            Method::JoinVia => {
                let request = join_request(body)?;
                let deadline = deadline(request.timeout_ms);
                member_response(self.join_on_leader(request, deadline).await?)
            }
            Method::RemoveMember => {
                let request: proto::MemberRequest = codec::decode(body, "a removal")?;
                let change = self.consensus.remove_member(&request.node_id);
                member_response(within(request.timeout_ms, change).await?)
            }
            Method::TransferLeadership => {
                let request: proto::MemberRequest = codec::decode(body, "a transfer")?;
                self.consensus.transfer_leadership(&request.node_id).await?;
                member_response(0)
            }
            Method::Ping => {
                let applied_index = self.consensus.database().applied_index();
                let instance = self.identities.instance();
                let clock_us = self.consensus.clock().now_us();
                let halted_index = self.consensus.database().halted().map_or(0, |h| h.index);
                Ok(codec::encode(&proto::PingResponse {
                    applied_index,
                    instance,
                    halted_index,
                    clock_us,
                }))
            }
            Method::ReplicaHash => {
                let request: proto::HashRequest = codec::decode(body, "a hash request")?;
                let hash = self.consensus.hashes().get(request.index).unwrap_or_default();
                Ok(codec::encode(&proto::HashResponse { hash }))
            }
            Method::ResetClock => {
                let request: proto::BarrierRequest = codec::decode(body, "a reset of the clock")?;
                member_response(within(request.timeout_ms, self.consensus.reset_clock()).await?)
            }
            Method::VoidCommand => {
                let request: proto::VoidRequest = codec::decode(body, "a decision to void")?;
                let change = self.carry_out_void(request.index, request.force);
                member_response(within(request.timeout_ms, change).await?)
            }
            raft => self.consensus.handle(raft, body).await,
        }
    }

    async fn answer_execute(&self, body: Bytes) -> Result<Bytes> {
        let bytes = body.len();
        let request: proto::ExecuteRequest = codec::decode(body, "a write")?;
        let command = request.command.ok_or_else(|| codec::malformed("a write"))?;
        codec::check_command(&command)?;
        let texts = command.statements.iter().map(|s| s.sql.as_str());
        self.preflight(texts, deadline(request.timeout_ms)).await?;
        let proposed = self.consensus.propose(command, bytes);
        let results = within(request.timeout_ms, proposed).await??;
        Ok(codec::encode(&codec::results_to_proto(&results)))
    }

    async fn answer_query(&self, body: Bytes) -> Result<Bytes> {
        let request: proto::QueryRequest = codec::decode(body, "a read")?;
        let statement = request.statement.ok_or_else(|| codec::malformed("a read"))?;
        let statement = codec::statement_from_proto(statement)?;
        if !self.leads() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "NOT_LEADER",
                "this node does not lead the cluster",
            )
            .with_leader(self.consensus.leader()));
        }
        let (cancel, _registered) = self.peers_reads.begin(request.read);
        let read = self.query_local(statement, deadline(request.timeout_ms), &cancel, ());
        let (rows, index) = read.await.map_err(|e| match e.kind() {
            // This node's end is not that of the node that asks.
            ErrorKind::Closed => Error::new(
                ErrorKind::Unavailable,
                "SHUTTING_DOWN",
                "the node is shutting down; ask another node",
            ),
            _ => e,
        })?;
        let rows = Some(codec::rows_to_proto(&rows));
        Ok(codec::encode(&proto::QueryResponse { rows, index }))
    }
}

fn join_request(body: Bytes) -> Result<proto::JoinRequest> {
    let request: proto::JoinRequest = codec::decode(body, "a join")?;
    crate::config::validate_node_id(&request.node_id)?;
    Ok(request)
}

fn member_response(index: u64) -> Result<Bytes> {
    Ok(codec::encode(&proto::MemberResponse { index }))
}

/// Bounds the work for a request whose sender will not wait any longer.
async fn within<T>(timeout_ms: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
    let at = tokio::time::Instant::from_std(deadline(timeout_ms));
    tokio::time::timeout_at(at, work).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            "TIMEOUT_MAYBE_APPLIED",
            "the deadline passed before a majority had answered; a write may still be applied",
        ))
    })
}
