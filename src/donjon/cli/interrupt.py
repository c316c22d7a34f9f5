"""Ctrl-C: once to end where nothing is half done, twice to end at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from donjon.core.errors import Ended, Interrupted
from donjon.core.events import StopCheck

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(outlook: str) -> Iterator[StopCheck]:
    """Inside, the first SIGINT or SIGTERM lets the check raise ``Interrupted``, which leaves as ``Ended``.

    ``outlook`` tells the user what has become of the work. The second signal raises ``KeyboardInterrupt``
    right away.
    """
    asked = False

    def note(_: int, __: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise Interrupted

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield check
    except Interrupted as error:
        raise Ended("interrupted", hint=outlook) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
