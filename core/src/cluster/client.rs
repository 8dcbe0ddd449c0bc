//! The way to the leader: every request that only the leader can answer goes through
//! [`ClusterCore::on_leader`], which finds the leader, waits for one, and tries again.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::ClusterCore;
use crate::cancel::Cancel;
use crate::consensus::{codec, stopped_maybe_applied};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::{self, Method};
use crate::sqlite::{refuse_early, too_complex};
use crate::statement::{ExecuteResult, Rows, Statement};
use crate::transport::{CallError, Lane};

/// The first pause between two tries; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// A forwarded request is given up on a leader that does not answer for so long, and tried again:
/// with the same identity that is safe.
const MAX_ATTEMPT: Duration = Duration::from_secs(5);

/// How long compiling the texts of a write may take, and for each of them besides: SQLite cannot always
/// be told to end it.
const PREFLIGHT: Duration = Duration::from_secs(3);
const PREFLIGHT_TEXT: Duration = Duration::from_millis(1);
/// How long is tried to tell the leader that nobody waits for a read.
const CANCEL: Duration = Duration::from_secs(5);
/// How long a read that has reached its deadline may take to notice before nobody waits any longer.
const NOTICE: Duration = Duration::from_millis(200);

/// Gives every write its identity and knows which are answered (the client side of RIFL, Lee et
/// al., SOSP 2015).
pub(crate) struct Identities {
    client: u128,
    open: Mutex<Open>,
}

struct Open {
    next: u64,
    unanswered: BTreeSet<u64>,
}

/// One write's identity; it counts as answered when this is dropped.
pub(crate) struct WriteIdentity {
    identities: Arc<Identities>,
    sequence: u64,
    /// The answers of all writes below this were seen when it began.
    acked_below: u64,
}

impl Identities {
    pub(crate) fn new() -> Result<Arc<Identities>> {
        let mut client = [0; 16];
        getrandom::fill(&mut client).map_err(|e| {
            Error::new(
                ErrorKind::Unavailable,
                "NO_RANDOMNESS",
                format!("the operating system gives no randomness: {e}"),
            )
        })?;
        let open = Open { next: 1, unanswered: BTreeSet::new() };
        Ok(Arc::new(Identities { client: u128::from_be_bytes(client), open: Mutex::new(open) }))
    }

    /// What tells this open node from every other.
    pub(crate) fn instance(&self) -> Vec<u8> {
        self.client.to_be_bytes().to_vec()
    }

    fn begin(self: &Arc<Self>) -> WriteIdentity {
        let mut open = self.open.lock();
        let sequence = open.next;
        open.next += 1;
        open.unanswered.insert(sequence);
        let acked_below = open.unanswered.first().copied().unwrap_or(sequence);
        drop(open);
        WriteIdentity { identities: self.clone(), sequence, acked_below }
    }
}

impl WriteIdentity {
    /// The same at each try.
    fn command(&self, statements: &[Statement]) -> proto::Command {
        proto::Command {
            client: self.identities.client.to_be_bytes().to_vec(),
            sequence: self.sequence,
            acked_below: self.acked_below,
            seed: 0,
            statements: statements.iter().map(codec::statement_to_proto).collect(),
        }
    }
}

impl Drop for WriteIdentity {
    fn drop(&mut self) {
        self.identities.open.lock().unanswered.remove(&self.sequence);
    }
}

/// What is sent to the leader.
struct Request {
    method: Method,
    body: Bytes,
    /// Names a read, which is ended on the leader when nobody waits for it any more; 0 for others.
    read: u64,
}

impl Request {
    fn new(method: Method, body: Bytes) -> Request {
        Request { method, body, read: 0 }
    }
}

/// What became of one try.
enum Attempt<T> {
    Done(Result<T>),
    /// Nothing was sent, or it was certainly not carried out.
    NotSent(Error),
    /// It may have been carried out.
    Unknown(Error),
}

