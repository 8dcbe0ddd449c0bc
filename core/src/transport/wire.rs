//! The bytes on the wire: every message is a big-endian `u32` length, then that many bytes of
//! protobuf. A connection carries one [`Hello`], one [`HelloReply`], then [`Frame`]s both ways.
//!
//! Fields are only ever added, with new tags; a change that an older node would misunderstand raises
//! [`VERSION`], and [`MIN_VERSION`] follows one release later.

use std::mem;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::error::{Error, ErrorKind};

/// The newest protocol version that this build speaks.
pub(super) const VERSION: u32 = 1;
/// The oldest protocol version that this build speaks.
pub(super) const MIN_VERSION: u32 = 1;
/// "QLTP": the first field of each hello, so that another protocol is recognised as such.
pub(super) const MAGIC: u32 = 0x514C_5450;
/// The longest accepted hello, in bytes.
pub(super) const MAX_HELLO: usize = 64 * 1024;
/// Room for everything of a frame that is not its body.
pub(super) const MAX_HEAD: usize = 128 * 1024;
/// Longer texts of errors are cut, so that an error always fits beside an empty body.
const MAX_TEXT: usize = 32 * 1024;

/// The first message of the dialling side.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hello {
    #[prost(fixed32, tag = "1")]
    pub magic: u32,
    #[prost(uint32, tag = "2")]
    pub version: u32,
    #[prost(uint32, tag = "3")]
    pub min_version: u32,
    /// 16 bytes, or none while the cluster is unknown.
    #[prost(bytes = "vec", tag = "4")]
    pub cluster_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub node_id: String,
    #[prost(uint32, tag = "6")]
    pub lane: u32,
    /// See [`Build`](super::Build); absent from versions that did not say.
    #[prost(uint32, tag = "7")]
    pub apply_level: u32,
    #[prost(string, tag = "8")]
    pub fingerprint: String,
}

/// The first message of the accepting side. With a refusal it is also the last.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HelloReply {
    #[prost(fixed32, tag = "1")]
    pub magic: u32,
    #[prost(uint32, tag = "2")]
    pub version: u32,
    #[prost(uint32, tag = "3")]
    pub min_version: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub cluster_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub node_id: String,
    #[prost(message, optional, tag = "6")]
    pub refusal: Option<WireError>,
    #[prost(uint32, tag = "7")]
    pub apply_level: u32,
    #[prost(string, tag = "8")]
    pub fingerprint: String,
}

/// An [`Error`] in transit.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WireError {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub code: String,
    #[prost(string, tag = "3")]
    pub message: String,
    #[prost(bool, tag = "4")]
    pub retryable: bool,
    #[prost(string, optional, tag = "5")]
    pub leader: Option<String>,
    #[prost(sint32, optional, tag = "6")]
    pub sqlite_code: Option<i32>,
    /// The log index at which a write was refused; older nodes do not tell.
    #[prost(uint64, optional, tag = "7")]
    pub index: Option<u64>,
}

/// What a [`Frame`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum FrameKind {
    /// Not a frame of this version.
    Unknown = 0,
    /// A question; its id is new on this connection.
    Request = 1,
    /// The answer to the request with this id: a body, or an error of the handler.
    Response = 2,
    /// Sign of life of a side that has nothing else to write; not answered.
    Ping = 3,
    /// The request with this id was not handed to the handler, and why.
    Refused = 4,
}

/// One message after the hello.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Frame {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "FrameKind", tag = "2")]
    pub kind: i32,
    #[prost(uint32, tag = "3")]
    pub method: u32,
    #[prost(message, optional, tag = "4")]
    pub error: Option<WireError>,
    /// The last field, so that it can be written without being copied behind the others.
    #[prost(bytes = "bytes", tag = "5")]
    pub body: Bytes,
}

/// Field 5, length-delimited.
const BODY_KEY: u8 = (5 << 3) | 2;

impl Frame {
    pub(super) fn request(id: u64, method: u32, body: Bytes) -> Self {
        Frame { id, kind: FrameKind::Request as i32, method, error: None, body }
    }

    pub(super) fn response(id: u64, result: Result<Bytes, Error>) -> Self {
        let (error, body) = match result {
            Ok(body) => (None, body),
            Err(error) => (Some(WireError::from(&error)), Bytes::new()),
        };
        Frame { id, kind: FrameKind::Response as i32, method: 0, error, body }
    }

    pub(super) fn refused(id: u64, error: &Error) -> Self {
        let error = Some(WireError::from(error));
        Frame { id, kind: FrameKind::Refused as i32, method: 0, error, body: Bytes::new() }
    }

    pub(super) fn ping() -> Self {
        Frame { id: 0, kind: FrameKind::Ping as i32, method: 0, error: None, body: Bytes::new() }
    }

    /// Appends the length and everything before the content of the body to `buf`, and returns the
    /// body, which must be written next. Together they are the encoding of the whole frame.
    pub(super) fn encode_head(mut self, buf: &mut BytesMut) -> Bytes {
        let body = mem::take(&mut self.body);
        let mut len = self.encoded_len();
        if !body.is_empty() {
            len += 1 + prost::length_delimiter_len(body.len()) + body.len();
        }
        // Bodies are bounded by `Lane::max_body` before they get here.
        buf.put_u32(len as u32);
        self.encode_raw(buf);
        if !body.is_empty() {
            buf.put_u8(BODY_KEY);
            prost::encoding::encode_varint(body.len() as u64, buf);
        }
        body
    }
}

/// A hello or its reply with its length in front.
pub(super) fn encode_hello(message: &impl Message) -> BytesMut {
    let len = message.encoded_len();
    let mut buf = BytesMut::with_capacity(4 + len);
    buf.put_u32(len as u32);
    message.encode_raw(&mut buf);
    buf
}

impl From<&Error> for WireError {
    fn from(error: &Error) -> Self {
        WireError {
            kind: error.kind().as_str().to_owned(),
            code: cut(error.code(), 128),
            message: cut(error.message(), MAX_TEXT),
            retryable: error.retryable(),
            leader: error.leader().map(|leader| cut(leader, 128)),
            sqlite_code: error.sqlite_code(),
            index: error.index(),
        }
    }
}

impl From<WireError> for Error {
    fn from(wire: WireError) -> Self {
        // A kind that only newer nodes know: the code still tells them apart.
        let kind = ErrorKind::from_name(&wire.kind).unwrap_or(ErrorKind::Unavailable);
        let mut error = Error::new(kind, wire.code, wire.message)
            .with_retryable(wire.retryable)
            .with_leader(wire.leader);
        if let Some(code) = wire.sqlite_code {
            error = error.with_sqlite_code(code);
        }
        if let Some(index) = wire.index {
            error = error.with_index(index);
        }
        error
    }
}

fn cut(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
