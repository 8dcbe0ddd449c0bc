//! From Python's objects to the core's: values, parameters, statements, options. Nothing is
//! guessed: what is not one of SQLite's five types is a `TypeError` that names the place.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple,
    PyType,
};
use quorumlite::{Params, Statement, Value};

/// The longest accepted number of seconds: a day, as in the core.
const MAX_SECONDS: f64 = 86_400.0;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;

/// Where a value stands, for messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Which statement of a batch, from 0.
    statement: Option<usize>,
    parameter: Parameter<'a>,
}

#[derive(Clone, Copy)]
enum Parameter<'a> {
    /// From 0; shown from 1, as SQLite counts.
    Position(usize),
    Name(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(i) = self.statement {
            write!(f, "statement {}, ", i + 1)?;
        }
        match self.parameter {
            Parameter::Position(i) => write!(f, "parameter {}", i + 1),
            Parameter::Name(name) => write!(f, "parameter '{name}'"),
        }
    }
}

/// The name of a value's type, as Python writes it.
fn type_name(v: Any<'_, '_>) -> String {
    let t = v.get_type();
    let qualified = t.fully_qualified_name().map(|n| n.to_string_lossy().into_owned());
    qualified.unwrap_or_else(|_| "object".into())
}

/// The UTF-8 of a string. `place` says where it stands.
fn text(s: &Bound<'_, PyString>, place: impl fmt::Display) -> PyResult<String> {
    match s.to_str() {
        Ok(s) => Ok(s.to_owned()),
        Err(cause) => {
            let e = PyValueError::new_err(format!(
                "{place}: the text contains a lone surrogate ({cause}), which UTF-8 cannot hold; \
                 clean it, for example with text.encode('utf-8', 'replace').decode()"
            ));
            e.set_cause(s.py(), Some(cause));
            Err(e)
        }
    }
}

/// The bytes of a `memoryview`, of any format and stride.
fn memory(v: Any<'_, '_>) -> PyResult<Vec<u8>> {
    let bytes = v.call_method0("tobytes")?;
    Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
}

fn value(v: Any<'_, '_>, place: Place<'_>) -> PyResult<Value> {
    if v.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(s) = v.cast::<PyString>() {
        return Ok(Value::Text(text(s, place)?));
    }
    // A bool is an int.
    if let Ok(i) = v.cast::<PyInt>() {
        return i.extract::<i64>().map(Value::Integer).map_err(|_| {
            PyOverflowError::new_err(format!(
                "{place}: the integer does not fit in 64 bits (-2**63 to 2**63 - 1); pass \
                 str(value) to store it as text, or float(value) to store it rounded"
            ))
        });
    }
    if let Ok(f) = v.cast::<PyFloat>() {
        return Ok(Value::Real(f.value()));
    }
    if let Ok(b) = v.cast::<PyBytes>() {
        return Ok(Value::Blob(b.as_bytes().to_vec()));
    }
    if let Ok(b) = v.cast::<PyByteArray>() {
        return Ok(Value::Blob(b.to_vec()));
    }
    if v.cast::<PyMemoryView>().is_ok() {
        return Ok(Value::Blob(memory(v)?));
    }
    Err(PyTypeError::new_err(format!(
        "{place}: a value of type {} cannot be stored; convert it to None, int, float, str or \
         bytes first (for example value.isoformat() for a date, str(value) for a Decimal or UUID)",
        type_name(v)
    )))
}

