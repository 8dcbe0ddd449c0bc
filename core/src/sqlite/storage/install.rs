//! Putting a received page image in the place of the database.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::meta::Applied;
use crate::sqlite::apply::writer::Writer;
use crate::sqlite::database::{self, disk_error};
use crate::sqlite::storage::checkpoint::Checkpointer;
use crate::sqlite::storage::image::verify_image;

/// How long reads may go on before they are interrupted.
const PATIENCE: Duration = Duration::from_secs(1);

impl Writer {
    /// Checks the image in `image_file` and puts it in the place of the database; the file is gone
    /// then. Reads wait meanwhile, and are interrupted where they take long. After a crash at any
    /// moment there is the old database or the new one.
    ///
    /// # Errors
    /// `Corruption` where the image is damaged, `Conflict` where it is older than the database:
    /// the old database goes on then. After other errors [`Writer::applied`] tells; where the
    /// database could not be opened again, this node must stop.
    pub(crate) fn install(&mut self, image_file: &Path) -> Result<Applied> {
        let shared = self.shared.clone();
        shared.check()?;
        let incoming = verify_image(image_file)?;
        if incoming.index() < self.applied.index() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "IMAGE_TOO_OLD",
                format!(
                    "the image ends at index {}, the database is at {} already",
                    incoming.index(),
                    self.applied.index()
                ),
            )
            .with_retryable(false));
        }
        OpenOptions::new()
            .write(true)
            .open(image_file)
            .and_then(|f| f.sync_all())
            .map_err(|e| disk_error("sync", image_file, e))?;

        let mut checkpointer = shared.checkpointer.lock();
        let Some(gate) = shared.readers.gate_within(PATIENCE, true) else {
            return Err(Error::new(
                ErrorKind::Busy,
                "BUSY_READS",
                "reads did not end for the installation of a snapshot: try again",
            ));
        };
        let _write = shared.write_lock.lock();
        if !checkpointer.truncate(&shared, &gate)? {
            return Err(Error::new(
                ErrorKind::Busy,
                "BUSY_CHECKPOINT",
                "a checkpoint before the installation of a snapshot did not complete: try again",
            ));
        }
        // The main file alone is the old database now. Nobody may have it open when it goes.
        shared.readers.close_idle();
        let _no_compiler = shared.preflight.close();
        checkpointer.close();
        self.conn = None;
        let replaced = shared.files.replace_main(image_file);
        self.reopen(&mut checkpointer).map_err(|e| shared.fail(e))?;
        replaced?;
        shared.publish_durable(self.applied.position);
        Ok(self.applied.clone())
    }

    fn reopen(&mut self, checkpointer: &mut Checkpointer) -> Result<()> {
        let shared = &self.shared;
        let (conn, applied, recent) = database::open_writer(&shared.files, self.recent.limits())?;
        *checkpointer = Checkpointer::open(&shared.files.main)?;
        shared.files.sync_dir()?;
        self.uses_changes = database::uses_changes(&conn)?;
        self.virtual_tables = database::has_virtual_tables(&conn)?;
        (self.conn, self.applied, self.recent) = (Some(conn), applied, recent);
        self.stale_statistics = false;
        self.stale_budget = true;
        shared.publish_applied(&self.applied);
        self.publish_halted();
        Ok(())
    }
}
