//! The files under a journal: a directory, and what may be done with it. A trait, so that a test can fail any call and
//! lose what was not synced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::storage::directory;
use crate::storage::private::{self, refuse_link};

/// A directory of files. Names have no directory part.
pub trait Disk: Send + Sync {
    /// The names of all files, in no order.
    ///
    /// # Errors
    /// The operating system's, as for all that follow.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file to read and write; one that is not there is an error.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a file, which must not be there, with that many bytes; with `zeros` they are written, otherwise their place
    /// is only taken.
    fn create(&self, name: &str, bytes: u64, zeros: Zeros) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, at once: a file that has that name is replaced, and no moment is without one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when the names are on the disk.
    fn sync_names(&self) -> io::Result<()>;

    /// Whether the name still leads to the file.
    fn is_named(&self, name: &str, file: &dyn DiskFile) -> io::Result<bool>;
}

/// How the bytes of a new file come to be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// Nothing is taken but the size: whoever writes may find the disk full.
    Sparse,
    /// Their place is taken: the disk writes nothing, and each block a little more when it is first written to.
    Reserved,
    /// They are written: a later fdatasync has nothing but the data to write.
    Written,
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its size in bytes.
    ///
    /// # Errors
    /// The operating system's, as for all that follow.
    fn size(&self) -> io::Result<u64>;

    /// Behind it there are only zeros, as far as the file system can tell; its size, where it cannot.
    fn data_end(&self) -> io::Result<u64> {
        self.size()
    }

    /// Reads some bytes; 0 at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of the bytes; how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Returns when all that was written is on the disk.
    fn sync(&self) -> io::Result<()>;

    /// What tells the file from every other: device and number there.
    fn identity(&self) -> io::Result<(u64, u64)>;
}

/// Writes all of the bytes.
pub(super) fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the file from its start, at most `most` bytes.
pub(super) fn read_whole(file: &dyn DiskFile, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.size()?.min(most) as usize];
    // What a broker's topic has not filled is not read: it has thousands of them.
    let end = bytes.len().min(usize::try_from(file.data_end()?).unwrap_or(usize::MAX));
    let read = read_full(file, &mut bytes[..end], 0)?;
    if read < end {
        bytes.truncate(read);
    }
    Ok(bytes)
}

/// Fills `bytes` as far as the file goes; how far.
pub(super) fn read_full(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut at = 0;
    while at < bytes.len() {
        match file.read_at(&mut bytes[at..], offset + at as u64) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// A directory of the file system.
#[derive(Debug)]
pub struct FsDisk {
    path: PathBuf,
}

/// Bytes of zeros in one write: a page, so that the page cache keeps the file in pages. In larger pieces Linux counts a whole
/// one as written for each small commit.
const ZEROS: usize = 4096;

/// So many bytes of zeros are got to the disk at once. A commit's fdatasync that comes meanwhile waits for so much, and not
/// for a whole segment.
const ZEROS_SYNCED: u64 = 128 * 1024;

impl FsDisk {
    /// The directory, made if missing; its parent must be there.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: &Path) -> io::Result<Arc<dyn Disk>> {
        refuse_link(path)?;
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Its own name must outlive a power loss, too; and whoever made it may have been killed before this.
        directory::sync(directory::of(path))?;
        Ok(Arc::new(Self { path: path.to_owned() }))
    }

    /// The directory to read; `None` where there is none, or a symbolic link.
    pub fn open_reader(path: &Path) -> Option<Arc<dyn Disk>> {
        let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        is_directory.then(|| Arc::new(Self { path: path.to_owned() }) as Arc<dyn Disk>)
    }
}

/// Removes a journal with its directory, if it is there, or a directory of journals. Its owner must not run.
///
/// # Errors
/// The operating system's, with the directory.
pub fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

impl Disk for FsDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string()));
        // A name that is no text is none of ours.
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        // A reader may look at files that it must not write.
        let file = private::options().read(true).write(true).open(&path).or_else(|error| {
            match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    private::options().read(true).open(&path)
                }
                _ => Err(error),
            }
        })?;
        Ok(Arc::new(file))
    }

    fn create(&self, name: &str, bytes: u64, zeros: Zeros) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = private::options().read(true).write(true).create_new(true).open(path)?;
        match zeros {
            Zeros::Sparse => file.set_len(bytes)?,
            Zeros::Reserved => reserve(&file, bytes)?,
            Zeros::Written => write_zeros(&file, bytes)?,
        }
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        directory::sync(&self.path)
    }

    fn is_named(&self, name: &str, file: &dyn DiskFile) -> io::Result<bool> {
        match fs::symlink_metadata(self.path.join(name)) {
            Ok(found) => Ok((found.dev(), found.ino()) == file.identity()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Writes that many bytes of zeros, which are on the disk when this returns.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let block = [0; ZEROS];
    let mut at = 0;
    while at < bytes {
        let next = block.len().min((bytes - at) as usize);
        write_all(file, &block[..next], at)?;
        at += next as u64;
        if at % ZEROS_SYNCED == 0 {
            file.sync_data()?;
        }
    }
    file.sync_data()
}

/// Takes the place on the disk, where the file system can; sets the size everywhere.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        Err(errno) => Err(errno.into()),
    }
}

/// Where the last hole of a file begins, if it ends with one.
fn data_end(file: &File) -> io::Result<u64> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    let size = file.metadata()?.len();
    let mut end = 0;
    loop {
        // Nobody reads or writes where the file's own offset is.
        match seek(file, SeekFrom::Data(end)).and_then(|data| seek(file, SeekFrom::Hole(data))) {
            Ok(hole) if hole > end && hole < size => end = hole,
            Ok(_) => return Ok(size),
            // No data behind it.
            Err(Errno::NXIO) => return Ok(end),
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => return Ok(size),
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn data_end(&self) -> io::Result<u64> {
        data_end(self)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let found = self.metadata()?;
        Ok((found.dev(), found.ino()))
    }
}
