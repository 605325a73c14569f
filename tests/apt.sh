# install_quietly PACKAGE...: installs Debian packages without starting their services, which the machine's owner did not
# ask for; what runs is started by whoever needs it.
install_quietly() {
    echo "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
