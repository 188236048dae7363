#!/bin/sh
# Creates a virtual environment with pip in it, also on a machine that has python and pip but no venv package
# (Debian's python3-venv), and where pip may not touch the system's packages (PEP 668).
#
# usage: make-venv.sh PYTHON DIRECTORY
set -eu

python=$1
venv=$2

works() { "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; }

if works; then exit 0; fi
rm -rf "$venv"

if "$python" -c 'import ensurepip' >/dev/null 2>&1 && "$python" -m venv "$venv" && works; then exit 0; fi
rm -rf "$venv"

if "$python" -m virtualenv --quiet "$venv" >/dev/null 2>&1 && works; then exit 0; fi
rm -rf "$venv"

# virtualenv goes into a directory that is thrown away: nothing of the user's or the system's is changed, and pip
# has no reason to refuse on an "externally managed" Python.
bootstrap=$(mktemp -d)
trap 'rm -rf "$bootstrap"' EXIT
echo "This Python has no working venv module: fetching virtualenv."
"$python" -m pip install --quiet --disable-pip-version-check --target "$bootstrap" virtualenv
PYTHONPATH=$bootstrap "$python" -m virtualenv --quiet "$venv"
works || { echo "Could not create a virtual environment with $python." >&2; exit 1; }
