#!/bin/sh
# Installs dockerd, a static busybox, strace, HAProxy (which says what the settings of proxies made of it mean), Prometheus
# (which reads the metrics, and tries rules and dashboards) and Chromium (which shows the page) where they are missing and can be
# installed; says so where they cannot.
set -eu
missing=""
[ -x /usr/sbin/dockerd ] || missing="$missing docker.io"
[ -x /bin/busybox ] || missing="$missing busybox-static"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v strace >/dev/null 2>&1 || missing="$missing strace"
[ -x /usr/sbin/iptables ] || missing="$missing iptables"
[ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tests that need one of these will be skipped, since this is not root on Debian:$missing"
    exit 0
fi
. "$(dirname "$0")/apt.sh"
install_quietly $missing
