//! Damaged messages: what peers send, and what lies in the log, is decoded or refused, never a panic;
//! and a damaged snapshot is never taken for the one that was announced.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::codec;
use super::incoming::Incoming;

use super::types::{MemberInfo, Membership, NodeId, Payload};
use crate::error::ErrorKind;
use crate::fuzz::{self, Random};
use crate::proto;
use crate::sqlite::{Database, Entry, EntryKind, Position};
use crate::statement::{Params, Rows, Statement};
use crate::value::Value;

fn value(random: &mut Random) -> Value {
    match random.below(5) {
        0 => Value::Null,
        1 => Value::Integer(random.next() as i64),
        2 => Value::Real(f64::from_bits(random.next())),
        3 => Value::Text("text".repeat(random.below(5))),
        _ => {
            let len = random.below(40);
            Value::Blob(random.bytes(len))
        }
    }
}

fn values(random: &mut Random) -> Vec<Value> {
    (0..random.below(5)).map(|_| value(random)).collect()
}

fn statement(random: &mut Random) -> proto::Statement {
    let params = match random.below(2) {
        0 => Params::Positional(values(random)),
        _ => Params::Named(values(random).into_iter().map(|v| ("n".to_owned(), v)).collect()),
    };
    codec::statement_to_proto(&Statement { sql: "SELECT 1".to_owned(), params })
}

fn membership(random: &mut Random) -> Membership {
    let ids = (0..=random.below(4)).map(|i| NodeId::from(format!("n{i}"))).collect::<Vec<_>>();
    let nodes = ids.iter().map(|id| (id.clone(), MemberInfo { address: "a:1".to_owned() }));
    Membership::new(vec![ids.iter().cloned().collect()], nodes.collect::<BTreeMap<_, _>>()).unwrap()
}

fn batch(random: &mut Random) -> proto::CommandBatch {
    proto::CommandBatch {
        timestamp_us: random.next() as i64,
        commands: (0..random.below(4))
            .map(|_| proto::Command {
                client: random.bytes(16),
                sequence: random.next(),
                acked_below: random.next(),
                seed: random.next(),
                statements: (0..random.below(3)).map(|_| statement(random)).collect(),
            })
            .collect(),
        ..Default::default()
    }
}

#[test]
fn no_message_makes_the_decoder_panic() {
    fuzz::run("message decoder", |random| {
        let mut entry = match random.below(3) {
            0 => codec::batch_to_entry(&batch(random)).0.to_vec(),
            1 => codec::payload_to_bytes(&Payload::Membership(membership(random))).to_vec(),
            _ => codec::payload_to_bytes(&Payload::Blank).to_vec(),
        };
        if random.below(8) > 0 {
            random.mutate(&mut entry);
        }
        if let Ok(Payload::Normal(data)) = codec::payload_from_bytes(entry.into()) {
            let _ = codec::batch_from_entry(data);
        }

        let width = random.below(4);
        let columns = (0..width).map(|i| format!("c{i}")).collect::<Vec<_>>();
        let rows = (0..random.below(4)).map(|_| (0..width).map(|_| value(random)).collect());
        let rows = Rows::new(columns, rows.collect());
        let mut message = match random.below(4) {
            0 => codec::rows_to_proto(&rows).encode_to_vec(),
            1 => codec::membership_to_proto(&membership(random)).encode_to_vec(),
            2 => statement(random).encode_to_vec(),
            _ => batch(random).encode_to_vec(),
        };
        random.mutate(&mut message);
        let message = Bytes::from(message);
        // Whatever was sent, it may arrive as any message.
        if let Ok(rows) = codec::decode(message.clone(), "rows") {
            let _ = codec::rows_from_proto(Some(rows));
        }
        if let Ok(response) = codec::decode(message.clone(), "results") {
            let _ = codec::results_from_proto(response);
        }
        if let Ok(membership) = codec::decode(message.clone(), "a membership") {
            let _ = codec::membership_from_proto(membership);
        }
        if let Ok(statement) = codec::decode(message.clone(), "a statement") {
            let _ = codec::statement_from_proto(statement);
        }
        if let Ok(command) = codec::decode(message.clone(), "a command") {
            let _ = codec::check_command(&command);
        }
        let _ = codec::vote_from_proto(codec::decode(message.clone(), "a vote").ok());
        let _ = codec::decode::<proto::AppendRequest>(message.clone(), "an append");
        let _ = codec::decode::<proto::VoteRequest>(message.clone(), "a vote");
        let _ = codec::decode::<proto::JoinRequest>(message, "a join");
    });
}

