"""A process that makes small files for another one: its messages, and what it does.

Making a small file is a dozen short system calls, each of which gives up the interpreter's lock and takes it
again. Threads of one process get in each other's way with that; processes do not. This one holds no secret:
it is told where to restore, and gets plaintext that is about to be written there anyway.
"""

from __future__ import annotations

import mmap
import struct
import sys
import traceback
from typing import IO, Final, TypeVar

import msgspec

from donjon.core.errors import DonjonError, IntegrityFailure, Refused
from donjon.core.tuning import prepare_for_bulk_work
from donjon.format.entries import Entry
from donjon.targets.base import NewFile, Outcome, Overwrite
from donjon.targets.tree import TreeTarget

Message = TypeVar("Message", bound=msgspec.Struct)

_LENGTH: Final = struct.Struct("<I")

_MADE, _KEPT, _FAILED, _DAMAGED, _REFUSED = range(5)


class Setup(msgspec.Struct, array_like=True):
    """The first message: where to restore and how, and the descriptor of the memory that holds data."""

    root: bytes
    overwrite: str
    owner: bool | None
    memory_fd: int
    memory_bytes: int


class Work(msgspec.Struct, array_like=True):
    """Files to make, each with the (offset in the file, offset in the memory, bytes) of its data.

    No files at all ask for the warnings so far.
    """

    files: list[tuple[bytes, Entry, list[tuple[int, int, int]]]]


class Done(msgspec.Struct, array_like=True):
    """The answer. An outcome is (what, errno, text); ``failure`` is a bug, as Python shows it."""

    outcomes: list[tuple[int, int, str]] = []
    warnings: list[tuple[bytes, str]] = []
    failure: str = ""


def send(stream: IO[bytes], message: msgspec.Struct) -> None:
    """Write one message. Raises ``OSError``."""
    data = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes], kind: type[Message]) -> Message | None:
    """Read one message; None at the end."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    data = stream.read(length)
    return msgspec.msgpack.decode(data, type=kind) if len(data) == length else None


def outcome_of(told: tuple[int, int, str], path: bytes) -> Outcome:
    """What the process says became of a file."""
    what, number, text = told
    match what:
        case 0 | 1:
            return what == _MADE
        case 3:
            return IntegrityFailure(text)
        case 4:
            return Refused(text)
    return OSError(number, text, path)


def _told(outcome: Outcome) -> tuple[int, int, str]:
    match outcome:
        case bool():
            return (_MADE if outcome else _KEPT), 0, ""
        case OSError():
            return _FAILED, outcome.errno or 0, outcome.strerror or str(outcome)
        case IntegrityFailure():
            return _DAMAGED, 0, outcome.message
        case DonjonError():
            return _REFUSED, 0, outcome.message


def main() -> None:
    """Work until the other process closes its end, or dies."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    setup = receive(source, Setup)
    if setup is None:
        return
    prepare_for_bulk_work()
    memory = memoryview(mmap.mmap(setup.memory_fd, setup.memory_bytes, access=mmap.ACCESS_READ))
    with TreeTarget(setup.root, Overwrite(setup.overwrite), owner=setup.owner) as target:
        while (work := receive(source, Work)) is not None:
            try:
                send(sink, _carry_out(work, memory, target))
            except BrokenPipeError:
                return
            except Exception:
                send(sink, Done(failure=traceback.format_exc()))


def _carry_out(work: Work, memory: memoryview, target: TreeTarget) -> Done:
    if not work.files:
        return Done(warnings=target.warnings())
    files = [
        NewFile(path, entry, [(offset, memory[at : at + size]) for offset, at, size in pieces])
        for path, entry, pieces in work.files
    ]
    return Done([_told(outcome) for outcome in target.write_files(files)])


if __name__ == "__main__":
    main()
