//! [`Registry`]: two opens of one directory in one process share one node.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use super::ClusterCore;

/// The place of one directory: locked while a node is opened or closed there.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Weak<ClusterCore>>>;

/// All directories that this process has opened.
pub(crate) struct Registry {
    slots: Mutex<HashMap<PathBuf, Slot>>,
}

static REGISTRY: LazyLock<Registry> =
    LazyLock::new(|| Registry { slots: Mutex::new(HashMap::new()) });

impl Registry {
    /// The slot of a directory, named by its canonical path.
    pub(crate) fn slot(path: PathBuf) -> Slot {
        let mut slots = REGISTRY.slots.lock();
        // A slot that nobody holds and where nothing is open is as good as none.
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot.try_lock().is_ok_and(|core| core.strong_count() > 0)
        });
        slots.entry(path).or_default().clone()
    }
}
