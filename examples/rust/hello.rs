//! The same small program in every language: a standalone node, a table, a batch, a query.
//!
//!     cargo run -p quorumlite --example hello

use quorumlite::{Config, Node, named_params, params};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::Builder::new().prefix("hello-").tempdir()?;
    let node = Node::open(Config::new(folder.path().join("n1"))).await?;

    node.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, balance INTEGER)", ())
        .await?;
    node.execute("INSERT INTO person(name, balance) VALUES (?, ?)", params!["ann", 100]).await?;
    let bob = node
        .execute(
            "INSERT INTO person(name, balance) VALUES (:name, :balance)",
            named_params! { "name": "bob", "balance": 50 },
        )
        .await?;
    println!("bob has id {}", bob.last_insert_rowid);

    // All or nothing: one entry in the replicated log.
    node.execute_batch([
        ("UPDATE person SET balance = balance - ? WHERE name = ?", params![30, "ann"]),
        ("UPDATE person SET balance = balance + ? WHERE name = ?", params![30, "bob"]),
    ])
    .await?;

    for row in node.query("SELECT id, name, balance FROM person ORDER BY id", ()).await?.iter() {
        let (Some(id), Some(name), Some(balance)) =
            (row[0].as_i64(), row[1].as_str(), row[2].as_i64())
        else {
            return Err("a column has another type".into());
        };
        println!("{id} {name} {balance}");
    }
    node.close().await?;
    Ok(())
}
