/** What is done to a data directory that no node has open. */

import { directory } from "./arguments.js";
import { native } from "./native.js";
import { unwrap } from "./outcome.js";
import type { CheckReport, Recovery } from "./types.js";

/**
 * Checks the data directory `dir`, which no node may have open: the checksums of the log, every page
 * of the database, whether the two belong together, and the directory's identity. Reads all of it
 * once, and changes nothing but what SQLite itself mends after a crash. What is wrong with the data
 * is no error but a finding; a directory that is in use, or holds no node, is one.
 */
export async function check(dir: string | URL): Promise<CheckReport> {
  return unwrap(await native.check(directory(dir)));
}

/**
 * Makes the data directory `dir` the start of a new cluster, of which its node is the only member,
 * with all the data that it has. For a cluster that lost its majority for good, and for nothing else:
 * **what only the lost nodes had is lost**. No node may have the directory open; take the copy that
 * knows most (see `CheckReport`), and keep a copy of the directory. Afterwards open the node and let
 * empty directories join it. Members of the old cluster are refused. After a crash in the middle,
 * call this again.
 */
export async function recoverLostQuorum(dir: string | URL): Promise<Recovery> {
  return unwrap(await native.recoverLostQuorum(directory(dir)));
}
