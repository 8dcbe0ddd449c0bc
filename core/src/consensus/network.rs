//! [`Network`]: Raft's messages to the other nodes, over the transport's lanes: votes and heartbeats
//! on one connection, entries on another, snapshots on a third, so that none waits for another.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use parking_lot::RwLock;

use super::codec;
use super::freshness::Freshness;
use super::snapshot::{self, SnapshotData};
use super::types::{LogId, MemberInfo, NodeId, Snapshot, TypeConfig, Vote};
use crate::proto::{self, Method};
use crate::sqlite::Database;
use crate::transport::{CallError, Client, Lane, PendingCall};

/// Appends on their way to one follower at once.
const WINDOW: usize = 8;
/// How long a follower may take to answer one append: its disk may stall. A dead connection is
/// noticed earlier, by the transport's pings.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The latest known address of every member.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<RwLock<HashMap<NodeId, String>>>);

impl Addresses {
    /// Takes over the addresses of a membership.
    pub(crate) fn update<'a>(&self, members: impl Iterator<Item = (&'a NodeId, &'a MemberInfo)>) {
        let mut map = self.0.write();
        for (id, info) in members {
            map.insert(id.clone(), info.address.clone());
        }
    }

    fn get(&self, id: &NodeId) -> Option<String> {
        self.0.read().get(id).cloned()
    }
}

/// Makes the connections to other nodes.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) client: Client,
    pub(crate) addresses: Addresses,
    pub(crate) database: Database,
    pub(crate) freshness: Arc<Freshness>,
}