/// A replica's image, and what is announced of it.
fn image() -> (Vec<u8>, proto::SnapshotBegin) {
    let dir = tempfile::tempdir().unwrap();
    let (database, mut writer) = Database::open(dir.path()).unwrap();
    let membership = Membership::new(
        vec![[NodeId::from("n1")].into()],
        BTreeMap::from([(NodeId::from("n1"), MemberInfo::default())]),
    )
    .unwrap();
    let membership = codec::membership_to_proto(&membership);
    let kind = EntryKind::Membership(codec::encode(&membership));
    let position = Position { term: 1, index: 7 };
    writer.apply(vec![Entry { position, kind }]).unwrap();
    let image = database.image().unwrap();
    let bytes = image.read(0, image.len() as usize).unwrap();
    let image_page_size = image.page_size();
    drop(image);
    database.close();
    let id = proto::LogId { term: 1, index: 7 };
    let begin = proto::SnapshotBegin {
        vote: Some(proto::Vote { term: 1, node_id: "n1".to_owned(), committed: true }),
        last_log_id: Some(id),
        membership_log_id: Some(id),
        membership: Some(membership),
        length: bytes.len() as u64,
        transfer: 1,
        page_size: image_page_size,
    };
    (bytes, begin)
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bytes, begin) = image();
    let dir = tempfile::tempdir().unwrap();
    let (database, _writer) = Database::open(dir.path()).unwrap();
    let incoming = Incoming::new(dir.path().join("incoming"), database).unwrap();
    fuzz::run("snapshot decoder", |random| {
        let mut image = bytes.clone();
        // Either the image is damaged before it is sent, or one of the messages on its way.
        let damaged_image = random.below(2) == 0;
        if damaged_image {
            random.mutate(&mut image);
        }
        let mut messages = vec![begin.encode_to_vec()];
        for (i, piece) in image.chunks(8192).enumerate() {
            let chunk = proto::SnapshotChunk {
                transfer: 1,
                runs: vec![i as u64 * 8192, piece.len() as u64],
                crc: crc32c::crc32c(piece),
                data: lz4_flex::compress_prepend_size(piece).into(),
            };
            messages.push(chunk.encode_to_vec());
        }
        messages.push(proto::SnapshotEnd { transfer: 1 }.encode_to_vec());
        if !damaged_image {
            let at = random.below(messages.len());
            random.mutate(&mut messages[at]);
        }
        let (first, rest) = messages.split_first().unwrap();
        let (last, chunks) = rest.split_last().unwrap();
        runtime.block_on(async {
            // A sender gives up at the first refusal; this one does not.
            let _ = incoming.begin(first.clone().into()).await;
            for chunk in chunks {
                let _ = incoming.pages(chunk.clone().into()).await;
                let _ = incoming.chunk(chunk.clone().into()).await;
            }
            match incoming.end(last.clone().into()).await {
                // Damage may fall on what no reader looks at.
                Ok(arrived) => assert!(arrived.snapshot.meta.last_log_id.is_some()),
                Err(e) => assert!(
                    matches!(
                        e.kind(),
                        ErrorKind::Corruption | ErrorKind::Unavailable | ErrorKind::Config
                    ),
                    "{e:?}"
                ),
            }
        });
    });
}
