//! [`Cancellation`]: for languages in which a cancelled task does not drop the call.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::config::Config;
use crate::node::{NativeNode, open_node};
use crate::operation::Result;

/// Ends one opening, which then closes again what it has begun to open. (Every other call detaches,
/// so there is nothing to tell it.)
#[derive(Default, uniffi::Object)]
pub struct Cancellation {
    cancelled: Notify,
}

#[uniffi::export]
impl Cancellation {
    /// For one opening.
    #[uniffi::constructor]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Cancels; before the opening begins, too.
    pub fn cancel(&self) {
        // Kept until it is waited for.
        self.cancelled.notify_one();
    }
}

/// Opens a node like `open_node`; none where it was cancelled first.
///
/// # Errors
/// As `open_node`.
#[uniffi::export]
pub async fn open_node_unless(
    config: Config,
    cancellation: Arc<Cancellation>,
) -> Result<Option<Arc<NativeNode>>> {
    tokio::select! {
        biased;
        node = open_node(config) => node.map(Some),
        () = cancellation.cancelled.notified() => Ok(None),
    }
}
