#!/bin/bash
# Makes what the machines of QEMU boot from, unless it is there: the kernel, an initial RAM disk and
# a drive with the root file system of tests/vm/root.sh on it. Prints their directory. It is never
# booted itself: each machine has a copy of the drive. Several of these may run at once, and may be
# killed.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
cache=${CARGO_TARGET_DIR:-$here/../../target}/vm

# systemd loads the libraries of the TPM when it needs them. Plymouth is off, unless a machine's kernel
# is told otherwise.
packages=(
    linux-image-amd64 busybox-static plymouth libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-rc0t64
    libtss2-tcti-device0t64
)

mkdir -p "$cache"
cache=$(realpath "$cache")
image=$cache/qemu-$(cat "$0" "$here/init" "$here/../vm/root.sh" | sha256sum | head -c 12)
exec 9>"$cache/qemu.lock"
flock 9
if [[ ! -d $image ]]; then
    # Whatever was left by one that was killed, and images of other recipes.
    rm -rf "$cache"/qemu-*/ "$cache"/partial-qemu.*
    partial=$(mktemp -d "$cache/partial-qemu.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    # It is needed once. No initial RAM disk of Debian's is made.
    root=$(CARGO_TARGET_DIR=$partial INITRD=No "$here/../vm/root.sh" "${packages[@]}")
    mkdir -p "$partial"/{image,initrd/{dev,root,modules}}
    cp "$root"/boot/vmlinuz-* "$partial/image/kernel"
    cp "$root/usr/bin/busybox" "$partial/image/busybox"
    install -m 755 "$here/init" "$partial/initrd/init"
    cp "$root/usr/bin/busybox" "$partial/initrd/busybox"

    # What the kernel lacks to reach the drive, in the order in which it must be loaded; udev loads
    # all else in the machine.
    kernel=$(ls "$root/usr/lib/modules")
    number=100
    for module in virtio_blk ext4; do
        chroot "$root" modprobe --set-version="$kernel" --show-depends "$module"
    done | sed -n 's/^insmod //p' | while read -r file; do
        number=$((number + 1))
        "$partial/image/busybox" xzcat "$root$file" >"$partial/initrd/modules/$number.ko"
    done
    (cd "$partial/initrd" && find . | ../image/busybox cpio -o -H newc 2>/dev/null) >"$partial/image/initrd"

    # As large as it may get; what is not written takes no room.
    truncate -s 2G "$partial/image/drive"
    mkfs.ext4 -q -d "$root" "$partial/image/drive"
    mv "$partial/image" "$image"
fi
echo "$image"
