//! [`Registry`]: two opens of one directory in one process share one node.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::ClusterCore;

/// The place of one directory: locked while a node is opened or closed there.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Weak<ClusterCore>>>;

/// All directories that this process has opened.
pub(crate) struct Registry {
    pid: u32,
    slots: Mutex<HashMap<PathBuf, Slot>>,
    // After a fork the parent's nodes and locks are copies that nobody serves.
    child: OnceLock<Box<Registry>>,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();

impl Registry {
    fn new() -> Self {
        let slots = Mutex::new(HashMap::new());
        Registry { pid: std::process::id(), slots, child: OnceLock::new() }
    }

    /// The registry of the calling process.
    fn current() -> &'static Registry {
        let mut registry = REGISTRY.get_or_init(Registry::new);
        while registry.pid != std::process::id() {
            registry = registry.child.get_or_init(|| Box::new(Registry::new()));
        }
        registry
    }

    /// The slot of a directory, named by its canonical path.
    pub(crate) fn slot(path: PathBuf) -> Slot {
        let mut slots = Registry::current().slots.lock();
        // A slot that nobody holds and where nothing is open is as good as none.
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|core| core.strong_count() > 0)
        });
        slots.entry(path).or_default().clone()
    }
}
