//! Values, parameters and statements going in; rows and results coming out.

use std::collections::HashMap;

/// A value as SQLite stores it.
#[derive(Debug, Clone, PartialEq, uniffi::Enum)]
pub enum Value {
    /// NULL.
    Null,
    /// A 64-bit signed integer.
    Integer {
        /// The number.
        value: i64,
    },
    /// A 64-bit float. SQLite stores NaN as NULL.
    Real {
        /// The number.
        value: f64,
    },
    /// UTF-8 text.
    Text {
        /// The text.
        value: String,
    },
    /// Bytes.
    Blob {
        /// The bytes.
        value: Vec<u8>,
    },
}

impl From<Value> for quorumlite::Value {
    fn from(v: Value) -> Self {
        match v {
            Value::Null => quorumlite::Value::Null,
            Value::Integer { value } => quorumlite::Value::Integer(value),
            Value::Real { value } => quorumlite::Value::Real(value),
            Value::Text { value } => quorumlite::Value::Text(value),
            Value::Blob { value } => quorumlite::Value::Blob(value),
        }
    }
}

impl From<quorumlite::Value> for Value {
    fn from(v: quorumlite::Value) -> Self {
        match v {
            quorumlite::Value::Null => Value::Null,
            quorumlite::Value::Integer(value) => Value::Integer { value },
            quorumlite::Value::Real(value) => Value::Real { value },
            quorumlite::Value::Text(value) => Value::Text { value },
            quorumlite::Value::Blob(value) => Value::Blob { value },
        }
    }
}

/// The parameters of one statement.
#[derive(Debug, Clone, PartialEq, uniffi::Enum)]
pub enum Params {
    /// Bound in order to `?`, `?NNN`.
    Positional {
        /// As many as the statement has.
        values: Vec<Value>,
    },
    /// Bound by name to `:name`, `@name` or `$name`, the name without its prefix.
    Named {
        /// Every name of the statement, and no other.
        values: HashMap<String, Value>,
    },
}

/// One SQL statement with its parameters.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct Statement {
    /// Exactly one SQL statement.
    pub sql: String,
    /// Its parameters.
    pub params: Params,
}

impl From<Statement> for quorumlite::Statement {
    fn from(s: Statement) -> Self {
        let params = match s.params {
            Params::Positional { values } => {
                quorumlite::Params::Positional(values.into_iter().map(Into::into).collect())
            }
            Params::Named { values } => quorumlite::Params::Named(
                values.into_iter().map(|(name, v)| (name, v.into())).collect(),
            ),
        };
        quorumlite::Statement { sql: s.sql, params }
    }
}

/// The rows that a query or a RETURNING clause gave.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct Rows {
    /// The names of the columns, in order; a name may occur twice.
    pub columns: Vec<String>,
    /// The rows, each with a value for each column.
    pub rows: Vec<Vec<Value>>,
}

impl From<quorumlite::Rows> for Rows {
    fn from(rows: quorumlite::Rows) -> Self {
        Rows {
            columns: rows.columns().to_vec(),
            rows: rows
                .into_values()
                .into_iter()
                .map(|row| row.into_iter().map(Into::into).collect())
                .collect(),
        }
    }
}

/// What one write did.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct ExecuteResult {
    /// Rows that the statement itself inserted, updated or deleted.
    pub rows_affected: u64,
    /// The rowid of the last row that this command inserted; 0 where it inserted none.
    pub last_insert_rowid: i64,
    /// The log index at which the write was applied.
    pub index: u64,
    /// The rows of a RETURNING clause.
    pub rows: Rows,
}

impl From<quorumlite::ExecuteResult> for ExecuteResult {
    fn from(r: quorumlite::ExecuteResult) -> Self {
        ExecuteResult {
            rows_affected: r.rows_affected,
            last_insert_rowid: r.last_insert_rowid,
            index: r.index,
            rows: r.rows.into(),
        }
    }
}
