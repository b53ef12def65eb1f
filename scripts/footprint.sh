#!/usr/bin/env bash
# Lists what VMs can hold of this machine, so that two lists can be compared.
set -u
grep -o ' [^ ]*/gvisor/vms/[^ ]*' /proc/mounts | sort
losetup -n -l -O BACK-FILE 2>/dev/null | grep gvisor | sort
ip -o link show 2>/dev/null | awk -F': ' '{print $2}' | cut -d@ -f1 | grep -E '^ae' | sort
ls /run/netns 2>/dev/null | grep '^aether-'
nft list tables 2>/dev/null | grep aetherium | sort
find /sys/fs/cgroup -mindepth 2 -path '*/aetherium/*' -type d 2>/dev/null | sort
pgrep -fa 'runsc.*--root' | grep -v pgrep | awk '{print $2, $3}' | sort
echo "ip_forward $(cat /proc/sys/net/ipv4/ip_forward)"
