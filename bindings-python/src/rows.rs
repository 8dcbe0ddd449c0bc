//! [`Rows`], [`Row`] and [`Result`]: answers. The values stay the core's until a row is looked at,
//! so a large answer neither holds the GIL at once nor exists twice.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::{PyIndexError, PyKeyError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyList, PySlice, PyString, PyTuple};
use quorumlite::{ExecuteResult, Value};

/// Above this many columns a name is looked up in a map instead of one by one.
const FEW_COLUMNS: usize = 16;

/// The columns of an answer, shared by all of its rows.
struct Columns {
    names: Arc<[String]>,
    positions: OnceLock<HashMap<String, usize>>,
    tuple: OnceLock<Py<PyTuple>>,
}

impl Columns {
    fn new(names: Arc<[String]>) -> Self {
        Columns { names, positions: OnceLock::new(), tuple: OnceLock::new() }
    }

    /// The position of the first column called `name`.
    fn position(&self, name: &str) -> Option<usize> {
        if self.names.len() <= FEW_COLUMNS {
            return self.names.iter().position(|n| n == name);
        }
        let positions = self.positions.get_or_init(|| {
            // The first of two equal names wins: it is inserted last.
            self.names.iter().enumerate().rev().map(|(i, n)| (n.clone(), i)).collect()
        });
        positions.get(name).copied()
    }

    fn tuple(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        if let Some(t) = self.tuple.get() {
            return Ok(t.clone_ref(py));
        }
        let t = PyTuple::new(py, self.names.iter())?.unbind();
        // Another thread may have been first: equal tuples, either will do.
        let _ = self.tuple.set(t.clone_ref(py));
        Ok(t)
    }
}

fn value_to_py<'py>(py: Python<'py>, v: &Value) -> Bound<'py, PyAny> {
    match v {
        Value::Null => py.None().into_bound(py),
        Value::Integer(i) => PyInt::new(py, *i).into_any(),
        Value::Real(f) => PyFloat::new(py, *f).into_any(),
        Value::Text(s) => PyString::new(py, s).into_any(),
        Value::Blob(b) => PyBytes::new(py, b).into_any(),
    }
}

/// A Python index (an `int` or what has `__index__`) as a position, counting negative ones from
/// the end; none where it is out of range. `Err` where it is no index at all.
fn position(index: &Bound<'_, PyAny>, len: usize) -> PyResult<Option<usize>> {
    let i = match index.extract::<isize>() {
        Ok(i) => i,
        Err(e) if e.is_instance_of::<PyOverflowError>(index.py()) => return Ok(None),
        Err(e) => return Err(e),
    };
    let i = if i < 0 { i.saturating_add_unsigned(len) } else { i };
    Ok(usize::try_from(i).ok().filter(|i| *i < len))
}

/// The rows that a query gave: a sequence of Row.
#[pyclass(frozen, module = "quorumlite")]
pub(crate) struct Rows {
    rows: Arc<quorumlite::Rows>,
    columns: Arc<Columns>,
}

impl Rows {
    /// Takes the core's rows over.
    pub(crate) fn new(rows: quorumlite::Rows) -> Self {
        Self::shared(Arc::new(rows))
    }

    fn shared(rows: Arc<quorumlite::Rows>) -> Self {
        let columns = Arc::new(Columns::new(rows.columns().clone()));
        Rows { rows, columns }
    }

    fn row(&self, py: Python<'_>, i: usize) -> PyResult<Option<Row>> {
        row(py, &self.rows, &self.columns, i)
    }

    fn all(&self, py: Python<'_>) -> PyResult<Vec<Row>> {
        (0..self.rows.len()).map_while(|i| self.row(py, i).transpose()).collect()
    }
}

fn row(
    py: Python<'_>,
    rows: &quorumlite::Rows,
    columns: &Arc<Columns>,
    i: usize,
) -> PyResult<Option<Row>> {
    let Some(values) = rows.values().get(i) else { return Ok(None) };
    let values = PyTuple::new(py, values.iter().map(|v| value_to_py(py, v)))?;
    Ok(Some(Row { values: values.unbind(), columns: columns.clone() }))
}

