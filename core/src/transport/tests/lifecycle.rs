//! Connections that come, go and come back; starting and stopping.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::super::server::accept_loop;
use super::*;

#[tokio::test]
async fn a_client_reconnects_to_a_server_that_came_back_on_the_same_port() {
    let first = serve(secret("s"), node("n1"), &probe()).await;
    let address = first.local_addr();
    let client = client(secret("s"));
    assert_serves(&client, address).await;
    first.shutdown().await;
    let error = not_sent(
        client
            .call(
                &address.to_string(),
                None,
                Lane::Data,
                ECHO,
                Bytes::new(),
                Duration::from_secs(2),
            )
            .await,
    );
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "PEER_UNREACHABLE"));
    let handler = Arc::new(ProbeHandler(probe()));
    let second =
        Server::bind(&address.to_string(), secret("s"), node("n1"), handler).await.unwrap();
    let back = async {
        while call(&client, address, ECHO, Bytes::new()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("reconnect", back).await;
    second.shutdown().await;
}

#[tokio::test]
async fn calls_in_flight_are_lost_when_the_server_dies() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(None);
    let send = client.send(&address, None, Lane::Data, HOLD, Bytes::new(), FAILED);
    let pending = soon("send", send).await.unwrap();
    probe.arrived(1).await;
    drop(server);
    match soon("wait", pending.wait()).await {
        Err(CallError::Lost(e)) => assert_eq!(e.code(), "PEER_LOST"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn shutdown_lets_requests_in_flight_finish_and_refuses_new_ones() {
    let probe = probe();
    let server = Arc::new(serve(None, node("n1"), &probe).await);
    let address = server.local_addr().to_string();
    let client = client(None);
    let send = client.send(&address, None, Lane::Data, HOLD, numbered(5), FAILED);
    let pending = soon("send", send).await.unwrap();
    probe.arrived(1).await;
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    // As long as it still takes requests the server is not stopping yet.
    let refused = async {
        loop {
            match call(&client, server.local_addr(), ECHO, Bytes::new()).await {
                Ok(_) => {}
                result => return not_sent(result),
            }
        }
    };
    assert_eq!(soon("refusal", refused).await.code(), "SHUTTING_DOWN");
    probe.gate.add_permits(1);
    assert_eq!(number(&soon("answer", pending.wait()).await.unwrap()), 5);
    soon("shutdown", stopping).await.unwrap();
}

#[tokio::test]
async fn shutdown_is_bounded_when_requests_never_finish() {
    let probe = probe();
    let server = serve(secret("s"), node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(secret("s"));
    let send = client.send(&address, None, Lane::Data, HOLD, Bytes::new(), FAILED);
    let pending = soon("send", send).await.unwrap();
    probe.arrived(1).await;
    let started = Instant::now();
    server.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(matches!(soon("wait", pending.wait()).await, Err(CallError::Lost(_))));
    // Again is harmless.
    server.shutdown().await;
}

#[tokio::test]
async fn shutdown_of_an_idle_server_and_client_is_immediate() {
    let server = serve(secret("s"), node("n1"), &probe()).await;
    let client = client(secret("s"));
    assert_serves(&client, server.local_addr()).await;
    let started = Instant::now();
    client.shutdown().await;
    server.shutdown().await;
    // Well below the drain time that a stuck connection would take.
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    let error = not_sent(call(&client, server.local_addr(), ECHO, Bytes::new()).await);
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn shutdown_of_the_client_ends_its_calls() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(None);
    let send = client.send(&address, None, Lane::Data, HOLD, Bytes::new(), FAILED);
    let pending = soon("send", send).await.unwrap();
    probe.arrived(1).await;
    client.shutdown().await;
    assert!(matches!(soon("wait", pending.wait()).await, Err(CallError::Lost(_))));
}

#[tokio::test]
async fn an_unreachable_peer_is_not_sent_to() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let client = client(None);
    for _ in 0..3 {
        let error = not_sent(call(&client, address, ECHO, Bytes::new()).await);
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "PEER_UNREACHABLE"));
        assert!(error.message().contains(&address.to_string()));
    }
    for address in ["nonsense", "", "127.0.0.1:", "[::1", "no-such-host.invalid:1"] {
        let call = client.call(address, None, Lane::Data, ECHO, Bytes::new(), FAILED);
        not_sent(soon("bad address", call).await);
        not_sent(soon("bad address", client.hello(address, FAILED)).await);
    }
}

#[tokio::test]
async fn an_address_in_use_or_elsewhere_is_a_config_error() {
    let server = serve(None, node("n1"), &probe()).await;
    let bind = |address: String| async move {
        let handler = Arc::new(ProbeHandler(probe()));
        Server::bind(&address, None, node("n2"), handler).await.err().unwrap()
    };
    let address = server.local_addr().to_string();
    let error = bind(address.clone()).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Config, "CONFIG_ADDRESS_IN_USE"));
    assert!(error.message().contains(&address));
    // 192.0.2.0/24 is reserved for documentation: no machine has it.
    for address in ["192.0.2.1:7001", "nonsense", "127.0.0.1:99999"] {
        let error = bind(address.to_owned()).await;
        assert_eq!((error.kind(), error.code()), (ErrorKind::Config, "CONFIG_ADDRESS"));
    }
}