/// Parameters: a sequence binds by position, a mapping by name, `None` is none.
fn params(p: Any<'_, '_>, statement: Option<usize>) -> PyResult<Params> {
    if p.is_none() {
        return Ok(Params::default());
    }
    let positional = |items: &mut dyn Iterator<Item = PyResult<Bound<'_, PyAny>>>, n: usize| {
        let mut values = Vec::with_capacity(n);
        for (i, item) in items.enumerate() {
            values.push(value(&item?, Place { statement, parameter: Parameter::Position(i) })?);
        }
        Ok(Params::Positional(values))
    };
    if let Ok(t) = p.cast::<PyTuple>() {
        return positional(&mut t.iter().map(Ok), t.len());
    }
    if let Ok(l) = p.cast::<PyList>() {
        return positional(&mut l.iter().map(Ok), l.len());
    }
    if let Ok(d) = p.cast::<PyDict>() {
        // A copy of the items: converting a value may run code that changes the dictionary.
        return named(&d.items(), statement);
    }
    let is_bytes_like = p.is_instance_of::<PyString>()
        || p.is_instance_of::<PyBytes>()
        || p.is_instance_of::<PyByteArray>()
        || p.is_instance_of::<PyMemoryView>();
    if !is_bytes_like {
        static MAPPING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static SEQUENCE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        if p.is_instance(MAPPING.import(p.py(), "collections.abc", "Mapping")?)? {
            let items = p.call_method0("items")?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            return named(&PyList::new(p.py(), items)?, statement);
        }
        if p.is_instance(SEQUENCE.import(p.py(), "collections.abc", "Sequence")?)? {
            return positional(&mut p.try_iter()?, 0);
        }
    }
    let place = statement.map_or(String::new(), |i| format!("statement {}, ", i + 1));
    let advice = if is_bytes_like {
        "put a single value in a list: [value]"
    } else {
        "pass a list or tuple for ? parameters, a dict for :name parameters (list(x) makes a list \
         of an iterator, a set or an array)"
    };
    Err(PyTypeError::new_err(format!(
        "{place}params must be a sequence or a mapping, not {}; {advice}",
        type_name(p)
    )))
}

fn named(items: &Bound<'_, PyList>, statement: Option<usize>) -> PyResult<Params> {
    let mut values = Vec::with_capacity(items.len());
    for item in items.iter() {
        let (key, v): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let key = key.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!(
                "the names of parameters must be str, not {}; for parameters by position pass a \
                 list",
                type_name(&key)
            ))
        })?;
        let name = text(key, "the name of a parameter")?;
        let converted = value(&v, Place { statement, parameter: Parameter::Name(&name) })?;
        values.push((name, converted));
    }
    Ok(Params::Named(values))
}

fn sql(s: Any<'_, '_>, statement: Option<usize>) -> PyResult<String> {
    let place = || statement.map_or("sql".into(), |i| format!("statement {}: sql", i + 1));
    match s.cast::<PyString>() {
        Ok(s) => text(s, place()),
        Err(_) => {
            Err(PyTypeError::new_err(format!("{} must be str, not {}", place(), type_name(s))))
        }
    }
}

/// One statement.
pub(crate) fn statement(s: Any<'_, '_>, p: Any<'_, '_>) -> PyResult<Statement> {
    Ok(Statement { sql: sql(s, None)?, params: params(p, None)? })
}

/// The statements of a batch: each is `"sql"` or `("sql", params)`.
pub(crate) fn statements(list: Any<'_, '_>) -> PyResult<Vec<Statement>> {
    let shape = "execute_batch takes a list whose items are \"sql\" or (\"sql\", params)";
    let wrong = list.is_instance_of::<PyString>()
        || list.is_instance_of::<PyBytes>()
        || list.is_instance_of::<PyDict>();
    let items = if wrong { None } else { list.try_iter().ok() };
    let Some(items) = items else {
        return Err(PyTypeError::new_err(format!("{shape}; it was given {}", type_name(list))));
    };
    let mut statements = Vec::new();
    for (i, item) in items.enumerate() {
        let item = item?;
        if item.is_instance_of::<PyString>() {
            statements.push(Statement { sql: sql(&item, Some(i))?, params: Params::default() });
            continue;
        }
        let pair = match (item.cast::<PyTuple>(), item.cast::<PyList>()) {
            (Ok(t), _) if (1..=2).contains(&t.len()) => t.clone(),
            (_, Ok(l)) if (1..=2).contains(&l.len()) => l.to_tuple(),
            _ => {
                return Err(PyTypeError::new_err(format!(
                    "{shape}; item {} is {}",
                    i + 1,
                    item.repr().map_or_else(|_| type_name(&item), |r| shorten(&r)),
                )));
            }
        };
        let sql = sql(&pair.get_item(0)?, Some(i))?;
        let params = match pair.get_item(1) {
            Ok(p) => params(&p, Some(i))?,
            Err(_) => Params::default(),
        };
        statements.push(Statement { sql, params });
    }
    Ok(statements)
}

