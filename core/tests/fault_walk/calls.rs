//! The system calls by which this process changes files, taken over: the linker finds these
//! functions before those of the C library, so they lie below the log's storage, below SQLite's VFS
//! and below everything else that writes. Where a watched directory is concerned, each call is
//! recorded, and can be made to fail.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard};

use libc::{mode_t, off64_t, size_t, ssize_t};

use crate::model::{Disk, FileId, Mark, Op, is_ignored};

/// Descriptors below this can be watched; a test process has fewer.
const DESCRIPTORS: usize = 1 << 16;

static WATCHED: [AtomicBool; DESCRIPTORS] = [const { AtomicBool::new(false) }; DESCRIPTORS];
static OPEN: LazyLock<Mutex<HashMap<c_int, Open>>> = LazyLock::new(Mutex::default);
static RECORDERS: Mutex<Vec<Arc<Recorder>>> = Mutex::new(Vec::new());

#[derive(Clone)]
struct Open {
    recorder: Arc<Recorder>,
    target: Target,
}

#[derive(Clone)]
enum Target {
    File(FileId),
    Dir(PathBuf),
}

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The sync with this number fails, once, and loses what it should have made durable.
    Sync(usize),
    /// The call with this number fails with EIO, and all after it.
    Io(usize),
    /// From the call with this number on there is no space for anything new.
    Space(usize),
}

/// Records what is done below one directory.
pub struct Recorder {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begin: Disk,
    ops: Vec<Op>,
    ids: BTreeMap<PathBuf, FileId>,
    lens: HashMap<FileId, u64>,
    next_id: FileId,
    fault: Option<Fault>,
    calls: usize,
    syncs: usize,
    injected: usize,
    /// What the first call that failed was to change.
    failed: Option<(&'static str, PathBuf)>,
    /// What the script is doing.
    doing: &'static str,
}

/// Watches a directory until it is dropped.
pub struct Watch(Arc<Recorder>);

impl Watch {
    pub fn new(root: &Path) -> Watch {
        Watch::failing(root, None)
    }

    pub fn failing(root: &Path, fault: Option<Fault>) -> Watch {
        let root = root.canonicalize().expect("the directory to watch");
        let (begin, ids) = Disk::of(&root);
        let lens = ids
            .iter()
            .map(|(path, id)| (*id, std::fs::metadata(root.join(path)).expect("a file").len()))
            .collect();
        let next_id = ids.len();
        let state = State { begin, ids, lens, next_id, fault, ..State::default() };
        let recorder = Arc::new(Recorder { root, state: Mutex::new(state) });
        lock(&RECORDERS).push(recorder.clone());
        Watch(recorder)
    }

    pub fn mark(&self, mark: Mark) {
        lock(&self.0.state).ops.push(Op::Mark(mark));
    }

    /// How many calls have failed so far.
    pub fn injected(&self) -> usize {
        lock(&self.0.state).injected
    }

    /// From here on the disk fails, with calls and syncs counted from here.
    pub fn arm(&self, fault: Fault) {
        let mut state = lock(&self.0.state);
        (state.calls, state.syncs, state.fault) = (0, 0, Some(fault));
    }

    /// Says what the script does from here on.
    pub fn doing(&self, what: &'static str) {
        lock(&self.0.state).doing = what;
    }

    /// What the script did when the first call failed, and which file or folder it was to change.
    pub fn failed(&self) -> Option<(&'static str, PathBuf)> {
        lock(&self.0.state).failed.clone()
    }

    /// The disk at the beginning, and what was done since.
    pub fn recorded(&self) -> (Disk, Vec<Op>) {
        let state = lock(&self.0.state);
        (state.begin.clone(), state.ops.clone())
    }

    /// How many calls and how many syncs there were.
    pub fn counts(&self) -> (usize, usize) {
        let state = lock(&self.0.state);
        (state.calls, state.syncs)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&RECORDERS).retain(|recorder| !Arc::ptr_eq(recorder, &self.0));
    }
}

/// A test that fails while it holds a lock must not make all others fail as well.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

enum Kind {
    Sync,
    /// Takes space.
    Grow,
    Other,
}

impl State {
    /// The error with which a call that concerns `target` fails, if it does.
    fn injected(&mut self, kind: Kind, target: &Target) -> Option<c_int> {
        self.calls += 1;
        if matches!(kind, Kind::Sync) {
            self.syncs += 1;
        }
        let error = match (self.fault?, kind) {
            (Fault::Sync(n), Kind::Sync) if self.syncs == n => libc::EIO,
            (Fault::Io(n), _) if self.calls >= n => libc::EIO,
            (Fault::Space(n), Kind::Grow) if self.calls >= n => libc::ENOSPC,
            _ => return None,
        };
        self.injected += 1;
        if self.failed.is_none() {
            let path = match target {
                Target::Dir(path) => Some(path),
                Target::File(id) => self.ids.iter().find(|(_, i)| *i == id).map(|(path, _)| path),
            };
            self.failed = Some((self.doing, path.cloned().unwrap_or_default()));
        }
        Some(error)
    }
}

