#!/bin/sh
# Makes sure that a program is there: installs its Debian packages when it is missing and we may (root or
# passwordless sudo), else says what to install and fails.
#
# usage: apt-install.sh PROGRAM PACKAGE...
set -eu

program=$1
shift

if command -v "$program" >/dev/null 2>&1; then exit 0; fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then as_root="sudo -n"; else
        echo "$program is missing. Install it (Debian: apt-get install $*), or run as root." >&2
        exit 1
    fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "$program is missing and this machine has no apt-get. Install it (Debian's packages: $*)." >&2
    exit 1
fi

echo "Installing $* ..."
export DEBIAN_FRONTEND=noninteractive
# RUNLEVEL=1 keeps packages such as redis-server from starting their service.
$as_root apt-get -qq update >/dev/null || echo "apt-get update failed; trying with the lists at hand." >&2
$as_root env RUNLEVEL=1 apt-get -qq install -y --no-install-recommends "$@" >/dev/null

command -v "$program" >/dev/null 2>&1 || { echo "$* is installed, but there is no $program." >&2; exit 1; }
