//! Requests and responses between nodes that agree.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_come_back_on_every_lane() {
    for tls in [None, secret("s")] {
        let server = serve(tls.clone(), node("n1"), &probe()).await;
        let address = server.local_addr().to_string();
        let client = client(tls);
        for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
            for size in [0, 1, 7, 16 * 1024 - 1, 16 * 1024, 64 * 1024, lane.max_body()] {
                let body: Bytes = (0..size).map(|i| (i * 31 % 251) as u8).collect();
                let call = client.call(&address, Some("n1"), lane, ECHO, body.clone(), FAILED);
                let answer = soon("echo", call).await.unwrap();
                assert!(answer == body, "{lane:?} {size}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_it_is_sent() {
    let server = serve(None, node("n1"), &probe()).await;
    let client = client(None);
    let body = Bytes::from(vec![0; Lane::Data.max_body() + 1]);
    let error = not_sent(call(&client, server.local_addr(), ECHO, body).await);
    assert_eq!(error.code(), "MESSAGE_TOO_LARGE");
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_response_beyond_the_limit_becomes_an_error() {
    let server = serve(None, node("n1"), &probe()).await;
    let client = client(None);
    let size = Lane::Data.max_body() as u64;
    let answer = call(&client, server.local_addr(), SIZED, numbered(size)).await.unwrap();
    assert_eq!(answer.len() as u64, size);
    match call(&client, server.local_addr(), SIZED, numbered(size + 1)).await {
        Err(CallError::Remote(e)) => assert_eq!(e.code(), "MESSAGE_TOO_LARGE"),
        other => panic!("{other:?}"),
    }
    assert_serves(&client, server.local_addr()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_polls_happen_in_the_order_of_sending() {
    let probe = probe();
    let server = serve(secret("s"), node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(secret("s"));
    let mut pending = Vec::new();
    for n in 0..2000 {
        let send = client.send(&address, None, Lane::Data, ECHO, numbered(n), FAILED);
        pending.push(soon("send", send).await.unwrap());
    }
    for (n, pending) in (0..).zip(pending) {
        assert_eq!(number(&soon("answer", pending.wait()).await.unwrap()), n);
    }
    assert_eq!(*probe.order.lock(), (0..2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_are_pipelined() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(None);
    let mut pending = Vec::new();
    for n in 0..100 {
        let send = client.send(&address, None, Lane::Data, HOLD, numbered(n), FAILED);
        pending.push(soon("send", send).await.unwrap());
    }
    // All are in the handler's hands before the first is answered.
    probe.arrived(100).await;
    probe.gate.add_permits(100);
    for (n, pending) in (0..).zip(pending) {
        assert_eq!(number(&soon("answer", pending.wait()).await.unwrap()), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_callers_each_get_their_own_answer() {
    let server = serve(secret("s"), node("n1"), &probe()).await;
    let address = server.local_addr();
    let client = client(secret("s"));
    let callers = (0..64_u64).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                let body = numbered(caller * 1000 + i);
                assert_eq!(call(&client, address, ECHO, body.clone()).await.unwrap(), body);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn concurrency_of_a_connection_is_bounded_and_other_lanes_go_on() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(None);
    let mut pending = Vec::new();
    for n in 0..300 {
        let send = client.send(&address, None, Lane::Data, HOLD, numbered(n), FAILED);
        pending.push(soon("send", send).await.unwrap());
    }
    probe.arrived(256).await;
    // Another lane still answers, and while it does no further request of the full one arrives.
    for _ in 0..20 {
        let call = client.call(&address, None, Lane::Control, FAIL, numbered(0), FAILED);
        assert!(matches!(soon("call", call).await, Err(CallError::Remote(_))));
    }
    assert_eq!(*probe.arrived.borrow(), 256 + 20);
    probe.gate.add_permits(300);
    for pending in pending {
        soon("answer", pending.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn an_error_of_the_handler_is_carried_over_whole() {
    let server = serve(secret("s"), node("n1"), &probe()).await;
    let client = client(secret("s"));
    match call(&client, server.local_addr(), FAIL, Bytes::new()).await {
        Err(CallError::Remote(e)) => {
            let expected = whole_error();
            assert_eq!(e.kind(), expected.kind());
            assert_eq!(e.code(), expected.code());
            assert_eq!(e.message(), expected.message());
            assert_eq!(e.retryable(), expected.retryable());
            assert_eq!(e.leader(), expected.leader());
            assert_eq!(e.sqlite_code(), expected.sqlite_code());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_panic_of_the_handler_is_an_error_of_that_request_alone() {
    let server = serve(None, node("n1"), &probe()).await;
    let client = client(None);
    match call(&client, server.local_addr(), PANIC, Bytes::new()).await {
        Err(CallError::Remote(e)) => assert_eq!(e.code(), "INTERNAL"),
        other => panic!("{other:?}"),
    }
    assert_serves(&client, server.local_addr()).await;
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_and_the_connection_stays() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(None);
    let short = Duration::from_millis(50);
    assert_serves(&client, server.local_addr()).await;
    match soon("call", client.call(&address, None, Lane::Data, HOLD, Bytes::new(), short)).await {
        Err(CallError::TimedOut(e)) => {
            assert_eq!((e.kind(), e.code()), (ErrorKind::Timeout, "PEER_TIMEOUT"))
        }
        other => panic!("{other:?}"),
    }
    // The late answer finds nobody and disturbs nobody.
    probe.gate.add_permits(1);
    assert_serves(&client, server.local_addr()).await;
}

#[tokio::test]
async fn the_node_that_answers_must_be_the_expected_one() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let address = server.local_addr().to_string();
    let client = client(None);
    let call = client.call(&address, Some("n2"), Lane::Data, ECHO, Bytes::new(), FAILED);
    let error = not_sent(soon("call", call).await);
    assert_eq!(error.code(), "PEER_OTHER_NODE");
    assert!(error.message().contains("\"n1\"") && error.message().contains("\"n2\""));
    assert_eq!(*probe.arrived.borrow(), 0);
}
