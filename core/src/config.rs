//! [`Config`]: the options of [`Node::open`](crate::Node::open) and their validation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// How fresh the answer of a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Consistency {
    /// The local state, however old.
    None,
    /// The local state, never older than what this handle has written or read.
    #[default]
    Session,
    /// The state of the node that believes that it leads.
    Weak,
    /// Everything acknowledged before the read began; one quorum round, shared by concurrent reads.
    Linearizable,
    /// The read goes through the log.
    Strong,
}

impl Consistency {
    /// The name of the level, as every language spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Consistency::None => "none",
            Consistency::Session => "session",
            Consistency::Weak => "weak",
            Consistency::Linearizable => "linearizable",
            Consistency::Strong => "strong",
        }
    }
}

impl std::str::FromStr for Consistency {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Ok(match s {
            "none" => Consistency::None,
            "session" => Consistency::Session,
            "weak" => Consistency::Weak,
            "linearizable" => Consistency::Linearizable,
            "strong" => Consistency::Strong,
            other => {
                return Err(Error::config(
                    "CONFIG_CONSISTENCY",
                    format!(
                        "unknown consistency {other:?}; use one of \"none\", \"session\", \
                         \"weak\", \"linearizable\", \"strong\""
                    ),
                ));
            }
        })
    }
}

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// Votes, counts towards the quorum, may lead.
    #[default]
    Voter,
    /// Keeps a copy and serves reads, forwards writes, never votes.
    Learner,
}

impl Role {
    /// The name of the role, as every language spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Voter => "voter",
            Role::Learner => "learner",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "voter" => Ok(Role::Voter),
            "learner" => Ok(Role::Learner),
            other => Err(Error::config(
                "CONFIG_ROLE",
                format!("unknown role {other:?}; use \"voter\" or \"learner\""),
            )),
        }
    }
}

/// How the connections between nodes are protected.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Security {
    /// Plain TCP: only on loopback, unless [`Config::insecure`] says otherwise.
    #[default]
    Plain,
    /// Mutual TLS from one secret that all nodes share.
    Secret(String),
    /// Mutual TLS with certificates of one's own (PEM files).
    Certificates {
        /// Certificates of the authority that signed every node's certificate.
        ca: PathBuf,
        /// This node's certificate chain.
        cert: PathBuf,
        /// This node's private key.
        key: PathBuf,
    },
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret itself must never reach a log.
        f.write_str(match self {
            Security::Plain => "Plain",
            Security::Secret(_) => "Secret(..)",
            Security::Certificates { .. } => "Certificates(..)",
        })
    }
}

/// The options of [`Node::open`](crate::Node::open). Every default is safe.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) dir: PathBuf,
    pub(crate) node_id: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) join: Vec<String>,
    pub(crate) security: Security,
    pub(crate) insecure: bool,
    pub(crate) role: Role,
    pub(crate) timeout: Duration,
    pub(crate) consistency: Consistency,
    pub(crate) max_log_bytes: u64,
    pub(crate) check_interval: Option<Duration>,
    pub(crate) transaction_entries: Option<usize>,
    pub(crate) pretended_build: Option<(u32, String)>,
    pub(crate) pretended_clock_us: Option<i64>,
}

/// The longest accepted `timeout`, in seconds (a day).
pub const MAX_TIMEOUT_SECONDS: f64 = 86_400.0;

