#!/bin/sh
# SPDX-License-Identifier: MIT
# A systemd as process 1 of namespaces of its own, which manages the units of a spec:
#   systemd.sh start FOLDER   in new mount, process, host name and IPC namespaces; never returns
#   systemd.sh clean FOLDER   in a new mount namespace, after its end: removes its control groups
# FOLDER/units are the units, below the target segue-spec.target. Only the network and the files
# outside of /run, /dev, /etc/systemd/system and /var/lib/systemd are those of the machine.
set -eu
dir=$2
group=segue-spec-$(basename "$dir")

groups() { # mounts the control groups of version 2, also where the machine shows others
  mount --make-rprivate /
  mkdir -p "$dir/cgroup"
  mount -t cgroup2 cgroup2 "$dir/cgroup"
}

case $1 in
start)
  groups
  mkdir "$dir/cgroup/$group"
  echo 0 > "$dir/cgroup/$group/cgroup.procs"
  umount "$dir/cgroup"
  exec unshare --cgroup sh "$0" manager "$dir"
  ;;
manager)
  mount -t tmpfs -o mode=755 none /run
  mount -t tmpfs -o mode=755 none /etc/systemd/system
  mount -t tmpfs -o mode=755 none /var/lib/systemd
  cp "$dir"/units/* /etc/systemd/system/
  mount -t tmpfs -o mode=755 none /dev
  mkdir /dev/pts /dev/shm
  mount -t devpts -o newinstance,ptmxmode=666 none /dev/pts
  mount -t tmpfs none /dev/shm
  ln -s pts/ptmx /dev/ptmx
  ln -s /proc/self/fd /dev/fd
  mknod -m 666 /dev/null c 1 3
  mknod -m 666 /dev/zero c 1 5
  mknod -m 666 /dev/full c 1 7
  mknod -m 666 /dev/random c 1 8
  mknod -m 666 /dev/urandom c 1 9
  mknod -m 666 /dev/tty c 5 0
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  # Else it raises limits of the machine.
  mount --bind /proc/sys /proc/sys
  mount -o remount,ro,bind /proc/sys
  exec env -i container=segue-spec PATH=/usr/bin:/bin:/usr/sbin:/sbin \
    /lib/systemd/systemd --system --unit=segue-spec.target --log-target=console --show-status=no
  ;;
clean)
  groups
  [ ! -d "$dir/cgroup/$group" ] ||
    find "$dir/cgroup/$group" -depth -type d -exec rmdir {} +
  umount "$dir/cgroup"
  rmdir "$dir/cgroup"
  ;;
esac