#[pymethods]
impl Rows {
    /// The names of the columns, in order.
    #[getter]
    fn columns(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        self.columns.tuple(py)
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let len = self.rows.len();
        if let Ok(slice) = index.cast::<PySlice>() {
            let at = slice.indices(isize::try_from(len)?)?;
            let list = PyList::empty(py);
            let mut i = at.start;
            for _ in 0..at.slicelength {
                if let Some(row) = usize::try_from(i).ok().map(|i| self.row(py, i)).transpose()? {
                    list.append(row.map(|r| Py::new(py, r)).transpose()?)?;
                }
                // Past the last row the sum is not used, and may be anything.
                i = i.wrapping_add(at.step);
            }
            return Ok(list.into_any());
        }
        let Ok(at) = position(index, len) else {
            return Err(PyTypeError::new_err(format!(
                "rows are indexed by int or slice, not {}; a column is looked up in a row: \
                 rows[0]['name']",
                index.get_type().name()?
            )));
        };
        match at.map(|i| self.row(py, i)).transpose()?.flatten() {
            Some(row) => Ok(Bound::new(py, row)?.into_any()),
            None => Err(PyIndexError::new_err(format!(
                "row {} does not exist; the result has {len} row(s)",
                index.repr()?.to_string_lossy()
            ))),
        }
    }

    fn __iter__(&self) -> RowsIterator {
        RowsIterator {
            rows: self.rows.clone(),
            columns: self.columns.clone(),
            next: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    fn __contains__(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.find(py, item)?.is_some())
    }

    fn __reversed__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut rows = self.all(py)?;
        rows.reverse();
        Ok(PyList::new(py, rows)?.try_iter()?.into_any().unbind())
    }

    /// The position of the first row that equals `value`.
    #[pyo3(signature = (value, /))]
    fn index(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.find(py, value)?.ok_or_else(|| PyValueError::new_err("no row equals this value"))
    }

    /// How many rows equal `value`.
    #[pyo3(signature = (value, /))]
    fn count(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut n = 0;
        for row in self.all(py)? {
            n += usize::from(value.eq(Py::new(py, row)?)?);
        }
        Ok(n)
    }

    fn __richcmp__<'py>(
        &self,
        py: Python<'py>,
        other: &Bound<'py, PyAny>,
        op: CompareOp,
    ) -> PyResult<Py<PyAny>> {
        let other = if let Ok(rows) = other.cast::<Rows>() {
            PyList::new(py, rows.get().all(py)?)?
        } else if let Ok(list) = other.cast::<PyList>() {
            list.clone()
        } else {
            return Ok(py.NotImplemented());
        };
        if !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Ok(py.NotImplemented());
        }
        Ok(PyList::new(py, self.all(py)?)?.rich_compare(other, op)?.unbind())
    }

    fn __repr__(&self) -> String {
        let n = self.rows.len();
        let columns = self.rows.columns().join(", ");
        format!("<quorumlite.Rows: {n} row{} ({columns})>", if n == 1 { "" } else { "s" })
    }
}

