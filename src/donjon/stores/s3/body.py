"""What is sent: the caller's memory, without a copy of it."""

from __future__ import annotations

import base64
import hashlib

from donjon.core.units import MIB

#: http.client asks for 16 KiB at a time, and 3,500 turns for one pack cost more than sending it.
_PIECE_BYTES = MIB


class Body:
    """A buffer as the SDK wants it: with ``read``, ``seek``, ``tell`` and a length.

    ``read`` gives views of the buffer, and more than it is asked for: the only readers are the SDK's
    signing and http.client, and both take any number of bytes.
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")
        self._at = 0

    def __len__(self) -> int:
        return len(self._view)

    def read(self, _size_bytes: int = -1) -> memoryview | bytes:
        """The next piece, empty at the end."""
        piece = self._view[self._at : self._at + _PIECE_BYTES]
        self._at += len(piece)
        return piece if len(piece) else b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, so that the SDK can start over."""
        base = {0: 0, 1: self._at, 2: len(self._view)}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The present place."""
        return self._at

    def sha256(self) -> str:
        """The checksum as S3 writes it."""
        return base64.b64encode(hashlib.sha256(self._view).digest()).decode()