fn shorten(repr: &Bound<'_, PyString>) -> String {
    let s = repr.to_string_lossy();
    match s.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &s[..at]),
        None => s.into_owned(),
    }
}

/// A number of seconds; `None` stays none.
pub(crate) fn seconds(name: &str, v: Any<'_, '_>) -> PyResult<Option<Duration>> {
    if v.is_none() {
        return Ok(None);
    }
    let number = !v.is_instance_of::<PyBool>()
        && (v.is_instance_of::<PyInt>() || v.is_instance_of::<PyFloat>());
    if !number {
        return Err(PyTypeError::new_err(format!(
            "{name} must be a number of seconds (int or float), not {}",
            type_name(v)
        )));
    }
    let out_of_range = |shown: &dyn fmt::Display| {
        PyValueError::new_err(format!(
            "{name} must be a number of seconds from 0 to {MAX_SECONDS}, not {shown}; leave it out \
             for the default"
        ))
    };
    // An int too large for a float is an OverflowError here.
    let n = v.extract::<f64>().map_err(|_| out_of_range(&"a larger number"))?;
    if !(0.0..=MAX_SECONDS).contains(&n) {
        return Err(out_of_range(&n));
    }
    Duration::try_from_secs_f64(n).map(Some).map_err(|_| out_of_range(&n))
}

/// A string option; `None` stays none.
pub(crate) fn optional_text(name: &str, v: Any<'_, '_>) -> PyResult<Option<String>> {
    if v.is_none() {
        return Ok(None);
    }
    required_text(name, v).map(Some)
}

/// A string.
pub(crate) fn required_text(name: &str, v: Any<'_, '_>) -> PyResult<String> {
    match v.cast::<PyString>() {
        Ok(s) => text(s, name),
        Err(_) => Err(PyTypeError::new_err(format!("{name} must be str, not {}", type_name(v)))),
    }
}

/// The path of a file or directory: `str` or `os.PathLike`.
pub(crate) fn path(name: &str, v: Any<'_, '_>) -> PyResult<PathBuf> {
    v.extract::<PathBuf>().map_err(|e| {
        if e.is_instance_of::<PyTypeError>(v.py()) {
            PyTypeError::new_err(format!(
                "{name} must be a path (str or os.PathLike), not {}",
                type_name(v)
            ))
        } else {
            e
        }
    })
}

/// A path; `None` stays none.
pub(crate) fn optional_path(name: &str, v: Any<'_, '_>) -> PyResult<Option<PathBuf>> {
    if v.is_none() { Ok(None) } else { path(name, v).map(Some) }
}

/// A list of addresses; `None` is an empty one.
pub(crate) fn addresses(name: &str, v: Any<'_, '_>) -> PyResult<Vec<String>> {
    if v.is_none() {
        return Ok(Vec::new());
    }
    let items = match (v.cast::<PyTuple>(), v.cast::<PyList>()) {
        (Ok(t), _) => t.clone(),
        (_, Ok(l)) => l.to_tuple(),
        _ => {
            return Err(PyTypeError::new_err(format!(
                "{name} must be a list of addresses such as [\"127.0.0.1:7001\"], not {}",
                type_name(v)
            )));
        }
    };
    items.iter().map(|a| required_text(&format!("each address in {name}"), &a)).collect()
}

/// `True` or `False` and nothing that only passes for it.
pub(crate) fn boolean(name: &str, v: Any<'_, '_>) -> PyResult<bool> {
    match v.cast::<PyBool>() {
        Ok(b) => Ok(b.is_true()),
        Err(_) => {
            Err(PyTypeError::new_err(format!("{name} must be True or False, not {}", type_name(v))))
        }
    }
}

/// A number of bytes; `None` stays none.
pub(crate) fn byte_count(name: &str, v: Any<'_, '_>) -> PyResult<Option<u64>> {
    if v.is_none() {
        return Ok(None);
    }
    if v.is_instance_of::<PyBool>() || !v.is_instance_of::<PyInt>() {
        return Err(PyTypeError::new_err(format!(
            "{name} must be a number of bytes (int), not {}",
            type_name(v)
        )));
    }
    v.extract::<u64>().map(Some).map_err(|_| {
        PyValueError::new_err(format!("{name} must be a number of bytes from 0 to 2**64 - 1"))
    })
}