impl Config {
    /// A standalone node in `dir`, which is created if it does not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Config {
            dir: dir.into(),
            node_id: None,
            listen: None,
            advertise: None,
            join: Vec::new(),
            security: Security::Plain,
            insecure: false,
            role: Role::Voter,
            timeout: Duration::from_secs(10),
            consistency: Consistency::Session,
            max_log_bytes: 32 * 1024 * 1024,
            check_interval: None,
            transaction_entries: None,
            pretended_build: None,
            pretended_clock_us: None,
        }
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of this node in its cluster: 1 to 64 of `a-z A-Z 0-9 . _ -`. By default it is made
    /// once and kept in the directory.
    pub fn node_id(mut self, id: impl Into<String>) -> Self {
        self.node_id = Some(id.into());
        self
    }

    /// The address (`host:port`) to listen at for other nodes. Without it the node is standalone
    /// and opens no network at all.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// The address (`host:port`) at which the other nodes reach this one; by default `listen`.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Addresses of members of the cluster to join. Joining again is harmless; an empty directory
    /// with a `join` list never starts a cluster of its own.
    pub fn join<I, S>(mut self, addresses: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.join = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// Encrypts and authenticates all connections with a secret that every node shares.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.security = Security::Secret(secret.into());
        self
    }

    /// Encrypts and authenticates all connections with certificates of one's own (PEM files).
    pub fn certificates(
        mut self,
        ca: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.security =
            Security::Certificates { ca: ca.into(), cert: cert.into(), key: key.into() };
        self
    }

    /// Allows plain TCP beyond loopback. Anyone who reaches the port can then read and write.
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// What the node does in its cluster; by default a voter.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// How long `open` waits until the node has joined and can serve, and the default deadline of
    /// every call. 10 seconds unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The consistency of reads that do not name one.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// The size in bytes that the Raft log may grow to before its applied and durable part is
    /// purged; 32 MiB unless set, at least 1 MiB.
    pub fn max_log_bytes(mut self, bytes: u64) -> Self {
        self.max_log_bytes = bytes;
        self
    }

    /// How often this node, while it leads, has all replicas hash their content at one log index
    /// and compare; never unless set, at least one second. Every hash reads the whole database once.
    /// [`Status::divergence`](crate::Status::divergence) says what was found.
    pub fn check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = Some(interval);
        self
    }

    /// How many entries of the log this node applies in one transaction at most: for tests, which
    /// show that it makes no difference.
    #[doc(hidden)]
    pub fn transaction_entries(mut self, entries: usize) -> Self {
        self.transaction_entries = Some(entries.max(1));
        self
    }

    /// The apply level and the fingerprint that this node claims: for tests of builds that differ.
    #[doc(hidden)]
    pub fn pretended_build(mut self, apply_level: u32, fingerprint: impl Into<String>) -> Self {
        self.pretended_build = Some((apply_level, fingerprint.into()));
        self
    }

    /// How far this node's clock is ahead of the system's, in microseconds: for tests.
    #[doc(hidden)]
    pub fn pretended_clock_us(mut self, ahead: i64) -> Self {
        self.pretended_clock_us = Some(ahead);
        self
    }

    /// Checks every option by itself and against the others.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with a message that says how to mend it.
    pub fn validate(&self) -> Result<()> {
        if self.dir.as_os_str().is_empty() {
            return Err(Error::config(
                "CONFIG_DIRECTORY",
                "the data directory is empty; name a directory such as \"data/n1\"",
            ));
        }
        if let Some(id) = &self.node_id {
            validate_node_id(id)?;
        }
        if self.timeout.is_zero() || self.timeout.as_secs_f64() > MAX_TIMEOUT_SECONDS {
            return Err(Error::config(
                "CONFIG_TIMEOUT",
                format!(
                    "timeout must be more than 0 and at most {MAX_TIMEOUT_SECONDS} seconds, not {}",
                    self.timeout.as_secs_f64()
                ),
            ));
        }
        if self
            .check_interval
            .is_some_and(|i| i < Duration::from_secs(1) || i.as_secs_f64() > MAX_TIMEOUT_SECONDS)
        {
            return Err(Error::config(
                "CONFIG_LIMIT",
                format!("check_interval must be 1 to {MAX_TIMEOUT_SECONDS} seconds"),
            ));
        }
        if self.max_log_bytes < 1024 * 1024 {
            return Err(Error::config(
                "CONFIG_LIMIT",
                format!("max_log_bytes must be at least 1048576, not {}", self.max_log_bytes),
            ));
        }
        match &self.security {
            Security::Secret(s) if s.is_empty() => {
                return Err(Error::config(
                    "CONFIG_SECRET",
                    "the secret is empty; use a long random text, the same on every node",
                ));
            }
            _ => {}
        }
        let Some(listen) = &self.listen else {
            for (given, name) in [
                (self.advertise.is_some(), "advertise"),
                (!self.join.is_empty(), "join"),
                (self.security != Security::Plain, "secret or certificates"),
                (self.insecure, "insecure"),
                (self.role == Role::Learner, "role=\"learner\""),
            ] {
                if given {
                    return Err(Error::config(
                        "CONFIG_NEEDS_LISTEN",
                        format!(
                            "{name} was given without listen; add listen=\"127.0.0.1:7001\" (an \
                             address of this machine) to take part in a cluster"
                        ),
                    ));
                }
            }
            return Ok(());
        };
        validate_address("listen", listen, true)?;
        if let Some(advertise) = &self.advertise {
            validate_address("advertise", advertise, false)?;
        }
        for address in &self.join {
            validate_address("join", address, false)?;
        }
        let host = split_address(listen).map(|(host, _)| host).unwrap_or_default();
        if self.advertise.is_none() && is_wildcard(host) {
            return Err(Error::config(
                "CONFIG_ADVERTISE",
                format!(
                    "listen={listen:?} is every address of this machine, which other nodes cannot \
                     dial; add advertise=\"host:port\" with the address at which they reach it"
                ),
            ));
        }
        if self.security == Security::Plain && !self.insecure && !is_loopback(host) {
            return Err(Error::config(
                "CONFIG_INSECURE",
                format!(
                    "listen={listen:?} is reachable from other machines but nothing protects it; \
                     add secret=\"a long random text\" (the same on every node) or ca, cert and \
                     key, or say insecure=True if the network itself is trusted"
                ),
            ));
        }
        Ok(())
    }
}

/// Checks the form of a node id.
pub(crate) fn validate_node_id(id: &str) -> Result<()> {
    let ok = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if ok {
        return Ok(());
    }
    Err(Error::config(
        "CONFIG_NODE_ID",
        format!("node_id {id:?} is not 1 to 64 of the characters a-z A-Z 0-9 . _ -"),
    ))
}

/// Splits `host:port`, `[v6]:port`.
pub(crate) fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some((host, port))
}

fn validate_address(option: &str, address: &str, allow_port_zero: bool) -> Result<()> {
    match split_address(address) {
        Some((_, 0)) if !allow_port_zero => {}
        Some(_) => return Ok(()),
        None => {}
    }
    Err(Error::config(
        "CONFIG_ADDRESS",
        format!("{option}={address:?} is not host:port, such as \"127.0.0.1:7001\""),
    ))
}

fn is_wildcard(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
