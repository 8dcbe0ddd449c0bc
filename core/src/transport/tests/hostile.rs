//! Whatever comes to the port stops nobody and reaches no handler.

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::connection::FrameReader;
use super::super::wire::{Frame, FrameKind, Hello, HelloReply, MAGIC, encode_hello};
use super::*;

fn hello(lane: u32) -> Vec<u8> {
    let hello = Hello {
        magic: MAGIC,
        version: 1,
        min_version: 1,
        cluster_id: Vec::new(),
        node_id: "raw".to_owned(),
        lane,
        ..Default::default()
    };
    encode_hello(&hello).to_vec()
}

fn request(id: u64, method: u32, body: Bytes) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    let body = Frame::request(id, method, body).encode_head(&mut bytes);
    bytes.extend_from_slice(&body);
    bytes.to_vec()
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.local_addr()).await.unwrap()
}

/// A raw connection whose hello was accepted.
async fn introduced(server: &Server) -> TcpStream {
    let mut tcp = connect(server).await;
    tcp.write_all(&hello(2)).await.unwrap();
    let mut length = [0; 4];
    soon("hello reply", tcp.read_exact(&mut length)).await.unwrap();
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    soon("hello reply", tcp.read_exact(&mut reply)).await.unwrap();
    assert_eq!(HelloReply::decode(&reply[..]).unwrap().refusal, None);
    tcp
}

/// Accepts a connection as node "n1" does, up to and including the hello.
async fn accept_by_hand(listener: &TcpListener) -> TcpStream {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut reader = FrameReader::new(&mut tcp, 1 << 16);
    reader.next(FAILED).await.unwrap().unwrap();
    let reply = HelloReply {
        magic: MAGIC,
        version: 1,
        min_version: 1,
        cluster_id: Vec::new(),
        node_id: "n1".to_owned(),
        refusal: None,
        ..Default::default()
    };
    tcp.write_all(&encode_hello(&reply)).await.unwrap();
    tcp
}

/// Waits until the server has closed the connection.
async fn closed(tcp: &mut TcpStream) {
    let mut sink = [0; 1024];
    let end = async { while matches!(tcp.read(&mut sink).await, Ok(n) if n > 0) {} };
    soon("the server closes the connection", end).await;
}

#[tokio::test]
async fn garbage_changes_nothing() {
    for tls in [None, secret("s")] {
        let probe = probe();
        let server = serve_with(tls.clone(), node("n1"), &probe, hasty()).await;
        let client = client(tls);
        let garbage: [&[u8]; 8] = [
            b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
            b"\0",
            b"\0\0\0\0",
            b"\0\0\0\x05hello",
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03garbage",
            &[0x16; 4096],
            &[0; 100_000],
        ];
        let mut connections = Vec::new();
        for bytes in garbage {
            let mut tcp = connect(&server).await;
            // The server may have closed before all is written.
            let _ = tcp.write_all(bytes).await;
            connections.push(tcp);
        }
        assert_serves(&client, server.local_addr()).await;
        for mut tcp in connections {
            closed(&mut tcp).await;
        }
        assert_serves(&client, server.local_addr()).await;
        assert_eq!(*probe.order.lock(), [4711, 4711]);
    }
}

#[tokio::test]
async fn garbage_after_the_hello_closes_that_connection_alone() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let client = client(None);
    assert_serves(&client, server.local_addr()).await;
    let oversize = (33_u32 * 1024 * 1024).to_be_bytes();
    let mut answer = bytes::BytesMut::new();
    Frame::response(0, Ok(Bytes::new())).encode_head(&mut answer);
    let garbage: [&[u8]; 4] =
        [&oversize, b"\xff\xff\xff\xff", b"\0\0\0\x04\xff\xff\xff\xff", &answer];
    for bytes in garbage {
        let mut tcp = introduced(&server).await;
        tcp.write_all(bytes).await.unwrap();
        closed(&mut tcp).await;
        assert_serves(&client, server.local_addr()).await;
    }
    assert_eq!(probe.order.lock().len(), 5);
}

#[tokio::test]
async fn nothing_before_the_hello_reaches_the_handler() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let mut tcp = connect(&server).await;
    tcp.write_all(&request(1, ECHO, numbered(1))).await.unwrap();
    closed(&mut tcp).await;
    // A hello that is refused, with a request right behind it.
    let mut tcp = connect(&server).await;
    let mut bytes = hello(99);
    bytes.extend(request(1, ECHO, numbered(1)));
    tcp.write_all(&bytes).await.unwrap();
    closed(&mut tcp).await;
    assert_serves(&client(None), server.local_addr()).await;
    assert_eq!(*probe.order.lock(), [4711]);
}

