"""The fake of EBS for the benchmark, in a process of its own: ``python -m bench.ebs_server IMAGE CHANGED``.

It serves ``snap-first``, which is the image, and ``snap-second``, in which CHANGED blocks differ. It prints
its address, and what it was asked so far is at ``/counts``.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from donjon.sources.content import find_extents
from donjon.testing.aws.ebs_front import BLOCK_BYTES, EbsFront
from donjon.testing.front import Answer, Request


class ImageBlocks(Mapping[int, bytes]):
    """The blocks of a sparse file that hold data, where they lie; ``changed`` replaces some."""

    def __init__(self, fd: int, changed: Mapping[int, bytes]) -> None:
        self._view = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
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
        return self._view[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]  # type: ignore[return-value]


class _Front(EbsFront):
    def handle(self, request: Request) -> Answer:
        if request.path == "/counts":
            return Answer(200, json.dumps(self.counts).encode())
        self.requests.clear()
        return super().handle(request)


class _Connection(socketserver.StreamRequestHandler):
    """Requests as Donjon makes them. http.server would take as long for each as Donjon does."""

    disable_nagle_algorithm = True
    front: _Front

    def handle(self) -> None:
        while line := self.rfile.readline():
            method, target, _ = line.decode().split(" ")
            headers = {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0)))
            path, _, query = target.partition("?")
            request = Request(method, path, dict(parse_qsl(query, True)), headers, body, target)
            answer = self.front.answer(request)
            told = {**answer.headers, "Content-Length": str(len(answer.body))}
            head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            self.request.sendall(f"HTTP/1.1 {answer.status} -\r\n{head}\r\n".encode(), socket.MSG_MORE)
            self.request.sendall(answer.body)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


def main(image: Path, changed: int) -> None:
    """Serve until standard input ends."""
    fd = os.open(image, os.O_RDONLY)
    first = ImageBlocks(fd, {})
    chosen = random.Random(1).sample(list(first), changed)  # noqa: S311 - the same each time
    second = ImageBlocks(fd, {index: random.Random(index).randbytes(BLOCK_BYTES) for index in chosen})  # noqa: S311
    front = _Connection.front = _Front(lambda: int(time.time()))
    size_gib = -(-image.stat().st_size // (1 << 30))
    for name, blocks in (("snap-first", first), ("snap-second", second)):
        front.add(name, blocks, size_gib, "vol-bench")
        front.remember_checksums(name)  # as EBS does; else the fake would take half of a processor
    with _Server(("127.0.0.1", 0), _Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
