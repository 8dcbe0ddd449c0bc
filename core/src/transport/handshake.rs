//! The hello: TLS where it is used, then protocol version, cluster id and node id both ways, before
//! anything else. Nothing of a peer that fails here goes any further.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::connection::{FrameReader, Reader, Stream, Writer, split};
use super::tls::{is_not_tls, mismatch};
use super::wire::{
    Hello, HelloReply, MAGIC, MAX_HELLO, MIN_VERSION, VERSION, WireError, encode_hello,
};
use super::{Build, ClusterId, Lane, Local, Peer, Tls, same_build, same_cluster};
use crate::config::validate_node_id;
use crate::error::{Error, ErrorKind};

/// The first byte of every TLS handshake. Our own hello starts with 0: it is shorter than 2^24.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long a refused peer gets to read why.
const LINGER: Duration = Duration::from_millis(500);

/// An established connection.
pub(super) struct Established {
    pub reader: Reader,
    pub writer: Writer,
    pub peer: Peer,
}

/// Dials `address` and says hello. The caller sets the deadline.
///
/// # Errors
/// `Forbidden` where the peer or we refuse, `Unavailable` (`PEER_UNREACHABLE`) otherwise.
pub(super) async fn dial(
    address: &str,
    tls: Option<&Tls>,
    local: &dyn Local,
    lane: Lane,
) -> Result<Established, Error> {
    let tcp = TcpStream::connect(address).await.map_err(|e| unreachable(address, &e))?;
    // A connection without it works, only slower.
    let _ = tcp.set_nodelay(true);
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(tls) => {
            let name = tls.server_name(address)?;
            let connect = TlsConnector::from(tls.configs().client).connect(name, tcp);
            match connect.into_fallible().await {
                Ok(stream) => Box::new(stream),
                Err((e, tcp)) => {
                    let error = match tls.refusal(address, &e) {
                        Some(refusal) => refusal,
                        None if is_not_tls(&e) => mismatch(address, true),
                        None => unreachable(address, &e),
                    };
                    linger(tcp).await;
                    return Err(error);
                }
            }
        }
    };
    let (mut reader, mut writer) = split(stream, MAX_HELLO);
    // In TLS 1.3 the server looks at our certificate after our side of the handshake is done: its
    // refusal arrives here.
    let explain = |e: io::Error| match tls.and_then(|tls| tls.refusal(address, &e)) {
        Some(refusal) => refusal,
        None => unreachable(address, &e),
    };
    let build = local.build();
    let sent = send(
        &mut writer,
        &encode_hello(&Hello {
            magic: MAGIC,
            version: VERSION,
            min_version: MIN_VERSION,
            cluster_id: local.cluster_id().map(Vec::from).unwrap_or_default(),
            node_id: local.node_id(),
            lane: lane_number(lane),
            apply_level: build.apply_level,
            fingerprint: build.fingerprint,
        }),
    )
    .await;
    // The reason of a failed write, if there is one, is in what can be read.
    let reply = match reader.next(Duration::MAX).await {
        Ok(Some(reply)) => reply,
        Ok(None) => {
            let e = sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
            return Err(explain(e));
        }
        Err(e) => return Err(explain(e)),
    };
    let Some(reply) = HelloReply::decode(reply).ok().filter(|reply| reply.magic == MAGIC) else {
        return Err(not_quorumlite(address, &"it does not say hello"));
    };
    if let Some(refusal) = reply.refusal {
        let refusal = Error::from(refusal);
        if refusal.code() == "FORBIDDEN_VERSION" {
            local.other_build(&refusal);
        }
        return Err(refusal.context(format_args!("{address} refused this node")));
    }
    let version = common_version(reply.version, reply.min_version, address)?;
    let peer = Peer {
        node_id: node_id(reply.node_id, address)?,
        cluster_id: cluster_id(&reply.cluster_id, address)?,
        version,
        lane,
        build: Build { apply_level: reply.apply_level, fingerprint: reply.fingerprint },
    };
    same_cluster(local.cluster_id(), &peer)?;
    same_build(local, &peer)?;
    reader.set_max_frame(lane.max_frame());
    Ok(Established { reader, writer, peer })
}

