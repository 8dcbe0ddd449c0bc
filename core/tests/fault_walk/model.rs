//! What a disk holds after a power cut: everything that was synced, and of the rest whatever chance
//! leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sectors are written whole or not, or a power cut leaves garbage in one.
const SECTOR: u64 = 512;

/// A file, whatever its name is.
pub type FileId = usize;

/// One thing that was done to the disk. Paths are relative to the root that is watched.
#[derive(Debug, Clone)]
pub enum Op {
    Create(PathBuf, FileId),
    MakeDir(PathBuf),
    Write(FileId, u64, Arc<[u8]>),
    SetLen(FileId, u64),
    Sync(FileId),
    /// A sync that failed: what it should have made durable counts as clean all the same.
    FailedSync(FileId),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
    /// As [`Op::FailedSync`]: no later sync makes these names durable.
    FailedSyncDir(PathBuf),
    /// Not of the disk: what the script has reached.
    Mark(Mark),
}

/// What a script has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The write with this number is handed over.
    Submitted(i64),
    /// It is acknowledged.
    Acknowledged(i64),
    /// From here on so many copies have what is acknowledged.
    Copies(u8),
    /// A member is about to be removed.
    Removing,
}

impl Op {
    /// Whether what came before may matter for what is there after a power cut.
    pub fn is_sync_point(&self) -> bool {
        matches!(self, Op::Sync(_) | Op::FailedSync(_) | Op::SyncDir(_) | Op::FailedSyncDir(_))
    }
}

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    All,
    /// All of it, but for a part of the last write.
    LastWriteTorn,
    /// Any part of it, in any order; some sectors torn or garbage.
    Random,
    /// All of it: not a power cut, but a killed process.
    None,
}

/// Random numbers from a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(FileId),
    Dir,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Arc<[u8]>),
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(PathBuf, Entry),
    /// The entry moves with it, whether its first name was durable or not.
    Rename(PathBuf, PathBuf, Entry),
    Remove(PathBuf),
}

/// A disk as it is at one moment, synced or not.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: BTreeMap<FileId, File>,
    /// The names as a process sees them.
    current: BTreeMap<PathBuf, Entry>,
    /// Those of them that are durable.
    names: BTreeMap<PathBuf, Entry>,
    unsynced_names: Vec<NameChange>,
}

impl Disk {
    /// What lies below `root` now, all of it durable; and the ids given to the files.
    pub fn of(root: &Path) -> (Disk, BTreeMap<PathBuf, FileId>) {
        let mut disk = Disk::default();
        let mut ids = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder)).expect("a folder") {
                let entry = entry.expect("an entry");
                let path = folder.join(entry.file_name());
                if entry.file_type().expect("a type").is_dir() {
                    disk.names.insert(path.clone(), Entry::Dir);
                    folders.push(path);
                } else if !is_ignored(&path) {
                    let id = ids.len();
                    let durable = fs::read(root.join(&path)).expect("a file");
                    disk.files.insert(id, File { durable, unsynced: Vec::new() });
                    disk.names.insert(path.clone(), Entry::File(id));
                    ids.insert(path, id);
                }
            }
        }
        disk.current = disk.names.clone();
        (disk, ids)
    }

    pub fn perform(&mut self, op: &Op) {
        let moved = match op {
            Op::Rename(from, _) => self.current.get(from).copied(),
            _ => None,
        };
        let mut change = |change: NameChange| {
            change.apply(&mut self.current);
            self.unsynced_names.push(change);
        };
        match op {
            Op::Create(path, id) => {
                change(NameChange::Add(path.clone(), Entry::File(*id)));
                self.files.insert(*id, File::default());
            }
            Op::MakeDir(path) => change(NameChange::Add(path.clone(), Entry::Dir)),
            Op::Rename(from, to) => {
                let moved = moved.expect("a name that is there");
                change(NameChange::Rename(from.clone(), to.clone(), moved));
            }
            Op::Remove(path) => change(NameChange::Remove(path.clone())),
            Op::Write(id, offset, bytes) => {
                self.file(*id).unsynced.push(Change::Write(*offset, bytes.clone()));
            }
            Op::SetLen(id, len) => self.file(*id).unsynced.push(Change::SetLen(*len)),
            Op::Sync(id) => {
                let file = self.file(*id);
                for change in std::mem::take(&mut file.unsynced) {
                    apply(&mut file.durable, &change);
                }
            }
            Op::FailedSync(id) => self.file(*id).unsynced.clear(),
            Op::FailedSyncDir(dir) => self.unsynced_names.retain(|change| !change.concerns(dir)),
            Op::SyncDir(dir) => {
                let mut later: Vec<NameChange> = Vec::new();
                for change in std::mem::take(&mut self.unsynced_names) {
                    if change.concerns(dir) {
                        change.apply(&mut self.names);
                        // What became of the old name is settled with the new one.
                        if let NameChange::Rename(from, ..) = &change {
                            later.retain(|earlier| {
                                !matches!(earlier,
                                NameChange::Add(path, _) | NameChange::Remove(path) if path == from)
                            });
                        }
                    } else {
                        later.push(change);
                    }
                }
                self.unsynced_names = later;
            }
            Op::Mark(_) => {}
        }
    }

    fn file(&mut self, id: FileId) -> &mut File {
        self.files.entry(id).or_default()
    }

    /// Lays down below `target`, an empty directory, what is there after the power has failed.
    pub fn after_power_cut(&self, loss: Loss, random: &mut Random, target: &Path) {
        let mut names = self.names.clone();
        for change in &self.unsynced_names {
            let kept = match loss {
                Loss::All => false,
                Loss::LastWriteTorn | Loss::None => true,
                Loss::Random => random.below(2) == 0,
            };
            if kept {
                change.apply(&mut names);
            }
        }
        for (path, entry) in &names {
            // A name in a directory that is lost is lost as well.
            let found = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty());
            if !found.into_iter().all(|dir| names.get(dir) == Some(&Entry::Dir)) {
                continue;
            }
            let path = target.join(path);
            match entry {
                Entry::Dir => fs::create_dir_all(path).expect("a folder"),
                Entry::File(id) => {
                    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                    fs::write(path, self.files[id].after_power_cut(loss, random)).expect("a file");
                }
            }
        }
    }

    /// Whether the files below `root` are what was recorded, and which one is not.
    pub fn difference(&self, root: &Path) -> Option<PathBuf> {
        let (actual, _) = Disk::of(root);
        let names = &self.current;
        let contents = |disk: &Disk, entry: Option<&Entry>| match entry {
            Some(Entry::File(id)) => {
                Some(Some(disk.files[id].after_power_cut(Loss::None, &mut Random(0))))
            }
            Some(Entry::Dir) => Some(None),
            None => None,
        };
        let paths = names.keys().chain(actual.names.keys());
        paths
            .into_iter()
            .find(|path| {
                contents(self, names.get(*path)) != contents(&actual, actual.names.get(*path))
            })
            .cloned()
    }
}

