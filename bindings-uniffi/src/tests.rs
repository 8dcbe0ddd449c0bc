//! What the other languages rely on, without them: no runtime of the caller's is needed, a dropped
//! call goes on, a panic is an error.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::operation::detachable;
use crate::{
    Config, Consistency, NativeError, NativeNode, Params, ReadOptions, Role, Statement, Value,
    open_node, open_nodes,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future as UniFFI does: from a thread that knows nothing of tokio.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
        thread::park();
    }
}

fn config(dir: &std::path::Path) -> Config {
    Config {
        dir: dir.to_string_lossy().into_owned(),
        node_id: None,
        listen: None,
        advertise: None,
        join: Vec::new(),
        secret: None,
        ca: None,
        cert: None,
        key: None,
        insecure: false,
        role: None,
        timeout: Some(30.0),
        consistency: None,
        max_log_bytes: None,
        check_interval: None,
    }
}

fn sql(sql: &str, values: Vec<Value>) -> Statement {
    Statement { sql: sql.to_owned(), params: Params::Positional { values } }
}

fn count(node: &NativeNode) -> Value {
    let options = ReadOptions { consistency: Some(Consistency::Strong), ..ReadOptions::default() };
    let rows = wait(node.query(sql("SELECT count(*) FROM t", Vec::new()), options));
    rows.expect("a count").rows.remove(0).remove(0)
}

#[test]
fn values_go_through_and_a_dropped_call_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = wait(open_node(config(dir.path()))).expect("a node");
    wait(node.execute(sql("CREATE TABLE t(a)", Vec::new()), None)).expect("a table");
    let values = [
        Value::Null,
        Value::Integer { value: i64::MIN },
        Value::Real { value: -0.0 },
        Value::Text { value: "a\0b".to_owned() },
        Value::Blob { value: vec![0, 255] },
    ];
    for v in &values {
        let rows = wait(node.query(sql("SELECT ?", vec![v.clone()]), ReadOptions::default()));
        assert_eq!(rows.expect("a row").rows, [[v.clone()]]);
    }

    // Polled once, so that it is under way, then dropped.
    {
        let mut call = Box::pin(node.execute(sql("INSERT INTO t VALUES (1)", Vec::new()), None));
        let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    while count(&node) != (Value::Integer { value: 1 }) {
        thread::yield_now();
    }

    assert_eq!(open_nodes(), 1, "the only test that opens one");
    wait(node.shutdown()).expect("closed");
    assert_eq!(open_nodes(), 0);
    assert_eq!(node.close_within(0.0), Ok(true), "it is closed already");
    wait(node.shutdown()).expect("closed again");
    let closed = wait(node.members());
    assert!(matches!(closed, Err(NativeError::Closed { .. })), "{closed:?}");
    assert!(matches!(node.status(), Err(NativeError::Closed { .. })));
}

#[test]
fn wrong_options_are_errors_of_their_kind() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = config(&dir.path().join("n"));
    let wrong = [
        (Config { timeout: Some(f64::NAN), ..good.clone() }, "CONFIG_TIMEOUT"),
        (Config { timeout: Some(-1.0), ..good.clone() }, "CONFIG_TIMEOUT"),
        (Config { timeout: Some(f64::MAX), ..good.clone() }, "CONFIG_TIMEOUT"),
        (Config { ca: Some("a".to_owned()), ..good.clone() }, "CONFIG_CERTIFICATES"),
        (Config { role: Some(Role::Learner), ..good.clone() }, "CONFIG_NEEDS_LISTEN"),
        (Config { max_log_bytes: Some(1), ..good.clone() }, "CONFIG_LIMIT"),
        (Config { node_id: Some("a b".to_owned()), ..good }, "CONFIG_NODE_ID"),
    ];
    for (config, code) in wrong {
        match wait(open_node(config)) {
            Err(NativeError::Config { info }) => assert_eq!(info.code, code),
            Err(other) => panic!("{code}: {other:?}"),
            Ok(_) => panic!("{code}: opened"),
        }
    }
    assert!(!dir.path().join("n").exists(), "nothing is opened");
}

#[test]
fn a_panic_becomes_an_error() {
    let outcome = wait(detachable(async {
        if true {
            panic!("of this test");
        }
        Ok(())
    }));
    let Err(NativeError::Internal { info }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(info.code, "INTERNAL_PANIC");
}