/// Why an accepted connection did not become a peer.
pub(super) enum Rejected {
    /// A node that may not take part; it was told why.
    Refused(Error),
    /// No node at all: a port scan, garbage, a connection that went away.
    Stranger(io::Error),
}

impl From<io::Error> for Rejected {
    fn from(e: io::Error) -> Self {
        Rejected::Stranger(e)
    }
}

/// Hears the hello of an accepted connection, takes one of the `places` and answers. The caller sets
/// the deadline.
pub(super) async fn accept(
    tcp: TcpStream,
    address: &str,
    tls: Option<&Tls>,
    local: &dyn Local,
    places: &Arc<Semaphore>,
) -> Result<(Established, OwnedSemaphorePermit), Rejected> {
    // A connection without it works, only slower.
    let _ = tcp.set_nodelay(true);
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let stream: Box<dyn Stream> = match tls {
        None if first[0] == TLS_HANDSHAKE => return Err(refuse_mismatch(tcp, address, false).await),
        None => Box::new(tcp),
        Some(_) if first[0] != TLS_HANDSHAKE => {
            return Err(refuse_mismatch(tcp, address, true).await);
        }
        Some(tls) => {
            let accept = TlsAcceptor::from(tls.configs().server).accept(tcp);
            match accept.into_fallible().await {
                Ok(stream) => Box::new(stream),
                Err((e, tcp)) => {
                    linger(tcp).await;
                    return Err(match tls.refusal(address, &e) {
                        Some(refusal) => Rejected::Refused(refusal),
                        None => Rejected::Stranger(e),
                    });
                }
            }
        }
    };
    let (mut reader, mut writer) = split(stream, MAX_HELLO);
    let hello = match reader.next(Duration::MAX).await {
        Ok(Some(hello)) => hello,
        Ok(None) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        Err(e) => {
            // A client that does not like our certificate says so at our first read.
            return Err(match tls.and_then(|tls| tls.refusal(address, &e)) {
                Some(refusal) => Rejected::Refused(refusal),
                None => Rejected::Stranger(e),
            });
        }
    };
    let Some(hello) = Hello::decode(hello).ok().filter(|hello| hello.magic == MAGIC) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not say hello").into());
    };
    let checked = check(hello, address, local).and_then(|peer| {
        let place = places.clone().try_acquire_owned().map_err(|_| too_many())?;
        Ok((peer, place))
    });
    let refusal = checked.as_ref().err().map(WireError::from);
    send(&mut writer, &encode_hello(&reply(local, refusal))).await?;
    match checked {
        Ok((peer, place)) => {
            reader.set_max_frame(peer.lane.max_frame());
            Ok((Established { reader, writer, peer }, place))
        }
        Err(refusal) => {
            let _ = writer.shutdown().await;
            reader.drain(LINGER).await;
            Err(Rejected::Refused(refusal))
        }
    }
}

fn check(hello: Hello, address: &str, local: &dyn Local) -> Result<Peer, Error> {
    let version = common_version(hello.version, hello.min_version, address)?;
    let lane = match hello.lane {
        1 => Lane::Control,
        2 => Lane::Data,
        3 => Lane::Bulk,
        other => return Err(protocol(format!("{address} asks for the unknown lane {other}"))),
    };
    let peer = Peer {
        node_id: node_id(hello.node_id, address)?,
        cluster_id: cluster_id(&hello.cluster_id, address)?,
        version,
        lane,
        build: Build { apply_level: hello.apply_level, fingerprint: hello.fingerprint },
    };
    local.admit(&peer)?;
    same_build(local, &peer)?;
    Ok(peer)
}

fn lane_number(lane: Lane) -> u32 {
    match lane {
        Lane::Control => 1,
        Lane::Data => 2,
        Lane::Bulk => 3,
    }
}

fn reply(local: &dyn Local, refusal: Option<WireError>) -> HelloReply {
    let build = local.build();
    HelloReply {
        apply_level: build.apply_level,
        fingerprint: build.fingerprint,
        magic: MAGIC,
        version: VERSION,
        min_version: MIN_VERSION,
        cluster_id: local.cluster_id().map(Vec::from).unwrap_or_default(),
        node_id: local.node_id(),
        refusal,
    }
}

