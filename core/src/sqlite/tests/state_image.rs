//! Checkpoints, page images and their installation.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::state_support::*;
use crate::error::ErrorKind;
use crate::sqlite::apply::recent::Limits;
use crate::sqlite::apply::writer::{Entry, EntryKind};
use crate::sqlite::database::Database;
use crate::sqlite::storage::image::{Image, verify_image};
use crate::statement::Statement;
use crate::value::Value;

const PATIENCE: Duration = Duration::from_millis(200);

fn filled(rows: usize) -> Replica {
    let mut r = Replica::new();
    r.execute(&["CREATE TABLE t(a INTEGER PRIMARY KEY, b)"]).unwrap();
    let insert = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows}) \
         INSERT INTO t(b) SELECT hex(randomblob(100)) FROM n"
    );
    r.execute(&[&insert]).unwrap();
    r
}

fn copy(image: &Image, path: &Path) {
    let mut bytes = Vec::new();
    // Not a divisor of anything.
    while let chunk = image.read(bytes.len() as u64, 10_007).unwrap()
        && !chunk.is_empty()
    {
        bytes.extend(chunk);
    }
    assert_eq!(bytes.len() as u64, image.len());
    assert_eq!(image.len() % u64::from(image.page_size()), 0);
    fs::write(path, bytes).unwrap();
}

fn folder(r: &Replica) -> PathBuf {
    r.dir.path().join("state")
}

#[test]
fn a_checkpoint_makes_what_was_applied_durable() {
    let r = filled(1000);
    assert_eq!(r.db.durable(), None);
    let outcome = r.db.checkpoint().unwrap();
    assert!(outcome.complete && outcome.wal_frames > 10, "{outcome:?}");
    assert_eq!(outcome.wal_frames, outcome.checkpointed_frames);
    assert_eq!(r.db.durable(), Some(at(2)));
    assert!(r.db.wal_bytes() > 0);
    assert!(r.db.checkpoint_truncate(PATIENCE).unwrap());
    assert_eq!(r.db.wal_bytes(), 0);
    assert!(r.db.file_bytes() > 100_000);
}

#[test]
fn a_read_holds_a_checkpoint_up_but_not_the_writer() {
    let mut r = filled(10);
    assert!(r.db.checkpoint_truncate(PATIENCE).unwrap());
    let path = folder(&r).join("quorumlite.replica");
    let reader = crate::sqlite::connection::open_reader(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    r.execute(&["INSERT INTO t(b) VALUES (1)"]).unwrap();
    let outcome = r.db.checkpoint().unwrap();
    assert!(!outcome.complete, "{outcome:?}");
    assert!(!r.db.checkpoint_truncate(PATIENCE).unwrap());
    assert_eq!(r.db.durable(), Some(at(2)));
    // The barrier does not need the checkpoint.
    assert_eq!(r.db.barrier().unwrap().position, Some(at(3)));
    assert_eq!(r.db.durable(), Some(at(3)));
    reader.execute_batch("COMMIT").unwrap();
    assert!(r.db.checkpoint_truncate(PATIENCE).unwrap());
}

/// What a crash finds at each of these moments: the main file and the write-ahead log, not the
/// shared memory.
#[test]
fn a_restarted_log_is_written_over_from_its_beginning() {
    let mut r = filled(1000);
    let crash = |r: &Replica| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        for name in ["quorumlite.replica", "quorumlite.replica-wal"] {
            fs::copy(folder(r).join(name), state.join(name)).unwrap();
        }
        let copy = Replica::open(dir, Limits::default());
        assert_eq!(copy.state(), r.state());
        assert_eq!(copy.query("PRAGMA integrity_check"), [[Value::Text("ok".into())]]);
    };
    let (frames, bytes) = (r.db.wal_frames().unwrap().unwrap(), r.db.wal_bytes());
    assert!(r.db.checkpoint_restart(PATIENCE).unwrap());
    assert_eq!(r.db.durable(), Some(at(2)));
    crash(&r);
    for _ in 0..4 {
        r.execute(&["INSERT INTO t(b) VALUES (hex(randomblob(3000)))"]).unwrap();
        assert!(r.db.wal_frames().unwrap().unwrap() < frames);
        assert_eq!(r.db.wal_bytes(), bytes, "the file is not cut");
        crash(&r);
    }
    assert_eq!(r.db.barrier().unwrap().position, Some(at(6)));
    assert_eq!(r.db.durable(), Some(at(6)));
    assert!(r.db.checkpoint_truncate(PATIENCE).unwrap());
    assert_eq!((r.db.wal_frames().unwrap(), r.db.wal_bytes()), (Some(0), 0));
    crash(&r);
    assert_eq!(r.count("t"), 1004);
}

