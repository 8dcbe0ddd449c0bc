//! What a transport promises, by concern. Waits are for conditions; `soon` only bounds a failure.

mod calls;
mod fuzz;
mod hostile;
mod lifecycle;
mod security;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{CallError, Client, ClusterId, Handler, Lane, Limits, Local, Peer, Server, Tls};
use crate::config::Security;
use crate::error::{Error, ErrorKind, Result};

/// Long enough for a loaded machine; a test that gets here has failed.
const FAILED: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(FAILED, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {FAILED:?}"),
    }
}

struct Node {
    id: &'static str,
    cluster: Mutex<Option<ClusterId>>,
}

fn node(id: &'static str) -> Arc<Node> {
    Arc::new(Node { id, cluster: Mutex::new(None) })
}

fn member(id: &'static str, cluster: u8) -> Arc<Node> {
    Arc::new(Node { id, cluster: Mutex::new(Some([cluster; 16])) })
}

impl Local for Node {
    fn node_id(&self) -> String {
        self.id.to_owned()
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        *self.cluster.lock()
    }
}

/// Answers with the body.
const ECHO: u32 = 1;
/// Answers with the body once the gate has a permit for it.
const HOLD: u32 = 2;
/// Waits until the gate gives a permit; only for its answer.
const ASK: u32 = 6;
/// Answers with `whole_error()`.
const FAIL: u32 = 3;
/// Panics.
const PANIC: u32 = 4;
/// Answers with as many bytes as the body says.
const SIZED: u32 = 5;

struct Probe {
    /// The first eight bytes of each request, in the order of the first polls.
    order: Mutex<Vec<u64>>,
    /// The number of requests that have been polled.
    arrived: watch::Sender<usize>,
    gate: Semaphore,
    running: AtomicUsize,
}

fn probe() -> Arc<Probe> {
    Arc::new(Probe {
        order: Mutex::default(),
        arrived: watch::Sender::new(0),
        gate: Semaphore::new(0),
        running: AtomicUsize::new(0),
    })
}

impl Probe {
    async fn arrived(&self, n: usize) {
        let mut arrived = self.arrived.subscribe();
        soon("requests arrive", arrived.wait_for(|seen| *seen >= n)).await.unwrap();
    }
}

/// A request in the handler's hands, also one that is dropped there.
struct Running(Arc<Probe>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The handler keeps the probe alive, not the other way round.
struct ProbeHandler(Arc<Probe>);

fn whole_error() -> Error {
    Error::new(ErrorKind::Constraint, "SQLITE_CONSTRAINT_UNIQUE", "UNIQUE failed: t.a – ünï")
        .with_retryable(true)
        .with_leader(Some("n7".to_owned()))
        .with_sqlite_code(2067)
}

impl Handler for ProbeHandler {
    fn handle(&self, _: &Peer, method: u32, body: Bytes) -> BoxFuture<'static, Result<Bytes>> {
        let probe = self.0.clone();
        Box::pin(async move {
            probe.order.lock().push(number(&body));
            probe.running.fetch_add(1, Ordering::SeqCst);
            let _running = Running(probe.clone());
            probe.arrived.send_modify(|n| *n += 1);
            match method {
                ECHO => {
                    tokio::task::yield_now().await;
                    Ok(body)
                }
                HOLD | ASK => {
                    probe.gate.acquire().await.unwrap().forget();
                    Ok(body)
                }
                FAIL => Err(whole_error()),
                PANIC => panic!("on purpose"),
                SIZED => Ok(Bytes::from(vec![7; number(&body) as usize])),
                other => Err(Error::config("TEST_METHOD", format!("{other}"))),
            }
        })
    }

    fn is_only_for_its_answer(&self, method: u32) -> bool {
        method == ASK
    }
}

fn number(body: &[u8]) -> u64 {
    body.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn numbered(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

fn secret(secret: &str) -> Option<Arc<Tls>> {
    Tls::from_config(&Security::Secret(secret.to_owned())).unwrap()
}

/// Short where a test waits for the limit itself; a test of something else never meets it.
fn hasty() -> Limits {
    Limits {
        hello: Duration::from_millis(700),
        keep_alive: Duration::from_millis(100),
        silence: Duration::from_millis(1000),
        write: Duration::from_millis(500),
        ..Limits::default()
    }
}

async fn serve(tls: Option<Arc<Tls>>, local: Arc<Node>, probe: &Arc<Probe>) -> Server {
    serve_with(tls, local, probe, Limits::default()).await
}

async fn serve_with(
    tls: Option<Arc<Tls>>,
    local: Arc<Node>,
    probe: &Arc<Probe>,
    limits: Limits,
) -> Server {
    let handler = Arc::new(ProbeHandler(probe.clone()));
    Server::bind_with_limits("127.0.0.1:0", tls, local, handler, limits).await.unwrap()
}

fn client(tls: Option<Arc<Tls>>) -> Client {
    Client::new(tls, node("client"))
}

async fn call(
    client: &Client,
    address: SocketAddr,
    method: u32,
    body: Bytes,
) -> Result<Bytes, CallError> {
    let address = address.to_string();
    soon("a call ends", client.call(&address, None, Lane::Data, method, body, FAILED)).await
}

async fn assert_serves(client: &Client, address: SocketAddr) {
    let body = numbered(4711);
    assert_eq!(call(client, address, ECHO, body.clone()).await.unwrap(), body);
}

#[track_caller]
fn not_sent<T: std::fmt::Debug>(result: Result<T, CallError>) -> Error {
    match result {
        Err(CallError::NotSent(error)) => error,
        other => panic!("not NotSent: {other:?}"),
    }
}
