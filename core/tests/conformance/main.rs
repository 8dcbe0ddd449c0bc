//! Every case of `conformance/cases`, standalone and through each node of a cluster of three.

mod case_format;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use case_format::{Call, Case, Step};
use quorumlite::{Config, Consistency, Error, Node, ReadOptions, Statement, Value, WriteOptions};

const TIMEOUT: Duration = Duration::from_secs(30);

const LEFT_OVER: &str = "SELECT type, name FROM sqlite_schema \
    WHERE type IN ('table', 'view') AND substr(name, 1, length(:p)) = :p \
    ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid DESC";

fn cases() -> Vec<Case> {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/cases");
    case_format::load(&directory).expect("the cases follow conformance/README.md")
}

fn at(consistency: Option<Consistency>) -> ReadOptions {
    ReadOptions { consistency, ..ReadOptions::default() }
}

/// Runs one step on a node; says what differs.
async fn run_step(
    node: &Node,
    step: &Step,
    consistency: Option<Consistency>,
) -> Result<(), String> {
    let result: Result<Option<String>, Error> = match &step.call {
        Call::Query(statement) => node
            .query_with(statement.clone(), at(consistency))
            .await
            .map(|rows| step.outcomes[0].rows_difference(&rows)),
        Call::Execute(statement) => node
            .execute_with(statement.clone(), WriteOptions::default())
            .await
            .map(|result| step.outcomes[0].difference(&result)),
        Call::Batch(statements) => node
            .execute_batch_with(statements.clone(), WriteOptions::default())
            .await
            .map(|results| {
                if results.len() != step.outcomes.len() {
                    return Some(format!("{} results", results.len()));
                }
                step.outcomes.iter().zip(&results).find_map(|(want, got)| want.difference(got))
            }),
    };
    match (result, &step.error) {
        (Ok(None), None) => Ok(()),
        (Ok(Some(difference)), None) => Err(difference),
        (Ok(_), Some(expected)) => Err(format!("succeeded instead of failing with {expected:?}")),
        (Err(error), Some(expected))
            if error.kind().as_str() == expected.kind && error.code() == expected.code =>
        {
            Ok(())
        }
        (Err(error), expected) => Err(format!("failed with {error:?}, expected {expected:?}")),
    }
}

async fn run_standalone(case: &Case) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
    let config = Config::new(directory.path().join("node")).timeout(TIMEOUT);
    let node = Node::open(config).await.map_err(|e| format!("open: {e:?}"))?;
    let mut outcome = Ok(());
    for step in case.steps("s_")? {
        outcome = run_step(&node, &step, None).await.map_err(|e| format!("{}\n{e}", step.sql()));
        if outcome.is_err() {
            break;
        }
    }
    node.close().await.map_err(|e| format!("close: {e:?}"))?;
    outcome
}

/// Runs a case with its writes through `nodes[via]`, and every read on all nodes.
async fn run_in_cluster(case: &Case, nodes: &[Node], via: usize, p: &str) -> Result<(), String> {
    let linearizable = Some(Consistency::Linearizable);
    for step in case.steps(p)? {
        let on = |n: usize, e: String| format!("on n{}: {}\n{e}", n + 1, step.sql());
        run_step(&nodes[via], &step, linearizable).await.map_err(|e| on(via, e))?;
        if matches!(step.call, Call::Query(_)) {
            for (n, other) in nodes.iter().enumerate().filter(|(n, _)| *n != via) {
                run_step(other, &step, linearizable).await.map_err(|e| on(n, e))?;
            }
        }
    }
    Ok(())
}

/// Fails unless all nodes hold the same content.
async fn compare_hashes(nodes: &[Node]) -> Result<(), String> {
    let mut hashes = Vec::new();
    for node in nodes {
        // So that the node has applied all that was written.
        node.query_with(Statement::from("SELECT 1"), at(Some(Consistency::Linearizable)))
            .await
            .map_err(|e| format!("before hashing: {e:?}"))?;
        hashes.push(node.content_hash().await.map_err(|e| format!("hash: {e:?}"))?.hash);
    }
    if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(format!("the nodes differ after the case: {hashes:?}"))
}

/// Drops what a case left in the shared database.
async fn clean_up(node: &Node, prefix: &str) -> Result<(), String> {
    let left_over = Statement::new(LEFT_OVER, vec![("p".to_string(), Value::from(prefix))]);
    loop {
        let rows = node
            .query_with(left_over.clone(), ReadOptions::default())
            .await
            .map_err(|e| format!("cleaning up: {e:?}"))?;
        let Some(row) = rows.get(0) else { return Ok(()) };
        let (Some(kind), Some(name)) = (row[0].as_str(), row[1].as_str()) else {
            return Err("cleaning up: sqlite_schema gave something else than text".into());
        };
        let drop = format!("DROP {kind} \"{}\"", name.replace('"', "\"\""));
        node.execute(drop.clone(), ()).await.map_err(|e| format!("{drop}: {e:?}"))?;
    }
}

async fn open_cluster(directory: &Path) -> Vec<Node> {
    // Bound all at once, so that the ports differ.
    let reserved: Vec<_> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<_> =
        reserved.iter().map(|l| l.local_addr().expect("bound").to_string()).collect();
    drop(reserved);
    let mut nodes = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        let id = format!("n{}", i + 1);
        let config = Config::new(directory.join(&id))
            .node_id(id)
            .listen(address)
            .join(addresses[..usize::from(i > 0)].iter())
            .secret("conformance")
            .timeout(TIMEOUT);
        nodes.push(Node::open(config).await.expect("the node opens"));
    }
    nodes
}

fn report(failures: &[String], run: usize) {
    assert!(run > 0, "no case was run");
    assert!(
        failures.is_empty(),
        "{} of {run} runs failed:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone() {
    let mut failures = Vec::new();
    let mut run = 0;
    for case in cases().iter().filter(|case| case.skipped().is_none()) {
        run += 1;
        if let Err(difference) = run_standalone(case).await {
            failures.push(format!("{}: {}: {difference}", case.file, case.name()));
        }
    }
    report(&failures, run);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_of_a_cluster() {
    let directory = tempfile::tempdir().expect("a directory");
    let nodes = open_cluster(directory.path()).await;
    let mut failures = Vec::new();
    let mut run = 0;
    for (number, case) in cases().iter().enumerate().filter(|(_, c)| c.skipped().is_none()) {
        for via in 0..nodes.len() {
            run += 1;
            let prefix = format!("c{number}n{}_", via + 1);
            let what = format!("{}: {} via n{}", case.file, case.name(), via + 1);
            if let Err(difference) = run_in_cluster(case, &nodes, via, &prefix).await {
                failures.push(format!("{what}: {difference}"));
            }
            if let Err(difference) = compare_hashes(&nodes).await {
                failures.push(format!("{what}: {difference}"));
            }
            if let Err(difference) = clean_up(&nodes[via], &prefix).await {
                failures.push(format!("{what}: {difference}"));
            }
        }
    }
    for node in &nodes {
        node.close().await.expect("the node closes");
    }
    report(&failures, run);
}
