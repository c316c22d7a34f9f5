"""GETs over one connection of HTTP/1.1 that stays open, for those who make them by the ten thousand.

The client of the standard library reads headers with its parser of e-mail, and looks whether a socket is
ready before it reads: a third of what reading a bucket of small objects took; see
docs/adr/0032-straight-gets.md. Rules are those of RFC 9112, and what does not obey them is no answer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Final, NamedTuple

_CONNECT_TIMEOUT_S: Final = 20
_READ_TIMEOUT_S: Final = 60
_BUFFER_BYTES: Final = 64 * 1024
#: Of a status line with all headers. Those of S3 are 8 KB at most.
_MAX_HEAD_BYTES: Final = _BUFFER_BYTES
_NO_BODY: Final = (204, 304)
_TIME: Final = struct.Struct("@ll")  # struct timeval

Buffer = bytes | bytearray | memoryview


class Broken(ConnectionError):
    """The connection ended, or what came is no answer of HTTP/1.1."""


class TooLong(Exception):
    """A body has more bytes than it may have."""


class Answer(NamedTuple):
    """``headers`` have names in small letters; the values of a name that came twice are joined by commas.

    ``body`` is part of the buffer that it was asked to go to, if it went there.
    """

    status: int
    headers: dict[str, str]
    body: Buffer


class Connection:
    """One connection, for one thread at a time. Opened by the first request, and again after it ended.

    ``context`` is for HTTPS. Raises ``OSError`` if it cannot be opened or breaks, ``TimeoutError`` and
    ``ssl.SSLError`` among them.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self._host, self._port, self._context = host, port, context
        self._socket: socket.socket | None = None
        self._whole = 0  # to recv(2): wait until all of it is there
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # what of the buffer was received and not read yet

    @property
    def is_open(self) -> bool:
        """Whether a request would go over a connection that served one before."""
        return self._socket is not None

    def close(self) -> None:
        """Close it; the next request opens it anew."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def get(
        self, target: str, headers: dict[str, str], most_bytes: int, into: memoryview | None = None
    ) -> Answer:
        """One request and its whole answer.

        The body of a 200 that is as long as ``into`` goes there. Raises ``TooLong`` for one with more than
        ``most_bytes``.
        """
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        request = f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        finished = False
        try:
            opened = self._socket or self._open()
            opened.sendall(request)
            status, told = self._head()
            body, stays = self._body(status, told, most_bytes, into if status == 200 else None)
            finished = stays and self._start == self._end
        except BlockingIOError as error:  # what SO_RCVTIMEO makes of a timeout
            msg = "timed out"
            raise TimeoutError(msg) from error
        finally:
            if not finished:
                self.close()
        return Answer(status, told, body)

    # -- the connection ----------------------------------------------------------------------------

    def _open(self) -> socket.socket:
        opened = socket.create_connection((self._host, self._port), _CONNECT_TIMEOUT_S)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._whole = 0
            if self._context is not None:
                opened = self._context.wrap_socket(opened, server_hostname=self._host)
                opened.settimeout(_READ_TIMEOUT_S)
            else:
                # A socket for which Python keeps the time is looked at before it is read, at the cost of a
                # second turn for the interpreter's lock. The kernel keeps it as well.
                opened.settimeout(None)
                with contextlib.suppress(AttributeError):  # where there is no such flag
                    self._whole = socket.MSG_WAITALL
                for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                    opened.setsockopt(socket.SOL_SOCKET, option, _TIME.pack(_READ_TIMEOUT_S, 0))
        except BaseException:
            opened.close()
            raise
        self._socket = opened
        self._start = self._end = 0
        return opened

    def _receive(self, buffer: memoryview, flags: int = 0) -> int:
        assert self._socket is not None  # noqa: S101  (a request was sent over it)
        # TLS has no flags.
        count = self._socket.recv_into(buffer, 0, flags) if flags else self._socket.recv_into(buffer)
        if not count:
            msg = "the connection was closed"
            raise Broken(msg)
        return count

    def _fill(self) -> None:
        """Receive more into the buffer, behind what is there."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == _BUFFER_BYTES:
            kept = self._buffer[self._start : self._end]
            self._view[: len(kept)] = kept
            self._start, self._end = 0, len(kept)
        self._end += self._receive(self._view[self._end :])

    # -- the head ----------------------------------------------------------------------------------

    def _head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer; those before it (RFC 9110, 15.2) count for nothing."""
        while True:
            status, headers = _parse_head(self._until(b"\r\n\r\n", _MAX_HEAD_BYTES))
            if status >= 200:
                return status, headers

    def _until(self, mark: bytes, most: int) -> bytes:
        """What comes before ``mark``, which is taken as well."""
        looked = self._start
        while (found := self._buffer.find(mark, looked, self._end)) < 0:
            waiting = self._end - self._start
            if waiting >= most:
                msg = "the headers of the answer have no end"
                raise Broken(msg)
            self._fill()
            looked = max(self._start, self._start + waiting - len(mark) + 1)
        part = bytes(self._view[self._start : found])
        self._start = found + len(mark)
        return part

    # -- the body ----------------------------------------------------------------------------------

    def _body(
        self, status: int, headers: dict[str, str], most_bytes: int, into: memoryview | None
    ) -> tuple[Buffer, bool]:
        """The body, and whether the connection stays open (RFC 9112, 6.3 and 9.3)."""
        stays = headers.get("connection", "").lower() != "close"
        coding = headers.get("transfer-encoding")
        if status in _NO_BODY:
            return b"", stays
        if coding is not None:
            if coding.lower() != "chunked":
                msg = f"the answer is coded as {coding}"
                raise Broken(msg)
            return self._chunks(most_bytes), stays
        told = headers.get("content-length")
        if told is None:
            return self._rest(most_bytes), False
        length = _number(told, 10)
        if length > most_bytes:
            raise TooLong
        if into is not None and length == len(into):
            self._exactly(into)
            return into, stays
        if length <= self._end - self._start:
            self._start += length
            return bytes(self._view[self._start - length : self._start]), stays
        body = bytearray(length)
        with memoryview(body) as view:
            self._exactly(view)
        return body, stays

    def _exactly(self, target: memoryview) -> None:
        """Fill it."""
        done = min(self._end - self._start, len(target))
        target[:done] = self._view[self._start : self._start + done]
        self._start += done
        while done < len(target):
            done += self._receive(target[done:], self._whole)

    def _chunks(self, most_bytes: int) -> bytearray:
        """RFC 9112, 7.1."""
        body = bytearray()
        while True:
            size = _number(self._until(b"\r\n", _MAX_HEAD_BYTES).partition(b";")[0].decode("latin-1"), 16)
            if not size:
                while self._until(b"\r\n", _MAX_HEAD_BYTES):  # trailers
                    pass
                return body
            if len(body) + size > most_bytes:
                raise TooLong
            piece = bytearray(size)
            with memoryview(piece) as view:
                self._exactly(view)
            body += piece
            if self._until(b"\r\n", 2):
                msg = "a part of the answer has another length than it told"
                raise Broken(msg)

    def _rest(self, most_bytes: int) -> bytes:
        """All until the server closes the connection."""
        body = bytearray()
        while True:
            body += self._view[self._start : self._end]
            self._start = self._end
            if len(body) > most_bytes:
                raise TooLong
            try:
                self._fill()
            except Broken:
                return bytes(body)


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit() and len(code) == 3):
        msg = f"{first[:80]!r} is no answer of HTTP/1.1"
        raise Broken(msg)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():  # folded lines are forbidden as well: 5.2
            msg = f"{line[:80]!r} is no header"
            raise Broken(msg)
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if version == "HTTP/1.0":
        headers["connection"] = "close"
    return int(code), headers


def _number(text: str, base: int) -> int:
    digits = "0123456789abcdef"[:base]
    text = text.strip()
    # Python converts no more than some thousands of digits, and 20 are more bytes than there are.
    if not 0 < len(text) <= 20 or text.lower().strip(digits):
        msg = f"{text[:80]!r} is no length"
        raise Broken(msg)
    return int(text, base)