#[tokio::test]
async fn hello_tells_what_the_peer_says_now() {
    let joining = node("n1");
    let server = serve(None, joining.clone(), &probe()).await;
    let address = server.local_addr().to_string();
    let client = client(None);
    assert_serves(&client, server.local_addr()).await;
    let peer = soon("hello", client.hello(&address, FAILED)).await.unwrap();
    assert_eq!((peer.node_id.as_str(), peer.cluster_id, peer.version), ("n1", None, 1));
    *joining.cluster.lock() = Some([9; 16]);
    let peer = soon("hello", client.hello(&address, FAILED)).await.unwrap();
    assert_eq!(peer.cluster_id, Some([9; 16]));
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive_by_pings() {
    let limits = hasty();
    let probe = probe();
    let server = serve_with(None, node("n1"), &probe, limits.clone()).await;
    let address = server.local_addr().to_string();
    let client = Client::with_limits(None, node("client"), limits);
    // Held for several times the silence that would end the connection without pings.
    let held = client.send(&address, None, Lane::Data, HOLD, Bytes::new(), FAILED);
    let held = soon("send", held).await.unwrap();
    let mut held = std::pin::pin!(held.wait());
    let idle = tokio::time::timeout(hasty().silence * 3, &mut held).await;
    assert!(idle.is_err(), "{idle:?}");
    probe.gate.add_permits(1);
    soon("answer", held).await.unwrap();
}

#[tokio::test]
async fn accepting_goes_on_after_the_process_ran_out_of_descriptors() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let failures = AtomicUsize::new(0);
    let served = AtomicBool::new(false);
    let accept = || async {
        const EMFILE: i32 = 24;
        match failures.fetch_add(1, Ordering::SeqCst) {
            0..4 => Err(std::io::Error::from_raw_os_error(EMFILE)),
            4 => Err(std::io::ErrorKind::ConnectionAborted.into()),
            _ => listener.accept().await,
        }
    };
    let (done, wait) = watch::channel(());
    let accepting = accept_loop(accept, |_, _| {
        served.store(true, Ordering::SeqCst);
        let _ = done.send(());
    });
    let mut wait = wait;
    let connect = async {
        let _tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        wait.changed().await.unwrap();
    };
    tokio::select! {
        () = accepting => unreachable!("it accepts for ever"),
        () = soon("accept", connect) => {}
    }
    assert!(served.load(Ordering::SeqCst));
    assert!(failures.load(Ordering::SeqCst) >= 6);
}

#[tokio::test]
async fn requests_that_are_only_for_their_answer_end_with_their_connection() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let leaving = client(None);
    for method in [HOLD, ASK] {
        let send = leaving.send(&address, None, Lane::Data, method, Bytes::new(), FAILED);
        let _pending = soon("send", send).await.unwrap();
    }
    probe.arrived(2).await;
    assert_eq!(probe.running.load(Ordering::SeqCst), 2);
    drop(leaving);
    let ended = async {
        while probe.running.load(Ordering::SeqCst) == 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of one", ended).await;
    // The other one goes on: it may be a write.
    assert_eq!(probe.running.load(Ordering::SeqCst), 1);
    probe.gate.add_permits(1);
    let done = async {
        while probe.running.load(Ordering::SeqCst) == 1 {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the other", done).await;
    server.shutdown().await;
}
