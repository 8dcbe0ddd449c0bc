#!/usr/bin/env bash
# A Swift compiler for Linux machines that have none.
#
#   toolchain.sh ensure           makes one if there is none; says why when it cannot (status 3)
#   toolchain.sh have             status 0 if `run` would find a compiler
#   toolchain.sh run COMMAND...   runs a command where `swift` and `swiftc` are on the PATH
#
# A `swift` on the PATH is used if it is 6.0 or later. Otherwise the compiler lives in a Debian system of its own
# (3.3 GB, about two minutes to make), in which commands run by chroot. That needs root, and Debian's
# packages once. The mounts belong to a mount namespace that ends with the command: nothing is left
# mounted, whatever happens, so deleting the directory can never reach the source tree.
#
#   QUORUMLITE_SWIFT_ROOT   where that system is (default: swift-toolchain in cargo's target directory)
#   QUORUMLITE_SWIFT_BIND   further directories that commands see, separated by colons
set -euo pipefail

readonly SUITE=trixie
readonly PACKAGES="swiftlang libc6-dev libstdc++-14-dev ca-certificates"
readonly DEFAULT_MIRROR=http://deb.debian.org/debian

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
root=${QUORUMLITE_SWIFT_ROOT:-$target/swift-toolchain}
case $target in /*) ;; *) target=$PWD/$target ;; esac
case $root in /*) ;; *) root=$PWD/$root ;; esac
ready=$root/.ready

cannot() {
    {
        echo "== NO SWIFT TOOLCHAIN: $1"
        echo "==   Install Swift 6.0 or later (https://swift.org/install), or run this as root where"
        echo "==   Debian's packages can be reached: $here/toolchain.sh ensure"
    } >&2
    exit 3
}

# Swift 6.0 or later; an older one counts as none.
on_path() {
    command -v swift >/dev/null && command -v swiftc >/dev/null &&
        swiftc --version 2>&1 | grep -qE 'Swift version ([6-9]|[1-9][0-9])'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

# The mirror that this machine itself uses, where it is a Debian.
mirror() {
    local found=
    if grep -qs '^ID=debian$' /etc/os-release; then
        found=$({
            sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/*.sources
            sed -n 's/^deb[[:space:]]\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\2/p' \
                /etc/apt/sources.list /etc/apt/sources.list.d/*.list
        } 2>/dev/null | grep -E '^https?://.*/debian/?$' | head -n 1 || true)
    fi
    echo "${found:-$DEFAULT_MIRROR}"
}

# Runs a command in the system at $1, as the user $2, in the directory $3, with the directories $4
# (separated by colons) at the same paths as outside.
read -r -d '' INSIDE <<'SCRIPT' || true
set -eu
system=$1 user=$2 directory=$3 binds=$4
shift 4
mount -t proc proc "$system/proc"
mount --rbind /dev "$system/dev"
cp -L /etc/resolv.conf "$system/etc/resolv.conf"
IFS=:
for bind in $binds; do
    mkdir -p "$system$bind"
    mount --bind "$bind" "$system$bind"
done
unset IFS
exec chroot --userspec="$user" "$system" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$directory" "$@"
SCRIPT

# 143 and the like come from the command; it gets every signal that this script gets.
inside() {
    local system=$1 user=$2 directory=$3 binds=$4
    shift 4
    as_root unshare --mount --propagation private \
        bash -c "$INSIDE" toolchain "$system" "$user" "$directory" "$binds" "$@"
}

make_system() {
    [ "$(uname -s)" = Linux ] || cannot "on this system Swift has to be installed by hand"
    command -v apt-get >/dev/null || cannot "there is no swift, and no apt-get to make one with"
    can_be_root || cannot "there is no swift, and only root can make one"
    export DEBIAN_FRONTEND=noninteractive
    if ! command -v debootstrap >/dev/null; then
        { as_root apt-get update -qq &&
            as_root apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring
        } >/dev/null || cannot "debootstrap could not be installed (is there a network?)"
    fi

    local making=$root.making log=$root.log from
    from=$(mirror)
    echo "== making a Swift toolchain in $root from $from (3.3 GB, about two minutes)"
    as_root rm -rf "$making" "$root"
    give_up() {
        tail -n 5 "$log" >&2
        as_root rm -rf "$making"
        cannot "$1 ($log)"
    }
    # Not the machine's own keys or packages: a minimal system, whose signatures debootstrap checks.
    # It mounts things too, and an interrupted one would leave them.
    as_root unshare --mount --propagation private \
        debootstrap --variant=minbase "$SUITE" "$making" "$from" >"$log" 2>&1 ||
        give_up "debootstrap failed"
    # Proxies and the like are as here.
    apt-config dump Acquire 2>/dev/null |
        as_root tee "$making/etc/apt/apt.conf.d/90machine" >/dev/null
    inside "$making" 0:0 / "" env DEBIAN_FRONTEND=noninteractive HOME=/root sh -c "
        apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends $PACKAGES && apt-get clean" \
        >>"$log" 2>&1 || give_up "Swift could not be installed"
    as_root touch "$making/.ready"
    as_root mv "$making" "$root"
}

case "${1:-}" in
have)
    on_path || { [ -e "$ready" ] && can_be_root; }
    ;;
ensure)
    if on_path; then exit 0; fi
    mkdir -p "$(dirname "$root")"
    # Two builds at once make one toolchain.
    exec 9>"$root.lock"
    flock 9
    [ -e "$ready" ] || make_system
    ;;
run)
    shift
    if on_path; then exec "$@"; fi
    [ -e "$ready" ] || cannot "there is none in $root"
    mkdir -p "$target/swift-home"
    binds=$(dirname "$(mktemp -u)"):$repository:$target
    [ -z "${QUORUMLITE_SWIFT_BIND:-}" ] || binds=$binds:$QUORUMLITE_SWIFT_BIND
    inside "$root" "$(id -u):$(id -g)" "$PWD" "$binds" \
        env PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME="$target/swift-home" \
        TMPDIR="$(dirname "$(mktemp -u)")" "$@"
    ;;
*)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
