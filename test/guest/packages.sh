#!/usr/bin/env bash
# Installs what test/guest needs to boot real guests, on Debian 12 (amd64), as root:
#   - QEMU 10, and qemu-storage-daemon, from bookworm-backports (added to apt's sources if missing;
#     the QEMU 7.2 of Debian 12 itself emulates cmpxchg16b wrongly and crashes guests now and then);
#   - busybox-static, e2fsprogs, zstd, util-linux and iproute2 from Debian 12;
#   - DPDK's testpmd from Debian 12;
#   - the kernel of linux-image-cloud-amd64 (bookworm-backports): downloaded and unpacked into
#     ${VHOST_WASM_GUEST_KERNEL:-/var/cache/vhost-wasm/kernel}, not installed.
# What is there is left alone: a second run asks apt nothing. Remove that folder for a new kernel.
set -euo pipefail

kernel=${VHOST_WASM_GUEST_KERNEL:-/var/cache/vhost-wasm/kernel}
backports=bookworm-backports
export DEBIAN_FRONTEND=noninteractive
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "packages.sh: $*" >&2
  exit 1
}

# Adds backports if no source has it, and fetches the lists of packages: once, when first needed.
refreshed=
refresh() {
  if [ -n "$refreshed" ]; then return; fi
  refreshed=yes
  [ "$(id -u)" = 0 ] || fail "packages are missing, and installing them needs root"
  # shellcheck source=/dev/null
  [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] ||
    fail "this is not Debian 12"
  [ "$(dpkg --print-architecture)" = amd64 ] || fail "this is not amd64"
  # shellcheck disable=SC2016 # the names are of apt, not of the shell
  if ! apt-get indextargets --format '$(CODENAME) $(RELEASE)' |
    grep -w "$backports" >/dev/null; then
    cat >"/etc/apt/sources.list.d/$backports.sources" <<SOURCE
Types: deb
URIs: http://deb.debian.org/debian
Suites: $backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCE
  fi
  apt-get update -qq
}

install() {
  refresh
  apt-get install -qq -y --no-install-recommends "$@"
}

# The major version of a QEMU program; 0 when it is not there.
major() {
  local version
  version=$("$1" --version 2>/dev/null | sed -n '1s/.* version \([0-9]*\)\..*/\1/p') || true
  echo "${version:-0}"
}

# qemu-utils holds qemu-storage-daemon in these backports.
if [ "$(major qemu-system-x86_64)" -lt 10 ] || [ "$(major qemu-storage-daemon)" -lt 10 ]; then
  install -t "$backports" qemu-system-x86 qemu-system-common qemu-utils
fi

missing=()
[ "$(dpkg-query -W -f '${db:Status-Status}' busybox-static 2>/dev/null || true)" = installed ] ||
  missing+=(busybox-static)
for pair in mke2fs:e2fsprogs zstd:zstd setpriv:util-linux ip:iproute2; do
  command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then install "${missing[@]}"; fi

if ! command -v dpdk-testpmd >/dev/null; then
  install dpdk dpdk-dev librte-net-virtio23 librte-mempool-ring23
fi

if ! compgen -G "$kernel/boot/vmlinuz-*-cloud-amd64" >/dev/null; then
  refresh
  if [ -e "$kernel" ]; then rmdir "$kernel" || fail "$kernel holds something else"; fi
  # Unpacked beside its place, and renamed: a run that was cut off leaves no half of a kernel.
  mkdir -p "$(dirname "$kernel")"
  work=$(mktemp -d "$(dirname "$kernel")/unpacking.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  image=$(apt-cache show --no-all-versions "linux-image-cloud-amd64/$backports" 2>/dev/null |
    sed -n 's/^Depends:.*\(linux-image-[^ ,]*-cloud-amd64\).*/\1/p')
  [ -n "$image" ] || fail "$backports has no linux-image-cloud-amd64"
  (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$image/$backports")
  mkdir -m 755 "$work/kernel"
  dpkg -x "$work"/*.deb "$work/kernel"
  mv "$work/kernel" "$kernel"
fi

echo "guests: QEMU $(major qemu-system-x86_64), $(basename "$kernel"/boot/vmlinuz-*) in $kernel"
