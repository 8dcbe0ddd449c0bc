//! [`NativeNode`]: the core's `Node` for JavaScript. Each verb starts an operation.

use std::time::Duration;

use napi::bindgen_prelude::Object;
use napi::{Env, Result};
use napi_derive::napi;
use quorumlite::{Config, Consistency, Error, Node, ReadOptions, Role, WriteOptions};

use crate::convert::{Parameters, statement};
use crate::operation::{Cancel, OnCancel, ended, start};
use crate::outcome::{Success, status};
use crate::runtime::{forget, remember, runtime};

/// The options of `open`, described in `ts/types.ts`; `ts/arguments.ts` has checked their types.
#[napi(object, object_to_js = false)]
pub struct OpenOptions {
    pub dir: String,
    pub node_id: Option<String>,
    pub listen: Option<String>,
    pub advertise: Option<String>,
    pub join: Option<Vec<String>>,
    pub secret: Option<String>,
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
    pub insecure: Option<bool>,
    pub role: Option<String>,
    pub timeout: Option<f64>,
    pub consistency: Option<String>,
    pub max_log_bytes: Option<f64>,
    pub check_interval: Option<f64>,
    pub bigint: Option<bool>,
}

fn seconds(name: &str, v: Option<f64>) -> quorumlite::Result<Option<Duration>> {
    v.map(Duration::try_from_secs_f64).transpose().map_err(|e| {
        Error::config("CONFIG_TIMEOUT", format!("{name} is not a number of seconds: {e}"))
    })
}

fn config(o: OpenOptions) -> quorumlite::Result<Config> {
    let mut config = Config::new(o.dir)
        .join(o.join.unwrap_or_default())
        .insecure(o.insecure.unwrap_or_default());
    if let Some(id) = o.node_id {
        config = config.node_id(id);
    }
    if let Some(address) = o.listen {
        config = config.listen(address);
    }
    if let Some(address) = o.advertise {
        config = config.advertise(address);
    }
    config = match (o.secret, o.ca, o.cert, o.key) {
        (None, None, None, None) => config,
        (Some(secret), None, None, None) => config.secret(secret),
        (None, Some(ca), Some(cert), Some(key)) => config.certificates(ca, cert, key),
        (None, ..) => {
            let message = "ca, cert and key belong together; give all three, or a secret instead";
            return Err(Error::config("CONFIG_CERTIFICATES", message));
        }
        (Some(_), ..) => {
            let message = "secret and ca, cert, key exclude each other; give one or the other";
            return Err(Error::config("CONFIG_CERTIFICATES", message));
        }
    };
    if let Some(role) = o.role {
        config = config.role(role.parse::<Role>()?);
    }
    if let Some(timeout) = seconds("timeout", o.timeout)? {
        config = config.timeout(timeout);
    }
    if let Some(level) = o.consistency {
        config = config.consistency(level.parse::<Consistency>()?);
    }
    if let Some(bytes) = o.max_log_bytes {
        // `as` saturates, and what is below the least that the core takes stays below.
        config = config.max_log_bytes(bytes as u64);
    }
    if let Some(interval) = seconds("checkInterval", o.check_interval)? {
        config = config.check_interval(interval);
    }
    config.validate()?;
    Ok(config)
}

/// Starts to open a node.
#[napi]
pub fn open<'e>(env: &'e Env, options: OpenOptions, cancel: Cancel<'_>) -> Result<Object<'e>> {
    let bigint = options.bigint.unwrap_or_default();
    match config(options) {
        Ok(config) => start(env, bigint, cancel, OnCancel::Abandon, async move {
            Node::open(config).await.map(Success::Opened)
        }),
        Err(e) => ended(env, e),
    }
}

/// The native half of a node. Dropped without `close`, it closes in the background.
#[napi]
pub struct NativeNode {
    node: Node,
    key: u64,
    bigint: bool,
}

impl NativeNode {
    /// A node that is open, owned by the environment `env`.
    pub(crate) fn new(env: Env, node: Node, bigint: bool) -> Result<Self> {
        let key = remember(env, node.clone())?;
        Ok(NativeNode { node, key, bigint })
    }

    fn start<'e, F>(&self, env: &'e Env, cancel: Cancel<'_>, work: F) -> Result<Object<'e>>
    where
        F: Future<Output = quorumlite::Result<Success>> + Send + 'static,
    {
        start(env, self.bigint, cancel, OnCancel::Detach, work)
    }
}

impl Drop for NativeNode {
    fn drop(&mut self) {
        if let Some(node) = forget(self.key)
            && let Ok(runtime) = runtime()
        {
            runtime.spawn(async move { node.close().await });
        }
    }
}

fn write_options(timeout: Option<f64>) -> quorumlite::Result<WriteOptions> {
    Ok(WriteOptions { timeout: seconds("timeout", timeout)? })
}

/// The options of `query`, described in `ts/types.ts`.
#[napi(object, object_to_js = false)]
pub struct QueryOptions {
    pub consistency: Option<String>,
    pub max_staleness: Option<f64>,
    pub timeout: Option<f64>,
}

