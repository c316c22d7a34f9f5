#!/usr/bin/env bash
# Make the virtual environment with exactly the locked versions, and Donjon itself in editable mode.
# Usage: tools/venv.sh PYTHON FOLDER
set -euo pipefail

python=$1
venv=$2

say() { printf '%s\n' "$*" >&2; }

if ! command -v "$python" >/dev/null; then
    say "No '$python' here. Install Python 3.11 or later (Debian: apt-get install python3 python3-venv),"
    say "or name another one: make PYTHON=/path/to/python3 ..."
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "$("$python" --version) is too old: Donjon needs 3.11 or later. Name another one with make PYTHON=..."
    exit 1
fi

# Debian ships venv, but not the ensurepip that it needs, in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "$python cannot make virtual environments; installing $package"
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y --no-install-recommends "$package" >/dev/null 2>&1 || {
            apt-get update -q >/dev/null
            apt-get install -y --no-install-recommends "$package" >/dev/null
        }
    else
        say "$python cannot make virtual environments. On Debian or Ubuntu, run as root:"
        say "    apt-get install $package"
        exit 1
    fi
fi

# A moved or copied checkout, or a removed Python, leaves a .venv that cannot run.
if [ -e "$venv/bin/python" ] && ! "$venv/bin/python" -c '' 2>/dev/null; then
    say "$venv is broken; making it again"
    rm -rf "$venv"
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

# The lock holds hashes, so pip refuses anything that is not what was locked.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.lock
# The build back end is among the locked packages: nothing else is fetched for the build.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --no-build-isolation -e .
