//! Texts that cost more than they look.

use super::*;

/// rusqlite compiles the rest of a text to see whether it is anything, and so on: 8,000 statements
/// used to end the process.
#[test]
fn a_text_of_thousands_of_statements_is_refused_at_once() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    let text = "insert into t values(1);".repeat(40_000);
    assert_eq!(engine.refused(text.as_str()).code(), "SQL_MULTIPLE_STATEMENTS");
    let error = execute::read(&engine.reader(), &"select 1;".repeat(80_000).as_str().into());
    assert_eq!(error.unwrap_err().into_error().code(), "SQL_MULTIPLE_STATEMENTS");
    assert!(precheck::refuse_early(&[text.as_str().into()]).is_err());
    for text in ["insert into t values (2);;; -- x\n/* ; */", ";;insert into t values (3) ; "] {
        engine.run(text);
    }
    assert_eq!(engine.one("SELECT count(*) FROM t"), Value::Integer(2));
}