impl Recorder {
    fn relative(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().map(Path::to_owned)
    }
}

/// The recorder that watches `path`, and the path below its root.
fn watcher(path: &Path) -> Option<(Arc<Recorder>, PathBuf)> {
    let recorders = lock(&RECORDERS);
    recorders.iter().find_map(|r| Some((r.clone(), r.relative(path)?)))
}

fn watched(fd: c_int) -> Option<Open> {
    let flag = WATCHED.get(usize::try_from(fd).ok()?)?;
    if !flag.load(Ordering::Acquire) {
        return None;
    }
    lock(&OPEN).get(&fd).cloned()
}

fn set_watched(fd: c_int, open: Open) {
    if let Some(flag) = usize::try_from(fd).ok().and_then(|fd| WATCHED.get(fd)) {
        lock(&OPEN).insert(fd, open);
        flag.store(true, Ordering::Release);
    }
}

fn forget(fd: c_int) {
    if let Some(flag) = usize::try_from(fd).ok().and_then(|fd| WATCHED.get(fd))
        && flag.swap(false, Ordering::AcqRel)
    {
        lock(&OPEN).remove(&fd);
    }
}

fn fail(error: c_int) -> c_long {
    // SAFETY: the place of this thread's errno.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// The path of a call, absolute.
///
/// # Safety
/// `path` is a C string.
unsafe fn absolute(dir: c_int, path: *const c_char) -> Option<PathBuf> {
    // SAFETY: as the caller promises.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes())).to_owned();
    match (path.is_absolute(), dir) {
        (true, _) => Some(path),
        (false, libc::AT_FDCWD) => None,
        (false, dir) => Some(std::fs::read_link(format!("/proc/self/fd/{dir}")).ok()?.join(path)),
    }
}

/// # Safety
/// `path` is a C string.
unsafe fn open_file(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the arguments are those of the caller's own call.
    let real = || unsafe { libc::syscall(libc::SYS_openat, dir, path, flags, mode) } as c_int;
    // SAFETY: as the caller promises.
    let found = unsafe { absolute(dir, path) }.and_then(|path| watcher(&path));
    let Some((recorder, path)) = found.filter(|(_, path)| !is_ignored(path)) else {
        let fd = real();
        forget(fd);
        return fd;
    };
    let mut state = lock(&recorder.state);
    let known = state.ids.get(&path).copied();
    if known.is_none()
        && flags & libc::O_CREAT != 0
        && let Some(error) = state.injected(Kind::Grow, &Target::Dir(path.clone()))
    {
        return fail(error) as c_int;
    }
    let fd = real();
    if fd < 0 {
        return fd;
    }
    forget(fd);
    // SAFETY: fstat fills the structure that it is given.
    let is_dir = unsafe {
        let mut stat: libc::stat64 = std::mem::zeroed();
        libc::fstat64(fd, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFDIR
    };
    let target = if is_dir {
        // Closed by the C library itself, where it walks the directory.
        if dir != libc::AT_FDCWD || flags & libc::O_DIRECTORY != 0 {
            return fd;
        }
        Target::Dir(path)
    } else {
        let id = match known {
            Some(id) => {
                if flags & libc::O_TRUNC != 0 {
                    state.lens.insert(id, 0);
                    state.ops.push(Op::SetLen(id, 0));
                }
                id
            }
            None => {
                let id = state.next_id;
                state.next_id += 1;
                state.ids.insert(path.clone(), id);
                state.ops.push(Op::Create(path, id));
                id
            }
        };
        Target::File(id)
    };
    drop(state);
    set_watched(fd, Open { recorder, target });
    fd
}

/// # Safety
/// As for `write` and `pwrite`.
unsafe fn write_file(fd: c_int, data: *const c_void, len: size_t, at: Option<u64>) -> ssize_t {
    let real = || {
        // SAFETY: the arguments are those of the caller's own call.
        let done = unsafe {
            match at {
                Some(at) => libc::syscall(libc::SYS_pwrite64, fd, data, len, at as off64_t),
                None => libc::syscall(libc::SYS_write, fd, data, len),
            }
        };
        done as ssize_t
    };
    let Some(Open { recorder, target: Target::File(id) }) = watched(fd) else { return real() };
    let mut state = lock(&recorder.state);
    // SAFETY: asks for the position of an open file.
    let offset = at.unwrap_or_else(|| unsafe { libc::lseek64(fd, 0, libc::SEEK_CUR) } as u64);
    let end = offset + len as u64;
    let grows = end > state.lens.get(&id).copied().unwrap_or(0);
    if let Some(error) =
        state.injected(if grows { Kind::Grow } else { Kind::Other }, &Target::File(id))
    {
        return fail(error) as ssize_t;
    }
    let done = real();
    if done > 0 {
        // SAFETY: the caller gives `len` bytes, of which `done` were read just now.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), done as usize) };
        state.ops.push(Op::Write(id, offset, bytes.into()));
        let len = state.lens.entry(id).or_default();
        *len = (*len).max(offset + done as u64);
    }
    done
}

fn sync_file(fd: c_int, real: c_long) -> c_int {
    // SAFETY: a descriptor is all that it takes.
    let Some(open) = watched(fd) else { return unsafe { libc::syscall(real, fd) } as c_int };
    let mut state = lock(&open.recorder.state);
    let error = state.injected(Kind::Sync, &open.target);
    match (open.target, error) {
        (Target::File(id), Some(_)) => state.ops.push(Op::FailedSync(id)),
        (Target::File(id), None) => state.ops.push(Op::Sync(id)),
        (Target::Dir(path), None) => state.ops.push(Op::SyncDir(path)),
        (Target::Dir(path), Some(_)) => state.ops.push(Op::FailedSyncDir(path)),
    }
    // The power that fails is not that of this machine: its disk need not be waited for.
    error.map_or(0, |error| fail(error) as c_int)
}

fn truncate_file(fd: c_int, len: off64_t) -> c_int {
    // SAFETY: a descriptor and a length are all that it takes.
    let real = || unsafe { libc::syscall(libc::SYS_ftruncate, fd, len) } as c_int;
    let Some(Open { recorder, target: Target::File(id) }) = watched(fd) else { return real() };
    let mut state = lock(&recorder.state);
    let grows = len as u64 > state.lens.get(&id).copied().unwrap_or(0);
    if let Some(error) =
        state.injected(if grows { Kind::Grow } else { Kind::Other }, &Target::File(id))
    {
        return fail(error) as c_int;
    }
    let done = real();
    if done == 0 {
        state.lens.insert(id, len as u64);
        state.ops.push(Op::SetLen(id, len as u64));
    }
    done
}

/// Runs a call that changes names, and records it where it succeeds.
fn change_name(
    found: Option<(Arc<Recorder>, PathBuf)>,
    kind: Kind,
    real: impl FnOnce() -> c_int,
    record: impl FnOnce(&mut State, PathBuf),
) -> c_int {
    let Some((recorder, path)) = found.filter(|(_, path)| !is_ignored(path)) else { return real() };
    let mut state = lock(&recorder.state);
    if let Some(error) = state.injected(kind, &Target::Dir(path.clone())) {
        return fail(error) as c_int;
    }
    let done = real();
    if done == 0 {
        record(&mut state, path);
    }
    done
}

fn removed(state: &mut State, path: PathBuf) {
    state.ids.remove(&path);
    state.ops.push(Op::Remove(path));
}

// ---- the calls ---------------------------------------------------------------------------------
//
// SAFETY of all: each has the signature of the C library's function of its name and hands the
// caller's own arguments to the system call behind it. (`open` takes its mode as a variable argument;
// on the platforms that this is built for it is passed in the same place.)

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: see above.
    unsafe { open_file(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: see above.
    unsafe { open_file(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, data: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: see above.
    unsafe { write_file(fd, data, len, None) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    data: *const c_void,
    len: size_t,
    offset: off64_t,
) -> ssize_t {
    // SAFETY: see above.
    unsafe { write_file(fd, data, len, Some(offset as u64)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    data: *const c_void,
    len: size_t,
    offset: off64_t,
) -> ssize_t {
    // SAFETY: see above.
    unsafe { write_file(fd, data, len, Some(offset as u64)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync_file(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync_file(fd, libc::SYS_fdatasync)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, len: off64_t) -> c_int {
    truncate_file(fd, len)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, len: off64_t) -> c_int {
    truncate_file(fd, len)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    forget(fd);
    // SAFETY: see above.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let at = libc::AT_FDCWD;
    // SAFETY: see above.
    let (source, target) = unsafe { (absolute(at, from), absolute(at, to)) };
    let target = target.and_then(|target| watcher(&target)).map(|(_, target)| target);
    change_name(
        source.and_then(|source| watcher(&source)),
        Kind::Other,
        // SAFETY: see above.
        || unsafe { libc::syscall(libc::SYS_renameat2, at, from, at, to, 0) as c_int },
        |state, source| {
            let Some(target) = target else { return };
            if let Some(id) = state.ids.remove(&source) {
                state.ids.insert(target.clone(), id);
            }
            state.ops.push(Op::Rename(source, target));
        },
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    change_name(
        // SAFETY: see above.
        unsafe { absolute(dir, path) }.and_then(|path| watcher(&path)),
        Kind::Other,
        // SAFETY: see above.
        || unsafe { libc::syscall(libc::SYS_unlinkat, dir, path, flags) as c_int },
        removed,
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: see above.
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: see above.
    unsafe { unlinkat(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    change_name(
        // SAFETY: see above.
        unsafe { absolute(libc::AT_FDCWD, path) }.and_then(|path| watcher(&path)),
        Kind::Grow,
        // SAFETY: see above.
        || unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) as c_int },
        |state, path| state.ops.push(Op::MakeDir(path)),
    )
}
