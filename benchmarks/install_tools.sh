#!/bin/sh
# Installs what sockproxy is compared with and compiled by, where it is missing and can be installed; says so where it cannot.
set -eu
missing=""
[ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null 2>&1 || missing="$missing haproxy"
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null 2>&1 || missing="$missing nginx-light"
command -v cc >/dev/null 2>&1 || missing="$missing gcc"
# Where there is python3 without its headers, and it is Debian's own.
headers=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$headers/Python.h" ] || missing="$missing python3-dev"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not root on Debian: install$missing, or name those that are there by --proxies" >&2
    exit 1
fi
. "$(dirname "$0")/../tests/apt.sh"
install_quietly $missing
