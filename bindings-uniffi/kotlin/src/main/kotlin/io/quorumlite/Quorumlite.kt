package io.quorumlite

/** Where it begins: [open]. */
public object Quorumlite {
    /**
     * Opens a node in a data directory. Without [Config.listen] it is standalone: a replicated log of
     * one, and no network at all. Opening a directory that is open in this process already gives
     * another handle on the same node. Cancelled, it closes again what it has begun.
     *
     * **Never open the database file inside the directory with another SQLite in the same process**
     * (a JDBC driver, Android's `SQLiteDatabase`): that drops the locks which protect the file, and
     * can corrupt it.
     */
    public suspend fun open(config: Config): Node {
        val checked = config(config)
        prepared
        return Node(openNative(checked))
    }

    /** Opens a standalone node. */
    public suspend fun open(dir: String): Node = open(Config(dir))

    /** Checks a data directory that no node has open, and changes nothing. */
    public suspend fun check(dir: String): CheckReport {
        val checked = path(dir, "dir")
        prepared
        return outcome { report(io.quorumlite.ffi.checkDirectory(checked)) }
    }

    /**
     * Makes the data directory the start of a new cluster, of which its node is the only member, with all
     * the data that it has. For a cluster that lost its majority for good, and for nothing else: **what
     * only the lost nodes had is lost**. No node may have the directory open; take the copy that knows
     * most (see [CheckReport]), and keep a copy of the directory. Afterwards open the node and let empty
     * directories join it. Members of the old cluster are refused. After a crash in the middle, call this
     * again.
     */
    public suspend fun recoverLostQuorum(dir: String): Recovery {
        val checked = path(dir, "dir")
        prepared
        val r = outcome { io.quorumlite.ffi.recoverLostQuorum(checked) }
        return Recovery(r.nodeId, r.clusterId, r.lastLogIndex.toLong(), r.removed)
    }
}
