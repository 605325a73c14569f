#!/bin/sh
# Installs dockerd and a static busybox where they are missing and can be installed; says so where they cannot.
set -eu
missing=""
[ -x /usr/sbin/dockerd ] || missing="$missing docker.io"
[ -x /bin/busybox ] || missing="$missing busybox-static"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v iptables >/dev/null 2>&1 || [ -x /usr/sbin/iptables ] || missing="$missing iptables"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "the tests against a real engine will be skipped: not root on Debian, and these are missing:$missing"
    exit 0
fi
echo "installing for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# A policy that starts nothing: the tests start their own engine, the machine's owner did not ask for one.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
