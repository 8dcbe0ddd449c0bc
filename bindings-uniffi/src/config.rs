//! Options of `open` and of calls.

use std::time::Duration;

use quorumlite::Error;

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Role {
    /// Votes, counts towards the quorum, may lead.
    Voter,
    /// Keeps a copy and serves reads, forwards writes, never votes.
    Learner,
}

impl From<Role> for quorumlite::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Voter => quorumlite::Role::Voter,
            Role::Learner => quorumlite::Role::Learner,
        }
    }
}

impl From<quorumlite::Role> for Role {
    fn from(role: quorumlite::Role) -> Self {
        match role {
            quorumlite::Role::Voter => Role::Voter,
            quorumlite::Role::Learner => Role::Learner,
        }
    }
}

/// How fresh the answer of a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Consistency {
    /// The local state, however old.
    None,
    /// The local state, never older than what this handle has written or read.
    Session,
    /// The state of the node that believes that it leads.
    Weak,
    /// Everything acknowledged before the read began.
    Linearizable,
    /// The read goes through the log.
    Strong,
}

impl From<Consistency> for quorumlite::Consistency {
    fn from(level: Consistency) -> Self {
        match level {
            Consistency::None => quorumlite::Consistency::None,
            Consistency::Session => quorumlite::Consistency::Session,
            Consistency::Weak => quorumlite::Consistency::Weak,
            Consistency::Linearizable => quorumlite::Consistency::Linearizable,
            Consistency::Strong => quorumlite::Consistency::Strong,
        }
    }
}

/// The options of `open_node`. Durations are in seconds; what is absent takes the core's default.
#[derive(Clone, uniffi::Record)]
pub struct Config {
    /// The data directory.
    pub dir: String,
    /// The name of this node in its cluster.
    #[uniffi(default = None)]
    pub node_id: Option<String>,
    /// The address to listen at; none for a standalone node.
    #[uniffi(default = None)]
    pub listen: Option<String>,
    /// The address at which other nodes reach this one; by default `listen`.
    #[uniffi(default = None)]
    pub advertise: Option<String>,
    /// Addresses of members of the cluster to join.
    #[uniffi(default = [])]
    pub join: Vec<String>,
    /// A secret that all nodes share.
    #[uniffi(default = None)]
    pub secret: Option<String>,
    /// PEM file of the authority that signed every node's certificate; instead of `secret`.
    #[uniffi(default = None)]
    pub ca: Option<String>,
    /// PEM file of this node's certificate chain.
    #[uniffi(default = None)]
    pub cert: Option<String>,
    /// PEM file of this node's private key.
    #[uniffi(default = None)]
    pub key: Option<String>,
    /// Allow plain TCP beyond loopback.
    #[uniffi(default = false)]
    pub insecure: bool,
    /// Whether the node votes; by default it does.
    #[uniffi(default = None)]
    pub role: Option<Role>,
    /// How long opening may take, and the default deadline of every call.
    #[uniffi(default = None)]
    pub timeout: Option<f64>,
    /// The level of reads that do not name one.
    #[uniffi(default = None)]
    pub consistency: Option<Consistency>,
    /// Bytes of log after which its applied and durable part is purged.
    #[uniffi(default = None)]
    pub max_log_bytes: Option<u64>,
    /// How often replicas are compared while this node leads; never by default.
    #[uniffi(default = None)]
    pub check_interval: Option<f64>,
}

/// The options of `query`. Durations are in seconds.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct ReadOptions {
    /// How fresh the answer must be; by default the node's level.
    #[uniffi(default = None)]
    pub consistency: Option<Consistency>,
    /// No answer if the data of this node is older.
    #[uniffi(default = None)]
    pub max_staleness: Option<f64>,
    /// The deadline of the call; by default the node's.
    #[uniffi(default = None)]
    pub timeout: Option<f64>,
}

/// A duration of the core.
///
/// # Errors
/// `CONFIG_TIMEOUT` where `v` is negative, not a number or too large.
pub(crate) fn seconds(name: &str, v: Option<f64>) -> quorumlite::Result<Option<Duration>> {
    v.map(Duration::try_from_secs_f64).transpose().map_err(|e| {
        Error::config("CONFIG_TIMEOUT", format!("{name} is not a number of seconds: {e}"))
    })
}

impl TryFrom<Config> for quorumlite::Config {
    type Error = Error;

    fn try_from(c: Config) -> quorumlite::Result<Self> {
        let mut config = quorumlite::Config::new(c.dir).join(c.join).insecure(c.insecure);
        if let Some(id) = c.node_id {
            config = config.node_id(id);
        }
        if let Some(address) = c.listen {
            config = config.listen(address);
        }
        if let Some(address) = c.advertise {
            config = config.advertise(address);
        }
        config = match (c.secret, c.ca, c.cert, c.key) {
            (None, None, None, None) => config,
            (Some(secret), None, None, None) => config.secret(secret),
            (None, Some(ca), Some(cert), Some(key)) => config.certificates(ca, cert, key),
            (None, ..) => {
                let message =
                    "ca, cert and key belong together; give all three, or a secret instead";
                return Err(Error::config("CONFIG_CERTIFICATES", message));
            }
            (Some(_), ..) => {
                let message = "secret and ca, cert, key exclude each other; give one or the other";
                return Err(Error::config("CONFIG_CERTIFICATES", message));
            }
        };
        if let Some(role) = c.role {
            config = config.role(role.into());
        }
        if let Some(timeout) = seconds("timeout", c.timeout)? {
            config = config.timeout(timeout);
        }
        if let Some(level) = c.consistency {
            config = config.consistency(level.into());
        }
        if let Some(bytes) = c.max_log_bytes {
            config = config.max_log_bytes(bytes);
        }
        if let Some(interval) = seconds("check_interval", c.check_interval)? {
            config = config.check_interval(interval);
        }
        config.validate()?;
        Ok(config)
    }
}

impl TryFrom<ReadOptions> for quorumlite::ReadOptions {
    type Error = Error;

    fn try_from(o: ReadOptions) -> quorumlite::Result<Self> {
        Ok(quorumlite::ReadOptions {
            consistency: o.consistency.map(Into::into),
            max_staleness: seconds("max_staleness", o.max_staleness)?,
            timeout: seconds("timeout", o.timeout)?,
            ..quorumlite::ReadOptions::default()
        })
    }
}
