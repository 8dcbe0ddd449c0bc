//! [`RecordMessage`]: how commands and their results are kept in `_quorumlite_recent`, one row per
//! log entry. Part of the replicated format: tags are never used again for something else.

use prost::Message;

use crate::error::{Error, ErrorKind};
use crate::sqlite::apply::command::CommandResult;
use crate::sqlite::apply::recent::{Identity, Place};
use crate::statement::{ExecuteResult, Rows};
use crate::value::Value;

/// RETURNING rows of a command that take more bytes than this, column names included, are not kept.
const MAX_KEPT_ROWS: usize = 4096;
/// All results of a command that take more bytes than this are not kept.
const MAX_KEPT_COMMAND: usize = 16 << 10;
/// Once the results of an entry take more bytes than this, no further ones are kept: a row must
/// stay below the size that SQLite allows, whatever an entry holds.
const MAX_KEPT_ENTRY: usize = 4 << 20;
/// A kept error message is cut to this many bytes.
const MAX_KEPT_MESSAGE: usize = 4096;

#[derive(Clone, PartialEq, Message)]
pub(in crate::sqlite) struct RowMessage {
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<RecordMessage>,
    /// The term of the entry, and the time after it: with the row's key this is how far the
    /// database has come, so that a transaction need not write that to a page of its own.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    #[prost(sint64, tag = "3")]
    pub timestamp_us: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::sqlite) struct RecordMessage {
    #[prost(fixed64, tag = "1")]
    client_high: u64,
    #[prost(fixed64, tag = "2")]
    client_low: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(uint64, tag = "4")]
    acked_below: u64,
    #[prost(uint64, tag = "5")]
    since_index: u64,
    #[prost(uint32, tag = "6")]
    since_slot: u32,
    #[prost(message, repeated, tag = "7")]
    results: Vec<ResultMessage>,
    #[prost(message, optional, tag = "8")]
    error: Option<ErrorMessage>,
    #[prost(bool, tag = "9")]
    dropped: bool,
    /// The client, and the place at which it became known, are those of the record before.
    #[prost(bool, tag = "10")]
    same_client: bool,
}

