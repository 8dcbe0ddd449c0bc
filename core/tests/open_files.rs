//! A process that has too many files open: whatever cannot be opened, the cause is named, and nothing
//! is left behind. A program of its own, since the limit is the process's.

#![cfg(target_os = "linux")]

mod support;

use quorumlite::{Config, ErrorKind, Node, Result, params};
use support::{free_address, member};

fn set_limit(files: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both get a valid place.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = files.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// The lowest descriptor that is free: only those below the limit can be given away.
fn next_descriptor() -> u64 {
    // SAFETY: the descriptor is this function's own.
    unsafe {
        let next = libc::dup(0);
        assert!(next >= 0);
        libc::close(next);
        next as u64
    }
}

/// The limit is that of all tests here.
static LIMIT: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn use_it(config: Config) -> Result<()> {
    let node = Node::open(config).await?;
    let used = async {
        node.execute("CREATE TABLE IF NOT EXISTS t(a)", ()).await?;
        node.query("SELECT count(*) FROM t", ()).await.map(drop)
    };
    let used = used.await;
    set_limit(1000);
    node.close().await?;
    used
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_open_files_are_named_wherever_one_is_lacking() {
    let _alone = LIMIT.lock().await;
    set_limit(1000);
    let dir = tempfile::tempdir().unwrap();
    let old = Config::new(dir.path().join("old"));
    use_it(old.clone()).await.unwrap();
    let mut refused = 0;
    for (kind, limits) in [("old", 0..30), ("new", 0..30), ("member", 0..30)] {
        let mut opened = false;
        for more in limits {
            let config = match kind {
                "old" => old.clone(),
                "new" => Config::new(dir.path().join(format!("new{more}"))),
                _ => member(dir.path(), &format!("n{more}"), &free_address(), &[]),
            };
            set_limit(next_descriptor() + more);
            let used = use_it(config).await;
            set_limit(1000);
            match used {
                Ok(()) => {
                    opened = true;
                    break;
                }
                Err(e) => {
                    let found = (e.kind(), e.code());
                    let wanted = (ErrorKind::Unavailable, "TOO_MANY_OPEN_FILES");
                    assert_eq!(found, wanted, "{kind}, {more} more: {e:?}");
                    assert!(e.message().contains("raise its limit"), "{e}");
                    refused += 1;
                }
            }
        }
        assert!(opened, "{kind}: 30 descriptors are enough");
    }
    assert!(refused >= 20, "only {refused} starts were refused");
}

/// More reads at once than there are descriptors for: they wait for each other, and leave some over.
#[tokio::test(flavor = "multi_thread")]
async fn reads_share_the_descriptors_that_there_are() {
    let _alone = LIMIT.lock().await;
    set_limit(1000);
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(Config::new(dir.path().join("data"))).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    let some = next_descriptor() + 8;
    set_limit(some);
    for _ in 0..3 {
        let reads = (0..300).map(|i| {
            let node = node.clone();
            // Long enough that many are there at once.
            let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) \
                       SELECT count(*) + (SELECT count(*) FROM t) * 0 + ? FROM n";
            tokio::spawn(async move { node.query(sql, params![i]).await })
        });
        for (i, read) in reads.collect::<Vec<_>>().into_iter().enumerate() {
            let rows = read.await.unwrap().unwrap_or_else(|e| panic!("read {i}: {e:?}"));
            assert_eq!(support::integer(&rows), 5000 + i as i64);
        }
        // Others have use for some of them.
        assert!(next_descriptor() + 4 <= some, "{} of {some}", next_descriptor());
        node.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    }
    set_limit(1000);
    node.close().await.unwrap();
}