impl ClusterCore {
    /// Runs a request on the leader, wherever it is, until `deadline`.
    ///
    /// `local` runs it on this node when it leads; otherwise `request` is sent. A try that
    /// failed for a reason that passes is repeated, so the request must be safe to repeat. `unknown`
    /// says that it was tried before, and may have been carried out.
    async fn on_leader<T, Fut>(
        &self,
        mut unknown: bool,
        deadline: Instant,
        request: Request,
        local: impl Fn() -> Fut,
        decode: impl Fn(Bytes) -> Result<T>,
    ) -> Result<T>
    where
        Fut: Future<Output = Result<T>>,
    {
        let mut watch = self.consensus.watch();
        let mut pause = MIN_PAUSE;
        let mut asked = None;
        loop {
            if let Some(e) = self.stopped() {
                return Err(if unknown { stopped_maybe_applied(&e) } else { e });
            }
            let last;
            let leader = self.consensus.leader_address();
            if leader != asked {
                // Another leader deserves a try at once, and is not to blame for the last one.
                pause = MIN_PAUSE;
                asked.clone_from(&leader);
            }
            let attempt = match leader {
                Some((id, _)) if id == self.consensus.node_id() => {
                    let at = tokio::time::Instant::from_std(deadline);
                    match tokio::time::timeout_at(at, local()).await {
                        Ok(result) => classify(result),
                        Err(_) => Attempt::Unknown(no_answer(&id)),
                    }
                }
                Some((id, address)) => self.ask(&id, &address, deadline, &request, &decode).await,
                None => Attempt::NotSent(self.no_leader()),
            };
            match attempt {
                // That this try was refused for good says nothing of those before.
                Attempt::Done(Err(e))
                    if unknown
                        && matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Closed) =>
                {
                    return Err(stopped_maybe_applied(&e));
                }
                Attempt::Done(result) => return result,
                Attempt::NotSent(e) => last = e,
                Attempt::Unknown(e) => {
                    unknown = true;
                    last = e;
                }
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(if unknown { maybe_applied(last.message()) } else { last });
            }
            watch.changed(deadline.min(now + pause)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn ask<T>(
        &self,
        leader: &str,
        address: &str,
        deadline: Instant,
        request: &Request,
        decode: &impl Fn(Bytes) -> Result<T>,
    ) -> Attempt<T> {
        let left = deadline.saturating_duration_since(Instant::now());
        let (lane, timeout) = match request.method {
            // To ask again would begin it again: it may take as long as it likes.
            Method::Query => (Lane::Data, left),
            Method::Execute => (Lane::Data, left.min(MAX_ATTEMPT)),
            _ => (Lane::Control, left.min(MAX_ATTEMPT)),
        };
        let (method, body) = (request.method as u32, request.body.clone());
        let mut abandoned = AbandonedRead { core: self, leader, address, read: request.read };
        let sent = self.client.call(address, Some(leader), lane, method, body, timeout).await;
        abandoned.read = 0;
        match sent {
            Ok(body) => Attempt::Done(decode(body)),
            Err(CallError::NotSent(e)) => Attempt::NotSent(e),
            Err(CallError::Lost(e) | CallError::TimedOut(e)) => Attempt::Unknown(e),
            // The leader has not stopped: it waits for a decision.
            Err(CallError::Remote(e)) if e.code() == "APPLY_HALTED" => Attempt::Done(Err(e)),
            // It has stopped, because of its disk for example: that is not the end of this node, and
            // another one will lead.
            Err(CallError::Remote(e)) if e.kind() == ErrorKind::Unavailable && !e.retryable() => {
                Attempt::Unknown(e)
            }
            Err(CallError::Remote(e)) => classify(Err(e)),
        }
    }

    /// That there is no leader, and what it means.
    pub(crate) fn no_leader(&self) -> Error {
        if let Some(refusal) = self.identity.build_refusal() {
            return refusal;
        }
        let voters: Vec<_> = self
            .consensus
            .members()
            .into_iter()
            .filter(|m| m.role == crate::config::Role::Voter)
            .map(|m| m.node_id)
            .collect();
        Error::new(
            ErrorKind::Unavailable,
            "NO_LEADER",
            format!(
                "no node leads now: a majority of the voters ({}) must be running and reach each \
                 other; retry later",
                voters.join(", ")
            ),
        )
    }

    /// Carries out a write exactly once.
    pub(crate) async fn execute(
        &self,
        statements: &[Statement],
        deadline: Instant,
    ) -> Result<Vec<ExecuteResult>> {
        let bytes = check_command(statements)?;
        refuse_early(statements)?;
        // Here before it goes anywhere: what ends a process must not end one leader after the other.
        self.preflight(statements.iter().map(|s| s.sql.as_str()), deadline).await?;
        let identity = self.identities.begin();
        let body = || {
            codec::encode(&proto::ExecuteRequest {
                command: Some(identity.command(statements)),
                timeout_ms: remaining_ms(deadline),
            })
        };
        let local = || {
            let command = identity.command(statements);
            async move { self.consensus.propose(command, bytes).await? }
        };
        if !self.leads() {
            return self.execute_anywhere(false, deadline, body(), local).await;
        }
        let at = tokio::time::Instant::from_std(deadline);
        match tokio::time::timeout_at(at, local()).await {
            Ok(Err(e)) if passes(&e) => {
                self.execute_anywhere(may_be_proposed(&e), deadline, body(), local).await
            }
            Ok(result) => result,
            Err(_) => Err(maybe_applied("the write was not committed in time")),
        }
    }

    /// Compiles what was not compiled before, off the runtime's threads.
    ///
    /// # Errors
    /// `Sql` (`SQL_TOO_COMPLEX`) where that does not end in time.
    pub(super) async fn preflight<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
        deadline: Instant,
    ) -> Result<()> {
        let unknown = self.consensus.database().unknown_texts(texts);
        if unknown.is_empty() {
            return Ok(());
        }
        let database = self.consensus.database().clone();
        let patience = PREFLIGHT + PREFLIGHT_TEXT.saturating_mul(unknown.len() as u32);
        let compiled = tokio::task::spawn_blocking(move || database.preflight(&unknown, deadline));
        match tokio::time::timeout(patience, compiled).await {
            Ok(Ok(result)) => result,
            Ok(Err(e)) => Err(Error::closed().with_source(e)),
            Err(_) => Err(too_complex()),
        }
    }

    async fn execute_anywhere<Fut>(
        &self,
        unknown: bool,
        deadline: Instant,
        body: Bytes,
        local: impl Fn() -> Fut,
    ) -> Result<Vec<ExecuteResult>>
    where
        Fut: Future<Output = Result<Vec<ExecuteResult>>>,
    {
        self.on_leader(unknown, deadline, Request::new(Method::Execute, body), local, |body| {
            codec::results_from_proto(codec::decode(body, "the result of a write")?)
        })
        .await
    }

    /// Whether this node believes that it leads.
    pub(crate) fn leads(&self) -> bool {
        self.consensus.leads()
    }

    /// Reads on the node that leads; if this is dropped, the read ends there too.
    pub(crate) async fn query_leader(
        &self,
        statement: &Statement,
        deadline: Instant,
        cancel: &Cancel,
        kept: impl Clone + Send + 'static,
    ) -> Result<(Rows, u64)> {
        let read = getrandom::u64().unwrap_or_default();
        let body = codec::encode(&proto::QueryRequest {
            statement: Some(codec::statement_to_proto(statement)),
            timeout_ms: remaining_ms(deadline),
            read,
        });
        let request = Request { method: Method::Query, body, read };
        let local = || self.query_local(statement.clone(), deadline, cancel, kept.clone());
        self.on_leader(false, deadline, request, local, |body| {
            let response: proto::QueryResponse = codec::decode(body, "the result of a read")?;
            Ok((codec::rows_from_proto(response.rows)?, response.index))
        })
        .await
        .map_err(read_error)
    }

    /// Reads this node's database, off the runtime's threads. If this is dropped, the read ends.
    /// `kept` is dropped when it has ended.
    pub(crate) async fn query_local(
        &self,
        statement: Statement,
        deadline: Instant,
        cancel: &Cancel,
        kept: impl Send + 'static,
    ) -> Result<(Rows, u64)> {
        let readers = self.consensus.database().readers().clone();
        let cancel = Cancel::child([cancel]);
        cancel
            .clone()
            .unless(async move {
                // No thread waits for its turn.
                let place = readers.place(deadline).await?;
                let _on_drop = cancel.on_drop();
                let read = tokio::task::spawn_blocking(move || {
                    let result = readers.read(&statement, deadline, &cancel, place);
                    drop(kept);
                    result
                });
                let at = tokio::time::Instant::from_std(deadline + NOTICE);
                match tokio::time::timeout_at(at, read).await {
                    Ok(done) => done.unwrap_or_else(|e| Err(Error::closed().with_source(e))),
                    // One of SQLite's instructions takes long: the interrupt reaches it after that.
                    Err(_) => Err(read_too_long()),
                }
            })
            .await
    }

    /// The log index that covers everything acknowledged before this call.
    pub(crate) async fn read_index(&self, deadline: Instant) -> Result<u64> {
        let request = proto::BarrierRequest { timeout_ms: remaining_ms(deadline) };
        let local = || self.consensus.read_index();
        self.index_from_leader(deadline, Method::ReadIndex, codec::encode(&request), local)
            .await
            .map_err(read_error)
    }

    /// The index of an entry that was committed for this call.
    pub(crate) async fn log_barrier(&self, deadline: Instant) -> Result<u64> {
        let request = proto::BarrierRequest { timeout_ms: remaining_ms(deadline) };
        let local = || self.consensus.log_barrier();
        self.index_from_leader(deadline, Method::LogBarrier, codec::encode(&request), local)
            .await
            .map_err(read_error)
    }

    async fn index_from_leader<Fut>(
        &self,
        deadline: Instant,
        method: Method,
        body: Bytes,
        local: impl Fn() -> Fut,
    ) -> Result<u64>
    where
        Fut: Future<Output = Result<u64>>,
    {
        self.on_leader(false, deadline, Request::new(method, body), local, |body| {
            Ok(codec::decode::<proto::BarrierResponse>(body, "a barrier")?.index)
        })
        .await
    }

    /// Has the leader carry out a join; returns the index at which it took effect.
    pub(crate) async fn join_on_leader(
        &self,
        request: proto::JoinRequest,
        deadline: Instant,
    ) -> Result<u64> {
        let local = || self.carry_out_join(&request);
        self.member_change(deadline, Method::Join, codec::encode(&request), local).await
    }

    /// Has the leader remove a member.
    pub(crate) async fn remove_on_leader(&self, node_id: &str, deadline: Instant) -> Result<u64> {
        let request = proto::MemberRequest {
            node_id: node_id.to_owned(),
            timeout_ms: remaining_ms(deadline),
        };
        let local = || self.consensus.remove_member(node_id);
        self.member_change(deadline, Method::RemoveMember, codec::encode(&request), local).await
    }

    /// Has the leader hand over to another voter.
    pub(crate) async fn transfer_on_leader(&self, node_id: &str, deadline: Instant) -> Result<()> {
        let request = proto::MemberRequest {
            node_id: node_id.to_owned(),
            timeout_ms: remaining_ms(deadline),
        };
        let local = || async {
            self.consensus.transfer_leadership(node_id).await?;
            Ok(0)
        };
        let body = codec::encode(&request);
        self.member_change(deadline, Method::TransferLeadership, body, local).await.map(drop)
    }

    /// Has the leader let the time of commands go back to its clock.
    pub(crate) async fn reset_clock_on_leader(&self, deadline: Instant) -> Result<u64> {
        let request = proto::BarrierRequest { timeout_ms: remaining_ms(deadline) };
        let local = || self.consensus.reset_clock();
        self.member_change(deadline, Method::ResetClock, codec::encode(&request), local).await
    }

    pub(super) async fn member_change<Fut>(
        &self,
        deadline: Instant,
        method: Method,
        body: Bytes,
        local: impl Fn() -> Fut,
    ) -> Result<u64>
    where
        Fut: Future<Output = Result<u64>>,
    {
        self.on_leader(false, deadline, Request::new(method, body), local, |body| {
            Ok(codec::decode::<proto::MemberResponse>(body, "a membership change")?.index)
        })
        .await
    }
}

/// The largest command, in bytes of SQL and parameters.
const MAX_COMMAND_BYTES: usize = 16 * 1024 * 1024;
/// The most statements in one batch.
const MAX_STATEMENTS: usize = 100_000;

fn check_command(statements: &[Statement]) -> Result<usize> {
    let bytes = statements.iter().map(Statement::size).sum();
    if bytes > MAX_COMMAND_BYTES || statements.len() > MAX_STATEMENTS {
        return Err(Error::new(
            ErrorKind::Busy,
            "BUSY_COMMAND_TOO_LARGE",
            format!(
                "one write may have {MAX_COMMAND_BYTES} bytes in {MAX_STATEMENTS} statements, this \
                 one has {bytes} in {}; split it into several",
                statements.len()
            ),
        )
        .with_retryable(false));
    }
    Ok(bytes)
}

/// Whether the same request may succeed if it is tried again now.
fn passes(e: &Error) -> bool {
    e.kind() == ErrorKind::Unavailable && e.retryable()
}

/// Whether a request that failed so may have been proposed, and be carried out by another leader.
fn may_be_proposed(e: &Error) -> bool {
    ["LEADER_CHANGED", "STOPPED_MAYBE_APPLIED"].contains(&e.code())
}

fn classify<T>(result: Result<T>) -> Attempt<T> {
    match result {
        Err(e) if may_be_proposed(&e) => Attempt::Unknown(e),
        Err(e) if passes(&e) => Attempt::NotSent(e),
        done => Attempt::Done(done),
    }
}

fn no_answer(node: &str) -> Error {
    Error::new(ErrorKind::Timeout, "TIMEOUT", format!("node {node} did not answer in time"))
}

fn maybe_applied(why: &str) -> Error {
    Error::new(
        ErrorKind::Timeout,
        "TIMEOUT_MAYBE_APPLIED",
        format!("the deadline passed, and the write may still be applied: {why}"),
    )
}

/// A read changes nothing, so nothing of it can still be applied.
fn read_error(e: Error) -> Error {
    match e.code() {
        "STOPPED_MAYBE_APPLIED" => {
            let cause = std::error::Error::source(&e).and_then(|e| e.downcast_ref::<Error>());
            cause.cloned().unwrap_or(e)
        }
        "TIMEOUT_MAYBE_APPLIED" => Error::new(
            ErrorKind::Timeout,
            "TIMEOUT",
            "the leader did not answer the read before the deadline",
        ),
        _ => e,
    }
}

fn read_too_long() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "TIMEOUT",
        "the read did not end before its deadline: ask for less at once, or allow it more time",
    )
}

/// A read that was sent to the leader. Dropped before it is known how that went, it is ended there.
struct AbandonedRead<'a> {
    core: &'a ClusterCore,
    leader: &'a str,
    address: &'a str,
    /// 0: nothing is to be ended.
    read: u64,
}

impl Drop for AbandonedRead<'_> {
    fn drop(&mut self) {
        if self.read == 0 {
            return;
        }
        let body = codec::encode(&proto::CancelRequest { read: self.read });
        let client = self.core.client.clone();
        let (leader, address) = (self.leader.to_owned(), self.address.to_owned());
        // Not behind the reads themselves, which may be as many as may run. An older node does not
        // know this, and reads on.
        self.core.runtime.spawn(async move {
            let method = Method::CancelQuery as u32;
            let sent = client.call(&address, Some(&leader), Lane::Control, method, body, CANCEL);
            if let Err(error) = sent.await {
                tracing::debug!(%leader, %error, "a read there was not cancelled");
            }
        });
    }
}

/// What is left until `deadline`, in milliseconds.
pub(crate) fn remaining_ms(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}
