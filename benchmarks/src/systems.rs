//! [`System`]: what is compared, and how each is started.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use load::Result;

/// One database in one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Its name in tables and in JSON.
    pub name: &'static str,
    /// The program that it needs.
    pub kind: Kind,
    /// How many nodes there are.
    pub nodes: usize,
    /// `synchronous` of plain SQLite, `wal_sync` of hiqlite.
    sync: &'static str,
    /// The levels of consistency that it offers to reads.
    pub levels: &'static [&'static str],
    /// Whether an acknowledged write is on disk.
    pub durable: bool,
}

/// What a system is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// rusqlite alone.
    Plain,
    /// Quorumlite.
    Quorumlite,
    /// The program in `benchmarks/hiqlite`.
    Hiqlite,
    /// `rqlited`.
    Rqlite,
}

const ALL_LEVELS: &[&str] = &["none", "session", "weak", "linearizable", "strong"];
const HIQLITE_LEVELS: &[&str] = &["none", "linearizable"];
const RQLITE_LEVELS: &[&str] = &["none", "weak", "linearizable", "strong"];

const fn system(
    name: &'static str,
    kind: Kind,
    nodes: usize,
    sync: &'static str,
    levels: &'static [&'static str],
    durable: bool,
) -> System {
    System { name, kind, nodes, sync, levels, durable }
}

/// The yardstick.
pub const YARDSTICK: System = system("rusqlite-full", Kind::Plain, 1, "full", &["none"], true);

/// All that is compared with it.
pub const SYSTEMS: &[System] = &[
    system("rusqlite-normal", Kind::Plain, 1, "normal", &["none"], false),
    system("quorumlite-1", Kind::Quorumlite, 1, "", ALL_LEVELS, true),
    system("quorumlite-3", Kind::Quorumlite, 3, "", ALL_LEVELS, true),
    system("hiqlite-1-fsync", Kind::Hiqlite, 1, "immediate", HIQLITE_LEVELS, true),
    system("hiqlite-3-fsync", Kind::Hiqlite, 3, "immediate", HIQLITE_LEVELS, true),
    system("hiqlite-1-default", Kind::Hiqlite, 1, "default", HIQLITE_LEVELS, false),
    system("hiqlite-3-default", Kind::Hiqlite, 3, "default", HIQLITE_LEVELS, false),
    system("rqlite-1", Kind::Rqlite, 1, "", RQLITE_LEVELS, true),
    system("rqlite-3", Kind::Rqlite, 3, "", RQLITE_LEVELS, true),
];

/// Where one instance of a system lives.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its data.
    pub dir: PathBuf,
    ports: Vec<u16>,
}

impl Place {
    /// A directory below `root` and ports that are free now.
    pub fn new(system: &System, root: &Path, name: &str) -> Result<Place> {
        let count = match system.kind {
            Kind::Plain => 0,
            Kind::Quorumlite if system.nodes == 1 => 0,
            Kind::Quorumlite => system.nodes,
            Kind::Hiqlite | Kind::Rqlite => 2 * system.nodes,
        };
        let listeners: std::io::Result<Vec<_>> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
        let ports: std::io::Result<Vec<_>> =
            listeners?.iter().map(|l| l.local_addr().map(|a| a.port())).collect();
        let dir = root.join(format!("{}-{name}", system.name));
        std::fs::create_dir_all(&dir)?;
        Ok(Place { dir, ports: ports? })
    }
}

impl System {
    /// The command that starts it; `expect` is the number of rows that were acknowledged, none for a
    /// new database.
    pub fn command(&self, place: &Place, hiqlite: &Path, expect: Option<i64>) -> Result<Command> {
        let mut command = match self.kind {
            Kind::Hiqlite => Command::new(hiqlite),
            kind => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["subject", "--kind", &format!("{kind:?}").to_lowercase()]);
                command
            }
        };
        command.arg("--dir").arg(&place.dir);
        command.args(["--nodes", &self.nodes.to_string(), "--sync", self.sync]);
        if !place.ports.is_empty() {
            let ports: Vec<_> = place.ports.iter().map(u16::to_string).collect();
            command.args(["--ports", &ports.join(",")]);
        }
        match expect {
            Some(rows) => command.args(["--expect", &rows.to_string()]),
            None => command.arg("--fresh"),
        };
        Ok(command)
    }
}
