//! How much memory this process may count on: the machine's, and the limit of the container that it runs in. Reads
//! files of Linux; where there are none, nothing is known.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The most that messages are given unasked, in bytes.
const MOST: u64 = 1 << 30;

/// What messages are given of a container's limit: half. The other half is for the connections, each of which holds the
/// message that it receives once more, for the program and for what the allocator keeps.
const PART_OF_CONTAINER: u64 = 2;

/// What they are given of the machine, where others run, too: a quarter.
const PART_OF_MACHINE: u64 = 4;

/// The largest file that is read here, in bytes: `mountinfo` has a line for each mount.
const FILE_MAX: u64 = 1 << 20;

/// What keeps messages from being given more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Most,
    Machine,
    Container,
}

/// The memory that messages are given where nobody says how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageMemory {
    /// In bytes.
    pub(crate) bytes: usize,
    bound: Bound,
}

/// As text: `64 MiB, half of the container's limit`.
impl fmt::Display for MessageMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.bytes >> 20)?;
        match self.bound {
            Bound::Most => Ok(()),
            Bound::Machine => write!(f, ", a quarter of the machine's memory"),
            Bound::Container => write!(f, ", half of the container's limit"),
        }
    }
}

/// The memory that messages are given on this machine: at most 1 GiB, a quarter of the machine's and half of the
/// container's limit.
pub(crate) fn for_messages() -> MessageMemory {
    below(Path::new("/"))
}

/// The smallest limit of the container that this process runs in, in bytes.
pub(crate) fn container_limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

fn below(root: &Path) -> MessageMemory {
    let machine = machine(root).map(|bytes| (bytes / PART_OF_MACHINE, Bound::Machine));
    let container = limit_below(root).map(|bytes| (bytes / PART_OF_CONTAINER, Bound::Container));
    let all = [Some((MOST, Bound::Most)), machine, container];
    let least = all.into_iter().flatten().min_by_key(|(bytes, _)| *bytes);
    let (bytes, bound) = least.unwrap_or((MOST, Bound::Most));
    MessageMemory { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), bound }
}

/// The machine's memory.
fn machine(root: &Path) -> Option<u64> {
    let text = read(&root.join("proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit of the process's control groups and of all above them. One that is not below the machine's memory
/// is none: version 1 writes "no limit" as a number.
fn limit_below(root: &Path) -> Option<u64> {
    let machine = machine(root).unwrap_or(u64::MAX);
    let groups = groups(root);
    let limits = groups.iter().flat_map(|group| {
        ["memory.max", "memory.high", "memory.limit_in_bytes"]
            .iter()
            .filter_map(|name| read(&group.join(name))?.trim().parse::<u64>().ok())
    });
    limits.filter(|limit| *limit < machine).min()
}

/// The directories of the process's memory control groups, of both versions, each with all above it.
fn groups(root: &Path) -> Vec<PathBuf> {
    let mounts = read(&root.join("proc/self/mountinfo")).unwrap_or_default();
    let own = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match controllers {
            "" => Version::Two,
            all if all.split(',').any(|one| one == "memory") => Version::One,
            _ => continue,
        };
        for mount in mounts.lines().filter_map(|line| Mount::of(line, version)) {
            let top = root.join(mount.point.trim_start_matches('/'));
            // In a container the mount may show a part of the tree only, whose path is told from the tree's root.
            let below = path.strip_prefix(mount.root).unwrap_or(path);
            let mut group = top.clone();
            groups.push(top);
            for name in below.split('/').filter(|name| !matches!(*name, "" | "." | "..")) {
                group.push(name);
                groups.push(group.clone());
            }
        }
    }
    groups
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a tree of control groups is mounted.
struct Mount<'a> {
    /// What of the tree is mounted there; `/` is all of it.
    root: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    /// Of a line of `mountinfo`, if it mounts a tree that tells of memory.
    fn of(line: &'a str, version: Version) -> Option<Self> {
        let (before, behind) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = behind.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let fits = match version {
            Version::Two => kind == "cgroup2",
            Version::One => kind == "cgroup" && options.split(',').any(|one| one == "memory"),
        };
        fits.then_some(Self { root: if root == "/" { "" } else { root }, point })
    }
}

/// A file's text; `None` where it cannot be read.
fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
