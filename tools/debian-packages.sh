#!/usr/bin/env bash
# Install the Debian packages that the tests use and the machine lacks.
# Usage: tools/debian-packages.sh PACKAGE...
set -euo pipefail

if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian system: the tests want what Debian calls $*; without it some are skipped." >&2
    exit 0
fi

missing=()
for package in "$@"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Missing Debian packages; the tests that need them are skipped. To run all of them, as root:" >&2
    echo "    apt-get install ${missing[*]}" >&2
    exit 0
fi

# Nobody wants a server that starts with the machine only because tests use its programs.
case " ${missing[*]} " in
    *" postgresql-"*)
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] ||
            echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        ;;
esac

echo "Installing Debian packages: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
# Package lists may be absent or old; fetching them is slow, so only when the install fails.
install || { apt-get update -q >"$log" 2>&1 && install; } || { cat "$log" >&2; exit 1; }
