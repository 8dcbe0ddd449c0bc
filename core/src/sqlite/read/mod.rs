//! Reading: a pool of connections that answer queries beside the writer.

pub(super) mod readers;
