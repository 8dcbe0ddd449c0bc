//! Frames over mutual TLS between nodes: the only folder that names rustls. Moves opaque requests
//! and responses; what they mean is decided in `consensus` and `cluster`.
