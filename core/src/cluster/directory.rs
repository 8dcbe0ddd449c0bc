//! [`DataDirectory`]: one process owns it, and it knows its node and its cluster.

use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;

use crate::config::validate_node_id;
use crate::disk::{self, Cause};
use crate::error::{Error, ErrorKind, Result};
use crate::private;
use crate::transport::ClusterId;

const LOCK_FILE: &str = "quorumlite.lock";
const IDENTITY_FILE: &str = "node";
const FORMAT: &str = "quorumlite 1";

/// A locked data directory.
pub(crate) struct DataDirectory {
    path: PathBuf,
    lock: File,
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // A child that was forked meanwhile holds a copy of the file: closing ours alone would
        // leave the directory locked until the child ends.
        let _ = FileExt::unlock(&self.lock);
    }
}

/// Who this directory's node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StoredIdentity {
    pub(crate) node_id: String,
    /// None until the node has bootstrapped or found the cluster that it joins.
    pub(crate) cluster_id: Option<ClusterId>,
    /// A recovery of this directory has begun and did not end.
    pub(crate) recovering: bool,
}

impl DataDirectory {
    /// Creates the directory where it is missing.
    pub(crate) fn create(path: &Path) -> Result<()> {
        create_durably(path, private::create_dir).map_err(|e| directory_error(path, e))
    }

    /// Locks a directory that holds a node.
    ///
    /// # Errors
    /// As [`DataDirectory::open`], and `Config` (`CONFIG_DIRECTORY`) where there is none.
    pub(crate) fn open_existing(path: &Path) -> Result<DataDirectory> {
        if !path.join(LOCK_FILE).is_file() && !path.join(IDENTITY_FILE).is_file() {
            return Err(Error::config(
                "CONFIG_DIRECTORY",
                format!("{} is not the data directory of a node", path.display()),
            ));
        }
        Self::open(path)
    }

    /// Creates the directory where it is missing and locks it against other processes.
    ///
    /// # Errors
    /// `Config` with one of the codes `CONFIG_DIRECTORY`, `CONFIG_PERMISSION`, `CONFIG_IN_USE`.
    pub(crate) fn open(path: &Path) -> Result<DataDirectory> {
        Self::create(path)?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = private::create_file()
            .read(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|e| directory_error(path, e))?;
        let locked = lock.try_lock_exclusive().map_err(|e| directory_error(path, e))?;
        if !locked {
            let mut owner = String::new();
            let owner = match lock.read_to_string(&mut owner) {
                Ok(_) if !owner.trim().is_empty() => format!(" (process {})", owner.trim()),
                _ => String::new(),
            };
            return Err(Error::config(
                "CONFIG_IN_USE",
                format!(
                    "the data directory {} is in use by another process{owner}; every process \
                     needs a directory of its own, or close the other one first",
                    path.display()
                ),
            ));
        }
        let note = format!("{}\n", std::process::id());
        lock.rewind()
            .and_then(|()| lock.set_len(0))
            .and_then(|()| lock.write_all(note.as_bytes()))
            .map_err(|e| directory_error(path, e))?;
        Ok(DataDirectory { path: path.to_owned(), lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The node's identity, if the directory has one.
    pub(crate) fn identity(&self) -> Result<Option<StoredIdentity>> {
        let file = self.path.join(IDENTITY_FILE);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == IoKind::NotFound => return Ok(None),
            Err(e) => return Err(directory_error(&self.path, e)),
        };
        parse_identity(&text).map(Some).ok_or_else(|| {
            Error::new(
                ErrorKind::Corruption,
                "CORRUPTION_IDENTITY",
                format!(
                    "{} is damaged or was written by a newer version; restore this node: remove \
                     its directory and join the cluster again",
                    file.display()
                ),
            )
        })
    }

    /// The error of a directory that holds a node's data, and not the file that names the node.
    pub(crate) fn lost_identity(&self) -> Error {
        Error::new(
            ErrorKind::Corruption,
            "CORRUPTION_IDENTITY",
            format!(
                "the file {}, which names the node and its cluster, is missing: restore it from a \
                 copy of this directory, or remove the directory and let the node join again",
                self.path.join(IDENTITY_FILE).display()
            ),
        )
    }

    /// The error of a directory whose node has been part of a cluster and has no log any more.
    pub(crate) fn lost_log(&self) -> Error {
        Error::new(
            ErrorKind::Corruption,
            "CORRUPTION_LOG",
            format!(
                "the log of this node is missing ({} holds no segment of it): remove the directory {} \
                 and let the node join again. Where no other node has the data, restore the whole \
                 directory from a copy, or start anew with what is in its database with \
                 recover_lost_quorum",
                self.path.join("log").display(),
                self.path.display(),
            ),
        )
    }

    /// Writes the identity; it is durable when this returns.
    pub(crate) fn save_identity(&self, identity: &StoredIdentity) -> Result<()> {
        let mut text = format!("{FORMAT}\nnode_id {}\n", identity.node_id);
        if let Some(id) = &identity.cluster_id {
            text.push_str(&format!("cluster_id {}\n", hex(id)));
        }
        if identity.recovering {
            text.push_str("recovering\n");
        }
        let temporary = self.path.join("node.new");
        let write = || {
            let mut file = private::create_file().truncate(true).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, self.path.join(IDENTITY_FILE))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|e| directory_error(&self.path, e))
    }
}

/// Creates a directory and those above it where they are missing, so that their names survive a power
/// cut: what is synced in a directory without a name is lost. `make` makes the last one; those above it
/// may be meant for others too.
fn create_durably(path: &Path, make: fn(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        create_durably(above, |path| fs::create_dir(path))?;
    }
    match make(path) {
        // Somebody else may have been faster.
        Err(_) if path.is_dir() => {}
        made => made?,
    }
    // Who may create a name in a directory need not be allowed to read it: then it cannot be synced.
    match File::open(above.unwrap_or(Path::new("."))) {
        Err(e) if e.kind() == IoKind::PermissionDenied => Ok(()),
        above => above?.sync_all(),
    }
}

fn parse_identity(text: &str) -> Option<StoredIdentity> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return None;
    }
    let mut identity = StoredIdentity::default();
    for line in lines {
        if line == "recovering" {
            identity.recovering = true;
            continue;
        }
        match line.split_once(' ')? {
            ("node_id", id) => identity.node_id = id.to_owned(),
            ("cluster_id", id) => identity.cluster_id = Some(unhex(id)?),
            _ => return None,
        }
    }
    validate_node_id(&identity.node_id).is_ok().then_some(identity)
}

