//! A disk in memory that loses, tears and fails what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::log::storage::{SegmentFile, Storage};

/// Sectors are written whole or not, or a crash leaves garbage in one.
const SECTOR: u64 = 512;

#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    file_syncs: usize,
    writes: usize,
    /// Operations that still succeed; then the disk is dead.
    steps_left: Option<usize>,
    dead: bool,
    hold_syncs: bool,
    held: usize,
}

#[derive(Default)]
struct Contents {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Add(String, usize),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Add(name, file) => {
                names.insert(name.clone(), *file);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

/// Random numbers from a seed (SplitMix64).
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

impl State {
    /// Counts an operation; false where the disk dies at it or is dead.
    fn step(&mut self) -> bool {
        match &mut self.steps_left {
            Some(0) => self.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        !self.dead
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        if !self.step() {
            return Err(dead());
        }
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        Ok(())
    }
}

fn dead() -> io::Error {
    io::Error::other("injected: the disk is dead")
}

impl Disk {
    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    pub(super) fn file_syncs(&self) -> usize {
        self.0.state.lock().file_syncs
    }

    pub(super) fn writes(&self) -> usize {
        self.0.state.lock().writes
    }

    /// From now on each operation fails and changes nothing.
    pub(super) fn die(&self) {
        self.0.state.lock().dead = true;
    }

    /// After this many more operations each one fails; the first of them may be done in part.
    pub(super) fn die_after(&self, steps: usize) {
        self.0.state.lock().steps_left = Some(steps);
    }

    /// From now on a sync waits until `release_syncs`.
    pub(super) fn hold_syncs(&self) {
        self.0.state.lock().hold_syncs = true;
    }

    pub(super) fn wait_for_held_sync(&self) {
        let mut state = self.0.state.lock();
        while state.held == 0 {
            let wait = self.0.changed.wait_for(&mut state, Duration::from_secs(60));
            assert!(!wait.timed_out(), "no sync came");
        }
    }

    pub(super) fn release_syncs(&self) {
        self.0.state.lock().hold_syncs = false;
        self.0.changed.notify_all();
    }

    /// The process was killed and the disk is well: what was written is there, synced or not.
    pub(super) fn restart(&self) {
        let mut state = self.0.state.lock();
        state.dead = false;
        state.steps_left = None;
    }

    /// The power fails: of what was not synced each sector and each name is there or not, or torn.
    pub(super) fn power_cut(&self, random: &mut Random) {
        let mut state = self.0.state.lock();
        state.dead = false;
        state.steps_left = None;
        for file in &mut state.files {
            file.lose_unsynced(random);
            file.current = file.durable.clone();
        }
        let changes = std::mem::take(&mut state.unsynced_names);
        for change in changes {
            if random.below(2) == 0 {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.state.lock().names.keys().cloned().collect()
    }

    pub(super) fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.0.state.lock();
        state.files[state.names[name]].current.clone()
    }

    /// A disk that holds durably what this one holds now, with one file replaced.
    pub(super) fn with_contents(&self, name: &str, contents: &[u8]) -> Disk {
        let disk = Disk::default();
        for other in self.names() {
            let bytes = if other == name { contents.to_vec() } else { self.contents(&other) };
            let mut state = disk.0.state.lock();
            let id = state.files.len();
            state.files.push(Contents {
                durable: bytes.clone(),
                current: bytes,
                unsynced: Vec::new(),
            });
            state.names.insert(other.clone(), id);
            state.durable_names.insert(other, id);
        }
        disk
    }
}

impl Contents {
    /// Leaves in `durable` what a crash leaves.
    fn lose_unsynced(&mut self, random: &mut Random) {
        self.durable.resize(self.current.len(), 0);
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            let end = offset + bytes.len() as u64;
            let mut at = offset;
            while at < end {
                let next = ((at / SECTOR + 1) * SECTOR).min(end);
                let new = &bytes[(at - offset) as usize..(next - offset) as usize];
                let slot = &mut self.durable[at as usize..next as usize];
                match random.below(8) {
                    0..3 => {}
                    3..6 => slot.copy_from_slice(new),
                    6 => {
                        let kept = random.below(new.len() as u64 + 1) as usize;
                        slot[..kept].copy_from_slice(&new[..kept]);
                    }
                    _ => slot.fill_with(|| random.next() as u8),
                }
                at = next;
            }
        }
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let mut state = self.0.state.lock();
        let id = state.files.len();
        state.change_name(NameChange::Add(name.to_owned(), id))?;
        let zeros = vec![0; len as usize];
        state.files.push(Contents {
            durable: Vec::new(),
            current: zeros.clone(),
            unsynced: vec![(0, zeros)],
        });
        Ok(Arc::new(DiskFile { disk: self.clone(), id }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let state = self.0.state.lock();
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(DiskFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        self.0.state.lock().change_name(change)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.state.lock().change_name(NameChange::Remove(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if !state.step() {
            return Err(dead());
        }
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("/disk").join(name)
    }
}

struct DiskFile {
    disk: Disk,
    id: usize,
}

impl SegmentFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.state.lock().files[self.id].current.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.0.state.lock();
        let from = state.files[self.id].current.get(offset as usize..offset as usize + buf.len());
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.state.lock();
        if state.dead {
            return Err(dead());
        }
        // A write at which the disk dies may still have reached it in part.
        let alive = state.step();
        state.writes += 1;
        let file = &mut state.files[self.id];
        file.current[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        file.unsynced.push((offset, bytes.to_vec()));
        if alive { Ok(()) } else { Err(dead()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.state.lock();
        while state.hold_syncs {
            state.held += 1;
            self.disk.0.changed.notify_all();
            self.disk.0.changed.wait(&mut state);
            state.held -= 1;
        }
        let was_dead = state.dead;
        if !state.step() {
            // As Linux does: the pages count as clean although they were lost, so a later sync
            // succeeds without them.
            if !was_dead {
                let seed = state.writes as u64;
                let file = &mut state.files[self.id];
                file.lose_unsynced(&mut Random(seed));
            }
            return Err(dead());
        }
        state.file_syncs += 1;
        // Only what still counts as dirty: pages that a failed sync lost do not come back.
        let file = &mut state.files[self.id];
        file.durable.resize(file.current.len(), 0);
        for (offset, bytes) in std::mem::take(&mut file.unsynced) {
            file.durable[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
}