impl Network {
    fn peer(&self, target: NodeId, info: &MemberInfo, lane: Lane) -> PeerNetwork {
        PeerNetwork {
            client: self.client.clone(),
            addresses: self.addresses.clone(),
            database: self.database.clone(),
            freshness: self.freshness.clone(),
            fallback: info.address.clone(),
            target,
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: NodeId, node: &MemberInfo) -> PeerNetwork {
        self.peer(target, node, Lane::Data)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &MemberInfo) -> PeerNetwork {
        self.peer(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &MemberInfo) -> PeerNetwork {
        self.peer(target, node, Lane::Bulk)
    }
}

/// Raft's messages to one other node.
pub(crate) struct PeerNetwork {
    client: Client,
    addresses: Addresses,
    database: Database,
    freshness: Arc<Freshness>,
    fallback: String,
    target: NodeId,
    lane: Lane,
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

impl PeerNetwork {
    fn address(&self) -> String {
        self.addresses.get(&self.target).unwrap_or_else(|| self.fallback.clone())
    }

    async fn post(
        &self,
        lane: Lane,
        method: Method,
        body: bytes::Bytes,
        timeout: Duration,
    ) -> RpcResult<PendingCall> {
        let address = self.address();
        self.client
            .send(&address, Some(self.target.as_str()), lane, method as u32, body, timeout)
            .await
            .map_err(rpc_error)
    }

    async fn call<M: prost::Message + Default>(
        &self,
        method: Method,
        message: &impl prost::Message,
        timeout: Duration,
    ) -> RpcResult<M> {
        let call = self.post(Lane::Control, method, codec::encode(message), timeout).await?;
        let body = call.wait().await.map_err(rpc_error)?;
        codec::decode(body, "an answer").map_err(|e| RPCError::Network(NetworkError::new(&e)))
    }

    async fn vote_round(
        &self,
        rpc: VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let request = proto::VoteRequest {
            vote: Some(codec::vote_to_proto(&rpc.vote)),
            last_log_id: rpc.last_log_id.as_ref().map(codec::log_id_to_proto),
            leadership_transfer: rpc.leadership_transfer,
            pre_vote,
        };
        let response: proto::VoteResponse =
            self.call(Method::Vote, &request, option.soft_ttl()).await?;
        let vote = codec::vote_from_proto(response.vote)
            .map_err(|e| RPCError::Network(NetworkError::new(&e)))?;
        let last_log_id = response.last_log_id.as_ref().map(codec::log_id_from_proto);
        Ok(VoteResponse::new(vote, last_log_id, response.granted))
    }
}

fn rpc_error(e: CallError) -> RPCError<TypeConfig> {
    match e {
        CallError::NotSent(e) => RPCError::Unreachable(Unreachable::new(&e)),
        CallError::Lost(e) | CallError::TimedOut(e) | CallError::Remote(e) => {
            RPCError::Network(NetworkError::new(&e))
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An append on its way, with the range of log ids that it carries.
struct InFlight {
    answer: BoxFuture<'static, Result<bytes::Bytes, CallError>>,
    prev: Option<LogId>,
    last: Option<LogId>,
}

impl InFlight {
    /// The result, and whether the stream may go on after it.
    fn finish(
        self,
        answer: Result<bytes::Bytes, CallError>,
    ) -> (RpcResult<StreamAppendResult<TypeConfig>>, bool) {
        let response = match answer.map_err(rpc_error).and_then(append_response) {
            Ok(response) => response,
            Err(e) => return (Err(e), false),
        };
        if response.is_conflict() && self.prev.is_none() {
            let e = codec::malformed("the answer to an append");
            return (Err(RPCError::Network(NetworkError::new(&e))), false);
        }
        let complete = match &response {
            AppendEntriesResponse::Success => true,
            AppendEntriesResponse::PartialSuccess(upto) => *upto == self.last,
            _ => false,
        };
        (Ok(response.into_stream_result(self.prev, self.last)), complete)
    }
}

fn append_response(body: bytes::Bytes) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
    let decode = || {
        let response: proto::AppendResponse = codec::decode(body, "the answer to an append")?;
        Ok(match response.outcome {
            0 => AppendEntriesResponse::Success,
            1 => AppendEntriesResponse::PartialSuccess(
                response.log_id.as_ref().map(codec::log_id_from_proto),
            ),
            2 => AppendEntriesResponse::Conflict,
            3 => AppendEntriesResponse::HigherVote(codec::vote_from_proto(response.vote)?),
            _ => return Err(codec::malformed("the answer to an append")),
        })
    };
    decode().map_err(|e: crate::Error| RPCError::Network(NetworkError::new(&e)))
}

/// Sends appends in order with up to [`WINDOW`] unanswered, and gives their results in order.
struct Pipeline<'a, S> {
    network: &'a PeerNetwork,
    input: S,
    input_ended: bool,
    in_flight: VecDeque<InFlight>,
}

impl<S> Pipeline<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    async fn send(&mut self, rpc: AppendEntriesRequest<TypeConfig>) -> RpcResult<()> {
        let prev = rpc.prev_log_id;
        let last = rpc.entries.last().map(|e| e.log_id).or(prev);
        let voided = self.network.database.voided();
        let request = proto::AppendRequest {
            vote: Some(codec::vote_to_proto(&rpc.vote)),
            prev_log_id: prev.as_ref().map(codec::log_id_to_proto),
            leader_commit: rpc.leader_commit.as_ref().map(codec::log_id_to_proto),
            entries: rpc
                .entries
                .iter()
                .map(|e| proto::Entry {
                    term: super::types::term_of(&e.log_id),
                    index: e.log_id.index,
                    body: codec::payload_to_bytes(&e.payload),
                    voided: voided.contains(&e.log_id.index),
                })
                .collect(),
            quorum_age_ms: Some(milliseconds(self.network.freshness.quorum_age())),
        };
        let body = codec::encode(&request);
        let call = self.network.post(self.network.lane, Method::Append, body, APPEND_TIMEOUT);
        let answer = Box::pin(call.await?.wait());
        self.in_flight.push_back(InFlight { answer, prev, last });
        Ok(())
    }

    /// The next result; the second value says whether the stream may go on.
    async fn next(&mut self) -> Option<(RpcResult<StreamAppendResult<TypeConfig>>, bool)> {
        loop {
            let Some(mut oldest) = self.in_flight.pop_front() else {
                if self.input_ended {
                    return None;
                }
                let rpc = self.input.next().await?;
                if let Err(e) = self.send(rpc).await {
                    return Some((Err(e), false));
                }
                continue;
            };
            let full = self.input_ended || self.in_flight.len() + 1 >= WINDOW;
            let rpc = tokio::select! {
                biased;
                answer = &mut oldest.answer => return Some(oldest.finish(answer)),
                rpc = self.input.next(), if !full => rpc,
            };
            self.in_flight.push_front(oldest);
            match rpc {
                None => self.input_ended = true,
                Some(rpc) => {
                    if let Err(e) = self.send(rpc).await {
                        // What is on its way is answered first, then the stream ends.
                        tracing::debug!(error = %e, "an append was not sent");
                        self.input_ended = true;
                    }
                }
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        let input = futures_util::stream::empty::<AppendEntriesRequest<TypeConfig>>();
        let mut pipeline =
            Pipeline { network: self, input, input_ended: true, in_flight: VecDeque::new() };
        pipeline.send(rpc).await?;
        match pipeline.in_flight.pop_front() {
            Some(only) => append_response(only.answer.await.map_err(rpc_error)?),
            None => Err(RPCError::Unreachable(Unreachable::from_string("the append was not sent"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let pipeline =
            Pipeline { network: self, input, input_ended: false, in_flight: VecDeque::new() };
        let results = futures_util::stream::unfold(Some(pipeline), |state| async move {
            let mut pipeline = state?;
            let (result, go_on) = pipeline.next().await?;
            let go_on = go_on && matches!(result, Ok(Ok(_)));
            Some((result, go_on.then_some(pipeline)))
        });
        let results: BoxStream<'s, _> = Box::pin(results);
        Box::pin(async move { Ok(results) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.vote_round(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.vote_round(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let address = self.address();
        let target = self.target.as_str();
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = snapshot::send(&self.client, &address, target, &vote, snapshot) => {
                sent.map(SnapshotResponse::new).map_err(|e| rpc_error(e).into())
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let request = proto::TransferRequest {
            from_leader: Some(codec::vote_to_proto(req.from_leader())),
            to: req.to_node_id().as_str().to_owned(),
            last_log_id: req.last_log_id().map(codec::log_id_to_proto),
        };
        // A refusal only means that the target waits for the lease to end, like everybody else.
        let _: proto::SnapshotResponse =
            self.call(Method::Transfer, &request, option.soft_ttl()).await?;
        Ok(Ok(()))
    }
}
