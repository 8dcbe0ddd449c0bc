package io.quorumlite

/**
 * One member of the cluster.
 *
 * @property address its address; empty for a standalone node.
 * @property reachable whether it answers now; `null` where it was not asked.
 * @property appliedIndex the index that it has applied, where known.
 */
public data class Member(
    val nodeId: String,
    val address: String,
    val role: Role,
    val reachable: Boolean?,
    val appliedIndex: Long?,
)

/**
 * What a node knows about itself and its cluster at one moment.
 *
 * @property clusterId the cluster's id, 32 hexadecimal digits.
 * @property state `leader`, `follower`, `candidate`, `learner` or `stopped`.
 * @property leaderId the node that leads, as far as this node knows.
 * @property term the current Raft term.
 * @property lastLogIndex the index of the last entry in this node's log.
 * @property commitIndex the index up to which this node knows entries to be committed.
 * @property appliedIndex the index up to which entries are applied to this node's database.
 * @property durableIndex the index up to which the database survives a power cut without the log.
 * @property purgedIndex the last index that was purged from the log.
 * @property logBytes bytes of log on disk.
 * @property address the address at which other nodes reach this one; `null` where standalone.
 * @property lastRefusal why the last peer that was turned away was turned away.
 * @property checkedIndex the latest log index at which this replica was found equal to the others;
 *   0 for never.
 * @property divergence the first difference between replicas that was found; see
 *   [Config.checkInterval].
 * @property clockWarning that the time of the last command is far ahead of this node's clock, where it is.
 * @property applyLevel what log entries mean to this node; members replicate only where this is equal.
 * @property fingerprint of all else that decides what a write does: SQLite, functions, limits, the
 *   platform.
 * @property halted where this node has stopped applying, if it has; see [Node.voidCommand].
 * @property snapshot the snapshot that this node receives, or the last one; `null` where it received none
 *   since it was opened.
 * @property members all members; `reachable` and `appliedIndex` are known only of this node, ask
 *   [Node.members] for the others.
 */
public data class Status(
    val nodeId: String,
    val clusterId: String,
    val role: Role,
    val state: String,
    val leaderId: String?,
    val term: Long,
    val lastLogIndex: Long,
    val commitIndex: Long,
    val appliedIndex: Long,
    val durableIndex: Long,
    val purgedIndex: Long,
    val logBytes: Long,
    val address: String?,
    val lastRefusal: String?,
    val checkedIndex: Long,
    val divergence: String?,
    val clockWarning: String?,
    val applyLevel: Int,
    val fingerprint: String,
    val halted: Halted?,
    val snapshot: SnapshotProgress?,
    val members: List<Member>,
)

/**
 * A command that this node does not apply any more, nor anything after it.
 *
 * @property index the index of its entry in the log.
 * @property attempts how often it was tried.
 * @property reason what came of it.
 */
public data class Halted(val index: Long, val attempts: Int, val reason: String)

/**
 * How far the reception of a snapshot is.
 *
 * @property totalBytes bytes of the whole database.
 * @property presentBytes how many of them are there.
 * @property receivedBytes what had to be sent for it: less where this node had an old copy, and it is
 *   compressed.
 */
public data class SnapshotProgress(
    val totalBytes: Long,
    val presentBytes: Long,
    val receivedBytes: Long,
)

/**
 * A hash of the logical content: equal on nodes at the same index.
 *
 * @property hash SHA-256, 64 hexadecimal digits.
 * @property index the applied index that the hash belongs to.
 */
public data class ContentHash(val hash: String, val index: Long)
