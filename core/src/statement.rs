//! [`Statement`] and its [`Params`] going in, [`Rows`] and [`ExecuteResult`] coming out.

use std::ops::Index;
use std::sync::Arc;

use crate::value::Value;

/// The parameters of one statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Params {
    /// Bound in order to `?`, `?NNN`. The count must be exactly the statement's.
    Positional(Vec<Value>),
    /// Bound by name to `:name`, `@name` or `$name`; the name is given without its prefix.
    /// Every name of the statement must be given, and no other.
    Named(Vec<(String, Value)>),
}

impl Params {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match self {
            Params::Positional(v) => v.is_empty(),
            Params::Named(v) => v.is_empty(),
        }
    }
}

impl Default for Params {
    fn default() -> Self {
        Params::Positional(Vec::new())
    }
}

impl From<()> for Params {
    fn from((): ()) -> Self {
        Params::default()
    }
}

impl From<Vec<Value>> for Params {
    fn from(values: Vec<Value>) -> Self {
        Params::Positional(values)
    }
}

impl<const N: usize> From<[Value; N]> for Params {
    fn from(values: [Value; N]) -> Self {
        Params::Positional(values.into())
    }
}

impl From<Vec<(String, Value)>> for Params {
    fn from(values: Vec<(String, Value)>) -> Self {
        Params::Named(values)
    }
}

/// Positional parameters from a list of anything that converts into a [`Value`].
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        $crate::Params::Positional(vec![$($crate::Value::from($value)),*])
    };
}

/// Named parameters: `named_params! { "id": 1, "name": "ann" }`.
#[macro_export]
macro_rules! named_params {
    ($($name:literal : $value:expr),* $(,)?) => {
        $crate::Params::Named(vec![$(($name.to_string(), $crate::Value::from($value))),*])
    };
}

/// One SQL statement with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Exactly one SQL statement; a trailing semicolon and comments are fine.
    pub sql: String,
    /// Its parameters.
    pub params: Params,
}

impl Statement {
    /// A statement with parameters.
    pub fn new(sql: impl Into<String>, params: impl Into<Params>) -> Self {
        Statement { sql: sql.into(), params: params.into() }
    }

    /// The size that counts towards limits, in bytes.
    pub(crate) fn size(&self) -> usize {
        let params: usize = match &self.params {
            Params::Positional(v) => v.iter().map(Value::size).sum(),
            Params::Named(v) => v.iter().map(|(n, v)| n.len() + v.size()).sum(),
        };
        self.sql.len() + params + 16
    }
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Statement::new(sql, ())
    }
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Statement::new(sql, ())
    }
}

impl<S: Into<String>, P: Into<Params>> From<(S, P)> for Statement {
    fn from((sql, params): (S, P)) -> Self {
        Statement::new(sql, params)
    }
}

/// The rows that a query or a RETURNING clause gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    columns: Arc<[String]>,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Rows with the given column names.
    pub fn new(columns: impl Into<Arc<[String]>>, rows: Vec<Vec<Value>>) -> Self {
        Rows { columns: columns.into(), rows }
    }

    /// The names of the columns, in order; a name may occur twice.
    pub fn columns(&self) -> &Arc<[String]> {
        &self.columns
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Row `i`, if there is one.
    pub fn get(&self, i: usize) -> Option<Row<'_>> {
        self.rows.get(i).map(|values| Row { columns: &self.columns, values })
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }

    /// The bare values, row by row.
    pub fn into_values(self) -> Vec<Vec<Value>> {
        self.rows
    }

    /// The bare values, row by row.
    pub fn values(&self) -> &[Vec<Value>] {
        &self.rows
    }
}

impl Default for Rows {
    fn default() -> Self {
        Rows { columns: Arc::from(Vec::new()), rows: Vec::new() }
    }
}

/// One row: index it by position, or look a column up by name.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [String],
    values: &'a [Value],
}

impl<'a> Row<'a> {
    /// The value of the first column called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        let i = self.columns.iter().position(|c| c == name)?;
        self.values.get(i)
    }

    /// The values in the order of the columns.
    pub fn values(&self) -> &'a [Value] {
        self.values
    }
}

impl Index<usize> for Row<'_> {
    type Output = Value;

    /// # Panics
    /// Like a slice, where `i` is not a column.
    fn index(&self, i: usize) -> &Value {
        &self.values[i]
    }
}

/// What one write did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExecuteResult {
    /// Rows inserted, updated or deleted by the statement itself, as `sqlite3_changes()` counts;
    /// 0 for statements that are none of these.
    pub rows_affected: u64,
    /// The rowid of the last row that this command inserted; 0 where it inserted none.
    pub last_insert_rowid: i64,
    /// The log index at which the write was applied.
    pub index: u64,
    /// The rows of a RETURNING clause (or of a SELECT sent as a write).
    pub rows: Rows,
}
