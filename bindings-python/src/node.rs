//! [`NativeNode`]: the core's `Node` behind checks for `fork()`, exit and `close()`. Each verb
//! converts its arguments and starts an [`Operation`].

use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use quorumlite::{Config, Consistency, Error, Member, Node, ReadOptions, Role, WriteOptions};

use crate::convert;
use crate::errors::{Failure, to_py};
use crate::operation::{Operation, Outcome, Success};
use crate::process::Process;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;

/// An open node of this process. Dropped without `close`, it closes in the background.
pub(crate) struct Handle {
    process: &'static Process,
    key: u64,
    node: Mutex<Option<Node>>,
}

impl Handle {
    fn new(process: &'static Process, node: Node) -> Self {
        let key = process.remember(node.clone());
        Handle { process, key, node: Mutex::new(Some(node)) }
    }

    /// The node, unless this is a child of its process, the interpreter is exiting, or it was
    /// closed. The order matters: after a fork not even the lock may be touched.
    fn node(&self) -> Result<Node, Failure> {
        if self.process.forked() {
            return Err(Failure::Forked);
        }
        if self.process.stopping() {
            return Err(Failure::closed());
        }
        self.node.lock().clone().ok_or_else(Failure::closed)
    }

    /// What remains to be done to close; none where that has begun already.
    fn closing(&self) -> Option<impl Future<Output = Outcome> + Send + use<>> {
        let node = self.node.lock().take()?;
        let (process, key) = (self.process, self.key);
        Some(async move {
            let result = node.close().await;
            process.forget(key);
            result.map(|()| Success::Done).map_err(Failure::from)
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.process.forked() {
            // Copies of another process's threads and files: freeing them could wait for ever.
            let _ = ManuallyDrop::new(self.node.get_mut().take());
        } else if let Some(closing) = self.closing()
            && let Ok(runtime) = self.process.runtime()
        {
            runtime.spawn(closing);
        }
    }
}

/// Starts to open a node.
#[pyfunction]
#[pyo3(signature = (dir, node_id, listen, advertise, join, secret, ca, cert, key, insecure, role,
                    timeout, consistency, max_log_bytes, check_interval))]
#[expect(clippy::too_many_arguments, reason = "one for each option, named by the Python front")]
pub(crate) fn open(
    py: Python<'_>,
    dir: Any<'_, '_>,
    node_id: Any<'_, '_>,
    listen: Any<'_, '_>,
    advertise: Any<'_, '_>,
    join: Any<'_, '_>,
    secret: Any<'_, '_>,
    ca: Any<'_, '_>,
    cert: Any<'_, '_>,
    key: Any<'_, '_>,
    insecure: Any<'_, '_>,
    role: Any<'_, '_>,
    timeout: Any<'_, '_>,
    consistency: Any<'_, '_>,
    max_log_bytes: Any<'_, '_>,
    check_interval: Any<'_, '_>,
) -> PyResult<Operation> {
    let mut config = Config::new(convert::path("dir", dir)?)
        .join(convert::addresses("join", join)?)
        .insecure(convert::boolean("insecure", insecure)?);
    if let Some(id) = convert::optional_text("node_id", node_id)? {
        config = config.node_id(id);
    }
    if let Some(address) = convert::optional_text("listen", listen)? {
        config = config.listen(address);
    }
    if let Some(address) = convert::optional_text("advertise", advertise)? {
        config = config.advertise(address);
    }
    let secret = convert::optional_text("secret", secret)?;
    let ca = convert::optional_path("ca", ca)?;
    let cert = convert::optional_path("cert", cert)?;
    let key = convert::optional_path("key", key)?;
    config = match (secret, ca, cert, key) {
        (None, None, None, None) => config,
        (Some(secret), None, None, None) => config.secret(secret),
        (None, Some(ca), Some(cert), Some(key)) => config.certificates(ca, cert, key),
        (None, ..) => {
            let message = "ca, cert and key belong together; give all three, or a secret instead";
            return Err(to_py(py, Error::config("CONFIG_CERTIFICATES", message)));
        }
        (Some(_), ..) => {
            let message = "secret and ca, cert, key exclude each other; give one or the other";
            return Err(to_py(py, Error::config("CONFIG_CERTIFICATES", message)));
        }
    };
    if let Some(role) = convert::optional_text("role", role)? {
        config = config.role(role.parse::<Role>().map_err(|e| to_py(py, e))?);
    }
    if let Some(timeout) = convert::seconds("timeout", timeout)? {
        config = config.timeout(timeout);
    }
    if let Some(level) = consistency_option(py, consistency)? {
        config = config.consistency(level);
    }
    if let Some(bytes) = convert::byte_count("max_log_bytes", max_log_bytes)? {
        config = config.max_log_bytes(bytes);
    }
    if let Some(interval) = convert::seconds("check_interval", check_interval)? {
        config = config.check_interval(interval);
    }
    config.validate().map_err(|e| to_py(py, e))?;
    let process = Process::current();
    Operation::start(process, async move {
        let node = Node::open(config).await?;
        Ok(Success::Opened(Handle::new(process, node)))
    })
    .map_err(|f| f.into_py(py))
}

