//! Conversions between openraft's types, the public types and the protobuf messages. Whatever comes
//! in is checked here, so that nothing malformed reaches Raft or SQLite.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::types::{self, EntryData, LogId, Membership, NodeId, Payload, StoredMembership, Vote};
use crate::error::{Error, ErrorKind, Result};
use crate::proto;
use crate::sqlite::Command;
use crate::statement::{ExecuteResult, Params, Rows, Statement};
use crate::value::Value;

const ENTRY_BLANK: u8 = 0;
const ENTRY_COMMANDS: u8 = 1;
const ENTRY_MEMBERSHIP: u8 = 2;
const ENTRY_VOID: u8 = 3;
const ENTRY_CLOCK: u8 = 4;

/// The error for bytes that do not decode.
pub(crate) fn malformed(what: &str) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "MALFORMED_MESSAGE",
        format!("{what} cannot be decoded; do all nodes run compatible versions?"),
    )
}

/// Decodes a message, naming it in the error.
pub(crate) fn decode<M: Message + Default>(body: Bytes, what: &str) -> Result<M> {
    M::decode(body).map_err(|e| malformed(what).with_source(e))
}

/// Encodes a message.
pub(crate) fn encode<M: Message>(message: &M) -> Bytes {
    message.encode_to_vec().into()
}

fn present<T>(field: Option<T>, what: &str) -> Result<T> {
    field.ok_or_else(|| malformed(what))
}

pub(crate) fn vote_to_proto(vote: &Vote) -> proto::Vote {
    proto::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for.as_str().to_owned(),
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_proto(vote: Option<proto::Vote>) -> Result<Vote> {
    let vote = present(vote, "a vote")?;
    let leader_id =
        types::LeaderId { term: vote.term, voted_for: NodeId::from(vote.node_id.as_str()) };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn log_id_to_proto(id: &LogId) -> proto::LogId {
    proto::LogId { term: types::term_of(id), index: id.index }
}

pub(crate) fn log_id_from_proto(id: &proto::LogId) -> LogId {
    types::log_id(id.term, id.index)
}

pub(crate) fn membership_to_proto(membership: &Membership) -> proto::Membership {
    proto::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|set| proto::VoterSet {
                node_ids: set.iter().map(|id| id.as_str().to_owned()).collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, info)| proto::MemberNode {
                node_id: id.as_str().to_owned(),
                address: info.address.clone(),
            })
            .collect(),
    }
}

pub(crate) fn membership_from_proto(membership: proto::Membership) -> Result<Membership> {
    let configs: Vec<BTreeSet<NodeId>> = membership
        .configs
        .into_iter()
        .map(|set| set.node_ids.into_iter().map(NodeId::from).collect())
        .collect();
    let nodes: BTreeMap<NodeId, types::MemberInfo> = membership
        .nodes
        .into_iter()
        .map(|n| (NodeId::from(n.node_id), types::MemberInfo { address: n.address }))
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|e| malformed("a membership").with_source(e))
}

/// The membership as the state machine keeps it.
pub(crate) fn stored_membership(
    stored: Option<(Option<LogId>, Bytes)>,
) -> Result<StoredMembership> {
    match stored {
        None => Ok(StoredMembership::default()),
        Some((log_id, bytes)) => {
            let membership = membership_from_proto(decode(bytes, "the stored membership")?)?;
            Ok(StoredMembership::new(log_id, membership))
        }
    }
}

/// The body of a log entry, as it lies in the log and travels to peers.
pub(crate) fn payload_to_bytes(payload: &Payload) -> Bytes {
    match payload {
        Payload::Blank => Bytes::from_static(&[ENTRY_BLANK]),
        // The proposer encodes batches with the tag in front: no copy is made here.
        Payload::Normal(data) => data.0.clone(),
        Payload::Membership(m) => {
            let message = membership_to_proto(m);
            let mut out = BytesMut::with_capacity(1 + message.encoded_len());
            out.put_u8(ENTRY_MEMBERSHIP);
            put(&message, &mut out);
            out.freeze()
        }
    }
}

