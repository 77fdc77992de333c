#!/usr/bin/env bash
# Install the Debian packages that yoke is built from; with --tests also those that its tests,
# fuzz targets and format checks need.  Silent and quick when everything is there.
set -euo pipefail

packages=(gcc libc6-dev cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libhdf5-dev
    libdnnl-dev libyaml-dev libjansson-dev libxxhash-dev libpcre2-dev libutf8proc-dev libssl-dev
    zlib1g-dev libzstd-dev)
test_packages=(libcmocka-dev git g++ clang clang-format libclang-rt-dev libomp-dev hdf5-tools patchelf
    binutils busybox-static slurmctld slurmd slurm-client munge)

case "${1-}" in
    '') ;;
    --tests) packages+=("${test_packages[@]}") ;;
    -h | --help)
        echo "usage: scripts/install_deps.sh [--tests]"
        exit 0
        ;;
    *)
        echo "install_deps: unknown option $1 (usage: scripts/install_deps.sh [--tests])" >&2
        exit 2
        ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "install_deps: not a Debian system, nothing is installed; what is missing, the build" \
        "will name" >&2
    exit 0
fi

# dpkg-query fails when it does not know one of them
installed() {
    { dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null || true; } |
        sed -n 's/^ii //p'
}

missing=()
have=" $(installed "${packages[@]}" | tr '\n' ' ') "
for package in "${packages[@]}"; do
    [[ $have == *" $package "* ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        echo "install_deps: needs root or sudo; ask an administrator for:" \
            "apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "install_deps: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1
}
refuse() {
    tail -n 15 "$log" >&2
    echo "install_deps: $1; what is missing: ${missing[*]}" >&2
    exit 1
}
# an outdated list is no failure as long as the packages can still be had
apt update || echo "install_deps: apt-get update failed; trying with the lists there are" >&2
for package in "${missing[@]}"; do
    apt-cache show --no-all-versions "$package" >/dev/null 2>&1 ||
        refuse "no package source offers $package (see /etc/apt/sources.list)"
done
apt install --no-install-recommends "${missing[@]}" || refuse "apt-get install failed"
