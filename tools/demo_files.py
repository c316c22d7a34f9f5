"""What the demo works on: a tree of real files, its changes, and what ransomware does to it."""

from __future__ import annotations

import os
import random
import shutil
import stat
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from donjon.core.units import KIB, MIB
from donjon.testing.trees import BEFORE_1970_NS, IN_2300_NS, USER

_NOTE = "Your files are encrypted. Pay, and you may get them back.\n"


def make_home(home: Path) -> None:
    """The running Python's standard library, copied, and made-up documents."""
    home.mkdir()
    leave_out = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__", "config-*")
    shutil.copytree(sysconfig.get_path("stdlib"), home / "python", symlinks=True, ignore=leave_out)
    _make_documents(home / "documents")


def _make_documents(folder: Path) -> None:
    randomness = random.Random(1)  # noqa: S311  (made-up data, the same each time)
    for name in ("letters", "photos", "odd names", "empty"):
        (folder / name).mkdir(parents=True)
    for year in range(2000, 2026):
        (folder / f"letters/{year}.txt").write_text(f"Dear all,\nthis was {year}.\n" * 40)
    for number in range(4):
        (folder / f"photos/{number}.raw").write_bytes(randomness.randbytes(2 * MIB))
    (folder / "ledger.db").write_bytes(randomness.randbytes(4 * MIB) + bytes(MIB))
    for odd in (b"not\xff utf-8", b"new\nline", b" ", b"-rf", b"*", "Ünïcödé 𝄞".encode()):
        (folder / "odd names" / os.fsdecode(odd)).write_bytes(odd)

    os.link(folder / "ledger.db", folder / "ledger, a hard link.db")
    (folder / "newest letter").symlink_to("letters/2025.txt")
    (folder / "dangling").symlink_to("no/such/place")
    os.mkfifo(folder / "fifo", 0o620)
    with (folder / "disk.img").open("wb") as image:  # all but two blocks of it is holes
        image.write(b"boot" * KIB)
        image.seek(9 * MIB)
        image.write(b"data" * KIB)
        image.truncate(16 * MIB)

    (folder / "letters/2001.txt").chmod(0o400)
    (folder / "photos").chmod(0o2750)
    if hasattr(os, "setxattr"):
        with suppress(OSError):  # not every file system has attributes
            os.setxattr(folder / "ledger.db", "user.checked-by", b"the auditor")
    if os.geteuid() == 0:
        os.chown(folder / "letters/2002.txt", USER, USER)
    os.utime(folder / "letters/2003.txt", ns=(BEFORE_1970_NS, BEFORE_1970_NS))
    os.utime(folder / "letters/2004.txt", ns=(IN_2300_NS, IN_2300_NS))


def change(home: Path) -> None:
    """What a day of work does: edit, add, remove, rename."""
    folder = home / "documents"
    with (folder / "ledger.db").open("r+b") as ledger:
        ledger.seek(2 * MIB)
        ledger.write(b"one more entry" * 100)
    with (folder / "letters/2025.txt").open("a") as letter:
        letter.write("P.S. One more thing.\n")
    (folder / "letters/2026.txt").write_text("Dear all,\nhappy new year.\n")
    (folder / "letters/2000.txt").unlink()
    (folder / "photos/0.raw").rename(folder / "photos/the cat.raw")
    (folder / "photos/1.raw").chmod(0o600)


def destroy(home: Path) -> int:
    """Overwrite every file with garbage under another name, as ransomware does; how many there were."""
    count = 0
    for path in _regular_files(home):
        path.chmod(0o600)
        with path.open("r+b") as file:
            left = path.stat().st_size
            while left > 0:
                left -= file.write(os.urandom(min(left, MIB)))
        path.rename(path.with_name(path.name[:200] + ".locked"))
        count += 1
    (home / "READ ME.txt").write_text(_NOTE)
    return count


def attack_vault(vault: Path) -> tuple[int, int]:
    """Try to overwrite and to delete every object; how many there are, and how many survived."""
    objects = [path for path in _regular_files(vault) if ".tmp" not in path.parts]
    for path in objects:
        with suppress(OSError), path.open("r+b") as file:
            file.write(b"garbage")
        with suppress(OSError):
            path.unlink()
    return len(objects), sum(path.exists() for path in objects)


def _regular_files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path
