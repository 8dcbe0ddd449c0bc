//! [`Server`]: accepts the connections of other nodes and hands their requests to the [`Handler`].

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connection::{Outbox, Reader, share, write_loop};
use super::handshake::{Established, Rejected, accept};
use super::wire::{Frame, FrameKind};
use super::{Handler, Limits, Local, Peer, Tls};
use crate::disk::{self, Cause};
use crate::error::{Error, ErrorKind, Result};

/// Listens at one address. Dropping it closes everything at once; [`Server::shutdown`] lets requests
/// in flight finish.
pub(crate) struct Server {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    _kill: DropGuard,
}

struct Shared {
    tls: Option<Arc<Tls>>,
    local: Arc<dyn Local>,
    handler: Arc<dyn Handler>,
    limits: Limits,
    /// No new connections and no new requests.
    stop: CancellationToken,
    /// Nothing goes on.
    kill: CancellationToken,
    tasks: TaskTracker,
    /// Bounds the connections that have not said an acceptable hello yet.
    strangers: Arc<Semaphore>,
    /// Bounds the connections that have, together with the requests that outlive theirs.
    connections: Arc<Semaphore>,
    last_refusal: Mutex<Option<(SocketAddr, Error, Instant)>>,
}

impl Server {
    /// Listens at `listen` (`host:port`; port 0 takes a free one) and serves until shut down.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: `CONFIG_ADDRESS_IN_USE`, or `CONFIG_ADDRESS` where the address is not
    /// one of this machine.
    pub(crate) async fn bind(
        listen: &str,
        tls: Option<Arc<Tls>>,
        local: Arc<dyn Local>,
        handler: Arc<dyn Handler>,
    ) -> Result<Server> {
        Self::bind_with_limits(listen, tls, local, handler, Limits::default()).await
    }

    /// [`Server::bind`] with other deadlines and bounds.
    pub(crate) async fn bind_with_limits(
        listen: &str,
        tls: Option<Arc<Tls>>,
        local: Arc<dyn Local>,
        handler: Arc<dyn Handler>,
        limits: Limits,
    ) -> Result<Server> {
        let cannot_listen = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => Error::config(
                "CONFIG_ADDRESS_IN_USE",
                format!(
                    "another process already listens at {listen}; stop it, or give this node \
                     another port in listen"
                ),
            ),
            _ if Cause::of(&e) == Cause::TooManyFiles => {
                disk::too_many_files(format!("cannot listen at {listen} ({e})"))
            }
            _ => Error::config(
                "CONFIG_ADDRESS",
                format!(
                    "cannot listen at {listen} ({e}); listen takes an address of this machine and \
                     a free port, such as \"127.0.0.1:7001\""
                ),
            ),
        };
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        let local_addr = listener.local_addr().map_err(cannot_listen)?;
        let kill = CancellationToken::new();
        let shared = Arc::new(Shared {
            tls,
            local,
            handler,
            stop: kill.child_token(),
            kill: kill.clone(),
            tasks: TaskTracker::new(),
            strangers: Arc::new(Semaphore::new(limits.max_strangers)),
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            last_refusal: Mutex::new(None),
            limits,
        });
        let accepting = shared.clone();
        shared.tasks.spawn(async move {
            let accepting = &accepting;
            let stop = &accepting.stop;
            // The listener is closed with this task.
            let listener = &listener;
            let accept =
                accept_loop(|| listener.accept(), |tcp, address| accepting.serve_new(tcp, address));
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept => {}
            }
        });
        Ok(Server { shared, local_addr, _kill: kill.drop_guard() })
    }

    /// The address that is listened at, with the actual port.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The last peer that was refused (another secret, another cluster, no TLS, ...), why, and when.
    pub(crate) fn last_refusal(&self) -> Option<(SocketAddr, Error, Instant)> {
        self.shared.last_refusal.lock().clone()
    }

    /// Stops accepting, refuses new requests, waits up to 2 seconds for those in flight and their
    /// responses, then closes everything.
    pub(crate) async fn shutdown(&self) {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.tasks.close();
        if timeout(shared.limits.drain, shared.tasks.wait()).await.is_err() {
            shared.kill.cancel();
            // Nothing waits for anything any more, unless a handler blocks its thread.
            let _ = timeout(Duration::from_secs(1), shared.tasks.wait()).await;
        }
    }
}