/// The inverse of [`payload_to_bytes`].
pub(crate) fn payload_from_bytes(body: Bytes) -> Result<Payload> {
    match body.first() {
        Some(&ENTRY_BLANK) if body.len() == 1 => Ok(Payload::Blank),
        Some(&(ENTRY_COMMANDS | ENTRY_VOID | ENTRY_CLOCK)) => Ok(Payload::Normal(EntryData(body))),
        Some(&ENTRY_MEMBERSHIP) => {
            let message = decode(body.slice(1..), "a membership entry")?;
            Ok(Payload::Membership(membership_from_proto(message)?))
        }
        _ => Err(malformed("a log entry")),
    }
}

/// Encodes the commands of one log entry.
pub(crate) fn batch_to_entry(batch: &proto::CommandBatch) -> EntryData {
    let mut out = BytesMut::with_capacity(1 + batch.encoded_len());
    out.put_u8(ENTRY_COMMANDS);
    put(batch, &mut out);
    EntryData(out.freeze())
}

/// Encodes the entry that voids the one at `index`.
pub(crate) fn void_to_entry(index: u64) -> EntryData {
    let message = proto::VoidEntry { index };
    let mut out = BytesMut::with_capacity(1 + message.encoded_len());
    out.put_u8(ENTRY_VOID);
    put(&message, &mut out);
    EntryData(out.freeze())
}

/// The index that an entry voids, if it is one that does.
pub(crate) fn voided_by(data: &EntryData) -> Result<Option<u64>> {
    if data.0.first() != Some(&ENTRY_VOID) {
        return Ok(None);
    }
    Ok(Some(decode::<proto::VoidEntry>(data.0.slice(1..), "an entry that voids another")?.index))
}

/// Encodes the entry that sets the time of commands back.
pub(crate) fn clock_to_entry(timestamp_us: i64) -> EntryData {
    let message = proto::ClockEntry { timestamp_us };
    let mut out = BytesMut::with_capacity(1 + message.encoded_len());
    out.put_u8(ENTRY_CLOCK);
    put(&message, &mut out);
    EntryData(out.freeze())
}

/// The time to which an entry sets the clock, if it is one that does.
pub(crate) fn clock_in(data: &EntryData) -> Result<Option<i64>> {
    if data.0.first() != Some(&ENTRY_CLOCK) {
        return Ok(None);
    }
    let entry: proto::ClockEntry = decode(data.0.slice(1..), "an entry that sets the clock")?;
    Ok(Some(entry.timestamp_us))
}

/// Whether an entry holds commands.
pub(crate) fn is_commands(data: &EntryData) -> bool {
    data.0.first() == Some(&ENTRY_COMMANDS)
}

/// The commands of one log entry.
pub(crate) struct Batch {
    pub(crate) timestamp_us: i64,
    pub(crate) commands: Vec<Command>,
    /// Every replica hashes its content after this entry.
    pub(crate) check_replicas: bool,
}

/// Decodes the commands of one log entry.
pub(crate) fn batch_from_entry(data: EntryData) -> Result<Batch> {
    let mut body = data.0;
    if body.first() != Some(&ENTRY_COMMANDS) {
        return Err(malformed("a command entry"));
    }
    let batch: proto::CommandBatch = decode(body.split_off(1), "a command entry")?;
    let commands = batch.commands.into_iter().map(command_from_proto).collect::<Result<_>>()?;
    Ok(Batch { timestamp_us: batch.timestamp_us, commands, check_replicas: batch.check_replicas })
}

fn put<M: Message>(message: &M, out: &mut BytesMut) {
    // Growing a BytesMut cannot fail, which is encode's only error.
    if message.encode(out).is_err() {
        tracing::error!("a message was larger than its buffer");
    }
}

/// A client id from its 16 bytes.
pub(crate) fn client_from_bytes(bytes: &[u8]) -> Result<u128> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| malformed("a client id"))?;
    Ok(u128::from_be_bytes(bytes))
}

/// Checks that a command from another node is one that the state machine can decode: once it is in
/// the log, every node has to.
pub(crate) fn check_command(command: &proto::Command) -> Result<()> {
    client_from_bytes(&command.client)?;
    let well_formed = |s: &proto::Statement| !s.named || s.names.len() == s.values.len();
    if command.statements.iter().all(well_formed) {
        return Ok(());
    }
    Err(malformed("a statement"))
}

