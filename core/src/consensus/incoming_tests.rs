use super::*;
use crate::consensus::codec::encode;
use crate::sqlite::{Command, Entry, EntryKind, Position, Writer};
use crate::statement::Statement;

/// A database of about 3 MB after `entries` commands.
struct Source {
    database: Database,
    writer: Writer,
    index: u64,
    _dir: tempfile::TempDir,
}

impl Source {
    fn new() -> Source {
        let dir = tempfile::tempdir().unwrap();
        let (database, writer) = Database::open(dir.path()).unwrap();
        let mut source = Source { database, writer, index: 0, _dir: dir };
        source.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
        source.execute(
            "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < 1000) SELECT i, randomblob(3000) FROM n",
        );
        source
    }

    fn execute(&mut self, sql: &str) {
        self.index += 1;
        let command = Command {
            client: 1,
            sequence: self.index,
            acked_below: self.index,
            seed: self.index,
            statements: vec![Statement::from(sql)],
        };
        let entry = Entry {
            position: Position { term: 1, index: self.index },
            kind: EntryKind::Commands { timestamp_us: 0, commands: vec![command] },
        };
        self.writer.apply(vec![entry]).unwrap().remove(0).remove(0).unwrap();
    }

    fn begin(&self, image: &Image, transfer: u64) -> Bytes {
        let vote = codec::vote_to_proto(&types::Vote::new(1, types::NodeId::from("n1")));
        encode(&proto::SnapshotBegin {
            vote: Some(vote),
            last_log_id: image
                .position()
                .map(|p| codec::log_id_to_proto(&types::log_id(p.term, p.index))),
            membership_log_id: None,
            membership: Some(proto::Membership::default()),
            length: image.len(),
            transfer,
            page_size: image.page_size(),
        })
    }
}

fn chunk(image: &Image, transfer: u64, offset: u64, length: usize) -> Bytes {
    let bytes = image.read(offset, length).unwrap();
    encode(&proto::SnapshotChunk {
        transfer,
        runs: vec![offset, bytes.len() as u64],
        data: lz4_flex::compress_prepend_size(&bytes).into(),
        crc: crc32c::crc32c(&bytes),
    })
}

fn question(image: &Image, transfer: u64, offset: u64) -> Bytes {
    let page_size = image.page_size() as usize;
    let bytes = image.read(offset, PAGES_AT_ONCE * page_size).unwrap();
    let hashes: Vec<u8> = bytes.chunks(page_size).flat_map(page_hash).collect();
    encode(&proto::SnapshotPages { transfer, offset, hashes: hashes.into() })
}

/// Asks about all pages and sends what is wanted; gives the number of pages sent.
async fn difference(incoming: &Incoming, image: &Image, transfer: u64) -> usize {
    let page_size = image.page_size() as usize;
    let mut sent = 0;
    for first in (0..image.len()).step_by(PAGES_AT_ONCE * page_size) {
        let wanted = incoming.pages(question(image, transfer, first)).await.unwrap();
        for page in 0..PAGES_AT_ONCE.min(wanted.len() * 8) {
            if wanted[page / 8] >> (page % 8) & 1 == 1 {
                let at = first + (page * page_size) as u64;
                incoming.chunk(chunk(image, transfer, at, page_size)).await.unwrap();
                sent += 1;
            }
        }
    }
    sent
}

async fn arrived(incoming: &Incoming, transfer: u64) -> Vec<u8> {
    let arrived = incoming.end(encode(&proto::SnapshotEnd { transfer })).await.unwrap();
    match arrived.snapshot.snapshot {
        SnapshotData::Received(path) => std::fs::read(path).unwrap(),
        _ => panic!("not received"),
    }
}

fn empty(dir: &Path) -> Incoming {
    let (database, _writer) = Database::open(&dir.join("node")).unwrap();
    Incoming::new(dir.join("incoming"), database).unwrap()
}

