//! Functions that SQLite lacks, or computes differently from one platform to the next.

use std::collections::HashSet;

use super::state_support::Replica;
use super::*;

const CONTEXT: CommandContext = CommandContext { timestamp_us: 981_173_106_789_000, seed: 42 };

#[test]
fn mathematical_functions_keep_sqlites_rules() {
    let engine = Engine::new();
    let real = Value::Real;
    let cases = [
        ("sqrt(2)", real(std::f64::consts::SQRT_2)),
        ("sqrt('16')", real(4.0)),
        ("sqrt(-1)", Value::Null),
        ("sqrt('four')", Value::Null),
        ("sqrt(NULL)", Value::Null),
        ("sqrt(x'31')", Value::Null),
        ("pi()", real(std::f64::consts::PI)),
        ("exp(0)", real(1.0)),
        ("exp(1000)", real(f64::INFINITY)),
        ("pow(2, 10)", real(1024.0)),
        ("power(2, 0.5)", real(std::f64::consts::SQRT_2)),
        ("pow(-1, 0.5)", Value::Null),
        ("pow(1, NULL)", Value::Null),
        ("mod(11, 3.5)", real(0.5)),
        ("mod(-7, 3)", real(-1.0)),
        ("mod(1, 0)", Value::Null),
        ("ln(1)", real(0.0)),
        ("ln(0)", Value::Null),
        ("ln(-1)", Value::Null),
        ("log(1000)", real(3.0)),
        ("log10(0.01)", real(-2.0)),
        ("log2(1024)", real(10.0)),
        ("log(2, 8)", real(3.0)),
        ("log(2, 0)", Value::Null),
        ("log(1, 8)", Value::Null),
        ("log(0.5, 8)", Value::Null),
        ("log(-2, 8)", Value::Null),
        ("ceil(1.2)", real(2.0)),
        ("ceiling(-1.2)", real(-1.0)),
        ("floor(-1.2)", real(-2.0)),
        ("trunc(-1.9)", real(-1.0)),
        ("floor(9223372036854775807)", Value::Integer(i64::MAX)),
        ("trunc('7')", Value::Integer(7)),
        ("ceil('seven')", Value::Null),
        ("acos(1)", real(0.0)),
        ("acos(2)", Value::Null),
        ("asin(0)", real(0.0)),
        ("atan(0)", real(0.0)),
        ("atan2(1, 1)", real(std::f64::consts::FRAC_PI_4)),
        ("cos(0)", real(1.0)),
        ("sin(0)", real(0.0)),
        ("tan(0)", real(0.0)),
        ("cosh(0)", real(1.0)),
        ("sinh(0)", real(0.0)),
        ("tanh(0)", real(0.0)),
        ("acosh(1)", real(0.0)),
        ("acosh(0)", Value::Null),
        ("asinh(0)", real(0.0)),
        ("atanh(0)", real(0.0)),
        ("atanh(2)", Value::Null),
        ("degrees(pi())", real(180.0)),
        ("radians(180)", real(std::f64::consts::PI)),
    ];
    for (expression, expected) in cases {
        assert_eq!(engine.one(&format!("SELECT {expression}")), expected, "{expression}");
        let read = execute::read(&engine.reader(), &format!("SELECT {expression}").into());
        assert_eq!(read.unwrap().values(), [[expected]], "{expression} on a reader");
    }
    assert_eq!(engine.refused("SELECT sqrt()").code(), "SQLITE_ERROR");
    assert_eq!(engine.refused("SELECT log(1, 2, 3)").code(), "SQLITE_ERROR");
}

/// Bits that are part of what is replicated: they may never change, on any platform.
#[test]
fn mathematical_functions_give_these_bits() {
    let engine = Engine::new();
    let cases: &[(&str, u64)] = &[
        ("sin(1e15)", 0x3feb_76f8_8136_ceba),
        ("exp(1)", 0x4005_bf0a_8b14_576a),
        ("sin(1)", 0x3fea_ed54_8f09_0cee),
        ("ln(10)", 0x4002_6bb1_bbb5_5516),
    ];
    for (expression, bits) in cases {
        let value = engine.one(&format!("SELECT {expression}")).as_f64().unwrap();
        assert_eq!(value.to_bits(), *bits, "{expression}: {:x}", value.to_bits());
    }
}

