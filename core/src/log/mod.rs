//! The Raft log: segment files with one writer thread that groups commits, and recovery of what a
//! crash left. Knows nothing of Raft beyond term and index, and nothing of what a record carries.
