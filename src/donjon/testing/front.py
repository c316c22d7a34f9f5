"""An HTTP server in front of another one, which judges requests before it passes them on.

The fronts of this kit stand before emulators of cloud storage that do not enforce locks. They are **fakes**:
they obey what the providers document, rule by rule, and prove nothing about a provider's own servers.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from donjon.core.clock import Clock

#: Headers of one connection, and those that the front writes itself.
_OWN_HEADERS = {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """One request as it came. ``raw_path`` and ``target`` are still encoded; ``target`` has the query.

    ``headers`` have lowercase names.
    """

    method: str
    raw_path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: str = ""

    @property
    def path(self) -> str:
        """The decoded path."""
        return unquote(self.raw_path)


@dataclass(frozen=True)
class Answer:
    """What the front says. The length of the body is told unless ``headers`` have a Content-Length."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The connection ends behind it, be the body whole or not.
    hangs_up: bool = False


class HangUp(Exception):
    """Raised by a front in place of an answer: the connection ends, and the client learns nothing."""


class Upstream:
    """The server behind a front; one connection for each thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """One request and its whole answer. An idle connection that has been closed is opened anew."""
        for last in (False, True):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request(method, target, body or None, dict(headers))
                reply = connection.getresponse()
                content = reply.read()
            except (HTTPException, OSError):
                connection.close()
                self._local.connection = None
                if last:
                    raise
                continue
            kept = {k.lower(): v for k, v in reply.getheaders() if k.lower() not in _OWN_HEADERS}
            if method == "HEAD" and (length := reply.getheader("Content-Length")):
                kept["content-length"] = length
            return Answer(reply.status, content, kept)
        raise AssertionError("unreachable")


class Front(ABC):
    """What all fronts have: a clock of the service, refused permissions, and answers made to order.

    ``denied`` are permissions, by the provider's names, that the caller shall lack from now on. Each of
    ``next_answers`` is given to one of the next requests instead of carrying it out. ``trouble`` stands
    between the client and the service: it gets each request, and what carries it out.
    """

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self.upstream = upstream
        self.clock = clock
        self.denied: set[str] = set()
        self.next_answers: list[Answer] = []
        self.trouble: Callable[[Request, Callable[[Request], Answer]], Answer] | None = None
        self.requests: list[Request] = []
        #: One change at a time, so that what was judged is what is carried out.
        self.mutex = threading.RLock()

    @abstractmethod
    def handle(self, request: Request) -> Answer:
        """The answer to a request."""

    def answer(self, request: Request) -> Answer:
        """What goes back to the client."""
        with self.mutex:
            self.requests.append(request)
            if self.next_answers:
                return self.next_answers.pop(0)
        return self.trouble(request, self.handle) if self.trouble else self.handle(request)


@contextlib.contextmanager
def serving(front: Front) -> Iterator[str]:
    """Serve a front on a free port of the loopback interface; gives its address."""
    server = _Server(("127.0.0.1", 0), _handler(front.answer, front.clock))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep connections open
    request_queue_size = 128


def _handler(answer: Callable[[Request], Answer], clock: Clock) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, or the client's delayed acknowledgement costs 40 ms

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(clock() if timestamp is None else timestamp, usegmt=True)

        def log_message(self, *_: object) -> None:
            return

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                reply = answer(Request(self.command, parts.path, query, headers, body, self.path))
            except HangUp:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "content-length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            self.wfile.flush()
            self.close_connection |= reply.hangs_up

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    return Handler
