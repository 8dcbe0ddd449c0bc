//! What the binding owns once per process: the runtime, and the list of open nodes, which a process
//! that ends closes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use quorumlite::Node;
use tokio::runtime::{Builder, Runtime};

use crate::error::NativeError;

/// The longest time that [`close_all`] may be asked to wait.
const LONGEST: Duration = Duration::from_secs(60);

/// Never dropped: its threads end with the process.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());
static OPEN: LazyLock<Mutex<HashMap<u64, Node>>> = LazyLock::new(Mutex::default);
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// The runtime, started on first use.
///
/// # Errors
/// `Internal` where its threads cannot be started.
pub(crate) fn runtime() -> Result<&'static Runtime, NativeError> {
    let _guard = STARTING.lock();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .thread_name("quorumlite")
        .enable_all()
        .build()
        .map_err(|e| NativeError::threads(&e))?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// Notes an open node. The key is for [`forget`].
pub(crate) fn remember(node: Node) -> u64 {
    let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
    OPEN.lock().insert(key, node);
    key
}

/// Takes a node off the list; none where it was taken before.
pub(crate) fn forget(key: u64) -> Option<Node> {
    OPEN.lock().remove(&key)
}

/// The number of handles that are open in this process.
#[uniffi::export]
pub fn open_nodes() -> u64 {
    OPEN.lock().len() as u64
}

/// Closes every node that is open in this process; for its end. Blocks the calling thread, but not
/// longer than `seconds` (at most 60). Tells whether all were closed in time.
#[uniffi::export]
pub fn close_all(seconds: f64) -> bool {
    let bound = Duration::try_from_secs_f64(seconds).unwrap_or_default().min(LONGEST);
    let nodes: Vec<(u64, Node)> = OPEN.lock().iter().map(|(k, n)| (*k, n.clone())).collect();
    let Ok(runtime) = runtime() else { return nodes.is_empty() };
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
    all_done.recv_timeout(bound) == Err(mpsc::RecvTimeoutError::Disconnected)
}
