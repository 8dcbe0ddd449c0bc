//! A file system of its own that a test may fill or make read-only.

use std::ffi::CString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A small file system in memory, unmounted when dropped.
pub struct Small {
    path: PathBuf,
}

impl Small {
    /// None where this user may not mount.
    pub fn mount(path: PathBuf, megabytes: u32) -> Option<Small> {
        std::fs::create_dir_all(&path).expect("a mount point");
        match mount(&path, &format!("size={megabytes}m"), 0) {
            Ok(()) => Some(Small { path }),
            Err(e) => {
                // Not captured by the test harness: nobody shall believe that this was tested.
                let text = format!("NOT TESTED: a real full disk (mounting a tmpfs fails: {e})\n");
                let _ = std::io::stderr().write_all(text.as_bytes());
                None
            }
        }
    }

    pub fn set(&self, options: &str, flags: libc::c_ulong) -> std::io::Result<()> {
        mount(&self.path, options, libc::MS_REMOUNT | flags)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let path = c_string(self.path.as_os_str().as_bytes());
        // SAFETY: a C string is all that it takes.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("no NUL")
}

fn mount(path: &Path, options: &str, flags: libc::c_ulong) -> std::io::Result<()> {
    let (path, options) = (c_string(path.as_os_str().as_bytes()), c_string(options.as_bytes()));
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: all are C strings that live until the call returns; tmpfs takes its options as one.
    let done = unsafe { libc::mount(tmpfs, path.as_ptr(), tmpfs, flags, options.as_ptr().cast()) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
