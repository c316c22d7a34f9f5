"""The client's own folder for one vault: index tables, journals, the previous points.

Nothing in it is needed: all of it can be read again from the vault or the sources. It holds what a
writer of this host may know, so it is readable by its owner only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from donjon.keys.private import private_folder


class Cache:
    """The folder of one vault. Everything is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, *parts: str) -> Path:
        """A path inside, its parent made if necessary."""
        path = self.folder.joinpath(*parts)
        private_folder(path.parent)
        return path

    def write(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Replace a file atomically. It is not synced: a lost cache costs time only."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{id(path)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
                file.writelines(pieces)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def with_digest(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, and at the end their digest, so that a disk that changes bits is found out."""
    hasher = blake3()
    for piece in pieces:
        hasher.update(piece)
        yield piece
    yield hasher.digest()