/// One side speaks TLS, the other does not: tell the peer in plain words. A plain peer reads them, a
/// TLS peer sees that they are not TLS.
async fn refuse_mismatch(tcp: TcpStream, address: &str, we_use_tls: bool) -> Rejected {
    let (reader, mut writer) = tokio::io::split(tcp);
    let mut reader = FrameReader::new(reader, MAX_HELLO);
    if we_use_tls {
        // Only what says hello is a node.
        match reader.next(Duration::MAX).await {
            Ok(Some(hello)) if Hello::decode(hello.clone()).is_ok_and(|h| h.magic == MAGIC) => {}
            Ok(_) => return Rejected::Stranger(io::ErrorKind::InvalidData.into()),
            Err(e) => return Rejected::Stranger(e),
        }
    }
    // In the words of the peer: it reads this, and it is the one on the other side.
    let told = Error::new(
        ErrorKind::Forbidden,
        "FORBIDDEN_TLS_MISMATCH",
        if we_use_tls {
            "it uses TLS but this node has no secret or certificates; give this node those of \
             the cluster"
        } else {
            "it does not use TLS but this node does; give every node of the cluster the same secret"
        },
    );
    let reply = HelloReply {
        magic: MAGIC,
        version: VERSION,
        min_version: MIN_VERSION,
        cluster_id: Vec::new(),
        node_id: String::new(),
        refusal: Some(WireError::from(&told)),
        ..Default::default()
    };
    if send(&mut writer, &encode_hello(&reply)).await.is_ok() {
        let _ = writer.shutdown().await;
        reader.drain(LINGER).await;
    }
    Rejected::Refused(mismatch(address, we_use_tls))
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// Ends a failed TLS handshake so that the alert which says why reaches the peer.
async fn linger(mut tcp: TcpStream) {
    let _ = tcp.shutdown().await;
    let mut sink = [0; 4096];
    let _ = tokio::time::timeout(LINGER, async {
        while matches!(tcp.read(&mut sink).await, Ok(n) if n > 0) {}
    })
    .await;
}

fn common_version(theirs: u32, their_min: u32, address: &str) -> Result<u32, Error> {
    let version = VERSION.min(theirs);
    if version < MIN_VERSION || version < their_min {
        return Err(protocol(format!(
            "{address} speaks the protocol versions {their_min} to {theirs}, this node {MIN_VERSION} \
             to {VERSION}; upgrade one release at a time"
        )));
    }
    Ok(version)
}

fn node_id(id: String, address: &str) -> Result<String, Error> {
    match validate_node_id(&id) {
        Ok(()) => Ok(id),
        Err(_) => Err(protocol(format!("{address} gave a malformed node id"))),
    }
}

fn cluster_id(id: &[u8], address: &str) -> Result<Option<ClusterId>, Error> {
    if id.is_empty() {
        return Ok(None);
    }
    match ClusterId::try_from(id) {
        Ok(id) => Ok(Some(id)),
        Err(_) => Err(protocol(format!("{address} gave a malformed cluster id"))),
    }
}

fn too_many() -> Error {
    Error::new(
        ErrorKind::Busy,
        "TOO_MANY_CONNECTIONS",
        "the node has as many connections as it accepts; try again later",
    )
}

fn protocol(message: String) -> Error {
    Error::new(ErrorKind::Forbidden, "FORBIDDEN_PROTOCOL", message)
}

fn not_quorumlite(address: &str, why: &dyn std::fmt::Display) -> Error {
    protocol(format!(
        "what listens at {address} is not a quorumlite node ({why}); check the address"
    ))
}

pub(super) fn unreachable(address: &str, error: &io::Error) -> Error {
    let what = match error.kind() {
        // Length limits and TLS say this of bytes that are not ours.
        io::ErrorKind::InvalidData => return not_quorumlite(address, error),
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => error.to_string(),
    };
    let what = what.trim_end_matches('.');
    Error::new(
        ErrorKind::Unavailable,
        "PEER_UNREACHABLE",
        format!("{address} cannot be reached ({what}); check that the node there runs"),
    )
}
