"""How each tool is told to do the same work, with its own defaults for security and syncing.

zstd level 3 for all: restic's ``auto`` is zstd at its default level, which is 3; Borg is told; Donjon's
default is 3. Each has its cache and keys in a folder of its own. Borg has no default encryption;
``repokey`` is the mode that its documentation starts with.
"""

from __future__ import annotations

import os
import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from bench import rivals
from bench.measure import Command, count, run
from bench.servers import Server

NAMES = ("restic", "borg", "donjon")
#: Those that can write to S3. Borg cannot.
S3_NAMES = ("restic", "donjon")
_BUCKET = "bench"

_PASSWORD = "correct horse battery staple"  # noqa: S105 - of repositories that live for minutes


@dataclass(frozen=True)
class Place:
    """Where one tool works on one corpus: ``folder`` is removed afterwards, ``restored`` at the very end."""

    folder: Path
    corpus: Path
    restored: Path
    #: The S3 server that has the repository; it keeps its data in ``repository``.
    server: Server | None = None
    bucket: str = _BUCKET

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def stored_bytes(self) -> int:
        """The sizes of all files, or of all objects, of the repository."""
        return self.server.stored_bytes(self.bucket) if self.server else count(self.repository)[1]

    @property
    def requests(self) -> int | None:
        """How many requests the server has answered so far."""
        return self.server.requests() if self.server else None

    @property
    def home(self) -> Path:
        """Caches, keys and settings."""
        return self.folder / "home"


class Tool(ABC):
    """One backup program. Its methods describe commands, for others to run and measure."""

    name: str

    def __init__(self, program: Path) -> None:
        self.program = program

    @abstractmethod
    def settings(self, place: Place) -> dict[str, str]:
        """The tool's own environment variables."""

    @abstractmethod
    def prepare(self, place: Place) -> Command:
        """Make an empty repository; not measured."""

    @abstractmethod
    def backup(self, place: Place) -> Command:
        """Back up the corpus; the second time nothing has changed."""

    @abstractmethod
    def restore(self, place: Place) -> Command:
        """Restore the latest backup into ``place.restored``, which is there and empty."""

    @abstractmethod
    def verify(self, place: Place) -> Command:
        """Read all stored data and check all of it."""

    def command(self, place: Place, *arguments: str, folder: Path | None = None) -> Command:
        """Run the tool with the same small environment for all, and its own settings on top."""
        environment = {
            "HOME": str(place.home),
            "LC_ALL": "C.UTF-8",
            "PATH": os.environ["PATH"],
            **(place.server.environment if place.server else {}),
            **self.settings(place),
        }
        return Command((str(self.program), *arguments), environment, folder or place.folder)

    def show_version(self, place: Place) -> Command:
        """Print the version: what starting the program costs."""
        return self.command(place, "--version")

    def version(self, place: Place) -> str:
        """The version alone. Raises :class:`~bench.measure.CommandError`."""
        found = re.search(r"\d+\.\d+\S*", run(self.show_version(place)))
        return found.group() if found else "unknown"


class Restic(Tool):
    """restic, whose encryption has no options."""

    name = "restic"

    def settings(self, place: Place) -> dict[str, str]:
        in_bucket = f"s3:{place.server.endpoint}/{place.bucket}" if place.server else None
        return {
            "RESTIC_REPOSITORY": in_bucket or str(place.repository),
            "RESTIC_PASSWORD": _PASSWORD,
            "RESTIC_CACHE_DIR": str(place.home / "cache"),
            "RESTIC_COMPRESSION": "auto",
        }

    def prepare(self, place: Place) -> Command:
        return self.command(place, "init", "--quiet")

    def backup(self, place: Place) -> Command:
        return self.command(place, "backup", "--quiet", str(place.corpus))

    def restore(self, place: Place) -> Command:
        return self.command(place, "restore", "latest", "--quiet", "--target", str(place.restored))

    def verify(self, place: Place) -> Command:
        return self.command(place, "check", "--read-data", "--quiet")

    def show_version(self, place: Place) -> Command:
        return self.command(place, "version")


class Borg(Tool):
    """Borg 1.4."""

    name = "borg"

    def settings(self, place: Place) -> dict[str, str]:
        return {
            "BORG_REPO": str(place.repository),
            "BORG_PASSPHRASE": _PASSWORD,
            "BORG_BASE_DIR": str(place.home),
        }

    def prepare(self, place: Place) -> Command:
        return self.command(place, "init", "--encryption", "repokey")

    def backup(self, place: Place) -> Command:
        return self.command(place, "create", "--compression", "zstd,3", "::{utcnow:%s%f}", str(place.corpus))

    def restore(self, place: Place) -> Command:
        archive = run(self.command(place, "list", "--short", "--last", "1")).strip()
        return self.command(place, "extract", f"::{archive}", folder=place.restored)

    def verify(self, place: Place) -> Command:
        return self.command(place, "check", "--verify-data")


class Donjon(Tool):
    """Donjon of this checkout. Locks are off in a folder, since the vault is removed afterwards.

    In a bucket they are on as usual: the server with all its data goes afterwards.
    """

    name = "donjon"

    def settings(self, place: Place) -> dict[str, str]:
        return {
            "DONJON_HOME": str(place.home),
            "DONJON_VAULT": self._address(place),
            "DONJON_KIT": str(place.folder / "kit"),
        }

    def prepare(self, place: Place) -> Command:
        options = ("--create",) if place.server else ("--lock", "none")
        return self.command(
            place,
            "init",
            self._address(place),
            "--kit",
            str(place.folder / "kit"),
            "--second-kit",
            str(place.folder / "second.kit"),
            *options,
        )

    @staticmethod
    def _address(place: Place) -> str:
        if place.server:
            return f"s3://{place.bucket}/vault?endpoint={place.server.endpoint}"
        return place.repository.as_uri()

    def backup(self, place: Place) -> Command:
        return self.command(place, "backup", str(place.corpus), "--json")

    def restore(self, place: Place) -> Command:
        return self.command(place, "restore", "latest", str(place.restored))

    def verify(self, place: Place) -> Command:
        return self.command(place, "verify", "--data", "100", "--json")


def find(name: str, folder: Path) -> Tool:
    """Get a tool ready, installing it below ``folder`` if needed. Raises ``RivalError``."""
    if name == "restic":
        return Restic(rivals.restic(folder))
    if name == "borg":
        return Borg(rivals.borg(folder))
    return Donjon(Path(sys.executable).with_name("donjon"))