fn command_from_proto(command: proto::Command) -> Result<Command> {
    Ok(Command {
        client: client_from_bytes(&command.client)?,
        sequence: command.sequence,
        acked_below: command.acked_below,
        seed: command.seed,
        statements: command
            .statements
            .into_iter()
            .map(statement_from_proto)
            .collect::<Result<_>>()?,
    })
}

fn value_to_proto(value: &Value) -> proto::Value {
    use proto::value::Kind;
    let kind = match value {
        Value::Null => None,
        Value::Integer(v) => Some(Kind::Integer(*v)),
        Value::Real(v) => Some(Kind::Real(*v)),
        Value::Text(v) => Some(Kind::Text(v.clone())),
        Value::Blob(v) => Some(Kind::Blob(v.clone())),
    };
    proto::Value { kind }
}

fn value_from_proto(value: proto::Value) -> Value {
    use proto::value::Kind;
    match value.kind {
        None => Value::Null,
        Some(Kind::Integer(v)) => Value::Integer(v),
        Some(Kind::Real(v)) => Value::Real(v),
        Some(Kind::Text(v)) => Value::Text(v),
        Some(Kind::Blob(v)) => Value::Blob(v),
    }
}

pub(crate) fn statement_to_proto(statement: &Statement) -> proto::Statement {
    let (values, names, named) = match &statement.params {
        Params::Positional(v) => (v.iter().map(value_to_proto).collect(), Vec::new(), false),
        Params::Named(v) => (
            v.iter().map(|(_, value)| value_to_proto(value)).collect(),
            v.iter().map(|(name, _)| name.clone()).collect(),
            true,
        ),
    };
    proto::Statement { sql: statement.sql.clone(), values, names, named }
}

pub(crate) fn statement_from_proto(statement: proto::Statement) -> Result<Statement> {
    let values = statement.values.into_iter().map(value_from_proto);
    let params = if statement.named {
        if statement.names.len() != values.len() {
            return Err(malformed("a statement"));
        }
        Params::Named(statement.names.into_iter().zip(values).collect())
    } else {
        Params::Positional(values.collect())
    };
    Ok(Statement { sql: statement.sql, params })
}

pub(crate) fn rows_to_proto(rows: &Rows) -> proto::Rows {
    proto::Rows {
        columns: rows.columns().to_vec(),
        row_count: rows.len() as u64,
        values: rows.values().iter().flatten().map(value_to_proto).collect(),
    }
}

pub(crate) fn rows_from_proto(rows: Option<proto::Rows>) -> Result<Rows> {
    let rows = rows.unwrap_or_default();
    let width = rows.columns.len();
    if (width as u64).checked_mul(rows.row_count) != Some(rows.values.len() as u64) {
        return Err(malformed("rows"));
    }
    // Rows without columns do not exist; their count would be unbounded.
    if width == 0 {
        return Ok(Rows::default());
    }
    let mut out = Vec::with_capacity(rows.row_count as usize);
    let mut values = rows.values.into_iter().map(value_from_proto);
    loop {
        let row: Vec<Value> = values.by_ref().take(width).collect();
        if row.is_empty() {
            return Ok(Rows::new(rows.columns, out));
        }
        out.push(row);
    }
}

pub(crate) fn results_to_proto(results: &[ExecuteResult]) -> proto::ExecuteResponse {
    proto::ExecuteResponse {
        results: results
            .iter()
            .map(|r| proto::ExecuteResult {
                rows_affected: r.rows_affected,
                last_insert_rowid: r.last_insert_rowid,
                index: r.index,
                rows: (!r.rows.columns().is_empty()).then(|| rows_to_proto(&r.rows)),
            })
            .collect(),
    }
}

pub(crate) fn results_from_proto(response: proto::ExecuteResponse) -> Result<Vec<ExecuteResult>> {
    response
        .results
        .into_iter()
        .map(|r| {
            Ok(ExecuteResult {
                rows_affected: r.rows_affected,
                last_insert_rowid: r.last_insert_rowid,
                index: r.index,
                rows: rows_from_proto(r.rows)?,
            })
        })
        .collect()
}
