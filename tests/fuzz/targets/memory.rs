//! A directory of a journal, in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use playcounts::journal::{
    Disk, DiskFile, JournalConfig, JournalKind, JournalOwner, OnDamage, SyncPolicy, Zeros,
};
use uuid::Uuid;

/// Bytes of a segment.
pub const SEGMENT: usize = 8192;

/// How the journal is opened.
pub fn config() -> JournalConfig {
    JournalConfig {
        kind: JournalKind::Ledger,
        owner: JournalOwner::Part,
        life: Uuid::from_u128(7),
        boot: Uuid::from_u128(1),
        sync: SyncPolicy::Process,
        segment_bytes: SEGMENT as u64,
        on_damage: OnDamage::Refuse,
    }
}

type Bytes = Arc<Mutex<Vec<u8>>>;

/// The files.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<String, Bytes>>);

struct File(Bytes);

impl Memory {
    /// With these files.
    pub fn of(files: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let files =
            files.iter().map(|(name, bytes)| (name.clone(), Arc::new(Mutex::new(bytes.clone()))));
        Arc::new(Self(Mutex::new(files.collect())))
    }

    /// What is in the files.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.0.lock().unwrap();
        files.iter().map(|(name, bytes)| (name.clone(), bytes.lock().unwrap().clone())).collect()
    }

    fn find(&self, name: &str) -> io::Result<Bytes> {
        self.0.lock().unwrap().get(name).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File(self.find(name)?)))
    }

    fn create(&self, name: &str, bytes: u64, _: Zeros) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::new(Mutex::new(vec![0; bytes as usize]));
        self.0.lock().unwrap().insert(name.to_owned(), Arc::clone(&file));
        Ok(Arc::new(File(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        let mut files = self.0.lock().unwrap();
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.0.lock().unwrap().remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_named(&self, name: &str, file: &dyn DiskFile) -> io::Result<bool> {
        Ok(identity(&self.find(name)?) == file.identity()?)
    }
}

fn identity(file: &Bytes) -> (u64, u64) {
    (0, Arc::as_ptr(file) as u64)
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.0.lock().unwrap();
        let rest = &file[(offset as usize).min(file.len())..];
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let offset = offset as usize;
        self.0.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok(identity(&self.0))
    }
}
