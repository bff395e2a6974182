//! Machines and containers, as directories that look like them.

use super::*;

const MIB: u64 = 1 << 20;

/// Files below a directory, and what is found there.
#[track_caller]
fn check(files: &[(&str, &str)], limit: Option<u64>, want_mib: u64, bound: Bound) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    assert_eq!(limit_below(root.path()), limit);
    let found = below(root.path());
    assert_eq!((found.bytes as u64 / MIB, found.bound), (want_mib, bound), "{found}");
}

const MACHINE: (&str, &str) =
    ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:          100 kB\n");

const TWO: &str =
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

const ONE: &str = "31 23 0:27 / /sys/fs/cgroup/cpu rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
                   33 23 0:28 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory\n";

#[test]
fn without_a_container_it_is_a_gibibyte_or_a_quarter_of_the_machine() {
    check(&[], None, 1024, Bound::Most);
    check(&[MACHINE], None, 1024, Bound::Most);
    check(&[("proc/meminfo", "MemTotal: 2097152 kB\n")], None, 512, Bound::Machine);
    check(&[("proc/meminfo", "MemTotal: lots\n")], None, 1024, Bound::Most);
}

#[test]
fn the_smallest_limit_of_version_2_counts_also_of_those_above() {
    let group = ("proc/self/cgroup", "0::/a.slice/b.scope\n");
    let mounts = ("proc/self/mountinfo", TWO);
    let no_limit = ("sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n");
    check(&[MACHINE, group, mounts, no_limit], None, 1024, Bound::Most);
    let own = ("sys/fs/cgroup/a.slice/b.scope/memory.max", "134217728\n");
    check(&[MACHINE, group, mounts, own], Some(128 * MIB), 64, Bound::Container);
    let above = ("sys/fs/cgroup/a.slice/memory.max", "67108864\n");
    check(&[MACHINE, group, mounts, own, above], Some(64 * MIB), 32, Bound::Container);
    let high = ("sys/fs/cgroup/a.slice/b.scope/memory.high", "33554432\n");
    check(&[MACHINE, group, mounts, own, above, high], Some(32 * MIB), 16, Bound::Container);
    // A sibling's is not ours.
    let sibling = ("sys/fs/cgroup/a.slice/c.scope/memory.max", "1048576\n");
    check(&[MACHINE, group, mounts, own, sibling], Some(128 * MIB), 64, Bound::Container);
}

#[test]
fn a_namespace_of_its_own_shows_its_group_as_the_root() {
    let files = [
        MACHINE,
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", TWO),
        ("sys/fs/cgroup/memory.max", "268435456\n"),
    ];
    check(&files, Some(256 * MIB), 128, Bound::Container);
}

#[test]
fn version_1_has_its_own_file_and_writes_no_limit_as_a_number() {
    let group = ("proc/self/cgroup", "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/\n");
    let mounts = ("proc/self/mountinfo", ONE);
    let none = ("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "9223372036854771712\n");
    check(&[MACHINE, group, mounts, none], None, 1024, Bound::Most);
    let own = ("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "134217728\n");
    check(&[MACHINE, group, mounts, own], Some(128 * MIB), 64, Bound::Container);
    // The group of another controller is no memory's.
    let other = ("sys/fs/cgroup/cpu/docker/1/memory.limit_in_bytes", "1048576\n");
    check(&[MACHINE, group, mounts, other], None, 1024, Bound::Most);
}

/// A container without a namespace of its own: the mount shows its group as the root, its path is told from the top.
#[test]
fn a_mount_may_show_a_part_of_the_tree() {
    let mounts = "33 23 0:28 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    let files = [
        MACHINE,
        ("proc/self/cgroup", "5:memory:/docker/1/inner\n"),
        ("proc/self/mountinfo", mounts),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
        ("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "67108864\n"),
    ];
    check(&files, Some(64 * MIB), 32, Bound::Container);
}

#[test]
fn it_says_whose_part_it_is() {
    let text = |bytes: usize, bound| MessageMemory { bytes, bound }.to_string();
    assert_eq!(text(1 << 30, Bound::Most), "1024 MiB");
    assert_eq!(text(64 << 20, Bound::Container), "64 MiB, half of the container's limit");
    assert_eq!(text(9 << 20, Bound::Machine), "9 MiB, a quarter of the machine's memory");
}

/// What this machine says, whatever it is: there are bounds that hold everywhere.
#[test]
fn this_machine_has_room_and_a_gibibyte_is_the_most() {
    let found = for_messages();
    assert!((1 << 20..=1 << 30).contains(&found.bytes), "{found}");
    if let Some(limit) = container_limit() {
        assert!(found.bytes as u64 <= limit / 2, "{found} of {limit}");
    }
}
