"""The fake of EBS for the benchmark, in a process of its own: ``python -m bench.ebs_server IMAGE CHANGED``.

It serves ``snap-first``, which is the image, and ``snap-second``, in which CHANGED blocks differ. It prints
its address, and what it was asked so far is at ``/counts``.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from donjon.sources.content import find_extents
from donjon.testing.aws.ebs_front import BLOCK_BYTES, EbsFront
from donjon.testing.front import Answer, Request, serving


class ImageBlocks(Mapping[int, bytes]):
    """The blocks of a sparse file that hold data; ``changed`` replaces some."""

    def __init__(self, fd: int, changed: Mapping[int, bytes]) -> None:
        self._fd = fd
        self._changed = changed
        extents = find_extents(fd, os.fstat(fd).st_size) or ()
        self._indexes = sorted(
            {
                index
                for offset, length in extents
                for index in range(offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES))
            }
        )
        self._known = set(self._indexes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indexes)

    def __len__(self) -> int:
        return len(self._indexes)

    def __contains__(self, index: object) -> bool:
        return index in self._known

    def __getitem__(self, index: int) -> bytes:
        if index not in self._known:
            raise KeyError(index)
        if index in self._changed:
            return self._changed[index]
        return os.pread(self._fd, BLOCK_BYTES, index * BLOCK_BYTES)


class _Counting(EbsFront):
    def handle(self, request: Request) -> Answer:
        if request.path == "/counts":
            return Answer(200, json.dumps(self.counts).encode())
        self.requests.clear()
        return super().handle(request)


def main(image: Path, changed: int) -> None:
    """Serve until standard input ends."""
    fd = os.open(image, os.O_RDONLY)
    first = ImageBlocks(fd, {})
    chosen = random.Random(1).sample(list(first), changed)  # noqa: S311 - the same each time
    second = ImageBlocks(fd, {index: random.Random(index).randbytes(BLOCK_BYTES) for index in chosen})  # noqa: S311
    front = _Counting(lambda: int(time.time()))
    size_gib = -(-image.stat().st_size // (1 << 30))
    for name, blocks in (("snap-first", first), ("snap-second", second)):
        front.add(name, blocks, size_gib, "vol-bench")
        front.remember_checksums(name)  # as EBS does; else the fake would take half of a processor
    with serving(front) as address:
        print(address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
