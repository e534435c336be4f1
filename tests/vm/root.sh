#!/bin/bash
# Makes the root file system of the test machines, unless it is there: Debian 13 with systemd, polkit
# and pcscd. Prints its path. It is never booted itself: each test lays a file system of its own over
# it. Several of these may run at once, and may be killed.
#   root.sh [PACKAGE…]: one with these packages on top, beside those with others
set -euo pipefail

cache=${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/vm
packages=(systemd systemd-sysv dbus polkitd pcscd libccid vsmartcard-vpcd udev "$@")

# What a test does not need at a boot. After several mounts (each unit with credentials makes one)
# systemd starts no other for the rest of that second.
masked=(
    apt-daily.timer apt-daily-upgrade.timer console-getty.service dpkg-db-backup.timer
    fstrim.timer getty.target remote-fs.target systemd-hostnamed.socket systemd-initctl.socket
    systemd-pstore.service systemd-sysext.socket systemd-tmpfiles-clean.timer
    dev-hugepages.mount dev-mqueue.mount run-lock.mount sys-fs-fuse-connections.mount
    systemd-remount-fs.service systemd-tmpfiles-setup-dev-early.service
    systemd-tmpfiles-setup-dev.service systemd-udev-load-credentials.service
)

# Runs with the new root as its argument, when the packages are in.
finish() {
    local root=$1 unit
    for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
    # What would be done at the first boot.
    chroot "$root" systemd-sysusers
    chroot "$root" ldconfig
    chroot "$root" journalctl --update-catalog
    touch "$root/etc/.updated" "$root/var/.updated"
    # Debian makes a database cluster and starts it; a test makes its own.
    rm -rf "$root"/{etc,var/lib}/postgresql/*
    rm -f "$root/etc/systemd/system/multi-user.target.wants/postgresql.service"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
}
if [[ ${1-} == --finish ]]; then
    finish "$2"
    exit
fi

mkdir -p "$cache"
cache=$(realpath "$cache")
# The names of those that this script makes begin alike.
ours=trixie-$(sha256sum <"$0" | head -c 12)
root=$cache/$ours-$(echo "${packages[@]}" | sha256sum | head -c 12)
if [[ -d $root ]]; then
    echo "$root"
    exit
fi
exec 9>"$cache/lock"
flock 9
if [[ ! -d $root ]]; then
    # Whatever was left by one that was killed, and what another version of this script made.
    rm -rf "$cache"/partial.*
    find "$cache" -maxdepth 1 -name 'trixie-*' ! -name "$ours-*" -exec rm -rf {} +
    partial=$(mktemp -d "$cache/partial.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    mmdebstrap --quiet --variant=minbase --include="${packages[*]}" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook="$(realpath "$0") --finish \"\$1\"" \
        trixie "$partial/root" >&2
    mv "$partial/root" "$root"
fi
echo "$root"
