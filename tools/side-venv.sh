#!/usr/bin/env bash
# Install a tool of the tests in a virtual environment of its own, .tools/NAME, because what it pins clashes
# with what Donjon uses. Its versions are locked in tools/side/NAME.lock (`make lock`).
# Usage: tools/side-venv.sh PYTHON NAME...
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
for name in "$@"; do
    venv=.tools/$name
    lock=tools/side/$name.lock
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null && cmp -s "$lock" "$venv/installed"; then
        continue
    fi
    echo "Installing $name" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$lock"
    cp "$lock" "$venv/installed"
done
