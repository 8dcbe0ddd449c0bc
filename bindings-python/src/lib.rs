//! The native module `quorumlite._quorumlite`: converts, calls the core, maps errors.