fn read_options(o: QueryOptions) -> quorumlite::Result<ReadOptions> {
    Ok(ReadOptions {
        consistency: o.consistency.map(|level| level.parse()).transpose()?,
        max_staleness: seconds("maxStaleness", o.max_staleness)?,
        timeout: seconds("timeout", o.timeout)?,
        ..ReadOptions::default()
    })
}

#[napi]
impl NativeNode {
    /// See `Node.execute` in `ts/node.ts`, and so for all that follow.
    #[napi]
    pub fn execute<'e>(
        &self,
        env: &'e Env,
        sql: String,
        params: Parameters,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let (node, statement) = (self.node.clone(), statement(sql, params));
        match write_options(timeout) {
            Ok(options) => self.start(env, cancel, async move {
                node.execute_with(statement, options).await.map(Success::Executed)
            }),
            Err(e) => ended(env, e),
        }
    }

    /// `sqls` and `params` have the same length.
    #[napi]
    pub fn execute_batch<'e>(
        &self,
        env: &'e Env,
        sqls: Vec<String>,
        params: Vec<Parameters>,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let node = self.node.clone();
        let statements = sqls.into_iter().zip(params).map(|(s, p)| statement(s, p)).collect();
        match write_options(timeout) {
            Ok(options) => self.start(env, cancel, async move {
                node.execute_batch_with(statements, options).await.map(Success::Batch)
            }),
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn query<'e>(
        &self,
        env: &'e Env,
        sql: String,
        params: Parameters,
        options: QueryOptions,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let (node, statement) = (self.node.clone(), statement(sql, params));
        match read_options(options) {
            Ok(options) => self.start(env, cancel, async move {
                node.query_with(statement, options).await.map(Success::Rows)
            }),
            Err(e) => ended(env, e),
        }
    }

    /// `{ value }` or `{ failure }`, not a promise.
    #[napi]
    pub fn status<'e>(&self, env: &'e Env) -> Result<Object<'e>> {
        match self.node.status() {
            Ok(s) => {
                let mut o = Object::new(env)?;
                o.set("value", status(env, &s)?)?;
                Ok(o)
            }
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn members<'e>(&self, env: &'e Env, cancel: Cancel<'_>) -> Result<Object<'e>> {
        let node = self.node.clone();
        self.start(env, cancel, async move { node.members().await.map(Success::Members) })
    }

    #[napi]
    pub fn wait_for_leader<'e>(
        &self,
        env: &'e Env,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let node = self.node.clone();
        match seconds("timeout", timeout) {
            Ok(timeout) => self.start(env, cancel, async move {
                node.wait_for_leader(timeout).await.map(Success::Text)
            }),
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn transfer_leadership<'e>(
        &self,
        env: &'e Env,
        node_id: String,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let node = self.node.clone();
        match seconds("timeout", timeout) {
            Ok(timeout) => self.start(env, cancel, async move {
                node.transfer_leadership(&node_id, timeout).await.map(|()| Success::Done)
            }),
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn remove_member<'e>(
        &self,
        env: &'e Env,
        node_id: String,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let node = self.node.clone();
        match seconds("timeout", timeout) {
            Ok(timeout) => self.start(env, cancel, async move {
                node.remove_member(&node_id, timeout).await.map(|()| Success::Done)
            }),
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn void_command<'e>(
        &self,
        env: &'e Env,
        index: f64,
        force: bool,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let node = self.node.clone();
        match seconds("timeout", timeout) {
            Ok(timeout) => self.start(env, cancel, async move {
                node.void_command(index as u64, force, timeout).await.map(|()| Success::Done)
            }),
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn retry_apply<'e>(
        &self,
        env: &'e Env,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let node = self.node.clone();
        match seconds("timeout", timeout) {
            Ok(timeout) => self.start(env, cancel, async move {
                node.retry_apply(timeout).await.map(|()| Success::Done)
            }),
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn reset_clock<'e>(
        &self,
        env: &'e Env,
        timeout: Option<f64>,
        cancel: Cancel<'_>,
    ) -> Result<Object<'e>> {
        let node = self.node.clone();
        match seconds("timeout", timeout) {
            Ok(timeout) => self.start(env, cancel, async move {
                node.reset_clock(timeout).await.map(|()| Success::Done)
            }),
            Err(e) => ended(env, e),
        }
    }

    #[napi]
    pub fn content_hash<'e>(&self, env: &'e Env, cancel: Cancel<'_>) -> Result<Object<'e>> {
        let node = self.node.clone();
        self.start(env, cancel, async move { node.content_hash().await.map(Success::Hash) })
    }

    /// Closing again resolves at once.
    #[napi]
    pub fn close<'e>(&self, env: &'e Env) -> Result<Object<'e>> {
        let (node, key) = (self.node.clone(), self.key);
        self.start(env, None, async move {
            let closed = node.close().await;
            forget(key);
            closed.map(|()| Success::Done)
        })
    }
}
