"""Attacks on a vault in a folder of this machine, with the rights of this process.

Locks in a folder hold by the kernel's immutable flag, which root can lift, or are advisory: then everybody
who may write there can delete, and the drill says so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from donjon.drills.base import ADMINISTRATOR, READING, Answer, Attack, NotTried, Role
from donjon.drills.ground import GARBAGE, Attacks, Ground
from donjon.stores.files import LOCK_ATTRIBUTE
from donjon.stores.immutable import is_immutable, set_immutable

_PUTTING = frozenset({Role.WRITER, Role.ADMINISTRATOR})


def ask(call: Callable[[], Any]) -> Answer:
    """See ``Ask``."""
    try:
        call()
    except OSError as error:
        return Answer(errno.errorcode.get(error.errno or 0, str(error)))
    return Answer("accepted", accepted=True)


class _Folder:
    """One folder, with the rights of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def at(self, ground: Ground) -> Path:
        return self._folder / ground.target().name

    def delete(self, ground: Ground) -> Iterator[Answer]:
        yield ask(self.at(ground).unlink)

    def overwrite(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: self.at(ground).write_bytes(GARBAGE))

    def truncate(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: os.truncate(self.at(ground), 0))

    def rename(self, ground: Ground) -> Iterator[Answer]:
        path = self.at(ground)
        away = path.with_name(f".{path.name}.drill")
        try:
            yield ask(lambda: path.rename(away))
        finally:
            if away.exists():
                away.rename(path)

    def replace(self, ground: Ground) -> Iterator[Answer]:
        path = self.at(ground)
        other = path.with_name(f".{path.name}.drill")
        other.write_bytes(GARBAGE)
        try:
            yield ask(lambda: other.replace(path))
        finally:
            other.unlink(missing_ok=True)

    def lift(self, ground: Ground) -> Iterator[Answer]:
        """Lift the immutable flag, and set it again."""
        descriptor = os.open(self.at(ground), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not is_immutable(descriptor):
                raise NotTried("the canary has no immutable flag")
            answer = ask(lambda: set_immutable(descriptor, on=False))
            if answer.accepted:
                set_immutable(descriptor, on=True)
            yield answer
        finally:
            os.close(descriptor)

    def remove(self, ground: Ground) -> Iterator[Answer]:
        """The end of a lock is in an extended attribute."""
        ground.locked()
        yield ask(lambda: os.removexattr(self.at(ground), LOCK_ATTRIBUTE))

    def put(self, ground: Ground) -> Iterator[Answer]:
        canary = ground.make()
        path = self._folder / canary.name

        def create() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(canary.data)

        answer = ask(create)
        if answer.accepted:
            ground.adopt(canary.name)
        yield answer

    def listing(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: list(self.at(ground).parent.iterdir()))

    def read(self, ground: Ground) -> Iterator[Answer]:
        yield ask(self.at(ground).read_bytes)


def attacks(folder: Path) -> Attacks:
    """All attacks on objects below this folder. What is moved is moved back at once."""
    by = _Folder(folder)
    return (
        (Attack("delete-version", "delete a locked object"), by.delete),
        (Attack("overwrite", "overwrite an object in place"), by.overwrite),
        (Attack("truncate", "cut an object short"), by.truncate),
        (Attack("rename", "move an object away"), by.rename),
        (Attack("replace", "move another file over an object"), by.replace),
        (Attack("remove-lock", "remove a lock"), by.remove),
        (Attack("lift", "lift the immutable flag", allowed=ADMINISTRATOR), by.lift),
        (Attack("put", "put a new object", allowed=_PUTTING), by.put),
        (Attack("list", "list what there is", allowed=READING | _PUTTING), by.listing),
        (Attack("read", "read a stored object", allowed=READING | _PUTTING), by.read),
    )