/// Accepts for ever. Being out of file descriptors or memory passes: pause and go on.
pub(super) async fn accept_loop<F>(
    mut accept: impl FnMut() -> F,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) where
    F: Future<Output = io::Result<(TcpStream, SocketAddr)>>,
{
    const MIN_PAUSE: Duration = Duration::from_millis(10);
    const MAX_PAUSE: Duration = Duration::from_secs(1);
    let mut pause = MIN_PAUSE;
    loop {
        match accept().await {
            Ok((tcp, address)) => {
                pause = MIN_PAUSE;
                serve(tcp, address);
            }
            // The peer left before we got to it.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                if pause == MIN_PAUSE {
                    tracing::warn!(%error, "cannot accept connections now; trying again");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

impl Shared {
    fn serve_new(self: &Arc<Self>, tcp: TcpStream, address: SocketAddr) {
        let Ok(stranger) = self.strangers.clone().try_acquire_owned() else {
            tracing::debug!(%address, "too many connections that have not said hello");
            return;
        };
        let shared = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = shared.kill.cancelled() => {}
                () = shared.serve(tcp, address, stranger) => {}
            }
        });
    }

    async fn serve(
        self: &Arc<Self>,
        tcp: TcpStream,
        address: SocketAddr,
        stranger: OwnedSemaphorePermit,
    ) {
        let name = address.to_string();
        let hello = accept(tcp, &name, self.tls.as_deref(), &*self.local, &self.connections);
        let established = tokio::select! {
            () = self.stop.cancelled() => return,
            hello = timeout(self.limits.hello, hello) => match hello {
                Ok(Ok(established)) => established,
                Ok(Err(Rejected::Refused(error))) => return self.refused(address, error),
                Ok(Err(Rejected::Stranger(error))) => {
                    return tracing::debug!(%address, %error, "not a node");
                }
                Err(_) => return tracing::debug!(%address, "no hello in time"),
            },
        };
        drop(stranger);
        let (Established { reader, mut writer, peer }, place) = established;
        let (outbox, mut queue) = Outbox::new(&self.limits);
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let requests = Requests {
            shared: self.clone(),
            outbox,
            running: Arc::new(Semaphore::new(peer.lane.concurrency() as usize)),
            peer: Arc::new(peer),
            room: Arc::new(Semaphore::new(self.limits.max_queued_bytes as usize)),
            place: Arc::new(place),
            gone,
        };
        // The writer ends when the last sender of the outbox is gone: `Requests` and each handler
        // that still runs.
        let reading = async move {
            let mut reader = reader;
            let ended = requests.read(&mut reader).await;
            (reader, ended)
        };
        tokio::pin!(reading);
        let mut writing = std::pin::pin!(write_loop(&mut writer, &mut queue, &self.limits));
        let ended = tokio::select! {
            (mut reader, ended) = &mut reading => {
                if matches!(ended, Ended::Stopped) {
                    let _ = writing.as_mut().await;
                    reader.drain(Duration::from_millis(500)).await;
                }
                ended
            }
            written = &mut writing => Ended::Broken(written.err()),
        };
        if let Ended::Broken(Some(error)) = ended {
            tracing::debug!(%address, %error, "connection broken");
        }
    }

    fn refused(&self, address: SocketAddr, error: Error) {
        let mut last = self.last_refusal.lock();
        // A peer that keeps trying must not fill the log.
        let quiet = last.as_ref().is_some_and(|(from, what, at)| {
            from.ip() == address.ip()
                && what.code() == error.code()
                && at.elapsed() < Duration::from_secs(10)
        });
        if quiet {
            tracing::debug!(%address, %error, "refused a peer");
        } else {
            tracing::warn!(%address, %error, "refused a peer");
        }
        *last = Some((address, error, Instant::now()));
    }
}

/// How the reading side of a connection ended.
enum Ended {
    /// The server shuts down, and every request of the connection has its response queued.
    Stopped,
    /// The peer left, or broke the rules.
    Broken(Option<io::Error>),
}

/// Hands the requests of one connection to the handler.
struct Requests {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    outbox: Outbox,
    /// Bounds the requests in the handler's hands.
    running: Arc<Semaphore>,
    /// Bounds the bytes of these requests.
    room: Arc<Semaphore>,
    /// The connection's place among all: held by its handlers too, so that a peer which sends and
    /// leaves over and over cannot pile up requests without bound.
    place: Arc<OwnedSemaphorePermit>,
    /// Cancelled when the connection has ended.
    gone: CancellationToken,
}

