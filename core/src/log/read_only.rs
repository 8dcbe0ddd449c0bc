//! A log that is looked at and not changed: what opening it would write goes nowhere.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::storage::{SegmentFile, Storage};
use super::{Log, LogOptions};

impl Log {
    /// Opens the log in `dir` as [`Log::open`] does, with the same checks, but leaves every file as
    /// it is. What is appended to it is lost. Blocks.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub(crate) fn open_read_only(dir: &Path) -> crate::Result<Log> {
        Log::open_on(Arc::new(ReadOnly { path: dir.to_owned() }), LogOptions::default())
    }
}

/// A directory that is only read; one that is missing is empty.
struct ReadOnly {
    path: PathBuf,
}

impl Storage for ReadOnly {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn create(&self, _: &str, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        // Only an empty log begins a segment, and nobody reads what was never appended.
        Ok(Arc::new(Empty { len }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(Unchanged(File::open(self.path(name))?)))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

struct Unchanged(File);

impl SegmentFile for Unchanged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Empty {
    len: u64,
}

impl SegmentFile for Empty {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> io::Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
