//! What one statement may take of time and memory is bounded, and the bound is the statement's
//! failure, never the node's.

use super::*;

/// Each doubles what SQLite compiles, `depth` times over: what it needs, and the statement.
fn doubling(depth: usize) -> Vec<(&'static str, Vec<String>, String)> {
    let last = depth - 1;
    let views = |select: &str| {
        let mut all =
            vec!["CREATE TABLE t(a)".to_string(), "CREATE VIEW v0 AS SELECT a FROM t".into()];
        all.extend((1..depth).map(|n| {
            format!("CREATE VIEW v{n} AS {}", select.replace("PREVIOUS", &format!("v{}", n - 1)))
        }));
        all
    };
    let common: Vec<String> =
        (1..depth).map(|n| format!("c{n} AS (SELECT x.a FROM c{0} x, c{0} y)", n - 1)).collect();
    let nested = (0..depth)
        .fold("SELECT 1 AS a".to_string(), |inner, _| format!("SELECT a + a AS a FROM ({inner})"));
    let columns: Vec<String> =
        (1..depth).map(|n| format!("c{n} AS (c{0} || c{0})", n - 1)).collect();
    vec![
        (
            "joined views",
            views("SELECT x.a FROM PREVIOUS x, PREVIOUS y"),
            format!("SELECT * FROM v{last}"),
        ),
        (
            "sums of views",
            views("SELECT a + a AS a FROM PREVIOUS"),
            format!("SELECT * FROM v{last}"),
        ),
        (
            "united views",
            views("SELECT a FROM PREVIOUS UNION ALL SELECT a FROM PREVIOUS"),
            format!("SELECT count(*) FROM v{last}"),
        ),
        (
            "views in conditions",
            views("SELECT a FROM PREVIOUS WHERE a IN (SELECT a FROM PREVIOUS)"),
            format!("SELECT count(*) FROM v{last}"),
        ),
        (
            "common tables",
            vec![],
            format!("WITH c0 AS (SELECT 1 AS a), {} SELECT * FROM c{last}", common.join(", ")),
        ),
        ("nested sums", vec![], nested),
        ("generated columns", vec![], format!("CREATE TABLE g(c0, {})", columns.join(", "))),
    ]
}

/// Whatever depth, and whether SQLite or we refuse it, or it compiles.
#[test]
fn compiling_ends() {
    for depth in [10, 12, 14, 16, 18, 29, 40] {
        for (what, setup, sql) in doubling(depth) {
            let engine = Engine::new();
            for sql in setup {
                // SQLite may refuse to create a view on too many others.
                let _ = engine.try_run(sql.as_str());
            }
            let begin = std::time::Instant::now();
            let outcome = engine.try_run(sql.as_str());
            let code = match outcome {
                Ok(_) => "none".to_string(),
                Err(Failure::Statement(e)) => e.code().to_string(),
                Err(Failure::Node(e)) => panic!("{what} {depth}: {e}"),
            };
            assert!(depth < 29 || code != "none", "{what} {depth}");
            let to_write = begin.elapsed();
            if !sql.starts_with("CREATE") {
                let read = execute::read(&engine.reader(), &sql.as_str().into());
                assert_eq!(
                    read.map_or_else(|e| e.into_error().code().to_string(), |_| "none".to_string()),
                    code,
                    "{what}"
                );
            }
            let elapsed = begin.elapsed();
            println!("{what} {depth}: {code}, {to_write:?} to write, {elapsed:?} in all");
            assert!(elapsed.as_secs() < 60, "{what} {depth} takes {elapsed:?}");
            assert_eq!(engine.one("SELECT 1"), Value::Integer(1));
        }
    }
}

#[test]
fn a_statement_that_takes_too_much_memory_is_refused() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400) ";
    let big = "printf('%.*c', 8000000, 'x')";
    let several = vec![big; 60].join(", ");
    for sql in [
        format!("{many} INSERT INTO t SELECT json_group_array({big}) FROM n"),
        format!("{many} INSERT INTO t SELECT json_group_object(i, {big}) FROM n"),
        format!("INSERT INTO t SELECT concat_ws(',', {several})"),
        format!("INSERT INTO t SELECT json_array({several})"),
        format!(
            "INSERT INTO t SELECT length(json_object({}))",
            vec![format!("'k', {big}"); 60].join(", ")
        ),
        "INSERT INTO t SELECT json_pretty(printf('%.*c', 900, '[') || '1' || \
         replace(printf('%.*c', 100000, 'x'), 'x', ',1') || printf('%.*c', 900, ']'), \
         printf('%.*c', 1000, ' '))"
            .to_string(),
    ] {
        let error = engine.refused(sql.as_str());
        assert!(
            ["SQL_TOO_MUCH_MEMORY", "SQL_TOO_LONG"].contains(&error.code()),
            "{}: {error:?}",
            &sql[..80]
        );
        let reader = engine.reader();
        let read = format!("SELECT {}", sql.split_once("INSERT INTO t SELECT").unwrap().1);
        let with = if sql.starts_with("WITH") { many } else { "" };
        let error = execute::read(&reader, &format!("{with}{read}").as_str().into());
        assert_eq!(error.unwrap_err().into_error().code(), "SQL_TOO_MUCH_MEMORY", "{}", &sql[..80]);
    }
    assert_eq!(engine.one("SELECT count(*) FROM t"), Value::Integer(0));
}

