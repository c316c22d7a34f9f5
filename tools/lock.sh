#!/usr/bin/env bash
# Write requirements.lock: every package that using, testing and linting Donjon needs, with hashes, for
# all Pythons and platforms that it supports; and tools/side/*.lock, for tools with environments of their own.
# Names of registries stay out of them, so that they work with whatever index the machine is set up for.
# Usage: tools/lock.sh PYTHON [--upgrade]
set -euo pipefail

python=$1
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.9,<1'
compile() {
    "$folder/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-config --custom-compile-command 'make lock' "$@" >/dev/null
}
compile --extra all --group dev "$@" --output-file requirements.lock pyproject.toml
for side in tools/side/*.in; do
    compile "$@" --output-file "${side%.in}.lock" "$side"
done
