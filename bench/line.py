"""A line to a server far away: every byte is late, and each connection carries so much a second."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE_BYTES = 256 * 1024
#: So much may be under way in one direction of a connection.
_PIECES = 64


@dataclass(frozen=True)
class Line:
    """What each connection is like: ``delay_s`` one way, ``bytes_per_s`` in each direction."""

    delay_s: float
    bytes_per_s: float


@contextlib.contextmanager
def far_away(port: int, line: Line) -> Iterator[int]:
    """A port of the loopback interface that leads to another one over such a line."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=(source, target, line), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _carry(source: socket.socket, target: socket.socket, line: Line) -> None:
    """One direction of a connection, until it ends."""
    under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(_PIECES)

    def deliver() -> None:
        while True:
            due, data = under_way.get()
            time.sleep(max(due - time.monotonic(), 0))
            with contextlib.suppress(OSError):
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)

    threading.Thread(target=deliver, daemon=True).start()
    free = time.monotonic()  # when the line has carried what came before
    data = b"x"
    while data:
        try:
            data = source.recv(_PIECE_BYTES)
        except OSError:
            data = b""
        now = time.monotonic()
        free = max(free, now) + len(data) / line.bytes_per_s
        time.sleep(max(free - now, 0))
        under_way.put((free + line.delay_s, data))
