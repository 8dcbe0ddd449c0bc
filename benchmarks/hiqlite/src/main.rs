//! hiqlite, as the benchmarks measure it: 1 or 3 nodes in this process, without TLS, which costs it
//! nothing that Quorumlite does not pay.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hiqlite::{Client, LogSync, Node, NodeConfig, Param, Row};
use load::{Arguments, CREATE, Caller, Error, INSERT, MAX_ID, Result, SELECT, Subject};
use serde_json::json;
use tokio::sync::Mutex;

/// How often a node that is not ready yet is asked again.
const POLL: Duration = Duration::from_millis(5);
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let words = std::env::args().skip(1);
    let known = ["dir", "nodes", "ports", "sync", "fresh", "expect"];
    let arguments = Arguments::parse(words, &known)?;
    let count = arguments.get("nodes", 1_usize)?;
    let ports: Vec<u16> = arguments.list("ports")?;
    if ports.len() < 2 * count {
        return Err(format!("--ports: {count} nodes need {} ports", 2 * count).into());
    }
    let nodes: Vec<Node> = (0..count)
        .map(|i| Node {
            id: i as u64 + 1,
            addr_raft: format!("127.0.0.1:{}", ports[2 * i]),
            addr_api: format!("127.0.0.1:{}", ports[2 * i + 1]),
        })
        .collect();
    let sync = match arguments.text("sync") {
        Some("immediate") => LogSync::Immediate,
        _ => NodeConfig::default().wal_sync,
    };
    let dir = PathBuf::from(arguments.get("dir", String::from("hiqlite"))?);
    let cluster = Cluster { dir, nodes, sync, clients: Mutex::default() };
    let started = Instant::now();
    let mut starting = Vec::new();
    for node in 0..count {
        starting.push(tokio::spawn(hiqlite::start_node(cluster.config(node)?)));
    }
    for client in starting {
        cluster.clients.lock().await.push(client.await??);
    }
    if arguments.has("fresh") {
        cluster.create().await?;
    }
    // The answers until all that was acknowledged is there.
    let expected: i64 = arguments.get("expect", 0)?;
    let mut first = None;
    let mut max_id = -1;
    while max_id < expected {
        match cluster.max_id().await {
            Ok(id) => {
                first.get_or_insert((id, started.elapsed().as_secs_f64()));
                max_id = id;
            }
            Err(e) if started.elapsed() > PATIENCE => return Err(e),
            Err(_) => {}
        }
        if max_id < expected {
            tokio::time::sleep(POLL).await;
        }
    }
    let (first_id, first_seconds) = first.unwrap_or_default();
    let ready = json!({
        "max_id": max_id, "first_answer_seconds": first_seconds,
        "first_answer_missed": (expected - first_id).max(0),
    });
    load::serve(cluster, ready).await
}

struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
    sync: LogSync,
    clients: Mutex<Vec<Client>>,
}

impl Cluster {
    fn config(&self, node: usize) -> Result<NodeConfig> {
        let dir = self.dir.join(format!("n{node}"));
        std::fs::create_dir_all(&dir)?;
        Ok(NodeConfig {
            node_id: node as u64 + 1,
            nodes: self.nodes.clone(),
            data_dir: dir.to_string_lossy().into_owned().into(),
            wal_sync: self.sync.clone(),
            secret_raft: "a secret of the benchmarks".into(),
            secret_api: "a secret of the benchmarks".into(),
            ..NodeConfig::default()
        })
    }

    async fn client(&self, node: usize) -> Result<Client> {
        let clients = self.clients.lock().await;
        clients.get(node).cloned().ok_or_else(|| format!("there is no node {node}").into())
    }

    /// Every node is healthy, and the table is there.
    async fn create(&self) -> Result<()> {
        let started = Instant::now();
        for node in 0..self.nodes.len() {
            self.client(node).await?.wait_until_healthy_db_timeout(PATIENCE).await?;
        }
        while let Err(e) = self.client(0).await?.execute(CREATE, Vec::new()).await {
            if started.elapsed() > PATIENCE {
                return Err(e.into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

struct Number(i64);

impl<'r> From<&mut Row<'r>> for Number {
    fn from(row: &mut Row<'r>) -> Number {
        Number(row.get("n"))
    }
}

struct Blob(Vec<u8>);

impl<'r> From<&mut Row<'r>> for Blob {
    fn from(row: &mut Row<'r>) -> Blob {
        Blob(row.get("v"))
    }
}

impl Subject for Cluster {
    type Caller = One;

    async fn caller(&self, node: usize) -> Result<One> {
        Ok(One(self.client(node).await?))
    }

    async fn max_id(&self) -> Result<i64> {
        let client = self.client(0).await?;
        let rows = client.query_consistent_map::<Number, _>(MAX_ID, Vec::new()).await?;
        rows.first().map(|n| n.0).ok_or_else(|| "no row".into())
    }

    async fn database_bytes(&self) -> Result<u64> {
        let sql = "SELECT page_count * page_size AS n FROM pragma_page_count, pragma_page_size";
        let rows = self.client(0).await?.query_map::<Number, _>(sql, Vec::new()).await?;
        Ok(rows.first().map_or(0, |n| n.0) as u64)
    }

    async fn stop(&self, node: usize) -> Result<()> {
        Ok(self.client(node).await?.shutdown().await?)
    }

    async fn start(&self, node: usize) -> Result<()> {
        let applied = |m: Option<u64>| m.unwrap_or(0);
        let leader = self.client(0).await?.metrics_db().await?;
        let target = applied(leader.last_applied.map(|id| id.index));
        let client = hiqlite::start_node(self.config(node)?).await?;
        let started = Instant::now();
        loop {
            let metrics = client.metrics_db().await?;
            if applied(metrics.last_applied.map(|id| id.index)) >= target {
                break;
            }
            if started.elapsed() > PATIENCE {
                return Err("the node did not catch up".into());
            }
            tokio::time::sleep(POLL).await;
        }
        if let Some(place) = self.clients.lock().await.get_mut(node) {
            *place = client;
        }
        Ok(())
    }
}

struct One(Client);

impl Caller for One {
    async fn write(&mut self, row: Vec<u8>) -> Result<()> {
        self.0.execute(INSERT, vec![Param::Blob(row)]).await?;
        Ok(())
    }

    async fn batch(&mut self, rows: Vec<Vec<u8>>) -> Result<()> {
        let statements = rows.into_iter().map(|row| (INSERT, vec![Param::Blob(row)]));
        for result in self.0.txn(statements).await? {
            result?;
        }
        Ok(())
    }

    async fn read(&mut self, level: &str, id: i64) -> Result<()> {
        let id = vec![Param::Integer(id)];
        let found = match level {
            "none" => self.0.query_map::<Blob, _>(SELECT, id).await?,
            "linearizable" => self.0.query_consistent_map::<Blob, _>(SELECT, id).await?,
            other => return Err(Error::from(format!("hiqlite has no level {other:?}"))),
        };
        match found.first() {
            Some(row) if row.0.len() == load::ROW_BYTES => Ok(()),
            _ => Err("a row is missing".into()),
        }
    }
}