fn consistency_option(py: Python<'_>, v: Any<'_, '_>) -> PyResult<Option<Consistency>> {
    convert::optional_text("consistency", v)?
        .map(|level| level.parse().map_err(|e| to_py(py, e)))
        .transpose()
}

fn read_options(
    py: Python<'_>,
    consistency: Any<'_, '_>,
    max_staleness: Any<'_, '_>,
    timeout: Any<'_, '_>,
) -> PyResult<ReadOptions> {
    Ok(ReadOptions {
        consistency: consistency_option(py, consistency)?,
        max_staleness: convert::seconds("max_staleness", max_staleness)?,
        timeout: convert::seconds("timeout", timeout)?,
        ..ReadOptions::default()
    })
}

fn member_to_py<'py>(py: Python<'py>, m: &Member) -> PyResult<Bound<'py, PyDict>> {
    let d = PyDict::new(py);
    d.set_item("node_id", &m.node_id)?;
    d.set_item("address", &m.address)?;
    d.set_item("role", m.role.as_str())?;
    d.set_item("reachable", m.reachable)?;
    d.set_item("applied_index", m.applied_index)?;
    Ok(d)
}

/// A list of dictionaries with the fields of `quorumlite.Member`.
pub(crate) fn members_to_py(py: Python<'_>, members: &[Member]) -> PyResult<Py<PyAny>> {
    let list = PyList::empty(py);
    for m in members {
        list.append(member_to_py(py, m)?)?;
    }
    Ok(list.into_any().unbind())
}

/// Runs a part of the core on the calling thread, without the GIL.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    process: &'static Process,
    work: impl FnOnce() -> quorumlite::Result<T> + Send,
) -> PyResult<T> {
    let waiting = process.wait_guard();
    let result = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    drop(waiting);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(to_py(py, e)),
        Err(_) => Err(Failure::Panic.into_py(py)),
    }
}

/// The native part of a node.
#[pyclass(frozen, module = "quorumlite._quorumlite")]
pub(crate) struct NativeNode {
    handle: Handle,
}

impl NativeNode {
    /// A node that is open.
    pub(crate) fn new(handle: Handle) -> Self {
        NativeNode { handle }
    }

    fn node(&self, py: Python<'_>) -> PyResult<Node> {
        self.handle.node().map_err(|f| f.into_py(py))
    }

