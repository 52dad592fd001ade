#!/usr/bin/env bash
# Builds the image of the demo and the benchmarks once: Debian bookworm, then python3 + numpy, then nodejs, then nginx,
# each step a gzip layer with its real whiteouts: the first layer is what debootstrap leaves, package archives and lists
# included, which the second one removes. Prints the path of the OCI layout; its image is called `demo`.
#
# usage: demo-image.sh LAYOUT           (a folder that is made whole or not at all; cached when it is there)
#
# Needs root, debootstrap, umoci and a Debian mirror: the one in apt's sources. An interrupted build removes what it made;
# after a SIGKILL the next build does.
set -euo pipefail
export LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin

suite=bookworm
packages=("python3 python3-numpy" "nodejs" "nginx")

target=${1:?usage: demo-image.sh LAYOUT}
cache=$(dirname "$target")
if [ -e "$target/index.json" ]; then
  echo "$target"
  exit 0
fi

say() { echo "demo image: $*" >&2; }

# The mirror of the machine's own apt: the first source of the suite that is not the security archive.
mirror() {
  awk -v suite="$suite" '
    /^URIs:/ { uri = $2 }
    /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == suite && uri != "") { print uri; exit } }
    $1 == "deb" { for (i = 2; i < NF; i++) if ($i ~ /^[a-z+]+:\/\// && $(i + 1) == suite) { print $i; exit } }
  ' $(find /etc/apt/sources.list /etc/apt/sources.list.d -type f \( -name '*.list' -o -name '*.sources' \) 2>/dev/null) </dev/null
}

# Removes temporary folders, with what debootstrap may have mounted in them.
discard() {
  for folder in "$@"; do
    awk -v below="$folder/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | xargs -r umount -l
    rm -rf --one-file-system "$folder"
  done
}

mkdir -p "$cache"
exec 9>"$cache/demo-image.lock"
flock 9
[ -e "$target/index.json" ] && { echo "$target"; exit 0; }
discard "$cache"/demo-image.tmp.*
work=$(mktemp -d "$cache/demo-image.tmp.XXXXXX")
trap 'discard "$work"' EXIT
trap 'exit 130' INT TERM HUP

source=$(mirror)
source=${source:-http://deb.debian.org/debian}
image=$work/image:demo
rootfs=$work/bundle/rootfs

in_root() {
  chroot "$rootfs" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive "$@" >>"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    say "failed: $*"
    exit 1
  }
}

# What apt leaves behind.
clean() {
  rm -rf "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/cache/apt/* "$rootfs"/var/cache/ldconfig/aux-cache \
    "$rootfs"/usr/sbin/policy-rc.d
}

# The tree as the next layer, without what it has of this machine.
commit() {
  rm -rf "$rootfs"/var/log/* "$rootfs"/tmp/*
  : >"$rootfs/etc/resolv.conf"
  : >"$rootfs/etc/machine-id"
  umoci repack --refresh-bundle --history.created_by "$1" --image "$image" "$work/bundle" >>"$work/log" 2>&1
}

umoci init --layout "$work/image"
umoci new --image "$image"
umoci unpack --image "$image" "$work/bundle" >>"$work/log" 2>&1

say "debootstrap $suite (a few minutes, once; cached in $cache)"
debootstrap --variant=minbase "$suite" "$rootfs" "$source" >>"$work/log" 2>&1 || {
  tail -n 20 "$work/log" >&2
  say "debootstrap of $suite from $source failed"
  exit 1
}
commit "debootstrap --variant=minbase $suite"

for names in "${packages[@]}"; do
  say "$names"
  printf '#!/bin/sh\nexit 101\n' >"$rootfs/usr/sbin/policy-rc.d"
  chmod 755 "$rootfs/usr/sbin/policy-rc.d"
  cp /etc/resolv.conf "$rootfs/etc/resolv.conf"
  mkdir -p "$rootfs/var/cache/apt/archives/partial" "$rootfs/var/lib/apt/lists/partial" "$rootfs/var/log/apt"
  # A mirror may be a dated one, whose release file has run out.
  in_root apt-get -o Acquire::Check-Valid-Until=false update
  # shellcheck disable=SC2086 # a list of packages
  in_root apt-get install -y --no-install-recommends $names
  clean
  commit "apt-get install $names"
done

umoci config --image "$image" --config.cmd /bin/bash \
  --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umoci gc --layout "$work/image" >>"$work/log" 2>&1
mv -T "$work/image" "$target"
say "ready: $(du -sh "$target" | cut -f1) in $target"
echo "$target"
