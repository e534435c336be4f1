#!/bin/bash
# Holds a test machine's file system, network, processes and control groups for as long as its
# standard input is open, and then removes all of them: whatever becomes of the test, nothing stays.
#   container.sh ROOT WORK [NSPAWN-OPTION…]
# WORK is removed too. In it: upper/ is what the machine wrote, root/ its file system (seen only from
# inside this mount namespace), console.log, notify (a socket of the test's).
# Says "ready"; at each line on standard input boots the machine, and says "down" when it is off.
set -euo pipefail
root=$1 work=$2
shift 2

inside() {
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # Volatile: there is no use in waiting for the host's disk.
    mount -t overlay overlay "$work/root" \
        -o "volatile,lowerdir=$root,upperdir=$work/upper,workdir=$work/work"
    # systemd-nspawn keeps state of machines of one name there, which is not the host's business.
    mount -t tmpfs tmpfs /run
    ip link set lo up
    # Those of vpcd are none that Linux gives to whoever connects: a card that tries until pcscd is there
    # would some day connect to itself, and pcscd would find its port in use.
    echo 35963,35964 >/proc/sys/net/ipv4/ip_local_reserved_ports
    echo ready
    while read -r _; do
        (
            # Its own network is the one made here, which stays over reboots; units may have others.
            NOTIFY_SOCKET=$work/notify systemd-nspawn --quiet --register=no --keep-unit --boot --capability=CAP_NET_ADMIN \
                --notify-ready=yes --console=read-only --resolv-conf=off --timezone=off \
                --link-journal=no --directory="$work/root" "$@" \
                </dev/null >>"$work/console.log" 2>&1 || true
            echo down
        ) &
    done
}

# The signals of a terminal are for the test, whose end this sees soon enough.
trap '' HUP INT TERM
case ${CRYPTKEY_CONTAINER-outside} in
outside)
    # Mounts made from here on are nobody else's.
    CRYPTKEY_CONTAINER=mounts exec unshare --mount --propagation private "$0" "$root" "$work" "$@"
    ;;
mounts)
    mkdir "$work"/{cgroup,root,upper,work}
    mount -t cgroup2 cgroup2 "$work/cgroup"
    group=$work/cgroup/${work##*/}
    mkdir "$group"
    echo $$ >"$group/cgroup.procs"
    # The end of its first process, PID 1 of a namespace, ends all others.
    CRYPTKEY_CONTAINER=inside unshare --mount --net --ipc --cgroup --pid --mount-proc --fork --kill-child \
        "$0" "$root" "$work" "$@" || true
    echo $$ >"$work/cgroup/cgroup.procs"
    find "$group" -depth -type d -exec rmdir {} +
    umount "$work/cgroup"
    rm -rf --one-file-system "$work"
    ;;
inside) inside "$@" ;;
esac