#[test]
fn complete_checkpoints_succeed_under_hot_reads_and_writes() {
    let mut r = filled(500);
    let stop = AtomicBool::new(false);
    let mut emptied = (0, 0);
    std::thread::scope(|s| {
        for _ in 0..3 {
            let (readers, stop) = (r.db.readers().clone(), &stop);
            s.spawn(move || {
                let sum = Statement::from("SELECT count(*), sum(length(b)) FROM t");
                while !stop.load(Ordering::Relaxed) {
                    let deadline = Instant::now() + Duration::from_secs(30);
                    let (rows, _) = readers.query(&sum, deadline).unwrap();
                    assert!(rows.values()[0][0].as_i64() >= Some(500));
                }
            });
        }
        let (db, stop) = (r.db.clone(), &stop);
        let checkpoints = s.spawn(move || {
            let mut emptied = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                emptied.0 += usize::from(db.checkpoint_restart(PATIENCE).unwrap());
                emptied.1 += usize::from(db.checkpoint_truncate(PATIENCE).unwrap());
                let applied = db.applied().position;
                assert!(db.barrier().unwrap().position >= applied);
                assert!(db.durable() >= applied);
            }
            emptied
        });
        for _ in 0..300 {
            r.execute(&["INSERT INTO t(b) VALUES (hex(randomblob(500)))"]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        emptied = checkpoints.join().unwrap();
    });
    assert!(emptied.0 > 0 && emptied.1 > 0, "{emptied:?}");
    assert_eq!(r.count("t"), 800);
    assert!(r.db.checkpoint_truncate(PATIENCE).unwrap());
    assert_eq!(r.db.wal_bytes(), 0);
    let check = r.query("PRAGMA integrity_check");
    assert_eq!(check, [[Value::Text("ok".into())]]);
}

/// While an image is read the write-ahead log cannot be emptied: that has an end.
#[test]
fn an_image_gives_way_when_too_much_is_written() {
    let mut r = filled(10);
    let image = r.db.image_holding_up(1 << 20).unwrap();
    let mut written = 0;
    let refused = loop {
        match image.read(0, 4096) {
            Ok(page) => assert_eq!(page.len(), 4096),
            Err(e) => break e,
        }
        r.execute(&["INSERT INTO t(b) VALUES (zeroblob(50000))"]).unwrap();
        written += 50_000;
        assert!(written < 3 << 20, "the image goes on for ever");
    };
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Busy, "BUSY_IMAGE"));
    assert!(refused.retryable() && written > 700_000, "{written}");
    drop(image);
    let image = r.db.image().unwrap();
    assert_eq!(r.db.wal_bytes(), 0);
    assert_eq!(image.position(), r.writer.applied().position);
    image.read(0, 4096).unwrap();
}

#[test]
fn an_image_is_the_state_at_its_position_while_writes_go_on() {
    let mut r = filled(2000);
    let members = bytes::Bytes::from_static(b"m");
    let membership = EntryKind::Membership(members.clone());
    r.writer.apply(vec![Entry { position: at(3), kind: membership }]).unwrap();
    let before = r.state();
    let image = r.db.image().unwrap();
    assert_eq!(image.position(), Some(at(3)));
    assert_eq!(image.membership(), Some((Some(at(3)), members)));
    for _ in 0..50 {
        r.execute(&[
            "UPDATE t SET b = b || 'x' WHERE a % 40 = 3",
            "CREATE TABLE IF NOT EXISTS u(a)",
        ])
        .unwrap();
        // Held back.
        assert!(!r.db.checkpoint().unwrap().complete);
        assert!(!r.db.checkpoint_truncate(Duration::ZERO).unwrap());
    }
    assert_eq!(r.db.durable(), Some(at(3)));
    // A second image at the same time is the first.
    assert_eq!(r.db.image().unwrap().position(), Some(at(3)));

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    let path = dir.path().join("image");
    copy(&image, &path);
    assert!(image.read(image.len(), 1).unwrap().is_empty());
    assert!(image.read(u64::MAX, 1).unwrap().is_empty());
    drop(image);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let rows: i64 = conn.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 2000);
    assert_eq!(
        crate::sqlite::determinism::content_hash::content_hash(&conn).unwrap(),
        before.content
    );
    drop(conn);
    assert_eq!(verify_image(&path).unwrap().position, Some(at(3)));

    assert!(r.db.checkpoint().unwrap().complete);
    assert_eq!(r.db.durable(), Some(at(53)));
    assert_eq!(r.db.image().unwrap().position(), Some(at(53)));
}

