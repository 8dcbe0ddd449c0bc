package io.quorumlite

import java.nio.file.Path
import kotlin.time.Duration

/** What a node does in its cluster. */
public enum class Role {
    /** Votes, counts towards the quorum, may lead. */
    VOTER,

    /** Keeps a copy and serves reads, forwards writes, never votes: for phones, for example. */
    LEARNER,
}

/** How fresh the answer of a read must be. */
public enum class Consistency {
    /** The local state, however old. */
    NONE,

    /** The local state, never older than what this handle has written or read. */
    SESSION,

    /** The state of the node that believes that it leads. */
    WEAK,

    /** Everything acknowledged before the read began; one quorum round, shared by reads. */
    LINEARIZABLE,

    /** The read goes through the log. */
    STRONG,
}

/**
 * The options of [Quorumlite.open]. `null` takes the default.
 *
 * @property dir the data directory, which is created if it does not exist.
 * @property nodeId the name of this node in its cluster, 1 to 64 of `a-z A-Z 0-9 . _ -`; by default
 *   made once and kept in the directory.
 * @property listen the address, `"host:port"`, to listen at for other nodes; without it the node is
 *   standalone and uses no network.
 * @property advertise the address at which other nodes reach this one; by default [listen].
 * @property join addresses of members of the cluster to join. Joining again is harmless; an empty
 *   directory with a `join` list never starts a cluster of its own.
 * @property secret a secret that all nodes share; it encrypts and authenticates their connections.
 * @property ca PEM file of the authority that signed every node's certificate; instead of [secret],
 *   together with [cert] and [key].
 * @property cert PEM file of this node's certificate chain.
 * @property key PEM file of this node's private key.
 * @property insecure allow plain TCP beyond loopback. Anyone who reaches the port can read and write.
 * @property role whether the node votes.
 * @property timeout how long `open` waits until the node has joined and can serve, and the default
 *   deadline of every call; 10 seconds by default, a day at most.
 * @property consistency the level of reads that do not name one.
 * @property maxLogBytes bytes of log after which its applied and durable part is purged; 32 MiB by
 *   default.
 * @property checkInterval how often this node has all replicas hash their content and compare while
 *   it leads (at least a second); by default never. [Status.divergence] says what was found.
 */
public data class Config(
    val dir: String,
    val nodeId: String? = null,
    val listen: String? = null,
    val advertise: String? = null,
    val join: List<String> = emptyList(),
    val secret: String? = null,
    val ca: String? = null,
    val cert: String? = null,
    val key: String? = null,
    val insecure: Boolean = false,
    val role: Role = Role.VOTER,
    val timeout: Duration? = null,
    val consistency: Consistency = Consistency.SESSION,
    val maxLogBytes: Long? = null,
    val checkInterval: Duration? = null,
) {
    /** A configuration for a [Path]; `copy` sets the other options. */
    public constructor(dir: Path) : this(dir.toString())

    /** Without the secret, which must never reach a log. */
    override fun toString(): String =
        "Config(dir=$dir, nodeId=$nodeId, listen=$listen, advertise=$advertise, join=$join, " +
            "secret=${secret?.let { "..." }}, ca=$ca, cert=$cert, key=$key, insecure=$insecure, " +
            "role=$role, timeout=$timeout, consistency=$consistency, maxLogBytes=$maxLogBytes, " +
            "checkInterval=$checkInterval)"
}
