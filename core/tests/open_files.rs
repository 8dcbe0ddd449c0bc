//! A process that has too many files open: whatever cannot be opened, the cause is named, and nothing
//! is left behind. A program of its own, since the limit is the process's.

#![cfg(target_os = "linux")]

mod support;

use quorumlite::{Config, ErrorKind, Node, Result};
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
