//! Quorumlite under test: a standalone node, or three on loopback in one process, over TLS.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use load::{CREATE, Caller, INSERT, MAX_ID, Result, SELECT, Subject};
use quorumlite::{Config, Consistency, Node, ReadOptions, Rows, Statement, Value, params};
use tokio::sync::Mutex;

/// The deadline of a call; nothing here should come near it.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often a node that catches up is looked at.
const POLL: Duration = Duration::from_millis(2);

/// One node or three.
pub struct Members {
    dir: PathBuf,
    addresses: Vec<String>,
    nodes: Mutex<Vec<Node>>,
}

impl Members {
    /// Opens them one after the other; without ports a standalone node.
    pub async fn open(dir: PathBuf, ports: &[u16], fresh: bool) -> Result<Members> {
        let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let members = Members { dir, addresses, nodes: Mutex::default() };
        for number in 0..members.addresses.len().max(1) {
            let node = Node::open(members.config(number)).await?;
            members.nodes.lock().await.push(node);
        }
        if fresh {
            members.node(0).await?.execute(CREATE, ()).await?;
        }
        Ok(members)
    }

    fn config(&self, number: usize) -> Config {
        let mut config = Config::new(self.dir.join(format!("n{number}"))).timeout(TIMEOUT);
        if let Some(address) = self.addresses.get(number) {
            config = config
                .node_id(format!("n{number}"))
                .listen(address)
                .secret("a secret of the benchmarks");
        }
        match self.addresses.first() {
            Some(first) if number > 0 => config.join([first]),
            _ => config,
        }
    }

    async fn node(&self, number: usize) -> Result<Node> {
        let nodes = self.nodes.lock().await;
        nodes.get(number).cloned().ok_or_else(|| format!("there is no node {number}").into())
    }

    async fn number(&self, sql: &str, consistency: Consistency) -> Result<i64> {
        let options = ReadOptions { consistency: Some(consistency), ..ReadOptions::default() };
        let rows = self.node(0).await?.query_with(Statement::from(sql), options).await?;
        match rows.iter().next().map(|row| row[0].clone()) {
            Some(Value::Integer(n)) => Ok(n),
            other => Err(format!("not a number: {other:?}").into()),
        }
    }
}

impl Subject for Members {
    type Caller = One;

    async fn caller(&self, node: usize) -> Result<One> {
        Ok(One(self.node(node).await?))
    }

    async fn max_id(&self) -> Result<i64> {
        self.number(MAX_ID, Consistency::Linearizable).await
    }

    async fn database_bytes(&self) -> Result<u64> {
        let pages = self.number("PRAGMA page_count", Consistency::Session).await?;
        let page_size = self.number("PRAGMA page_size", Consistency::Session).await?;
        Ok((pages * page_size) as u64)
    }

    async fn stop(&self, node: usize) -> Result<()> {
        Ok(self.node(node).await?.close().await?)
    }

    async fn start(&self, node: usize) -> Result<()> {
        let target = self.node(0).await?.status()?.commit_index;
        let started = Instant::now();
        let opened = Node::open(self.config(node)).await?;
        while opened.status()?.applied_index < target {
            if started.elapsed() > TIMEOUT {
                return Err("the node did not catch up".into());
            }
            tokio::time::sleep(POLL).await;
        }
        if let Some(place) = self.nodes.lock().await.get_mut(node) {
            *place = opened;
        }
        Ok(())
    }

    async fn replace(&self, node: usize) -> Result<()> {
        self.stop(node).await?;
        std::fs::remove_dir_all(self.dir.join(format!("n{node}")))?;
        self.start(node).await
    }
}

/// A caller of one node. All callers of a node share its handle.
pub struct One(Node);

impl One {
    fn check(rows: &Rows) -> Result<()> {
        let row = rows.iter().next();
        match row.as_ref().map(|row| &row[0]) {
            Some(Value::Blob(v)) if v.len() == load::ROW_BYTES => Ok(()),
            _ => Err("a row is missing".into()),
        }
    }
}

impl Caller for One {
    async fn write(&mut self, row: Vec<u8>) -> Result<()> {
        self.0.execute(INSERT, params![row]).await?;
        Ok(())
    }

    async fn batch(&mut self, rows: Vec<Vec<u8>>) -> Result<()> {
        self.0.execute_batch(rows.into_iter().map(|row| (INSERT, params![row]))).await?;
        Ok(())
    }

    async fn read(&mut self, level: &str, id: i64) -> Result<()> {
        let consistency = Some(level.parse()?);
        let options = ReadOptions { consistency, ..ReadOptions::default() };
        let statement = Statement::new(SELECT, params![id]);
        match self.0.query_now(&statement, &options)? {
            Some(rows) => One::check(&rows),
            None => One::check(&self.0.query_with(statement, options).await?),
        }
    }
}
