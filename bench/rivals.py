"""Get Borg and restic without installing either on the machine.

Borg is built from the package index into a virtual environment of its own. restic is unpacked from
Debian's newest package beside; the mirror is whichever one the machine's own sources name.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

BORG_VERSION = "1.4.5"
#: Newest first. The first whose restic runs here is taken; the machine's own release comes last.
_SUITES = ("sid", "forky", "trixie")
_BORG_BUILD_PACKAGES = (
    "build-essential",
    "libacl1-dev",
    "liblz4-dev",
    "libssl-dev",
    "libxxhash-dev",
    "libzstd-dev",
    "pkg-config",
    "python3-dev",
)
_TOOLS = Path(__file__).resolve().parent.parent / "tools"


class RivalError(Exception):
    """A rival could not be had on this machine; the message says why."""


def borg(folder: Path) -> Path:
    """The path of Borg's program, made below ``folder`` if needed. Raises :class:`RivalError`."""
    home = folder / f"borg-{BORG_VERSION}"
    program = home / "bin" / "borg"
    if program.exists():
        return program
    shutil.rmtree(home, ignore_errors=True)
    _run([str(_TOOLS / "debian-packages.sh"), *_BORG_BUILD_PACKAGES])
    _run([sys.executable, "-m", "venv", str(home)])
    _run([str(home / "bin" / "pip"), "install", "--quiet", f"borgbackup=={BORG_VERSION}"])
    return program


def restic(folder: Path) -> Path:
    """The path of restic's program, unpacked below ``folder`` if needed. Raises :class:`RivalError`."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    reasons = []
    for suite in (*_SUITES, release):
        program = folder / f"restic-{suite}" / "usr" / "bin" / "restic"
        try:
            if not program.exists():
                _unpack_restic(folder / f"restic-{suite}", suite, _mirror(release))
            _run([str(program), "version"])
        except RivalError as error:
            reasons.append(f"{suite}: {error}")
        else:
            return program
    raise RivalError("no restic package runs here:\n" + "\n".join(reasons))


def rclone(folder: Path) -> Path:
    """The path of Debian's rclone, unpacked below ``folder`` if needed. Raises :class:`RivalError`."""
    program = folder / "usr" / "bin" / "rclone"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", "rclone"], folder=folder)
        package = next(folder.glob("rclone_*.deb"))
        _run(["dpkg-deb", "-x", str(package), str(folder)])
        package.unlink()
    _run([str(program), "version"])
    return program


def _mirror(release: str) -> str:
    """The address of the mirror that this machine takes its release from."""
    listed = _run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"])
    for line in listed.splitlines():
        suite, _, address = line.partition(" ")
        if suite == release:
            return address
    raise RivalError(f"apt has no source for {release or 'this system'}; restic comes from Debian alone")


def _unpack_restic(home: Path, suite: str, mirror: str) -> None:
    """Download the package of one suite with lists and settings of our own, and unpack it."""
    shutil.rmtree(home, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial", "package"):
        (home / "apt" / name).mkdir(parents=True)
    sources = home / "apt" / "sources.list"
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources.write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n")
    (home / "apt" / "status").touch()
    options = [
        f"Dir::Etc::SourceList={sources}",
        "Dir::Etc::SourceParts=-",
        f"Dir::State={home}/apt",
        f"Dir::State::Status={home}/apt/status",
        f"Dir::Cache={home}/apt/cache",
        "APT::Sandbox::User=",
        "Acquire::Languages=none",
    ]
    apt = ["apt-get", "-q", *(argument for option in options for argument in ("-o", option))]
    _run([*apt, "update", "--error-on=any"])
    _run([*apt, "download", "restic"], folder=home / "apt" / "package")
    package = next((home / "apt" / "package").glob("restic_*.deb"))
    _run(["dpkg-deb", "-x", str(package), str(home)])
    shutil.rmtree(home / "apt")


def _run(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError as error:
        raise RivalError(f"{command[0]} is missing") from error
    except subprocess.CalledProcessError as error:
        raise RivalError(f"{' '.join(command)}:\n{error.stdout[-500:]}{error.stderr[-2000:]}") from error
    return done.stdout
