# Becomes a machine: this system's files under a layer of its own that is gone with it, its own processes, network, name, /run, /tmp and /var/lib,
# and systemd as its first process. Run as root in new namespaces (mount, PID, network, UTS, IPC, cgroup): boot.sh DIRECTORY NAME
set -eu
dir=$1 name=$2
hostname "$name"
mount -t tmpfs none "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay none -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cd "$dir/root"
mount -t proc none proc
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs -o mode=0755 none "$place"; done
chmod 1777 tmp
mkdir dev/pts dev/shm
mount -t tmpfs none dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 none dev/pts
ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
rm -rf etc/mayfly usr/local/bin/mayfly var/lib/mayfly etc/systemd/system var/log/journal
mkdir -p etc/systemd/system root/mayfly
tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
echo "$name" > etc/hostname
# Nothing but a journal: no unit of this system that would change what machines share.
ln -s /lib/systemd/system/basic.target etc/systemd/system/default.target
for unit in systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-udev-trigger.service systemd-random-seed.service \
  systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-remount-fs.service systemd-update-utmp.service sys-kernel-debug.mount \
  sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount systemd-networkd.service systemd-resolved.service \
  systemd-logind.service systemd-timesyncd.service dbus.socket timers.target; do
  ln -s /dev/null "etc/systemd/system/$unit"
done
mkdir old
pivot_root . old
umount -l old
exec env -i container=mayfly-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal --log-level=notice