/// Shared memory of SQLite's, made anew at each start; it is not written by calls.
pub fn is_ignored(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-shm")
}

impl File {
    fn after_power_cut(&self, loss: Loss, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let last = self.unsynced.iter().rposition(|change| matches!(change, Change::Write(..)));
        for (i, change) in self.unsynced.iter().enumerate() {
            match (loss, change) {
                (Loss::All, _) => {}
                (Loss::LastWriteTorn, Change::Write(offset, new)) if Some(i) == last => {
                    let kept = random.below(new.len() as u64 + 1) as usize;
                    apply(&mut bytes, &Change::Write(*offset, new[..kept].into()));
                }
                (Loss::LastWriteTorn | Loss::None, change) => apply(&mut bytes, change),
                (Loss::Random, Change::SetLen(_)) => {
                    if random.below(2) == 0 {
                        apply(&mut bytes, change);
                    }
                }
                (Loss::Random, Change::Write(offset, new)) => {
                    let end = offset + new.len() as u64;
                    let mut at = *offset;
                    while at < end {
                        let next = ((at / SECTOR + 1) * SECTOR).min(end);
                        let sector = &new[(at - offset) as usize..(next - offset) as usize];
                        write_sector(&mut bytes, at as usize, sector, random);
                        at = next;
                    }
                }
            }
        }
        bytes
    }
}

fn write_sector(bytes: &mut Vec<u8>, at: usize, sector: &[u8], random: &mut Random) {
    // Writing what is there already does no harm, whenever it ends: recovery relies on that.
    if bytes.get(at..at + sector.len()) == Some(sector) {
        return;
    }
    let kept = match random.below(8) {
        0..3 => return,
        3..6 => sector.to_vec(),
        6 => sector[..random.below(sector.len() as u64 + 1) as usize].to_vec(),
        _ => sector.iter().map(|_| random.next() as u8).collect(),
    };
    apply(bytes, &Change::Write(at as u64, kept.into()));
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => bytes.resize(*len as usize, 0),
        Change::Write(offset, new) => {
            let (from, to) = (*offset as usize, *offset as usize + new.len());
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(new);
        }
    }
}

impl NameChange {
    /// Whether a sync of `dir` makes it durable. A rename is one step, in both directories.
    fn concerns(&self, dir: &Path) -> bool {
        match self {
            NameChange::Add(path, _) | NameChange::Remove(path) => path.parent() == Some(dir),
            NameChange::Rename(from, to, _) => {
                from.parent() == Some(dir) || to.parent() == Some(dir)
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            NameChange::Add(path, entry) => {
                names.insert(path.clone(), *entry);
            }
            NameChange::Rename(from, to, entry) => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}
