package io.quorumlite

/**
 * One thing that [Quorumlite.check] found.
 *
 * @property severity `error`: data is damaged or missing; `note`: worth knowing, and no damage.
 * @property code a stable code, such as `CORRUPTION_LOG`.
 * @property message what was found, and what to do.
 */
public data class Finding(val severity: String, val code: String, val message: String)

/**
 * What [Quorumlite.check] says of a data directory. Of several copies of one cluster, the one with the
 * highest [lastLogTerm], and among these the highest [lastLogIndex], knows most.
 *
 * @property ok whether nothing is damaged: no finding is an error.
 * @property nodeId the node's id; empty where the directory does not say.
 * @property clusterId the cluster's id; empty before the node has joined one.
 * @property term the term of the last vote.
 * @property lastLogTerm the term of the last entry in the log.
 * @property lastLogIndex the index of the last entry in the log (0 where it is empty).
 * @property purgedIndex the last index that was purged from the log.
 * @property appliedIndex the index up to which entries are applied to the database.
 * @property members the members that log and database name last; not asked whether they are there.
 * @property findings what was found; empty where there is nothing to say.
 */
public data class CheckReport(
    val ok: Boolean,
    val nodeId: String,
    val clusterId: String,
    val term: Long,
    val lastLogTerm: Long,
    val lastLogIndex: Long,
    val purgedIndex: Long,
    val appliedIndex: Long,
    val members: List<Member>,
    val findings: List<Finding>,
)

/**
 * What [Quorumlite.recoverLostQuorum] has done.
 *
 * @property nodeId the node's id, as before.
 * @property clusterId the id of the new cluster.
 * @property lastLogIndex the index of the last entry of the old cluster that the new one has.
 * @property removed the members of the old cluster that are none of the new one.
 */
public data class Recovery(
    val nodeId: String,
    val clusterId: String,
    val lastLogIndex: Long,
    val removed: List<String>,
)

internal fun report(r: io.quorumlite.ffi.CheckReport): CheckReport =
    CheckReport(
        r.ok,
        r.nodeId,
        r.clusterId,
        r.term.toLong(),
        r.lastLogTerm.toLong(),
        r.lastLogIndex.toLong(),
        r.purgedIndex.toLong(),
        r.appliedIndex.toLong(),
        r.members.map(::member),
        r.findings.map { Finding(it.severity, it.code, it.message) },
    )
