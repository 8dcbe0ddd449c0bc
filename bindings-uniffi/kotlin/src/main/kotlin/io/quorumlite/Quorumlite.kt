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
}