#[test]
fn an_installed_image_replaces_the_state() {
    let mut from = filled(1000);
    let mut to = Replica::new();
    to.execute(&["CREATE TABLE old(a)"]).unwrap();
    assert_eq!(to.count("old"), 0);
    for _ in 0..2 {
        from.execute(&["INSERT INTO t(b) VALUES ('more')"]).unwrap();
        let path = to.db.incoming_path();
        copy(&from.db.image().unwrap(), &path);
        let applied = to.writer.install(&path).unwrap();
        assert_eq!(applied, from.writer.applied());
        assert!(!path.exists());
        assert_eq!(to.db.applied_index(), from.db.applied_index());
        assert_eq!(to.db.durable(), applied.position);
        assert_eq!(to.state(), from.state());
        assert!(to.try_query("SELECT * FROM old").is_err());
        // And life goes on: reads, writes, checkpoints, images, restarts.
        for r in [&mut from, &mut to] {
            r.execute(&["INSERT INTO t(b) VALUES ('after')"]).unwrap();
        }
        assert_eq!(to.count("t WHERE b = 'after'"), from.count("t WHERE b = 'after'"));
        assert!(to.db.checkpoint_truncate(PATIENCE).unwrap());
        to = to.reopen();
        assert_eq!(to.state(), from.state());
    }
}

#[test]
fn an_image_that_is_being_read_outlives_an_installation() {
    let from = filled(300);
    let mut to = Replica::new();
    to.execute(&["CREATE TABLE old(a)"]).unwrap();
    let before = to.state();
    let old = to.db.image().unwrap();
    let path = to.db.incoming_path();
    copy(&from.db.image().unwrap(), &path);
    to.writer.install(&path).unwrap();
    // The new database is free of the old image's hold.
    to.execute(&["INSERT INTO t(b) VALUES (1)"]).unwrap();
    assert!(to.db.checkpoint_truncate(PATIENCE).unwrap());
    let copied = to.dir.path().join("copy");
    copy(&old, &copied);
    let conn = rusqlite::Connection::open(&copied).unwrap();
    assert_eq!(
        crate::sqlite::determinism::content_hash::content_hash(&conn).unwrap(),
        before.content
    );
    drop(old);
    to.execute(&["INSERT INTO t(b) VALUES (2)"]).unwrap();
    assert_eq!(to.count("t"), 302);
}

#[test]
fn reads_wait_for_an_installation_and_then_see_the_new_state() {
    let from = filled(300);
    let mut to = Replica::new();
    to.execute(&["CREATE TABLE t(a)"]).unwrap();
    let path = to.db.incoming_path();
    copy(&from.db.image().unwrap(), &path);
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let mut reads = Vec::new();
        for _ in 0..2 {
            let (readers, stop) = (to.db.readers().clone(), &stop);
            reads.push(s.spawn(move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) || seen.last() != Some(&300) {
                    let deadline = Instant::now() + Duration::from_secs(30);
                    let count = Statement::from("SELECT count(*) FROM t");
                    let (rows, _) = readers.query(&count, deadline).unwrap();
                    seen.push(rows.values()[0][0].as_i64().unwrap());
                }
                seen
            }));
        }
        to.writer.install(&path).unwrap();
        stop.store(true, Ordering::Relaxed);
        for seen in reads.into_iter().map(|r| r.join().unwrap()) {
            assert!(seen.is_sorted() && seen.iter().all(|n| [0, 300].contains(n)), "{seen:?}");
        }
    });
}

