//! What the binding owns once per process: the runtime, and the list of open nodes, from which an
//! ending environment (the main thread's or a worker's) closes its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock, mpsc};
use std::time::Duration;

use napi::Env;
use napi_derive::napi;
use parking_lot::Mutex;
use quorumlite::Node;
use tokio::runtime::{Builder, Runtime};

/// How long the end of an environment may wait for its open nodes to close.
const EXIT_BOUND: Duration = Duration::from_secs(5);

/// Never dropped: its threads end with the process.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());
static OPEN: LazyLock<Mutex<Open>> = LazyLock::new(Mutex::default);
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
struct Open {
    nodes: HashMap<u64, (EnvId, Node)>,
    /// Environments whose end is watched.
    watched: Vec<EnvId>,
}

/// An environment of Node.js: the address of its `napi_env`.
type EnvId = usize;

/// The runtime, started on first use.
///
/// # Errors
/// Where its threads cannot be started.
pub(crate) fn runtime() -> std::io::Result<&'static Runtime> {
    let _guard = STARTING.lock();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .thread_name("quorumlite")
        .enable_all()
        .build()?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// Notes an open node, so that the end of its environment closes it. The key is for [`forget`].
pub(crate) fn remember(env: Env, node: Node) -> napi::Result<u64> {
    let id = env.raw() as EnvId;
    let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
    let watched = {
        let mut open = OPEN.lock();
        open.nodes.insert(key, (id, node));
        let watched = open.watched.contains(&id);
        if !watched {
            open.watched.push(id);
        }
        watched
    };
    if !watched {
        // Reached where a worker is terminated, too, when no JavaScript runs any more.
        env.add_env_cleanup_hook(id, |id| {
            close_all(id);
            OPEN.lock().watched.retain(|watched| *watched != id);
        })?;
    }
    Ok(key)
}

/// Takes a node off the list; none where it was taken before.
pub(crate) fn forget(key: u64) -> Option<Node> {
    OPEN.lock().nodes.remove(&key).map(|(_, node)| node)
}

/// Closes the open nodes of one environment; waits, but not longer than [`EXIT_BOUND`].
fn close_all(id: EnvId) {
    let nodes: Vec<(u64, Node)> = {
        let open = OPEN.lock();
        let own = open.nodes.iter().filter(|(_, (env, _))| *env == id);
        own.map(|(key, (_, node))| (*key, node.clone())).collect()
    };
    let Ok(runtime) = runtime() else { return };
    let (running, all_done) = mpsc::channel::<()>();
    for (key, node) in nodes {
        let running = running.clone();
        runtime.spawn(async move {
            let _ = node.close().await;
            forget(key);
            drop(running);
        });
    }
    drop(running);
    // Nothing is ever sent: it ends when the last node has dropped its sender.
    let _ = all_done.recv_timeout(EXIT_BOUND);
}

/// Closes the open nodes of the calling environment, within 5 seconds. For its `exit` event.
#[napi]
pub fn shutdown(env: Env) {
    close_all(env.raw() as EnvId);
}
