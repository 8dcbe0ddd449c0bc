//! [`Client`]: calls other nodes over a pool of connections, one per address and lane.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::call::{CallError, Calls, PendingCall};
use super::connection::{Outbox, Queued, Reader, Writer, write_loop};
use super::handshake::{Established, dial};
use super::wire::{Frame, FrameKind};
use super::{Lane, Limits, Local, Peer, Tls};
use crate::error::{Error, ErrorKind};

/// Calls other nodes. Connections are opened when first needed and again after they broke, with
/// growing pauses while a peer stays away. Cloning shares the pool; dropping the last clone closes
/// it.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Arc<Pool>,
    _stop: Arc<DropGuard>,
}

struct Pool {
    tls: Option<Arc<Tls>>,
    local: Arc<dyn Local>,
    limits: Limits,
    slots: Mutex<Slots>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Grows with the addresses that were ever called, which are the members of one cluster.
type Slots = HashMap<(Arc<str>, Lane), Arc<Slot>>;

/// The place of one connection in the pool.
#[derive(Default)]
struct Slot(Mutex<SlotState>);

#[derive(Default)]
struct SlotState {
    phase: Phase,
    /// Attempts in a row that failed, or gave a connection that broke at once.
    failures: u32,
    /// Why the last of them failed.
    last_error: Option<Error>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    /// Everyone who needs the connection waits for the same attempt.
    Connecting(Attempt),
    Open(Arc<Connection>),
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Connection>, Error>>>;

struct Connection {
    peer: Peer,
    outbox: Outbox,
    calls: Arc<Calls>,
    opened: Instant,
}

/// A connection that breaks sooner than this counts as a failed attempt.
const SETTLED: Duration = Duration::from_secs(1);

impl Client {
    /// A client that introduces itself as `local`. Connects to nobody yet.
    pub(crate) fn new(tls: Option<Arc<Tls>>, local: Arc<dyn Local>) -> Client {
        Self::with_limits(tls, local, Limits::default())
    }

    /// [`Client::new`] with other deadlines and bounds.
    pub(crate) fn with_limits(
        tls: Option<Arc<Tls>>,
        local: Arc<dyn Local>,
        limits: Limits,
    ) -> Client {
        let stop = CancellationToken::new();
        let guard = Arc::new(stop.clone().drop_guard());
        let pool =
            Pool { tls, local, limits, slots: Mutex::default(), stop, tasks: TaskTracker::new() };
        Client { pool: Arc::new(pool), _stop: guard }
    }

    /// Sends a request and waits for its response; [`Client::send`], then [`PendingCall::wait`].
    pub(crate) async fn call(
        &self,
        address: &str,
        expect: Option<&str>,
        lane: Lane,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        self.send(address, expect, lane, method, body, timeout).await?.wait().await
    }

    /// Queues a request on the connection to `address`, opening it if need be. Requests of one
    /// caller on one lane arrive in the order of these calls. With `expect`, the node that answers
    /// there must have that id.
    ///
    /// `timeout` runs from now until the response.
    ///
    /// # Errors
    /// Always [`CallError::NotSent`].
    pub(crate) async fn send(
        &self,
        address: &str,
        expect: Option<&str>,
        lane: Lane,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> Result<PendingCall, CallError> {
        self.queue(address, expect, lane, method, body, deadline(timeout))
            .await
            .map_err(CallError::NotSent)
    }

    async fn queue(
        &self,
        address: &str,
        expect: Option<&str>,
        lane: Lane,
        method: u32,
        body: Bytes,
        deadline: Instant,
    ) -> Result<PendingCall, Error> {
        if body.len() > lane.max_body() {
            return Err(too_large(body.len(), lane));
        }
        let address: Arc<str> = address.into();
        // A connection may turn out to be closed just as the request is handed to it; the request
        // was then not sent and may take the next connection.
        let mut attempts = 2;
        loop {
            attempts -= 1;
            let connection = self.pool.connection(&address, lane, deadline).await?;
            if let Some(expect) = expect
                && connection.peer.node_id != expect
            {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "PEER_OTHER_NODE",
                    format!(
                        "node {:?} answers at {address}, not {expect:?}; the address of {expect:?} \
                         has changed, or two nodes advertise the same one",
                        connection.peer.node_id
                    ),
                ));
            }
            let error = match connection.calls.register() {
                Ok((id, answer)) => {
                    // Forgets the call if queueing is given up.
                    let pending = PendingCall::new(
                        id,
                        connection.calls.clone(),
                        answer,
                        address.clone(),
                        deadline,
                    );
                    let frame = Frame::request(id, method, body.clone());
                    match timeout_at(deadline, connection.outbox.push(frame)).await {
                        Ok(Ok(())) => return Ok(pending),
                        Ok(Err(_)) => lost(&address, "it was closed"),
                        Err(_) => {
                            return Err(Error::new(
                                ErrorKind::Unavailable,
                                "PEER_SLOW",
                                format!(
                                    "{address} does not take in requests as fast as they are made; \
                                     nothing was sent in time"
                                ),
                            ));
                        }
                    }
                }
                Err(error) => error,
            };
            if attempts == 0 {
                return Err(error);
            }
        }
    }