#[test]
fn a_damaged_image_is_refused_and_the_old_state_lives_on() {
    let from = filled(1000);
    let image = from.db.image().unwrap();
    let sound = image.read(0, usize::MAX).unwrap();
    let mut to = Replica::new();
    to.execute(&["CREATE TABLE old(a)"]).unwrap();
    let before = to.state();
    let path = to.db.incoming_path();

    let page = image.page_size() as usize;
    let with = |f: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        f(&mut bytes);
        bytes
    };
    let no_tables = {
        let other = tempfile::tempdir().unwrap();
        let file = other.path().join("x");
        let conn = rusqlite::Connection::open(&file).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE mine(a)").unwrap();
        drop(conn);
        fs::read(file).unwrap()
    };
    let damaged = [
        ("empty", Vec::new()),
        ("garbage", vec![0xa5; 20_000]),
        ("cut", with(&|b| b.truncate(b.len() - page))),
        ("cut within a page", with(&|b| b.truncate(b.len() - 1))),
        ("too long", with(&|b| b.extend(vec![0; page]))),
        ("a page of zeros", with(&|b| b[page * 5..page * 6].fill(0))),
        ("a wrong schema page", with(&|b| b[100..page].fill(0xff))),
        (
            "pages swapped",
            with(&|b| {
                let (a, c) = b.split_at_mut(page * 4);
                a[page..page * 2].swap_with_slice(&mut c[..page]);
            }),
        ),
        ("not a replica", no_tables),
    ];
    for (what, bytes) in damaged {
        fs::write(&path, bytes).unwrap();
        let e = to.writer.install(&path).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corruption, "{what}: {e:?}");
        assert_eq!(to.state(), before, "{what}");
    }
    let e = to.writer.install(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);

    to.execute(&["INSERT INTO old VALUES (1)"]).unwrap();
    assert_eq!(to.count("old"), 1);
    fs::write(&path, &sound).unwrap();
    to.writer.install(&path).unwrap();
    assert_eq!(to.state(), from.state());
}

#[test]
fn an_image_older_than_the_database_is_refused() {
    let from = filled(1);
    let mut to = filled(1);
    to.execute(&["INSERT INTO t(b) VALUES (1)"]).unwrap();
    let path = to.db.incoming_path();
    copy(&from.db.image().unwrap(), &path);
    let e = to.writer.install(&path).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Conflict, "IMAGE_TOO_OLD"));
    assert_eq!(to.count("t"), 2);
}

/// Does the steps of an installation up to a point, as a crash would leave them.
#[test]
fn a_crash_during_an_installation_leaves_the_old_or_the_new_state() {
    let from = filled(300);
    let image = from.db.image().unwrap();
    let names = ["quorumlite.replica", "quorumlite.replica-wal", "quorumlite.replica-shm"];
    for steps in 0..=5 {
        let mut to = Replica::new();
        to.execute(&["CREATE TABLE old(a)"]).unwrap();
        let before = to.state();
        let [main, wal, shm] = names.map(|n| folder(&to).join(n));
        let incoming = to.db.incoming_path();
        if steps == 0 {
            fs::write(&incoming, image.read(0, 5000).unwrap()).unwrap();
        } else {
            copy(&image, &incoming);
        }
        if steps >= 2 {
            assert!(to.db.checkpoint_truncate(PATIENCE).unwrap());
        }
        let Replica { dir, db, writer, .. } = to;
        drop((db, writer));
        if steps >= 3 {
            fs::remove_file(&wal).unwrap();
        }
        if steps >= 4 {
            fs::remove_file(&shm).unwrap();
        }
        if steps >= 5 {
            fs::rename(&incoming, &main).unwrap();
        }
        let (db, writer) = Database::open(dir.path()).unwrap();
        assert!(!incoming.exists(), "after step {steps}");
        let hash = db.content_hash().unwrap();
        if steps < 5 {
            assert_eq!(hash, before.content, "after step {steps}");
        } else {
            assert_eq!(hash, from.state().content);
            assert_eq!(writer.applied(), from.writer.applied());
        }
    }
}

#[test]
fn after_close_every_call_says_closed() {
    let r = filled(10);
    r.db.close();
    r.db.close();
    assert_eq!(r.db.checkpoint().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(r.db.checkpoint_truncate(PATIENCE).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(r.db.checkpoint_restart(PATIENCE).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(r.db.barrier().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(r.db.wal_frames().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(r.db.image().err().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(r.db.content_hash().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(r.try_query("SELECT 1").unwrap_err().kind(), ErrorKind::Closed);
}