#[tokio::test]
async fn malformed_hellos_are_refused_with_a_reason() {
    let server = serve(None, node("n1"), &probe()).await;
    let good = Hello {
        magic: MAGIC,
        version: 1,
        min_version: 1,
        cluster_id: Vec::new(),
        node_id: "raw".to_owned(),
        lane: 1,
        ..Default::default()
    };
    let bad = [
        Hello { lane: 0, ..good.clone() },
        Hello { version: 0, ..good.clone() },
        Hello { version: 9, min_version: 2, ..good.clone() },
        Hello { node_id: "a b\n".to_owned(), ..good.clone() },
        Hello { node_id: String::new(), ..good.clone() },
        Hello { cluster_id: vec![1; 15], ..good.clone() },
    ];
    for hello in bad {
        let mut tcp = connect(&server).await;
        tcp.write_all(&encode_hello(&hello)).await.unwrap();
        let mut reader = FrameReader::new(&mut tcp, 1 << 16);
        let reply = soon("refusal", reader.next(FAILED)).await.unwrap().unwrap();
        let refusal = HelloReply::decode(reply).unwrap().refusal.unwrap();
        assert_eq!(refusal.code, "FORBIDDEN_PROTOCOL", "{hello:?}");
        closed(&mut tcp).await;
    }
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_understood() {
    let server = serve(None, node("n1"), &probe()).await;
    let mut tcp = connect(&server).await;
    tcp.set_nodelay(true).unwrap();
    for byte in hello(2) {
        tcp.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut reader = FrameReader::new(&mut tcp, 1 << 16);
    let reply = soon("reply", reader.next(FAILED)).await.unwrap().unwrap();
    assert_eq!(HelloReply::decode(reply).unwrap().refusal, None);
}

#[tokio::test]
async fn a_hello_that_never_ends_is_cut_off() {
    for tls in [None, secret("s")] {
        let server = serve_with(tls.clone(), node("n1"), &probe(), hasty()).await;
        let whole = hello(2);
        let mut waiting = Vec::new();
        for length in [0, 1, 3, 4, whole.len() - 1] {
            let mut tcp = connect(&server).await;
            tcp.write_all(&whole[..length]).await.unwrap();
            waiting.push(tcp);
        }
        let mut tcp = connect(&server).await;
        tcp.write_all(b"\x16\x03\x01").await.unwrap();
        waiting.push(tcp);
        assert_serves(&client(tls), server.local_addr()).await;
        for mut tcp in waiting {
            closed(&mut tcp).await;
        }
    }
}

#[tokio::test]
async fn connections_without_a_hello_are_bounded() {
    let limits = Limits { max_strangers: 2, ..Limits::default() };
    let server = serve_with(None, node("n1"), &probe(), limits).await;
    let first = connect(&server).await;
    let second = connect(&server).await;
    // Accepted in order, so the first two hold the places.
    closed(&mut connect(&server).await).await;
    drop((first, second));
    let client = client(None);
    let back =
        async { while call(&client, server.local_addr(), ECHO, Bytes::new()).await.is_err() {} };
    soon("places are free again", back).await;
}

#[tokio::test]
async fn a_connection_that_has_said_hello_makes_room_for_the_next() {
    let limits = Limits { max_strangers: 1, ..Limits::default() };
    let server = serve_with(None, node("n1"), &probe(), limits).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let client = client(None);
        // The place is given back just after the reply to the hello before.
        let served = async {
            while call(&client, server.local_addr(), ECHO, Bytes::new()).await.is_err() {}
        };
        soon("the next connection is served", served).await;
        open.push(client);
    }
}

#[tokio::test]
async fn established_connections_are_bounded() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let server = serve_with(None, node("n1"), &probe(), limits).await;
    let first = introduced(&server).await;
    let client = client(None);
    let error = not_sent(call(&client, server.local_addr(), ECHO, Bytes::new()).await);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "TOO_MANY_CONNECTIONS"));
    drop(first);
    let back =
        async { while call(&client, server.local_addr(), ECHO, Bytes::new()).await.is_err() {} };
    soon("the place is free again", back).await;
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_by_the_server() {
    let server = serve_with(None, node("n1"), &probe(), hasty()).await;
    // It stays connected and says nothing, not even a ping.
    let mut silent = introduced(&server).await;
    // In the middle of a frame too.
    let mut stuck = introduced(&server).await;
    stuck.write_all(&request(1, ECHO, numbered(1))[..9]).await.unwrap();
    closed(&mut silent).await;
    closed(&mut stuck).await;
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_by_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = Client::with_limits(None, node("client"), hasty());
    let accepted = accept_by_hand(&listener);
    let call = client.call(&address, None, Lane::Data, ECHO, Bytes::new(), FAILED * 2);
    let (result, _tcp) = soon("the call ends", async { tokio::join!(call, accepted) }).await;
    match result {
        Err(CallError::Lost(e)) => assert_eq!(e.code(), "PEER_LOST"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_is_disconnected_and_blocks_nobody() {
    let probe = probe();
    let server = serve_with(None, node("n1"), &probe, hasty()).await;
    let client = client(None);
    let mut deaf = introduced(&server).await;
    // Far more than the sockets' buffers hold, so that responses must queue.
    for id in 0..100 {
        deaf.write_all(&request(id, SIZED, numbered(1024 * 1024))).await.unwrap();
    }
    // All responses that were not written are dropped with their connection.
    let mut received = 0;
    let disconnected = async {
        // It goes on sending pings, so that only its deafness can end the connection.
        let ping = request_ping();
        while deaf.write_all(&ping).await.is_ok() {
            assert_serves(&client, server.local_addr()).await;
        }
        let mut sink = vec![0; 1 << 16];
        while let Ok(n @ 1..) = deaf.read(&mut sink).await {
            received += n;
        }
    };
    soon("the deaf peer is disconnected", disconnected).await;
    assert!(received < 100 * 1024 * 1024, "{received}");
    assert_serves(&client, server.local_addr()).await;
}

fn request_ping() -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    Frame::ping().encode_head(&mut bytes);
    bytes.to_vec()
}

#[tokio::test]
async fn a_client_survives_servers_that_talk_nonsense() {
    let answers: [&[u8]; 5] =
        [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x02\xff\xff", b"\0\0\0\0", &[0xff; 64]];
    for tls in [None, secret("s")] {
        for answer in answers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let client = client(tls.clone());
            let serve = async {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let _ = tcp.read(&mut [0; 1024]).await;
                let _ = tcp.write_all(answer).await;
                let _ = tcp.shutdown().await;
                closed(&mut tcp).await;
            };
            let hello = async { client.hello(&address, FAILED).await };
            let (result, ()) = soon("hello", async { tokio::join!(hello, serve) }).await;
            let error = not_sent(result);
            assert!(
                ["FORBIDDEN_PROTOCOL", "PEER_UNREACHABLE", "FORBIDDEN_TLS_MISMATCH"]
                    .contains(&error.code()),
                "{error:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for tls in [None, secret("s")] {
        let client = client(tls);
        let short = Duration::from_millis(200);
        let call = client.call(&address, None, Lane::Data, ECHO, Bytes::new(), short);
        assert_eq!(not_sent(soon("call", call).await).code(), "PEER_UNREACHABLE");
        let hello = client.hello(&address, short);
        assert_eq!(not_sent(soon("hello", hello).await).code(), "PEER_UNREACHABLE");
    }
}

#[tokio::test]
async fn a_nonsense_frame_ends_the_connection_of_the_client_not_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = client(None);
    let serve = async {
        let mut tcp = accept_by_hand(&listener).await;
        let mut reader = FrameReader::new(&mut tcp, 1 << 16);
        let frame = reader.next_frame(FAILED).await.unwrap().unwrap();
        assert_eq!(frame.kind(), FrameKind::Request);
        // An answer to a question that was never asked is ignored; a request is out of place.
        let mut bytes = bytes::BytesMut::new();
        Frame::response(frame.id + 1000, Ok(Bytes::new())).encode_head(&mut bytes);
        bytes.extend_from_slice(&request(1, ECHO, numbered(1)));
        tcp.write_all(&bytes).await.unwrap();
        closed(&mut tcp).await;
    };
    let call = client.call(&address, None, Lane::Data, ECHO, numbered(1), FAILED);
    let (result, ()) = soon("call", async { tokio::join!(call, serve) }).await;
    assert!(matches!(result, Err(CallError::Lost(_))), "{result:?}");
}

#[tokio::test]
async fn requests_that_were_not_written_are_told_apart_from_lost_ones() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = client(None);
    let body = Bytes::from(vec![0; 256 * 1024]);
    // Far more than the sockets' buffers and one batch of the writer hold.
    let send_all = async {
        let mut pending = Vec::new();
        for _ in 0..240 {
            let send = client.send(&address, None, Lane::Data, ECHO, body.clone(), FAILED);
            pending.push(send.await.unwrap());
        }
        pending
    };
    let sent = async { tokio::join!(send_all, accept_by_hand(&listener)) };
    let (mut pending, mut tcp) = soon("sending", sent).await;
    // The writer is at work: the first request arrives.
    let mut byte = [0];
    soon("the first request", tcp.read_exact(&mut byte)).await.unwrap();
    drop(tcp);
    let last = soon("the last call", pending.pop().unwrap().wait()).await;
    assert_eq!(not_sent(last).code(), "PEER_LOST");
    let first = soon("the first call", pending.remove(0).wait()).await;
    assert!(matches!(first, Err(CallError::Lost(_))), "{first:?}");
    for pending in pending {
        assert!(soon("the others", pending.wait()).await.is_err());
    }
}