    fn start<F>(&self, py: Python<'_>, work: F) -> PyResult<Operation>
    where
        F: Future<Output = quorumlite::Result<Success>> + Send + 'static,
    {
        Operation::start(self.handle.process, async move { work.await.map_err(Failure::from) })
            .map_err(|f| f.into_py(py))
    }
}

type StatusFields<'py> =
    (Bound<'py, PyDict>, Py<PyAny>, Option<(u64, u64, u64)>, Option<(u64, u32, String)>);

#[pymethods]
impl NativeNode {
    /// Whether the caller is a child of the process that opened the node.
    #[getter]
    fn forked(&self) -> bool {
        self.handle.process.forked()
    }

    /// Whether the node was closed, or its interpreter is exiting.
    #[getter]
    fn closed(&self) -> bool {
        !self.handle.process.forked() && self.handle.node().is_err()
    }

    fn execute(
        &self,
        py: Python<'_>,
        sql: Any<'_, '_>,
        params: Any<'_, '_>,
        timeout: Any<'_, '_>,
    ) -> PyResult<Operation> {
        let node = self.node(py)?;
        let statement = convert::statement(sql, params)?;
        let options = WriteOptions { timeout: convert::seconds("timeout", timeout)? };
        self.start(
            py,
            async move { node.execute_with(statement, options).await.map(Success::Executed) },
        )
    }

    fn execute_batch(
        &self,
        py: Python<'_>,
        statements: Any<'_, '_>,
        timeout: Any<'_, '_>,
    ) -> PyResult<Operation> {
        let node = self.node(py)?;
        let statements = convert::statements(statements)?;
        let options = WriteOptions { timeout: convert::seconds("timeout", timeout)? };
        self.start(py, async move {
            node.execute_batch_with(statements, options).await.map(Success::Batch)
        })
    }

    fn query(
        &self,
        py: Python<'_>,
        sql: Any<'_, '_>,
        params: Any<'_, '_>,
        consistency: Any<'_, '_>,
        max_staleness: Any<'_, '_>,
        timeout: Any<'_, '_>,
    ) -> PyResult<Operation> {
        let node = self.node(py)?;
        let statement = convert::statement(sql, params)?;
        let options = read_options(py, consistency, max_staleness, timeout)?;
        self.start(py, async move { node.query_with(statement, options).await.map(Success::Rows) })
    }

    /// Like `query`, but answered on the calling thread where nothing has to be waited for, and
    /// waited for otherwise.
    fn query_wait(
        &self,
        py: Python<'_>,
        sql: Any<'_, '_>,
        params: Any<'_, '_>,
        consistency: Any<'_, '_>,
        max_staleness: Any<'_, '_>,
        timeout: Any<'_, '_>,
    ) -> PyResult<Py<PyAny>> {
        let node = self.node(py)?;
        let statement = convert::statement(sql, params)?;
        let options = read_options(py, consistency, max_staleness, timeout)?;
        let now = detached(py, self.handle.process, || node.query_now(&statement, &options))?;
        match now {
            Some(rows) => Success::Rows(rows).into_py(py),
            None => {
                self.start(py, async move {
                    node.query_with(statement, options).await.map(Success::Rows)
                })?
                .wait(py)
            }
        }
    }

    /// A dictionary with the fields of `quorumlite.Status`, one for each member, the numbers of
    /// `quorumlite.SnapshotProgress`, and the fields of `quorumlite.Halted`.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<StatusFields<'py>> {
        let node = self.node(py)?;
        let s = detached(py, self.handle.process, || node.status())?;
        let d = PyDict::new(py);
        d.set_item("node_id", s.node_id)?;
        d.set_item("cluster_id", s.cluster_id)?;
        d.set_item("role", s.role.as_str())?;
        d.set_item("state", s.state)?;
        d.set_item("leader_id", s.leader_id)?;
        d.set_item("term", s.term)?;
        d.set_item("last_log_index", s.last_log_index)?;
        d.set_item("commit_index", s.commit_index)?;
        d.set_item("applied_index", s.applied_index)?;
        d.set_item("durable_index", s.durable_index)?;
        d.set_item("purged_index", s.purged_index)?;
        d.set_item("log_bytes", s.log_bytes)?;
        d.set_item("address", s.address)?;
        d.set_item("checked_index", s.checked_index)?;
        d.set_item("divergence", s.divergence)?;
        d.set_item("last_refusal", s.last_refusal)?;
        d.set_item("clock_warning", s.clock_warning)?;
        d.set_item("apply_level", s.apply_level)?;
        d.set_item("fingerprint", s.fingerprint)?;
        let snapshot = s.snapshot.map(|p| (p.total_bytes, p.present_bytes, p.received_bytes));
        let halted = s.halted.map(|h| (h.index, h.attempts, h.reason));
        Ok((d, members_to_py(py, &s.members)?, snapshot, halted))
    }

    fn members(&self, py: Python<'_>) -> PyResult<Operation> {
        let node = self.node(py)?;
        self.start(py, async move { node.members().await.map(Success::Members) })
    }

    fn wait_for_leader(&self, py: Python<'_>, timeout: Any<'_, '_>) -> PyResult<Operation> {
        let node = self.node(py)?;
        let timeout = convert::seconds("timeout", timeout)?;
        self.start(py, async move { node.wait_for_leader(timeout).await.map(Success::Text) })
    }

    fn transfer_leadership(
        &self,
        py: Python<'_>,
        node_id: Any<'_, '_>,
        timeout: Any<'_, '_>,
    ) -> PyResult<Operation> {
        let node = self.node(py)?;
        let id = convert::required_text("node_id", node_id)?;
        let timeout = convert::seconds("timeout", timeout)?;
        self.start(py, async move {
            node.transfer_leadership(&id, timeout).await.map(|()| Success::Done)
        })
    }

    fn remove_member(
        &self,
        py: Python<'_>,
        node_id: Any<'_, '_>,
        timeout: Any<'_, '_>,
    ) -> PyResult<Operation> {
        let node = self.node(py)?;
        let id = convert::required_text("node_id", node_id)?;
        let timeout = convert::seconds("timeout", timeout)?;
        self.start(
            py,
            async move { node.remove_member(&id, timeout).await.map(|()| Success::Done) },
        )
    }

    fn void_command(
        &self,
        py: Python<'_>,
        index: u64,
        force: bool,
        timeout: Any<'_, '_>,
    ) -> PyResult<Operation> {
        let node = self.node(py)?;
        let timeout = convert::seconds("timeout", timeout)?;
        self.start(py, async move {
            node.void_command(index, force, timeout).await.map(|()| Success::Done)
        })
    }

    fn retry_apply(&self, py: Python<'_>, timeout: Any<'_, '_>) -> PyResult<Operation> {
        let node = self.node(py)?;
        let timeout = convert::seconds("timeout", timeout)?;
        self.start(py, async move { node.retry_apply(timeout).await.map(|()| Success::Done) })
    }

    fn reset_clock(&self, py: Python<'_>, timeout: Any<'_, '_>) -> PyResult<Operation> {
        let node = self.node(py)?;
        let timeout = convert::seconds("timeout", timeout)?;
        self.start(py, async move { node.reset_clock(timeout).await.map(|()| Success::Done) })
    }

    fn content_hash(&self, py: Python<'_>) -> PyResult<Operation> {
        let node = self.node(py)?;
        self.start(py, async move { node.content_hash().await.map(Success::Hash) })
    }

    fn close(&self, py: Python<'_>) -> PyResult<Operation> {
        let process = self.handle.process;
        if process.forked() {
            return Err(Failure::Forked.into_py(py));
        }
        match self.handle.closing() {
            // At exit the nodes are being closed already.
            Some(closing) if !process.stopping() => {
                Operation::start(process, closing).map_err(|f| f.into_py(py))
            }
            _ => Ok(Operation::ended(process, Ok(Success::Done))),
        }
    }
}