/// Few instructions, but each makes much.
#[test]
fn what_is_copied_counts_towards_the_budget() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                INSERT INTO t SELECT count(";
    for what in [
        "printf('%10000000s', i)",
        "hex(zeroblob(5000000 + i))",
        "upper(?1) || i",
        "replace(?1, 'a', 'b')",
        "substr(?1, 1 + i % 2)",
        "?1 || i",
        "json_array(?1)",
        "randomblob(1000000)",
        "instr(?1, 'b' || i)",
        "?1 LIKE '%b' || i",
    ] {
        let given: Vec<Value> =
            if what.contains('?') { vec![Value::from("a".repeat(1 << 20))] } else { vec![] };
        let begin = std::time::Instant::now();
        let error = engine.refused(Statement::new(format!("{many}{what}) FROM n"), given));
        assert_eq!(error.code(), "SQL_TOO_LONG", "{what}: {error}");
        println!("{what}: {:?}", begin.elapsed());
    }
}

/// A full-text index writes what it holds back at the next savepoint: that one is the command's.
#[test]
fn what_virtual_tables_hold_back_is_written_by_the_command() {
    let engine = Engine::new();
    engine.run("CREATE VIRTUAL TABLE docs USING fts5(body)");
    engine.conn.execute_batch("BEGIN").unwrap();
    engine.run("INSERT INTO docs VALUES ('one two three')");
    let blocks = "SELECT count(*) FROM docs_data";
    let before = engine.one(blocks);
    execute::flush_virtual_tables(&engine.conn).unwrap();
    assert_ne!(engine.one(blocks), before);
    engine.conn.execute_batch("COMMIT").unwrap();
}

/// Values in memory that is there already: no piece of it is taken for them.
#[test]
fn the_longer_a_command_runs_the_smaller_its_values() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a, b)");
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000) ";
    engine
        .run(format!("INSERT INTO t {numbers} SELECT i, printf('%.*c', 100, 'x') FROM n").as_str());
    engine.run("INSERT INTO t VALUES (0, zeroblob(10000000))");
    // A long command that does not look at the long value is none the worse for it.
    engine.run("UPDATE t SET b = 'y' WHERE a > 0");
    engine.run("DELETE FROM t WHERE a % 100 <> 0");
    // Nor is one that changes much text, a piece at a time.
    engine.run("CREATE TABLE docs(id INTEGER PRIMARY KEY, body)");
    engine.run(
        format!(
            "INSERT INTO docs {numbers} SELECT i, printf('%.*c', 300000, 'x') FROM n LIMIT 300"
        )
        .as_str(),
    );
    engine.run("UPDATE docs SET body = upper(body) || id");
    let list = format!("[{}1]", "\"some text\",".repeat(150_000));
    engine.run(Statement::new(
        "INSERT INTO docs(body) SELECT value FROM json_each(?)",
        [Value::from(list)],
    ));
    engine.run("DROP TABLE docs");
    // The bound is gone with its command.
    engine.run("INSERT INTO t VALUES (0, zeroblob(16000000))");
    let error = engine.refused(
        format!("{numbers} INSERT INTO t SELECT i, substr(x.b, i) FROM n, t AS x WHERE x.a = 0")
            .as_str(),
    );
    assert_eq!(error.code(), "SQL_TOO_LONG");
}

/// A value, and a whole row, may have 16 MiB; what is taken is in a full-text index to its last word.
#[test]
fn a_full_text_index_loses_no_term_at_the_limit() {
    const LIMIT: usize = 16 << 20;
    // A row has a header and a rowid beside its values.
    const ROOM: usize = 64;
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a, b)");
    engine.run("CREATE VIRTUAL TABLE docs USING fts5(a, b)");
    let text = |length: usize, prefix: char| {
        let mut text = String::with_capacity(length + 16);
        let mut word = 0;
        while text.len() < length {
            text += &format!("{prefix}{word:x} ");
            word += 1;
        }
        text.truncate(length - 5);
        (text + " last", word - 2)
    };
    let insert = |table: &str, a: &str, b: &str| {
        let sql = format!("INSERT INTO {table} VALUES (?, ?)");
        Statement::new(sql, [Value::from(a.to_string()), Value::from(b.to_string())])
    };
    let (large, large_words) = text(LIMIT - 1000 - ROOM, 'x');
    let (small, small_words) = text(1000, 'y');
    for table in ["t", "docs"] {
        engine.run(insert(table, &large, &small));
        // One of them too long, or both together.
        let (longer, half) = ("x ".repeat(LIMIT / 2 + 1), "x ".repeat(LIMIT / 4 + 1));
        for (a, b) in [(&longer, &small), (&small, &longer), (&half, &half)] {
            let error = engine.refused(insert(table, a, b));
            assert_eq!(error.code(), "SQLITE_TOOBIG", "{table}");
        }
        assert_eq!(engine.one(&format!("SELECT count(*) FROM {table}")), Value::Integer(1));
    }
    let found = |word: &str| {
        engine.one(&format!("SELECT count(*) FROM docs('{word}')")) == Value::Integer(1)
    };
    for n in (0..large_words).step_by(large_words / 200).chain([large_words]) {
        assert!(found(&format!("a:x{n:x}")), "{n} of {large_words}");
    }
    for n in 0..=small_words {
        assert!(found(&format!("b:y{n:x}")), "{n} of {small_words}");
    }
    assert!(found("a:last") && found("b:last") && !found("a:y0") && !found("b:x0"));
    engine.run("INSERT INTO docs(docs) VALUES ('integrity-check')");
    engine.run("DELETE FROM docs");
    // One word, eight million times.
    engine.run(insert("docs", &"z ".repeat(LIMIT / 2 - 1000), "one last"));
    assert!(found("a:z") && found("b:last") && !found("b:z"));
    engine.run("INSERT INTO docs(docs) VALUES ('integrity-check')");
    engine.run("DELETE FROM docs");
    assert!(!found("a:last"));
}
