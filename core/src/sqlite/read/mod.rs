//! Reading: a pool of connections that answer queries beside the writer, and who may use them when.

pub(super) mod queue;
pub(super) mod readers;
mod running;
pub(super) mod stream;