/// A [`RowMessage`] without its results.
#[derive(Clone, PartialEq, Message)]
pub(in crate::sqlite) struct RowHeads {
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<RecordHead>,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    #[prost(sint64, tag = "3")]
    pub timestamp_us: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::sqlite) struct RecordHead {
    #[prost(fixed64, tag = "1")]
    client_high: u64,
    #[prost(fixed64, tag = "2")]
    client_low: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(uint64, tag = "4")]
    acked_below: u64,
    #[prost(uint64, tag = "5")]
    since_index: u64,
    #[prost(uint32, tag = "6")]
    since_slot: u32,
    #[prost(bool, tag = "10")]
    same_client: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ResultMessage {
    #[prost(uint64, tag = "1")]
    rows_affected: u64,
    #[prost(sint64, tag = "2")]
    last_insert_rowid: i64,
    #[prost(string, repeated, tag = "3")]
    columns: Vec<String>,
    /// Row after row.
    #[prost(message, repeated, tag = "4")]
    values: Vec<ValueMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueMessage {
    /// NULL where absent.
    #[prost(oneof = "ValueKind", tags = "1, 2, 3, 4")]
    kind: Option<ValueKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ValueKind {
    #[prost(sint64, tag = "1")]
    Integer(i64),
    #[prost(double, tag = "2")]
    Real(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bytes, tag = "4")]
    Blob(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
struct ErrorMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    code: String,
    #[prost(string, tag = "3")]
    message: String,
    #[prost(sint32, optional, tag = "4")]
    sqlite_code: Option<i32>,
    #[prost(bool, tag = "5")]
    retryable: bool,
}

impl RowHeads {
    /// Whose each record is, and the place at which its client became known.
    pub(in crate::sqlite) fn identities(&self) -> impl Iterator<Item = (Identity, Place)> + '_ {
        let mut of = (0, Place { index: 0, slot: 0 });
        self.records.iter().map(move |head| {
            if !head.same_client {
                let client = u128::from(head.client_high) << 64 | u128::from(head.client_low);
                of = (client, Place { index: head.since_index, slot: head.since_slot });
            }
            let (client, since) = of;
            let (sequence, acked_below) = (head.sequence, head.acked_below);
            (Identity { client, sequence, acked_below }, since)
        })
    }
}

impl RecordMessage {
    /// `before`: the bytes that earlier records of the same row take. `since` is where the client
    /// became known; none where the record before has the same client, which then became known at
    /// the same place, for the client that was used last is never dropped.
    pub(in crate::sqlite) fn new(
        identity: &Identity,
        since: Option<Place>,
        result: &CommandResult,
        before: usize,
    ) -> RecordMessage {
        let mut message = RecordMessage {
            sequence: identity.sequence,
            acked_below: identity.acked_below,
            same_client: since.is_none(),
            ..RecordMessage::default()
        };
        if let Some(since) = since {
            message.client_high = (identity.client >> 64) as u64;
            message.client_low = identity.client as u64;
            message.since_index = since.index;
            message.since_slot = since.slot;
        }
        match result {
            Ok(results) => {
                message.dropped = before > MAX_KEPT_ENTRY || size_of_rows(results) > MAX_KEPT_ROWS;
                if !message.dropped {
                    message.results = results.iter().map(ResultMessage::new).collect();
                    if message.encoded_len() > MAX_KEPT_COMMAND {
                        message.dropped = true;
                        message.results = Vec::new();
                    }
                }
            }
            Err(error) => {
                let limit = if before > MAX_KEPT_ENTRY { 0 } else { MAX_KEPT_MESSAGE };
                message.error = Some(ErrorMessage::new(error, limit));
            }
        }
        message
    }

    /// What the command at log index `index` answered.
    pub(in crate::sqlite) fn to_result(&self, index: u64) -> CommandResult {
        if let Some(error) = &self.error {
            return Err(error.to_error().with_index(index));
        }
        if self.dropped {
            return Err(Error::new(
                ErrorKind::Timeout,
                "RESULT_DROPPED",
                format!(
                    "the write was applied at index {index}, but what it returned was too large to \
                     keep for a repeated request: query the rows"
                ),
            )
            .with_index(index));
        }
        Ok(self.results.iter().map(|r| r.to_result(index)).collect())
    }
}

/// In bytes, with the names of the columns.
fn size_of_rows(results: &[ExecuteResult]) -> usize {
    let names = results.iter().flat_map(|r| r.rows.columns().iter()).map(String::len);
    let values = results.iter().flat_map(|r| r.rows.values()).flatten().map(Value::size);
    names.sum::<usize>() + values.sum::<usize>()
}

impl ResultMessage {
    fn new(result: &ExecuteResult) -> ResultMessage {
        ResultMessage {
            rows_affected: result.rows_affected,
            last_insert_rowid: result.last_insert_rowid,
            columns: result.rows.columns().to_vec(),
            values: result.rows.values().iter().flatten().map(ValueMessage::new).collect(),
        }
    }

    fn to_result(&self, index: u64) -> ExecuteResult {
        let rows = self
            .values
            .chunks(self.columns.len().max(1))
            .map(|row| row.iter().map(ValueMessage::to_value).collect())
            .collect();
        ExecuteResult {
            rows_affected: self.rows_affected,
            last_insert_rowid: self.last_insert_rowid,
            index,
            rows: Rows::new(self.columns.clone(), rows),
        }
    }
}

impl ValueMessage {
    fn new(value: &Value) -> ValueMessage {
        let kind = match value {
            Value::Null => None,
            Value::Integer(v) => Some(ValueKind::Integer(*v)),
            Value::Real(v) => Some(ValueKind::Real(*v)),
            Value::Text(v) => Some(ValueKind::Text(v.clone())),
            Value::Blob(v) => Some(ValueKind::Blob(v.clone())),
        };
        ValueMessage { kind }
    }

    fn to_value(&self) -> Value {
        match &self.kind {
            None => Value::Null,
            Some(ValueKind::Integer(v)) => Value::Integer(*v),
            Some(ValueKind::Real(v)) => Value::Real(*v),
            Some(ValueKind::Text(v)) => Value::Text(v.clone()),
            Some(ValueKind::Blob(v)) => Value::Blob(v.clone()),
        }
    }
}

impl ErrorMessage {
    fn new(error: &Error, limit: usize) -> ErrorMessage {
        let message = error.message();
        let mut end = message.len().min(limit);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        ErrorMessage {
            kind: error.kind().as_str().to_owned(),
            code: error.code().to_owned(),
            message: message[..end].to_owned(),
            sqlite_code: error.sqlite_code(),
            retryable: error.retryable(),
        }
    }

    fn to_error(&self) -> Error {
        let kind = ErrorKind::from_name(&self.kind).unwrap_or(ErrorKind::Sql);
        let mut error = Error::new(kind, self.code.clone(), self.message.clone())
            .with_retryable(self.retryable);
        if let Some(code) = self.sqlite_code {
            error = error.with_sqlite_code(code);
        }
        error
    }
}