#[test]
fn indexes_and_columns_may_use_mathematical_functions() {
    let mut r = Replica::new();
    r.execute(&[
        "CREATE TABLE t(a REAL, b REAL NOT NULL AS (sqrt(a)) VIRTUAL, c AS (floor(a)) STORED)",
        "CREATE INDEX i ON t(log2(a)) WHERE exp(a) > 1",
        "INSERT INTO t(a) VALUES (4.5), (16.5)",
    ])
    .unwrap();
    // An image of it passes its check, and works where it is installed.
    let mut other = Replica::new();
    let image = r.db.image().unwrap();
    std::fs::write(other.db.incoming_path(), image.read(0, usize::MAX).unwrap()).unwrap();
    other.writer.install(&other.db.incoming_path()).unwrap();
    for r in [&mut r, &mut other] {
        r.execute(&["INSERT INTO t(a) VALUES (64.25)"]).unwrap();
        let sql = "SELECT c FROM t INDEXED BY i WHERE log2(a) > 3 AND exp(a) > 1";
        assert_eq!(r.query(sql), [[Value::Real(16.0)], [Value::Real(64.0)]]);
        assert_eq!(r.query("PRAGMA integrity_check"), [[text("ok")]]);
    }
    assert_eq!(r.state(), other.state());
}

/// The fields of a UUID, checked for its form.
fn parts(value: &Value, version: char) -> (String, u64) {
    let uuid = value.as_str().unwrap();
    assert_eq!(uuid.len(), 36, "{uuid}");
    for (i, c) in uuid.chars().enumerate() {
        let fits = match i {
            8 | 13 | 18 | 23 => c == '-',
            14 => c == version,
            19 => "89ab".contains(c),
            _ => c.is_ascii_digit() || ('a'..='f').contains(&c),
        };
        assert!(fits, "{uuid}: {c} at {i}");
    }
    let time = format!("{}{}", &uuid[..8], &uuid[9..13]);
    (uuid.to_string(), u64::from_str_radix(&time, 16).unwrap())
}

#[test]
fn uuids_come_from_the_commands_seed_and_time() {
    let (one, other) = (Engine::new(), Engine::new());
    let sql = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
               SELECT uuid(), uuid7() FROM n";
    let drawn = one.command(CONTEXT, sql).rows;
    assert_eq!(drawn, other.command(CONTEXT, sql).rows);
    assert_ne!(drawn, one.command(CommandContext { seed: 43, ..CONTEXT }, sql).rows);
    let mut seen = HashSet::new();
    let mut last = String::new();
    for (i, row) in drawn.iter().enumerate() {
        assert!(seen.insert(parts(&row[0], '4').0));
        let (uuid, milliseconds) = parts(&row[1], '7');
        assert_eq!(milliseconds, 981_173_106_789 + i as u64 / 4096);
        assert!(uuid > last, "{uuid} comes after {last}");
        last = uuid;
    }
}

#[test]
fn uuids_of_a_read_are_real() {
    let engine = Engine::new();
    let reader = engine.reader();
    let draw = || execute::read(&reader, &"SELECT uuid(), uuid7()".into()).unwrap().into_values();
    let (one, other) = (draw(), draw());
    assert_ne!(parts(&one[0][0], '4').0, parts(&other[0][0], '4').0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let (_, milliseconds) = parts(&one[0][1], '7');
    assert!((now.as_millis() as u64).abs_diff(milliseconds) < 60_000);
}

#[test]
fn uuids_are_defaults_but_no_part_of_an_index() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a, id TEXT DEFAULT (uuid()), b TEXT DEFAULT (uuid7()))");
    engine.run("CREATE TRIGGER tt AFTER INSERT ON t WHEN new.a = 1 BEGIN INSERT INTO t(a) VALUES (uuid()); END");
    engine.command(CONTEXT, "INSERT INTO t(a) VALUES (1), (2)");
    assert_eq!(
        engine.one("SELECT count(DISTINCT id) + count(DISTINCT b) FROM t"),
        Value::Integer(6)
    );
    assert_eq!(engine.refused("CREATE INDEX i ON t(uuid())").code(), "SQLITE_ERROR");
    assert_eq!(engine.refused("CREATE TABLE g(a, b AS (uuid7()))").code(), "SQLITE_ERROR");
}
