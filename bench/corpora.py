"""Make the data that is backed up. Run as a program of its own: ``python -m bench.corpora FOLDER NAME``.

``big``: two files of 2 GiB, one random and one a tar of the system. ``small``: 116,000 files of the
system. ``many``: ten times as many files of about 1 KiB, to see whether memory grows.

The selection is the same every time on the same machine. If a machine has too little, the same files
are taken again with every byte shifted by the number of the copy: that compresses as before, but a
copy does not deduplicate against the original. ``copies`` in the description tells when it happened.
"""

from __future__ import annotations

import json
import os
import random
import stat
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.measure import remove

NAMES = ("big", "small", "many")

_BIG_FILE_BYTES = 2 << 30
_SMALL_FILES = 116_000
#: Larger files belong to the other corpus.
_SMALL_FILE_LIMIT_BYTES = 24 << 20
_PIECE_BYTES = 1 << 20
_SEED = 20_240_229


@dataclass(frozen=True)
class Corpus:
    """A finished corpus. ``copies`` is how often the system's files were used, 1 when they sufficed."""

    name: str
    files: int
    bytes: int
    copies: int


def roots() -> list[str]:
    """Folders of installed software that a corpus is made from, best first."""
    found: list[str] = []
    for root in ("/usr", sys.base_prefix, "/opt", "/var/lib", "/Library"):
        inside = any(Path(root).is_relative_to(earlier) for earlier in found)
        if Path(root).is_dir() and not inside:
            found.append(root)
    return found


def system_files() -> Iterator[tuple[str, os.stat_result]]:
    """Readable regular files of the system in a fixed order, each hard-linked file once."""
    seen: set[tuple[int, int]] = set()
    for root in roots():
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = f"{folder}/{name}"
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                identity = (status.st_dev, status.st_ino)
                if not stat.S_ISREG(status.st_mode) or identity in seen or not os.access(path, os.R_OK):
                    continue
                if status.st_nlink > 1:
                    seen.add(identity)
                yield path, status


def endless_system_files() -> Iterator[tuple[int, str, os.stat_result]]:
    """The files of the system again and again, with the number of the copy from 0."""
    copy = 0
    while True:
        for path, status in system_files():
            yield copy, path, status
        copy += 1


class _Shifted:
    """A file whose bytes are shifted by the number of the copy; 0 leaves them as they are."""

    def __init__(self, path: str, copy: int) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
        self._table = bytes((byte + copy) % 256 for byte in range(256)) if copy else None

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        return data.translate(self._table) if self._table else data

    def __enter__(self) -> _Shifted:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _write_random(path: Path) -> None:
    generator = random.Random(_SEED)  # noqa: S311 - incompressible is all it has to be, and the same each time
    with path.open("wb") as file:
        for _ in range(_BIG_FILE_BYTES // _PIECE_BYTES):
            file.write(generator.randbytes(_PIECE_BYTES))


def _tar_pieces() -> Iterator[tuple[int, bytes]]:
    """The number of the copy and the next bytes of an endless tar of the system."""
    for copy, source, status in endless_system_files():
        entry = tarfile.TarInfo(f"{copy}{source}")
        entry.size, entry.mode, entry.mtime = status.st_size, stat.S_IMODE(status.st_mode), status.st_mtime
        yield copy, entry.tobuf(tarfile.PAX_FORMAT)
        with _Shifted(source, copy) as file:
            while piece := file.read(_PIECE_BYTES):
                yield copy, piece
        yield copy, bytes(-entry.size % tarfile.BLOCKSIZE)


def _write_tar(path: Path) -> int:
    """Returns how many times the system's files were gone through."""
    left = _BIG_FILE_BYTES
    with path.open("wb") as file:
        for copy, piece in _tar_pieces():
            left -= file.write(piece[:left])
            if not left:
                return copy + 1
    raise AssertionError


def _make_big(folder: Path) -> int:
    _write_random(folder / "random.bin")
    return _write_tar(folder / "system.tar")


def _make_small(folder: Path) -> int:
    files, copies = 0, 1
    for copy, source, status in endless_system_files():
        if status.st_size > _SMALL_FILE_LIMIT_BYTES:
            continue
        copies = copy + 1
        target = Path(f"{folder}/{copy}{source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _Shifted(source, copy) as reader, target.open("wb") as writer:
            while piece := reader.read(_PIECE_BYTES):
                writer.write(piece)
        target.chmod(stat.S_IMODE(status.st_mode) & 0o777 | stat.S_IRUSR)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        files += 1
        if files == _SMALL_FILES:
            break
    return copies


def _make_many(folder: Path) -> int:
    """Text of made-up words: 200 bytes to 2 KiB, every file another."""
    generator = random.Random(_SEED)  # noqa: S311 - made-up data, the same each time
    words = ["".join(generator.choices("etaoinshrdlu", k=generator.randint(2, 9))) for _ in range(5000)]
    for number in range(10 * _SMALL_FILES):
        group = folder / f"{number // 40_000:02}" / f"{number // 200:05}"
        if number % 200 == 0:
            group.mkdir(parents=True)
        text = f"{number} " + " ".join(generator.choices(words, k=generator.randint(30, 310)))
        (group / f"{number:07}.txt").write_text(text)
    return 1


def make(work: Path, name: str) -> Corpus:
    """Make a corpus below ``work`` unless it is there already. Raises ``OSError``."""
    folder, description = work / name, work / f"{name}.json"
    if description.exists():
        return Corpus(**json.loads(description.read_text()))
    remove(folder)
    folder.mkdir(parents=True)
    copies = {"big": _make_big, "small": _make_small, "many": _make_many}[name](folder)
    files = total = 0
    for parent, _, names in os.walk(folder):
        files += len(names)
        total += sum(os.lstat(f"{parent}/{item}").st_size for item in names)
    corpus = Corpus(name, files, total, copies)
    description.write_text(json.dumps(asdict(corpus)))
    return corpus


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), sys.argv[2]))
