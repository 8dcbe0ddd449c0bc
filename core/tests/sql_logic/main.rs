//! SQLite's logic tests through a node and through a cluster, with plain SQLite's results.
//!
//! The files are not part of this repository: they are looked for in `shared/sqllogictest` beside
//! it, or where QUORUMLITE_SQLLOGICTEST points to; without them these tests say so and pass. Where
//! a result must differ, `exceptions.tsv` names the case (file, case or line, and the section of
//! COMPAT.md that gives the reason), and the test fails when it differs no more.

mod cases;
mod database;
mod script;
mod split;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use database::Database;

/// What the cluster runs unless QUORUMLITE_SQLLOGICTEST_CLUSTER says otherwise: beginnings of
/// paths, separated by blanks; `all` for all.
const CLUSTER_FILES: &str = "sqllogictest/evidence/ turso-sqltests/sqlite-sqltests/strict \
    turso-sqltests/sqlite-sqltests/insert turso-sqltests/sqlite-sqltests/update \
    turso-sqltests/sqlite-sqltests/on_conflict turso-sqltests/turso-sqltests/row-value";

/// What came of a run.
#[derive(Default)]
pub struct Outcome {
    /// Calls of `execute`.
    pub statements: usize,
    /// Calls of `query`.
    pub queries: usize,
    cases: usize,
    excepted: usize,
    /// File and case to the section of COMPAT.md.
    exceptions: BTreeMap<(String, String), String>,
    failures: Vec<String>,
}

impl Outcome {
    fn load() -> Outcome {
        let lines = include_str!("exceptions.tsv").lines().filter(|line| !line.starts_with('#'));
        let exceptions: BTreeMap<_, _> = lines
            .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
                [file, case, section] => ((file.into(), case.into()), section.into()),
                _ => panic!("exceptions.tsv: {line:?}"),
            })
            .collect();
        Outcome { exceptions, ..Outcome::default() }
    }

    /// Notes how a case ended, against what is expected of it.
    pub fn case(&mut self, file: &str, case: &str, result: Result<(), String>) {
        self.cases += 1;
        let excepted = self.exceptions.get(&(file.to_string(), case.to_string()));
        match (result, excepted) {
            (Ok(()), None) => {}
            (Err(_), Some(_)) => self.excepted += 1,
            (Ok(()), Some(section)) => {
                let text = format!("{file}\t{case}\tis as in SQLite, not as in section {section}");
                self.failures.push(text);
            }
            (Err(difference), None) => self.failures.push(format!("{file}\t{case}\t{difference}")),
        }
    }

    fn report(&self, what: &str) {
        println!(
            "{what}: {} cases ({} statements, {} queries), {} listed exceptions, {} failures",
            self.cases,
            self.statements,
            self.queries,
            self.excepted,
            self.failures.len()
        );
        assert!(self.cases > 0, "no case was run");
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
    }
}

fn root() -> Option<PathBuf> {
    let given = std::env::var_os("QUORUMLITE_SQLLOGICTEST").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/sqllogictest");
    let root = given.unwrap_or(beside);
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: there are no SQL logic tests at {}", root.display());
    None
}

/// The test files below `root`, as paths relative to it.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "test" || e == "jsonl") {
                let relative = path.strip_prefix(root).expect("below the root");
                found.push(relative.to_str().expect("UTF-8").replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

async fn run(db: &mut Database, root: &Path, file: &str, outcome: &mut Outcome) {
    let text = std::fs::read(root.join(file)).expect("a file");
    let text = String::from_utf8_lossy(&text);
    db.clear().await;
    if file.ends_with(".test") {
        script::run(db, file, &text, outcome).await;
    } else {
        cases::run(db, file, &text, outcome).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone() {
    let Some(root) = root() else { return };
    let mut outcome = Outcome::load();
    for file in files(&root) {
        let mut db = Database::standalone().await;
        run(&mut db, &root, &file, &mut outcome).await;
        db.close().await;
    }
    outcome.report("standalone");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_of_three() {
    let Some(root) = root() else { return };
    let wanted = std::env::var("QUORUMLITE_SQLLOGICTEST_CLUSTER");
    let wanted = wanted.as_deref().unwrap_or(CLUSTER_FILES);
    let mut outcome = Outcome::load();
    let mut db = Database::cluster().await;
    for file in files(&root) {
        if wanted == "all" || wanted.split_whitespace().any(|start| file.starts_with(start)) {
            run(&mut db, &root, &file, &mut outcome).await;
        }
    }
    db.close().await;
    outcome.report("cluster");
}

#[test]
fn every_exception_has_its_reason_in_compat_md() {
    let compat = Path::new(env!("CARGO_MANIFEST_DIR")).join("../COMPAT.md");
    let compat = std::fs::read_to_string(compat).expect("COMPAT.md");
    for ((file, case), section) in Outcome::load().exceptions {
        let heading = format!("### {section}");
        let found = compat.lines().any(|line| line == heading);
        assert!(found, "{file} {case}: COMPAT.md has no section {heading:?}");
    }
}
