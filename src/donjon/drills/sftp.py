"""Attacks on a vault behind SFTP, with the account of the vault's own credential.

SFTP has no locks: what the server's file system lets the account do, the account can do. So the drill fails
unless somebody on the server sees to it, and its advice says how.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Callable, Iterator
from typing import Any

from donjon.drills.base import READING, Answer, Attack, Role
from donjon.drills.ground import GARBAGE, Attacks, Ground

ADVICE = (
    "SFTP has no locks, so nothing but the server can hold what is there. Let root on the server set the "
    "immutable flag on what has come (chattr +i; no request of SFTP lifts it), or take snapshots there that "
    "this account cannot reach (ZFS, Btrfs); and keep another copy in a store with locks. See docs/drill.md."
)
_PUTTING = frozenset({Role.WRITER, Role.ADMINISTRATOR})
#: Paramiko raises what the server calls a failure without a number.
_REFUSED = "SSH_FX_FAILURE"


def ask(call: Callable[[], Any]) -> Answer:
    """See ``Ask``. A lost connection raises ``StoreUnavailable`` where it is noticed."""
    try:
        call()
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        return Answer(errno.errorcode.get(error.errno or 0, _REFUSED))
    return Answer("accepted", accepted=True)


class _Folder:
    """The folder of a store, through channels of its connection."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def _path(self, ground: Ground) -> str:
        return str(self._store.path_of(ground.target().name))

    def _beside(self, ground: Ground) -> str:
        folder, _, name = self._path(ground).rpartition("/")
        return f"{folder}/.{name}.drill"

    def delete(self, ground: Ground) -> Iterator[Answer]:
        with self._store.channel() as sftp:
            yield ask(lambda: sftp.remove(self._path(ground)))

    def overwrite(self, ground: Ground) -> Iterator[Answer]:
        with self._store.channel() as sftp:
            yield ask(lambda: _write(sftp, self._path(ground), "r+"))

    def truncate(self, ground: Ground) -> Iterator[Answer]:
        with self._store.channel() as sftp:
            yield ask(lambda: sftp.truncate(self._path(ground), 0))

    def rename(self, ground: Ground) -> Iterator[Answer]:
        with self._store.channel() as sftp:
            path, away = self._path(ground), self._beside(ground)
            answer = ask(lambda: sftp.rename(path, away))
            yield answer
            if answer.accepted:
                ask(lambda: sftp.rename(away, path))

    def replace(self, ground: Ground) -> Iterator[Answer]:
        with self._store.channel() as sftp:
            path, other = self._path(ground), self._beside(ground)
            if (written := ask(lambda: _write(sftp, other, "wx"))).accepted:
                yield ask(lambda: sftp.posix_rename(other, path))
                with contextlib.suppress(OSError):
                    sftp.remove(other)
            else:
                yield written

    def chmod(self, ground: Ground) -> Iterator[Answer]:
        """Let everybody write, and put the mode back."""
        with self._store.channel() as sftp:
            path = self._path(ground)
            mode = stat.S_IMODE(sftp.stat(path).st_mode)
            answer = ask(lambda: sftp.chmod(path, mode | 0o222))
            yield answer
            if answer.accepted:
                sftp.chmod(path, mode)

    def put(self, ground: Ground) -> Iterator[Answer]:
        canary = ground.make()
        with self._store.channel() as sftp:
            path = self._store.path_of(canary.name)
            folder = path.rpartition("/")[0]
            ask(lambda: sftp.mkdir(folder))
            answer = ask(lambda: _write(sftp, path, "wx", canary.data))
            if answer.accepted:
                ground.adopt(canary.name)
            yield answer

    def listing(self, ground: Ground) -> Iterator[Answer]:
        with self._store.channel() as sftp:
            yield ask(lambda: sftp.listdir(self._path(ground).rpartition("/")[0]))

    def read(self, ground: Ground) -> Iterator[Answer]:
        def fetch() -> None:
            with sftp.open(self._path(ground), "r") as file:
                file.read(1)

        with self._store.channel() as sftp:
            yield ask(fetch)


def _write(sftp: Any, path: str, mode: str, data: bytes = GARBAGE) -> None:
    with sftp.open(path, mode) as file:
        file.write(data)


def attacks(store: Any) -> Attacks:
    """All attacks on objects of this ``SftpStore``. What is moved is moved back at once."""
    by = _Folder(store)
    return (
        (Attack("delete-version", "delete an object"), by.delete),
        (Attack("overwrite", "overwrite an object in place"), by.overwrite),
        (Attack("truncate", "cut an object short"), by.truncate),
        (Attack("rename", "move an object away"), by.rename),
        (Attack("replace", "move another file over an object"), by.replace),
        (Attack("chmod", "let everybody write to an object"), by.chmod),
        (Attack("put", "put a new object", allowed=_PUTTING), by.put),
        (Attack("list", "list what there is", allowed=READING | _PUTTING), by.listing),
        (Attack("read", "read a stored object", allowed=READING | _PUTTING), by.read),
    )
