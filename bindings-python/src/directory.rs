//! What is done to a data directory that no node has open: `check` and `recover_lost_quorum`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::convert;
use crate::node::{detached, members_to_py};
use crate::process::Process;

/// The fields of `quorumlite.CheckReport`, its members and its findings.
type Checked = (Py<PyDict>, Py<PyAny>, Py<PyList>);

/// Checks a data directory on the calling thread, without the GIL.
#[pyfunction]
pub(crate) fn check(py: Python<'_>, dir: &Bound<'_, PyAny>) -> PyResult<Checked> {
    let dir = convert::path("dir", dir)?;
    let report = detached(py, Process::current(), || quorumlite::check(dir))?;
    let d = PyDict::new(py);
    d.set_item("ok", report.ok)?;
    d.set_item("node_id", &report.node_id)?;
    d.set_item("cluster_id", &report.cluster_id)?;
    d.set_item("term", report.term)?;
    d.set_item("last_log_term", report.last_log_term)?;
    d.set_item("last_log_index", report.last_log_index)?;
    d.set_item("purged_index", report.purged_index)?;
    d.set_item("applied_index", report.applied_index)?;
    let findings = PyList::empty(py);
    for finding in &report.findings {
        let f = PyDict::new(py);
        f.set_item("severity", finding.severity.as_str())?;
        f.set_item("code", &finding.code)?;
        f.set_item("message", &finding.message)?;
        findings.append(f)?;
    }
    Ok((d.unbind(), members_to_py(py, &report.members)?, findings.unbind()))
}

/// Recovers a lost quorum on the calling thread, without the GIL: the fields of
/// `quorumlite.Recovery`.
#[pyfunction]
pub(crate) fn recover_lost_quorum(py: Python<'_>, dir: &Bound<'_, PyAny>) -> PyResult<Py<PyDict>> {
    let dir = convert::path("dir", dir)?;
    let recovery = detached(py, Process::current(), || quorumlite::recover_lost_quorum(dir))?;
    let d = PyDict::new(py);
    d.set_item("node_id", &recovery.node_id)?;
    d.set_item("cluster_id", &recovery.cluster_id)?;
    d.set_item("last_log_index", recovery.last_log_index)?;
    d.set_item("removed", recovery.removed)?;
    Ok(d.unbind())
}