impl Requests {
    async fn read(&self, reader: &mut Reader) -> Ended {
        let stop = &self.shared.stop;
        loop {
            let frame = tokio::select! {
                () = stop.cancelled() => return self.finish(reader).await,
                frame = reader.next_frame(self.shared.limits.silence) => frame,
            };
            match frame {
                Ok(Some(frame)) if frame.kind() == FrameKind::Request => {
                    let slot = tokio::select! {
                        () = stop.cancelled() => {
                            self.refuse(frame.id).await;
                            return self.finish(reader).await;
                        }
                        slot = self.slot(frame.body.len()) => slot,
                    };
                    self.start(frame, slot).await;
                }
                Ok(Some(frame)) if frame.kind() == FrameKind::Ping => {}
                Ok(Some(_)) => return Ended::Broken(Some(io::ErrorKind::InvalidData.into())),
                Ok(None) => return Ended::Broken(None),
                Err(e) => return Ended::Broken(Some(e)),
            }
        }
    }

    /// Refuses what still comes until everything in flight is answered.
    async fn finish(&self, reader: &mut Reader) -> Ended {
        let all = self.peer.lane.concurrency();
        let answered = self.running.acquire_many(all);
        tokio::pin!(answered);
        loop {
            tokio::select! {
                _ = &mut answered => return Ended::Stopped,
                frame = reader.next_frame(self.shared.limits.silence) => match frame {
                    Ok(Some(frame)) if frame.kind() == FrameKind::Request => {
                        self.refuse(frame.id).await;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Ended::Broken(None),
                    Err(e) => return Ended::Broken(Some(e)),
                },
            }
        }
    }

    /// Waits until one more request of this size may run.
    async fn slot(&self, bytes: usize) -> Option<Slot> {
        let running = self.running.clone().acquire_owned().await.ok()?;
        let budget = self.shared.limits.max_queued_bytes;
        let room = self.room.clone().acquire_many_owned(share(bytes, budget)).await.ok()?;
        Some(Slot { _running: running, _room: room, _place: self.place.clone() })
    }

    async fn start(&self, frame: Frame, slot: Option<Slot>) {
        let (id, method, body) = (frame.id, frame.method, frame.body);
        let (handler, peer) = (self.shared.handler.clone(), self.peer.clone());
        let max_body = peer.lane.max_body();
        let needs_caller = handler.is_only_for_its_answer(method);
        let answer = async move { handler.handle(&peer, method, body).await };
        let mut answer: BoxFuture<'static, Result<Bytes>> = AssertUnwindSafe(answer)
            .catch_unwind()
            .map(|caught| caught.unwrap_or_else(|_| Err(panicked())))
            .boxed();
        // The first poll, in order; without tokio's task budget, which could make it stop early.
        let first = std::future::poll_fn(|cx| {
            Poll::Ready(std::pin::pin!(tokio::task::unconstrained(&mut answer)).poll(cx))
        })
        .await;
        let outbox = self.outbox.clone();
        let respond = move |result: Result<Bytes>| async move {
            let result = match result {
                Ok(body) if body.len() > max_body => Err(response_too_large(body.len(), max_body)),
                result => result,
            };
            // A peer that has gone needs no response.
            let _ = outbox.push(Frame::response(id, result)).await;
            drop(slot);
        };
        match first {
            Poll::Ready(result) => respond(result).await,
            Poll::Pending => {
                let kill = self.shared.kill.clone();
                let gone = self.gone.clone();
                self.shared.tasks.spawn(async move {
                    tokio::select! {
                        () = kill.cancelled() => {}
                        () = gone.cancelled(), if needs_caller => {}
                        () = async { respond(answer.await).await } => {}
                    }
                });
            }
        }
    }

    async fn refuse(&self, id: u64) {
        let error = Error::new(
            ErrorKind::Unavailable,
            "SHUTTING_DOWN",
            "the node is shutting down; ask another node",
        );
        let _ = self.outbox.push(Frame::refused(id, &error)).await;
    }
}

/// What a running request takes of its connection's bounds.
struct Slot {
    _running: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
    _place: Arc<OwnedSemaphorePermit>,
}

fn panicked() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "INTERNAL",
        "the node failed while it handled the request; please report this with its log",
    )
    .with_retryable(false)
}

fn response_too_large(bytes: usize, max: usize) -> Error {
    Error::new(
        ErrorKind::Busy,
        "MESSAGE_TOO_LARGE",
        format!("the response of {bytes} bytes is beyond the limit of {max} bytes; ask for less"),
    )
    .with_retryable(false)
}