    /// Asks who answers at `address`, over a connection of its own: what the peer says is fresh
    /// (its cluster id, say, which a joining node learns this way).
    ///
    /// # Errors
    /// Always [`CallError::NotSent`].
    pub(crate) async fn hello(&self, address: &str, timeout: Duration) -> Result<Peer, CallError> {
        let dialling = dial(address, self.pool.tls.as_deref(), &*self.pool.local, Lane::Control);
        let hello = tokio::select! {
            () = self.pool.stop.cancelled() => Err(Error::closed()),
            hello = timeout_at(deadline(timeout), dialling) => {
                hello.unwrap_or_else(|_| Err(silent(address)))
            }
        };
        Ok(hello.map_err(CallError::NotSent)?.peer)
    }

    /// Closes all connections. Calls that wait for answers end as [`CallError::Lost`], those still
    /// queued and new ones as [`CallError::NotSent`]. Takes a second at most.
    pub(crate) async fn shutdown(&self) {
        self.pool.stop.cancel();
        self.pool.tasks.close();
        let _ = timeout(CLOSING, self.pool.tasks.wait()).await;
    }
}

/// How long a shutdown waits for its tasks, which have nothing left to wait for.
const CLOSING: Duration = Duration::from_secs(1);

impl Pool {
    /// The connection to `address`, waiting until `deadline` for one.
    async fn connection(
        self: &Arc<Self>,
        address: &Arc<str>,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Arc<Connection>, Error> {
        let slot = self.slots.lock().entry((address.clone(), lane)).or_default().clone();
        let attempt = {
            let mut state = slot.0.lock();
            match &state.phase {
                Phase::Open(connection) if connection.calls.closed().is_none() => {
                    return Ok(connection.clone());
                }
                Phase::Open(connection) => {
                    state.failures = if connection.opened.elapsed() < SETTLED {
                        state.failures.saturating_add(1)
                    } else {
                        0
                    };
                    self.connect(&slot, &mut state, address, lane)
                }
                Phase::Connecting(attempt) => attempt.clone(),
                Phase::Idle => self.connect(&slot, &mut state, address, lane),
            }
        };
        timeout_at(deadline, attempt).await.unwrap_or_else(|_| {
            // While attempts are paused, the reason of the last failure is worth more than silence.
            Err(slot.0.lock().last_error.clone().unwrap_or_else(|| silent(address)))
        })
    }

    /// Starts an attempt, after the pause that the failures before it ask for.
    fn connect(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        state: &mut SlotState,
        address: &Arc<str>,
        lane: Lane,
    ) -> Attempt {
        let (done, result) = oneshot::channel();
        let pause = self.limits.back_off(state.failures);
        let attempt: Attempt =
            async move { result.await.unwrap_or_else(|_| Err(Error::closed())) }.boxed().shared();
        state.phase = Phase::Connecting(attempt.clone());
        // A task of its own: the attempt goes on when the caller who started it gives up.
        let (pool, slot, address) = (self.clone(), slot.clone(), address.clone());
        self.tasks.spawn(async move {
            let result = tokio::select! {
                () = pool.stop.cancelled() => Err(Error::closed()),
                result = pool.open(&address, lane, pause) => result,
            };
            {
                let mut state = slot.0.lock();
                match &result {
                    Ok(connection) => {
                        state.phase = Phase::Open(connection.clone());
                        state.last_error = None;
                    }
                    Err(error) => {
                        state.phase = Phase::Idle;
                        state.last_error = Some(error.clone());
                        state.failures = state.failures.saturating_add(1);
                    }
                }
            }
            let _ = done.send(result);
        });
        attempt
    }

    async fn open(
        self: &Arc<Self>,
        address: &Arc<str>,
        lane: Lane,
        pause: Duration,
    ) -> Result<Arc<Connection>, Error> {
        tokio::time::sleep(pause).await;
        let dialling = dial(address, self.tls.as_deref(), &*self.local, lane);
        let Established { reader, writer, peer } = timeout(self.limits.connect, dialling)
            .await
            .unwrap_or_else(|_| Err(silent(address)))?;
        let (outbox, queue) = Outbox::new(&self.limits);
        let calls = Arc::new(Calls::default());
        self.tasks.spawn(run(
            self.limits.clone(),
            self.stop.clone(),
            address.clone(),
            calls.clone(),
            reader,
            writer,
            queue,
        ));
        Ok(Arc::new(Connection { peer, outbox, calls, opened: Instant::now() }))
    }
}

/// Serves one connection until either side closes it; then every call on it has ended.
async fn run(
    limits: Limits,
    stop: CancellationToken,
    address: Arc<str>,
    calls: Arc<Calls>,
    mut reader: Reader,
    mut writer: Writer,
    mut queue: mpsc::Receiver<Queued>,
) {
    let error = tokio::select! {
        error = read_answers(&limits, &address, &calls, &mut reader) => error,
        written = write_loop(&mut writer, &mut queue, &limits) => match written {
            Ok(()) => Error::closed(),
            Err(e) => lost(&address, &e),
        },
        () = stop.cancelled() => Error::closed(),
    };
    // The writer may have been stopped inside a frame: nothing must be written from here on.
    tracing::debug!(%address, %error, "connection closed");
    calls.close(error.clone());
    queue.close();
    while let Ok(unsent) = queue.try_recv() {
        calls.answer(unsent.id(), Err(CallError::NotSent(error.clone())));
    }
    calls.fail_all();
}

/// Hands answers to the calls that wait for them; returns why it ended.
async fn read_answers(limits: &Limits, address: &str, calls: &Calls, reader: &mut Reader) -> Error {
    loop {
        let frame = match reader.next_frame(limits.silence).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return lost(address, "it closed the connection"),
            Err(e) => return lost(address, &e),
        };
        let id = frame.id;
        match (frame.kind(), frame.error) {
            (FrameKind::Response, None) => calls.answer(id, Ok(frame.body)),
            (FrameKind::Response, Some(e)) => calls.answer(id, Err(CallError::Remote(e.into()))),
            (FrameKind::Refused, Some(e)) => calls.answer(id, Err(CallError::NotSent(e.into()))),
            (FrameKind::Ping, _) => {}
            _ => return lost(address, "it sent a frame that this node does not understand"),
        }
    }
}

impl Limits {
    /// The pause before the next attempt after so many failures in a row: doubled each time, then
    /// shortened by up to half at random, so that nodes which lost the same peer do not return to
    /// it in step.
    fn back_off(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doubled = self.min_back_off.saturating_mul(1 << (failures - 1).min(16));
        let full = doubled.min(self.max_back_off);
        let random = getrandom::u32().unwrap_or(u32::MAX);
        full.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
    }
}

/// The longest timeout means none; a year is as good.
fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(Duration::from_secs(365 * 24 * 3600))
}

fn lost(address: &str, why: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "PEER_LOST",
        format!("the connection to {address} was lost ({why}); try again"),
    )
}

fn silent(address: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "PEER_UNREACHABLE",
        format!("{address} cannot be reached in time; check that the node there runs"),
    )
}

fn too_large(bytes: usize, lane: Lane) -> Error {
    Error::new(
        ErrorKind::Busy,
        "MESSAGE_TOO_LARGE",
        format!(
            "a message of {bytes} bytes is beyond the limit of {} bytes; send less at once",
            lane.max_body()
        ),
    )
    .with_retryable(false)
}
