"""A bad line between a client and an S3 server: replies get lost, bytes change, and the time is wrong.

Requests go on as they came, signed for this address, so that the server's own checks meet what the line did.
"""

from __future__ import annotations

import contextlib
import enum
from collections import Counter
from collections.abc import Iterator

from donjon.core.clock import Clock, system_clock
from donjon.testing.front import Answer, Front, HangUp, Request, Upstream, serving


class Fault(enum.Enum):
    """What the line does to a PUT."""

    LOSES_REPLY = "loses the reply"  #: the server carries it out, and the client never hears of it
    CHANGES_BYTES = "changes bytes"  #: one bit of the body is flipped on its way to the server


class S3Line(Front):
    """Lets the first tries of every PUT suffer ``faults``, one each; the next try goes through.

    ``clock`` dates the answers. ``tries`` are those that suffered, of each path.
    """

    def __init__(self, upstream: Upstream, clock: Clock = system_clock) -> None:
        super().__init__(upstream, clock)
        self.faults: tuple[Fault, ...] = ()
        self.tries: Counter[str] = Counter()

    def handle(self, request: Request) -> Answer:
        """See the class."""
        fault = self._fault(request)
        body = request.body
        if fault is Fault.CHANGES_BYTES:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        answer = self.upstream.send(request.method, request.target, request.headers, body)
        if fault is Fault.LOSES_REPLY:
            raise HangUp
        return answer

    def _fault(self, request: Request) -> Fault | None:
        with self.mutex:
            done = self.tries[request.raw_path]
            if request.method != "PUT" or not request.body or done >= len(self.faults):
                return None
            self.tries[request.raw_path] += 1
            return self.faults[done]


@contextlib.contextmanager
def s3_line(port: int, clock: Clock = system_clock) -> Iterator[tuple[S3Line, str]]:
    """A line to the S3 server on a port of this machine, and the address at its other end."""
    line = S3Line(Upstream(port), clock)
    with serving(line) as url:
        yield line, url
