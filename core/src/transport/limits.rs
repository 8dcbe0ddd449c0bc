//! [`Limits`]: the deadlines and bounds of all connections of a server or client.

use std::time::Duration;

/// The deadlines and bounds of connections. The defaults suit nodes in one room as well as between regions.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// For TCP, TLS and the hello together, on the accepting side.
    pub hello: Duration,
    /// For TCP, TLS and the hello together, on the dialling side.
    pub connect: Duration,
    /// A side that has written nothing for this long writes a ping.
    pub keep_alive: Duration,
    /// A peer from which nothing came for this long is disconnected; several times `keep_alive`.
    pub silence: Duration,
    /// A peer that takes in not one byte for this long is disconnected.
    pub write: Duration,
    /// How long a shutdown waits for requests in flight.
    pub drain: Duration,
    /// The first pause before a failed connection is tried again; doubles, up to `max_back_off`.
    pub min_back_off: Duration,
    /// The longest pause before a failed connection is tried again.
    pub max_back_off: Duration,
    /// Connections whose hello has not been accepted yet.
    pub max_strangers: usize,
    /// Connections whose hello has been accepted.
    pub max_connections: usize,
    /// Frames that wait to be written, per connection.
    pub max_queued_frames: usize,
    /// Bytes that wait to be written, and bytes of requests being handled, per connection. At least
    /// the largest frame.
    pub max_queued_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hello: Duration::from_secs(5),
            connect: Duration::from_secs(3),
            keep_alive: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            write: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            min_back_off: Duration::from_millis(50),
            max_back_off: Duration::from_secs(1),
            max_strangers: 128,
            max_connections: 1024,
            max_queued_frames: 1024,
            max_queued_bytes: 64 * 1024 * 1024,
        }
    }
}
