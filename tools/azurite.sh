#!/usr/bin/env bash
# Install Azurite, the emulator of Azure Blob Storage that the tests use, in node_modules here.
# Usage: tools/azurite.sh
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.35.0
installed=node_modules/azurite/package.json
if grep -qs "\"version\": \"$version\"" "$installed"; then
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "No npm here: the tests of the Azure store need it. Install Node.js 20 or later" >&2
    echo "(Debian: apt-get install nodejs npm)." >&2
    exit 1
fi
echo "Installing azurite $version" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Without scripts: none of its parts that the tests use is built on installation.
npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund "azurite@$version" >"$log" 2>&1 ||
    { cat "$log" >&2; exit 1; }
