#!/bin/sh
# Installs dockerd and a static busybox where they are missing and can be installed; says so where they cannot.
set -eu
missing=""
[ -x /usr/sbin/dockerd ] || missing="$missing docker.io"
[ -x /bin/busybox ] || missing="$missing busybox-static"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
[ -x /usr/sbin/iptables ] || missing="$missing iptables"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "the tests against a real engine will be skipped: not root on Debian, and these are missing:$missing"
    exit 0
fi
. "$(dirname "$0")/apt.sh"
install_quietly $missing