#[tokio::test]
async fn an_empty_node_is_sent_everything() {
    let (source, dir) = (Source::new(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("node")).unwrap();
    let image = source.database.image().unwrap();
    let incoming = empty(dir.path());
    assert!(!incoming.begin(source.begin(&image, 1)).await.unwrap());
    for offset in (0..image.len()).step_by(CHUNK_BYTES) {
        incoming.chunk(chunk(&image, 1, offset, CHUNK_BYTES)).await.unwrap();
    }
    assert_eq!(arrived(&incoming, 1).await, image.read(0, usize::MAX).unwrap());
}

#[tokio::test]
async fn what_a_broken_transfer_brought_is_not_sent_again() {
    let (source, dir) = (Source::new(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("node")).unwrap();
    let image = source.database.image().unwrap();
    let incoming = empty(dir.path());
    incoming.begin(source.begin(&image, 1)).await.unwrap();
    incoming.chunk(chunk(&image, 1, 0, CHUNK_BYTES)).await.unwrap();
    incoming.chunk(chunk(&image, 1, CHUNK_BYTES as u64, CHUNK_BYTES)).await.unwrap();

    // The connection breaks.
    assert!(incoming.begin(source.begin(&image, 2)).await.unwrap());
    let late = incoming.chunk(chunk(&image, 1, 0, 10)).await.unwrap_err();
    assert_eq!(late.code(), "SNAPSHOT_REPLACED");
    // Then even the process ends.
    drop(incoming);
    let (database, _writer) = Database::open(&dir.path().join("node")).unwrap();
    let incoming = Incoming::new(dir.path().join("incoming"), database).unwrap();
    assert!(incoming.begin(source.begin(&image, 4)).await.unwrap());
    let pages = (image.len() / u64::from(image.page_size())) as usize;
    let had = 2 * CHUNK_BYTES / image.page_size() as usize;
    assert_eq!(difference(&incoming, &image, 4).await, pages - had);
    let progress = incoming.progress().unwrap();
    assert_eq!(progress.present_bytes, image.len());
    assert!(progress.received_bytes < image.len() - 2 * CHUNK_BYTES as u64 + (64 << 10));
    assert_eq!(arrived(&incoming, 4).await, image.read(0, usize::MAX).unwrap());
}

#[tokio::test]
async fn pages_of_an_old_copy_are_not_sent() {
    let (mut source, dir) = (Source::new(), tempfile::tempdir().unwrap());
    let node = dir.path().join("node");
    std::fs::create_dir_all(node.join("state")).unwrap();
    let old = source.database.image().unwrap();
    std::fs::write(node.join("state/quorumlite.replica"), old.read(0, usize::MAX).unwrap())
        .unwrap();
    drop(old);
    source.execute("UPDATE t SET b = randomblob(3000) WHERE a % 100 = 0");
    source.execute("INSERT INTO t SELECT NULL, randomblob(3000) FROM t LIMIT 5");
    let image = source.database.image().unwrap();
    let incoming = empty(dir.path());
    assert!(incoming.begin(source.begin(&image, 1)).await.unwrap());
    let sent = difference(&incoming, &image, 1).await;
    let pages = (image.len() / u64::from(image.page_size())) as usize;
    // 15 rows of nearly a page each, which may share two pages, and those above them.
    assert!((15..60).contains(&sent) && pages > 700, "{sent} of {pages}");
    assert_eq!(arrived(&incoming, 1).await, image.read(0, usize::MAX).unwrap());
}

#[tokio::test]
async fn a_transfer_that_makes_no_sense_is_refused() {
    let (source, dir) = (Source::new(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("node")).unwrap();
    let image = source.database.image().unwrap();
    let incoming = empty(dir.path());
    let begin = |page_size, length| {
        let body = source.begin(&image, 1);
        let mut begin: proto::SnapshotBegin = codec::decode(body, "a snapshot").unwrap();
        (begin.page_size, begin.length) = (page_size, length);
        encode(&begin)
    };
    for (page_size, length) in
        [(0, 4096), (3, 4096), (1 << 20, 1 << 20), (4096, 4097), (u32::MAX, u64::MAX)]
    {
        assert!(incoming.begin(begin(page_size, length)).await.is_err(), "{page_size} {length}");
    }
    incoming.begin(source.begin(&image, 1)).await.unwrap();
    let data: Bytes = lz4_flex::compress_prepend_size(&[7; 100]).into();
    let crc = crc32c::crc32c(&[7; 100]);
    for runs in [
        vec![],
        vec![0],
        vec![0, 99],
        vec![0, 101],
        vec![image.len(), 100],
        vec![u64::MAX, 100],
        vec![0, u64::MAX],
    ] {
        let body = encode(&proto::SnapshotChunk {
            transfer: 1,
            runs: runs.clone(),
            data: data.clone(),
            crc,
        });
        assert!(incoming.chunk(body).await.is_err(), "{runs:?}");
    }
    for (offset, hashes) in
        [(0, 15), (1, 16), (image.len(), 16), (u64::MAX - 4095, 16), (0, 16 * (PAGES_AT_ONCE + 1))]
    {
        let body =
            encode(&proto::SnapshotPages { transfer: 1, offset, hashes: vec![0; hashes].into() });
        assert!(incoming.pages(body).await.is_err(), "{offset} {hashes}");
    }
    let end = encode(&proto::SnapshotEnd { transfer: 1 });
    assert_eq!(incoming.end(end).await.err().unwrap().code(), "SNAPSHOT_DAMAGED");
}
