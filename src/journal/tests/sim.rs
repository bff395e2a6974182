//! A disk in memory that can be killed, lose its power, and fail any call.
//!
//! After a kill all finished calls are there, and of the one in progress maybe a prefix. After a power loss there is what
//! was synced; of the rest any version of any sector that was ever written since, and any of the changes of names. A
//! write within one sector of the first page is whole or not there at all: so the format wants it.
//!
//! A sync that fails has lost what it was to write, though it can still be read; nothing says so again. A later write
//! brings back its whole page.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::disk::{Disk, DiskFile, Zeros};
use super::super::frame::FRAMES_AT;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// How a machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Kill,
    Power,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write writes less than it should, and says so.
    Short,
    /// ENOSPC, after a part of it.
    Full,
    /// EIO, after a part of it.
    Broken,
}

#[derive(Clone, Default)]
struct Inode {
    /// What is read.
    cache: Vec<u8>,
    /// What a power loss leaves.
    disk: Vec<u8>,
    /// Versions of sectors that may be on the disk or not, oldest first.
    unsynced: BTreeMap<usize, Vec<Vec<u8>>>,
    has_size: bool,
}

#[derive(Clone)]
enum NameChange {
    Put(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

struct Inner {
    rng: StdRng,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
    calls: u64,
    crash_at: Option<u64>,
    /// The first call that fails, and the first that does not again.
    fault: Option<(u64, u64, Fault)>,
    is_dead: bool,
    epoch: u64,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<Inner>>);

struct SimFile {
    disk: SimDisk,
    inode: usize,
    epoch: u64,
}

/// What becomes of a call.
enum Fate {
    Done,
    /// It is the last one: a part of it is done.
    Killed,
    Fails(Fault),
}

fn apply(names: &mut BTreeMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Put(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Rename(from, to, inode) => {
            // Of the file that had the name then.
            if names.get(&from) == Some(&inode) {
                names.remove(&from);
            }
            names.insert(to, inode);
        }
        NameChange::Remove(name) => {
            names.remove(&name);
        }
    }
}

impl Inner {
    fn enter(&mut self, epoch: u64) -> io::Result<Fate> {
        if self.is_dead || epoch != self.epoch {
            return Err(io::Error::other("dead"));
        }
        let call = self.calls;
        self.calls += 1;
        if self.crash_at == Some(call) {
            (self.is_dead, self.crash_at) = (true, None);
            return Ok(Fate::Killed);
        }
        Ok(match self.fault {
            Some((from, to, fault)) if (from..to).contains(&call) => Fate::Fails(fault),
            _ => Fate::Done,
        })
    }

    /// For calls that are done or not.
    fn whole(&mut self, epoch: u64) -> io::Result<()> {
        match self.enter(epoch)? {
            Fate::Done | Fate::Fails(Fault::Short) => Ok(()),
            // Half of the calls that were cut short were done.
            Fate::Killed if self.rng.random() => Ok(()),
            Fate::Killed => Err(io::Error::other("killed")),
            Fate::Fails(fault) => Err(error(fault)),
        }
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, change.clone());
        self.changes.push(change);
    }

    fn write(&mut self, inode: usize, bytes: &[u8], offset: usize) {
        let file = &mut self.inodes[inode];
        assert!(offset + bytes.len() <= file.cache.len(), "a segment must not grow");
        file.cache[offset..offset + bytes.len()].copy_from_slice(bytes);
        if bytes.is_empty() {
            return;
        }
        let pages = offset / PAGE..(offset + bytes.len()).div_ceil(PAGE);
        let sectors = pages.start * PAGE / SECTOR..pages.end * PAGE / SECTOR;
        for sector in sectors {
            let at = sector * SECTOR;
            let Some(now) = file.cache.get(at..at + SECTOR) else { break };
            let versions = file.unsynced.entry(sector).or_default();
            let newest = versions.last().map_or(&file.disk[at..at + SECTOR], |last| &last[..]);
            if newest != now {
                versions.push(now.to_vec());
            }
        }
        file.unsynced.retain(|_, versions| !versions.is_empty());
    }

    /// Some version of every sector that was not synced.
    fn lose(&mut self) {
        let mode = self.rng.random_range(0..4);
        for file in &mut self.inodes {
            if !file.has_size && self.rng.random() {
                *file = Inode::default();
                continue;
            }
            for (sector, versions) in std::mem::take(&mut file.unsynced) {
                let kept = match mode {
                    0 => 0,
                    1 => versions.len(),
                    _ => self.rng.random_range(0..=versions.len()),
                };
                if let Some(version) = kept.checked_sub(1).map(|kept| &versions[kept]) {
                    file.disk[sector * SECTOR..][..SECTOR].copy_from_slice(version);
                }
            }
            (file.cache, file.has_size) = (file.disk.clone(), true);
        }
        for change in std::mem::take(&mut self.changes) {
            if mode == 1 || (mode != 0 && self.rng.random()) {
                apply(&mut self.synced_names, change);
            }
        }
        self.names = self.synced_names.clone();
    }
}

fn error(fault: Fault) -> io::Error {
    io::Error::from_raw_os_error(if fault == Fault::Full { 28 } else { 5 })
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            rng: StdRng::seed_from_u64(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            calls: 0,
            crash_at: None,
            fault: None,
            is_dead: false,
            epoch: 0,
        })))
    }

    pub(crate) fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().is_dead
    }

    /// The call after that many more is the last.
    pub(crate) fn crash_in(&self, calls: u64) {
        let mut inner = self.0.lock();
        inner.crash_at = Some(inner.calls + calls);
    }

    /// Calls with these numbers fail.
    pub(crate) fn fail(&self, from: u64, to: u64, fault: Fault) {
        self.0.lock().fault = Some((from, to, fault));
    }

    /// The machine, or the process, begins again.
    pub(crate) fn reboot(&self, crash: Crash) {
        let mut inner = self.0.lock();
        (inner.is_dead, inner.crash_at) = (false, None);
        inner.epoch += 1;
        if crash == Crash::Power {
            inner.lose();
        }
    }

    /// The files as they are read.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.0.lock();
        let names = inner.names.iter();
        names.map(|(name, inode)| (name.clone(), inner.inodes[*inode].cache.clone())).collect()
    }

    /// A disk that has these files.
    pub(crate) fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new(0);
        for (name, bytes) in files {
            let mut inner = disk.0.lock();
            let (cache, disk) = (bytes.clone(), bytes.clone());
            inner.inodes.push(Inode { cache, disk, has_size: true, ..Inode::default() });
            let inode = inner.inodes.len() - 1;
            inner.names.insert(name.clone(), inode);
            inner.synced_names.insert(name.clone(), inode);
        }
        disk
    }

    fn file(&self, inode: usize, epoch: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), inode, epoch })
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut inner = self.0.lock();
        let epoch = inner.epoch;
        inner.whole(epoch)?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.0.lock();
        let epoch = inner.epoch;
        inner.whole(epoch)?;
        let inode = inner.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode, epoch))
    }

    fn create(&self, name: &str, bytes: u64, _: Zeros) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.0.lock();
        let epoch = inner.epoch;
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let fate = inner.enter(epoch)?;
        let size = match fate {
            Fate::Done | Fate::Fails(Fault::Short) => bytes as usize,
            // It is there, and too small.
            Fate::Killed | Fate::Fails(_) => {
                inner.rng.random_range(0..=bytes as usize / PAGE) * PAGE
            }
        };
        let (cache, disk) = (vec![0; size], vec![0; size]);
        inner.inodes.push(Inode { cache, disk, ..Inode::default() });
        let inode = inner.inodes.len() - 1;
        inner.change(NameChange::Put(name.to_owned(), inode));
        match fate {
            Fate::Killed => Err(io::Error::other("killed")),
            Fate::Fails(fault) if fault != Fault::Short => Err(error(fault)),
            Fate::Done | Fate::Fails(_) => Ok(self.file(inode, epoch)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        let epoch = inner.epoch;
        inner.whole(epoch)?;
        let inode = inner.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        inner.change(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        let epoch = inner.epoch;
        inner.whole(epoch)?;
        if !inner.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        let epoch = inner.epoch;
        inner.whole(epoch)?;
        inner.changes.clear();
        inner.synced_names = inner.names.clone();
        Ok(())
    }

    fn is_named(&self, name: &str, file: &dyn DiskFile) -> io::Result<bool> {
        let mut inner = self.0.lock();
        let epoch = inner.epoch;
        inner.whole(epoch)?;
        Ok(inner.names.get(name).is_some_and(|inode| (0, *inode as u64) == identity(file)))
    }
}

fn identity(file: &dyn DiskFile) -> (u64, u64) {
    file.identity().expect("it cannot fail")
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut inner = self.disk.0.lock();
        inner.whole(self.epoch)?;
        Ok(inner.inodes[self.inode].cache.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.0.lock();
        let short = match inner.enter(self.epoch)? {
            Fate::Done => false,
            Fate::Fails(Fault::Short) => true,
            Fate::Killed => return Err(io::Error::other("killed")),
            Fate::Fails(fault) => return Err(error(fault)),
        };
        let file = &inner.inodes[self.inode];
        let rest = &file.cache[(offset as usize).min(file.cache.len())..];
        let most = if short { bytes.len().div_ceil(2) } else { bytes.len() };
        let count = rest.len().min(most);
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.0.lock();
        let offset = offset as usize;
        let fate = inner.enter(self.epoch)?;
        let is_atomic = offset < FRAMES_AT && bytes.len() <= SECTOR;
        let count = match fate {
            Fate::Done => bytes.len(),
            _ if is_atomic => bytes.len() * usize::from(inner.rng.random::<bool>()),
            _ => inner.rng.random_range(0..=bytes.len()),
        };
        inner.write(self.inode, &bytes[..count], offset);
        match fate {
            Fate::Done => Ok(count),
            Fate::Fails(Fault::Short) if count > 0 => Ok(count),
            Fate::Fails(fault) => Err(error(fault)),
            Fate::Killed => Err(io::Error::other("killed")),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        match inner.enter(self.epoch)? {
            Fate::Done | Fate::Fails(Fault::Short) => {
                let file = &mut inner.inodes[self.inode];
                // Only what is to be written: not what an earlier sync has lost.
                for (sector, versions) in std::mem::take(&mut file.unsynced) {
                    if let Some(version) = versions.last() {
                        file.disk[sector * SECTOR..][..SECTOR].copy_from_slice(version);
                    }
                }
                file.has_size = true;
                Ok(())
            }
            Fate::Killed => Err(io::Error::other("killed")),
            Fate::Fails(fault) => {
                let inner = &mut *inner;
                let file = &mut inner.inodes[self.inode];
                for (sector, versions) in std::mem::take(&mut file.unsynced) {
                    if let (true, Some(version)) = (inner.rng.random(), versions.last()) {
                        file.disk[sector * SECTOR..][..SECTOR].copy_from_slice(version);
                    }
                }
                file.has_size = true;
                Err(error(fault))
            }
        }
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.inode as u64))
    }
}
