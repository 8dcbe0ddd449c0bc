//! [`RaftService`]: answers Raft's messages from other nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::raft::TransferLeaderRequest;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use parking_lot::Mutex;

use super::codec;
use super::freshness::Freshness;
use super::incoming::Incoming;
use super::types::{self, Entry, NodeId, Raft, TypeConfig, Vote};
use crate::error::{Error, ErrorKind, Result};
use crate::proto;
use crate::sqlite::Database;
use crate::status::SnapshotProgress;

/// Raft's server side.
pub(crate) struct RaftService {
    raft: Raft,
    incoming: Incoming,
    database: Database,
    /// False while this node is empty and the leader has not admitted it. It may be a member whose
    /// disk was lost: its vote could then elect a leader without the entries that it had
    /// acknowledged, and an append would find its log reverted.
    admitted: AtomicBool,
    /// When a leader was last heard.
    contact: Mutex<Option<Instant>>,
    freshness: Arc<Freshness>,
}

fn fatal(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "NODE_STOPPED", format!("the node has stopped: {e}"))
        .with_source(e)
}

impl RaftService {
    pub(crate) fn new(
        raft: Raft,
        incoming: Incoming,
        database: Database,
        admitted: bool,
        freshness: Arc<Freshness>,
    ) -> Self {
        RaftService {
            raft,
            incoming,
            database,
            admitted: AtomicBool::new(admitted),
            contact: Mutex::new(None),
            freshness,
        }
    }

    /// The leader has made sure that no earlier membership of this node is left.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// How far the reception of a snapshot is.
    pub(crate) fn snapshot_progress(&self) -> Option<SnapshotProgress> {
        self.incoming.progress()
    }

    /// When a leader was last heard.
    pub(crate) fn last_contact(&self) -> Option<Instant> {
        *self.contact.lock()
    }

    fn check_admitted(&self) -> Result<()> {
        if self.admitted.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "NOT_A_MEMBER",
            "this node has not joined the cluster yet",
        ))
    }

    fn vote(&self) -> Vote {
        use openraft::async_runtime::watch::WatchReceiver;
        self.raft.metrics().borrow_watched().vote.clone()
    }

    /// The part up to the first await hands the entries to Raft, so appends keep their order.
    pub(crate) async fn append(&self, body: Bytes) -> Result<Bytes> {
        self.check_admitted()?;
        let request: proto::AppendRequest = codec::decode(body, "an append")?;
        // Known before the entries are.
        let voided = request.entries.iter().filter(|e| e.voided).map(|e| e.index);
        self.database.hint_voided(voided);
        let entries = request
            .entries
            .into_iter()
            .map(|e| {
                // A copy: the body is a slice of the connection's buffer, and entries are kept.
                let body = Bytes::copy_from_slice(&e.body);
                Ok(Entry {
                    log_id: types::log_id(e.term, e.index),
                    payload: codec::payload_from_bytes(body)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let prev_log_id = request.prev_log_id.as_ref().map(codec::log_id_from_proto);
        // Raft assumes entries without holes; a peer with a bug must not be able to break that.
        let mut next = prev_log_id.map_or(0, |id| id.index.saturating_add(1));
        for entry in &entries {
            if entry.log_id.index != next {
                return Err(codec::malformed("an append"));
            }
            next = next.saturating_add(1);
        }
        let rpc = AppendEntriesRequest::<TypeConfig> {
            vote: codec::vote_from_proto(request.vote)?,
            prev_log_id,
            leader_commit: request.leader_commit.as_ref().map(codec::log_id_from_proto),
            entries,
        };
        let (term, leader_commit) = (rpc.vote.leader_id.term, rpc.leader_commit);
        let quorum_age = Duration::from_millis(request.quorum_age_ms.unwrap_or(0));
        let response = self.raft.append_entries(rpc).await.map_err(fatal)?;
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            *self.contact.lock() = Some(Instant::now());
            self.freshness.follow(term, leader_commit.as_ref(), quorum_age);
        }
        let mut out = proto::AppendResponse::default();
        match response {
            AppendEntriesResponse::Success => {}
            AppendEntriesResponse::PartialSuccess(upto) => {
                out.outcome = 1;
                out.log_id = upto.as_ref().map(codec::log_id_to_proto);
            }
            AppendEntriesResponse::Conflict => out.outcome = 2,
            AppendEntriesResponse::HigherVote(vote) => {
                out.outcome = 3;
                out.vote = Some(codec::vote_to_proto(&vote));
            }
        }
        Ok(codec::encode(&out))
    }

    pub(crate) async fn request_vote(&self, body: Bytes) -> Result<Bytes> {
        self.check_admitted()?;
        let request: proto::VoteRequest = codec::decode(body, "a vote request")?;
        let mut rpc = VoteRequest::new(
            codec::vote_from_proto(request.vote)?,
            request.last_log_id.as_ref().map(codec::log_id_from_proto),
        );
        rpc.leadership_transfer = request.leadership_transfer;
        let response = if request.pre_vote {
            self.raft.pre_vote(rpc).await
        } else {
            self.raft.vote(rpc).await
        }
        .map_err(fatal)?;
        Ok(codec::encode(&proto::VoteResponse {
            vote: Some(codec::vote_to_proto(&response.vote)),
            granted: response.vote_granted,
            last_log_id: response.last_log_id.as_ref().map(codec::log_id_to_proto),
        }))
    }

    pub(crate) async fn transfer(&self, body: Bytes) -> Result<Bytes> {
        self.check_admitted()?;
        let request: proto::TransferRequest = codec::decode(body, "a leadership transfer")?;
        let rpc = TransferLeaderRequest::new(
            codec::vote_from_proto(request.from_leader)?,
            NodeId::from(request.to),
            request.last_log_id.as_ref().map(codec::log_id_from_proto),
        );
        if let Err(refusal) = self.raft.handle_transfer_leader(rpc).await.map_err(fatal)? {
            tracing::info!(%refusal, "did not take over the leadership");
        }
        self.snapshot_response(self.vote())
    }

    pub(crate) async fn snapshot_begin(&self, body: Bytes) -> Result<Bytes> {
        self.check_admitted()?;
        let compare = self.incoming.begin(body).await?;
        Ok(codec::encode(&proto::SnapshotBeginResponse { compare }))
    }

    pub(crate) async fn snapshot_pages(&self, body: Bytes) -> Result<Bytes> {
        let pages = self.incoming.pages(body).await?.into();
        Ok(codec::encode(&proto::SnapshotPagesResponse { pages }))
    }

    pub(crate) async fn snapshot_chunk(&self, body: Bytes) -> Result<Bytes> {
        self.incoming.chunk(body).await.map(|()| Bytes::new())
    }

    pub(crate) async fn snapshot_end(&self, body: Bytes) -> Result<Bytes> {
        let arrived = self.incoming.end(body).await?;
        let response =
            self.raft.install_full_snapshot(arrived.vote, arrived.snapshot).await.map_err(fatal)?;
        self.snapshot_response(response.vote)
    }

    fn snapshot_response(&self, vote: Vote) -> Result<Bytes> {
        let vote = Some(codec::vote_to_proto(&vote));
        Ok(codec::encode(&proto::SnapshotResponse { vote }))
    }
}
