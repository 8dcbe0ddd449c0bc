//! [`Database`]: a node, or a cluster, that takes statements and queries one after the other.

use std::time::Duration;

use quorumlite::{
    Config, Consistency, Error, ErrorKind, Node, ReadOptions, Result, Rows, Statement, Value,
};

use crate::support::{Cluster, equal_content};

/// What may be left of an earlier file: tables, views, and the planner's statistics.
const LEFT_OVER: &str = "SELECT type, name FROM sqlite_schema \
    WHERE type IN ('table', 'view') AND (name NOT LIKE '~_quorumlite~_%' ESCAPE '~' \
    AND name NOT LIKE 'sqlite~_%' ESCAPE '~' OR name LIKE 'sqlite~_stat%' ESCAPE '~') ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid DESC";

pub enum Database {
    Standalone {
        node: Node,
        _dir: tempfile::TempDir,
    },
    /// Each call goes to another node.
    Cluster {
        cluster: Cluster,
        calls: usize,
    },
}

impl Database {
    pub async fn standalone() -> Database {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config::new(dir.path().join("node")).timeout(Duration::from_secs(60));
        let node = Node::open(config).await.expect("a node opens");
        Database::Standalone { node, _dir: dir }
    }

    pub async fn cluster() -> Database {
        Database::Cluster { cluster: Cluster::start().await, calls: 0 }
    }

    fn next(&mut self) -> (&Node, Option<Consistency>) {
        match self {
            Database::Standalone { node, .. } => (node, None),
            Database::Cluster { cluster, calls } => {
                *calls += 1;
                (&cluster.nodes[*calls % 3], Some(Consistency::Linearizable))
            }
        }
    }

    pub async fn execute(&mut self, sql: &str) -> Result<Rows> {
        let (node, _) = self.next();
        node.execute(sql, ()).await.map(|result| result.rows).map_err(judged)
    }

    pub async fn query(&mut self, sql: &str) -> Result<Rows> {
        self.query_with(Statement::from(sql)).await
    }

    pub async fn query_with(&mut self, statement: Statement) -> Result<Rows> {
        let (node, consistency) = self.next();
        let options = ReadOptions { consistency, ..ReadOptions::default() };
        node.query_with(statement, options).await.map_err(judged)
    }

    /// What SQLite makes of one value: `expression` names it `?`.
    pub async fn convert(&mut self, expression: &str, value: &Value) -> Value {
        let statement = Statement::new(format!("SELECT {expression}"), [value.clone()]);
        let rows = self.query_with(statement).await.expect("a conversion");
        rows.into_values().remove(0).remove(0)
    }

    /// Drops all there is.
    pub async fn clear(&mut self) {
        let mut batch = vec!["PRAGMA defer_foreign_keys = ON".to_string()];
        let left = self.query(LEFT_OVER).await.expect("the schema");
        for row in left.iter() {
            let (Some(kind), Some(name)) = (row[0].as_str(), row[1].as_str()) else { continue };
            let shadow = left.iter().any(|of| {
                name.strip_prefix(of[1].as_str().unwrap_or("")).is_some_and(|r| r.starts_with('_'))
            });
            let exists = if shadow || kind == "view" { "IF EXISTS " } else { "" };
            batch.push(format!("DROP {kind} {exists}\"{}\"", name.replace('"', "\"\"")));
        }
        batch.push("PRAGMA user_version = 0".into());
        batch.push("PRAGMA application_id = 0".into());
        let (node, _) = self.next();
        node.execute_batch(batch).await.expect("all is dropped");
    }

    pub async fn close(self) {
        match self {
            Database::Standalone { node, .. } => node.close().await.expect("the node closes"),
            Database::Cluster { cluster, .. } => {
                equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
                cluster.close().await;
            }
        }
    }
}

/// Errors of the cluster instead of the statement are no results.
fn judged(error: Error) -> Error {
    let statement = [ErrorKind::Sql, ErrorKind::Constraint, ErrorKind::Forbidden, ErrorKind::Busy];
    assert!(statement.contains(&error.kind()), "the node itself failed: {error:?}");
    error
}