impl Rows {
    fn find(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        for i in 0..self.rows.len() {
            if let Some(row) = self.row(py, i)?
                && item.eq(Py::new(py, row)?)?
            {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }
}

/// Goes through the rows of an answer.
#[pyclass(frozen, module = "quorumlite._quorumlite")]
pub(crate) struct RowsIterator {
    rows: Arc<quorumlite::Rows>,
    columns: Arc<Columns>,
    next: std::sync::atomic::AtomicUsize,
}

#[pymethods]
impl RowsIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Row>> {
        let i = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        row(py, &self.rows, &self.columns, i)
    }

    fn __length_hint__(&self) -> usize {
        let next = self.next.load(std::sync::atomic::Ordering::Relaxed);
        self.rows.len().saturating_sub(next)
    }
}

/// One row: index it by position or by the name of a column, unpack it, compare it to a tuple.
#[pyclass(frozen, module = "quorumlite")]
pub(crate) struct Row {
    values: Py<PyTuple>,
    columns: Arc<Columns>,
}

#[pymethods]
impl Row {
    /// The names of the columns, in order. With it, `dict(row)` works.
    fn keys(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        self.columns.tuple(py)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.values.bind(py).len()
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let values = self.values.bind(py);
        if let Ok(name) = index.cast::<PyString>() {
            let name = name.to_string_lossy();
            return match self.columns.position(&name) {
                Some(i) => values.get_item(i),
                None => Err(PyKeyError::new_err(format!(
                    "no column '{name}'; the columns are: {}",
                    self.columns.names.join(", ")
                ))),
            };
        }
        if index.is_instance_of::<PySlice>() {
            return values.as_any().get_item(index);
        }
        let Ok(at) = position(index, values.len()) else {
            return Err(PyTypeError::new_err(format!(
                "a row is indexed by int, str or slice, not {}",
                index.get_type().name()?
            )));
        };
        match at {
            Some(i) => values.get_item(i),
            None => Err(PyIndexError::new_err(format!(
                "column {} does not exist; the row has {} column(s)",
                index.repr()?.to_string_lossy(),
                values.len()
            ))),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.values.bind(py).as_any().try_iter()?.into_any())
    }

    fn __reversed__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let list = self.values.bind(py).to_list();
        list.reverse()?;
        Ok(list.try_iter()?.into_any())
    }

    fn __contains__(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.values.bind(py).contains(value)
    }

    /// The position of the first value that equals `value`.
    #[pyo3(signature = (value, /))]
    fn index(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.values.bind(py).index(value)
    }

    /// How many values equal `value`.
    #[pyo3(signature = (value, /))]
    fn count<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.values.bind(py).call_method1("count", (value,))
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.values.bind(py).hash()
    }

    // By values alone, so that equality stays transitive with tuples.
    fn __richcmp__<'py>(
        &self,
        py: Python<'py>,
        other: &Bound<'py, PyAny>,
        op: CompareOp,
    ) -> PyResult<Py<PyAny>> {
        let other = if let Ok(row) = other.cast::<Row>() {
            row.get().values.bind(py).clone()
        } else if let Ok(tuple) = other.cast::<PyTuple>() {
            tuple.clone()
        } else {
            return Ok(py.NotImplemented());
        };
        Ok(self.values.bind(py).rich_compare(other, op)?.unbind())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = Vec::with_capacity(self.columns.names.len());
        for (name, v) in self.columns.names.iter().zip(self.values.bind(py).iter()) {
            parts.push(format!("{name}={}", v.repr()?.to_string_lossy()));
        }
        Ok(format!("Row({})", parts.join(", ")))
    }
}

/// What one write did.
#[pyclass(frozen, module = "quorumlite")]
pub(crate) struct Result {
    rows_affected: u64,
    last_insert_rowid: i64,
    index: u64,
    rows: Arc<quorumlite::Rows>,
}

impl Result {
    /// Takes the core's result over.
    pub(crate) fn new(r: ExecuteResult) -> Self {
        Result {
            rows_affected: r.rows_affected,
            last_insert_rowid: r.last_insert_rowid,
            index: r.index,
            rows: Arc::new(r.rows),
        }
    }
}

#[pymethods]
impl Result {
    /// Rows that the statement itself inserted, updated or deleted.
    #[getter]
    fn rows_affected(&self) -> u64 {
        self.rows_affected
    }

    /// The rowid of the last row that this statement inserted; 0 where it inserted none.
    #[getter]
    fn last_insert_rowid(&self) -> i64 {
        self.last_insert_rowid
    }

    /// The log index at which the write was applied.
    #[getter]
    fn index(&self) -> u64 {
        self.index
    }

    /// The rows of a RETURNING clause.
    #[getter]
    fn rows(&self) -> Rows {
        Rows::shared(self.rows.clone())
    }

    fn __repr__(&self) -> String {
        format!(
            "Result(rows_affected={}, last_insert_rowid={}, index={}, rows={})",
            self.rows_affected,
            self.last_insert_rowid,
            self.index,
            self.rows().__repr__()
        )
    }
}