/// 32 hexadecimal digits.
pub(crate) fn hex(id: &ClusterId) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<ClusterId> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok())?.map(u128::to_be_bytes)
}

fn directory_error(path: &Path, e: std::io::Error) -> Error {
    let path = path.display();
    let (code, message) = match Cause::of(&e) {
        Cause::Permission => (
            "CONFIG_PERMISSION",
            format!(
                "no permission to use the data directory {path}; choose one that this user may write to"
            ),
        ),
        Cause::ReadOnly => (
            "CONFIG_READ_ONLY",
            format!(
                "the data directory {path} is on a file system that is mounted read-only: mount it \
                 writable, or choose another directory"
            ),
        ),
        Cause::NoDirectory => (
            "CONFIG_DIRECTORY",
            format!(
                "{path} is a file, or lies below one; name a directory (it is created if missing)"
            ),
        ),
        Cause::TooManyFiles => {
            return disk::too_many_files(format!("the data directory {path}: {e}")).with_source(e);
        }
        Cause::Full => {
            return Error::new(
                ErrorKind::Unavailable,
                "STORAGE_FAILED",
                format!(
                    "the data directory {path} cannot be written: {e}; {}, then open the node again",
                    Cause::Full.advice()
                ),
            )
            .with_retryable(false)
            .with_source(e);
        }
        Cause::Other => {
            ("CONFIG_DIRECTORY", format!("the data directory {path} cannot be used: {e}"))
        }
    };
    Error::config(code, message).with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_and_a_damaged_one_is_corruption() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(dir.path()).unwrap();
        assert_eq!(data.identity().unwrap(), None);
        let mut identity = StoredIdentity { node_id: "n1".into(), ..Default::default() };
        data.save_identity(&identity).unwrap();
        assert_eq!(data.identity().unwrap(), Some(identity.clone()));
        identity.cluster_id = Some(*b"0123456789abcdef");
        data.save_identity(&identity).unwrap();
        assert_eq!(data.identity().unwrap(), Some(identity.clone()));
        identity.recovering = true;
        data.save_identity(&identity).unwrap();
        assert_eq!(data.identity().unwrap(), Some(identity));
        for damaged in
            ["", "quorumlite 2\nnode_id n1\n", "quorumlite 1\nnode_id\n", "quorumlite 1\n"]
        {
            fs::write(dir.path().join(IDENTITY_FILE), damaged).unwrap();
            assert_eq!(data.identity().unwrap_err().kind(), ErrorKind::Corruption, "{damaged:?}");
        }
    }

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(dir.path()).unwrap();
        let second = DataDirectory::open(dir.path()).err().unwrap();
        assert_eq!(second.code(), "CONFIG_IN_USE");
        assert!(second.message().contains(&std::process::id().to_string()));
        drop(first);
        DataDirectory::open(dir.path()).unwrap();
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            assert_eq!(DataDirectory::open(&path).err().unwrap().code(), "CONFIG_DIRECTORY");
        }
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }
}
