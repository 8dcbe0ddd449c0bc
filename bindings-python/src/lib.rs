//! The native module `quorumlite._quorumlite`: converts, calls the core, maps errors. It is
//! private; the public package around it is written in Python (`python/quorumlite`).

mod convert;
mod delivery;
mod directory;
mod errors;
mod node;
mod operation;
mod process;
mod rows;

use pyo3::prelude::*;

/// The native part of `quorumlite`. Private: use the package.
#[pymodule(gil_used = false)]
mod _quorumlite {
    #[pymodule_export]
    use crate::directory::{check, recover_lost_quorum};
    #[pymodule_export]
    use crate::node::{NativeNode, open};
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::process::shutdown;
    #[pymodule_export]
    use crate::rows::{Result, Row, Rows, RowsIterator};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Made here, under the import lock, so that a fork never meets it half-made.
        crate::process::Process::current();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
