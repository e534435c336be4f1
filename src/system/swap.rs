//! Whether pages of a RAM file system may be written to a swap device.

use std::{fs, path::Path};

use nix::sys::{
    stat::{major, minor},
    sysinfo::sysinfo,
};

/// Why the tmpfs of device number `device` may reach a disk: the swap devices that could take its
/// pages. Empty for a ramfs, for a tmpfs mounted with `noswap`, and where nothing swaps to a disk.
///
/// Where /proc/swaps can't be read it is whatever swap there is: this steers a warning, not a decision.
#[must_use]
pub fn may_swap_to(device: u64) -> Vec<String> {
    let mut devices = match fs::read_to_string("/proc/swaps") {
        Ok(swaps) => swap_devices(&swaps),
        // A unit with ProcSubset=pid does not see it.
        Err(_) if sysinfo().is_ok_and(|system| system.swap_total() > 0) => {
            vec!["swap, which /proc/swaps names".to_owned()]
        }
        Err(_) => Vec::new(),
    };
    devices.retain(|device| !stays_in_ram(device));
    if devices.is_empty() {
        return devices;
    }
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    if is_swappable(&mounts, major(device), minor(device)) { devices } else { Vec::new() }
}

/// Whether the mount of `major:minor` in a mountinfo table is a tmpfs without `noswap`.
fn is_swappable(mountinfo: &str, major: u64, minor: u64) -> bool {
    let device = format!("{major}:{minor}");
    mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(&device))
        .filter_map(|line| line.split_once(" - "))
        .any(|(_, rest)| {
            let mut fields = rest.split(' ');
            let kind = fields.next().unwrap_or_default();
            let options = fields.nth(1).unwrap_or_default();
            matches!(kind, "tmpfs" | "devtmpfs") && options.split(',').all(|o| o != "noswap")
        })
}

/// The devices and files of a /proc/swaps table.
fn swap_devices(swaps: &str) -> Vec<String> {
    swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Whether a swap device is compressed RAM with no disk behind it: a common default, and no reason
/// to warn at every boot.
fn stays_in_ram(device: &str) -> bool {
    Path::new(device)
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| name.starts_with("zram"))
        .and_then(|name| fs::read_to_string(format!("/sys/block/{name}/backing_dev")).ok())
        .is_some_and(|backing| backing.trim() == "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:39 / /run/a rw,relatime shared:5 - tmpfs x rw,size=64k,noswap
41 27 0:40 / /run/b rw,relatime shared:5 master:3 - tmpfs x rw,size=64k
42 27 0:41 / /run/c rw,relatime - ramfs x rw
";

    #[test]
    fn finds_the_mount_by_its_device_and_reads_its_options() {
        assert!(!is_swappable(MOUNTS, 0, 39));
        assert!(is_swappable(MOUNTS, 0, 40));
        assert!(!is_swappable(MOUNTS, 0, 41));
        assert!(!is_swappable(MOUNTS, 0, 4));
        assert!(!is_swappable("", 0, 40));
    }

    #[test]
    fn reads_the_swap_table() {
        let table = "Filename\t\t\t\tType\t\tSize\n/dev/sda2   partition\t8388604\t\t0\t\t-2\n";
        assert_eq!(swap_devices(table), ["/dev/sda2"]);
        assert!(swap_devices("Filename\tType\n").is_empty());
    }
}
