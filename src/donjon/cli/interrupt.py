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
    right away, and a third one kills. What the shell lets the command ignore stays ignored.
    """
    asked = False

    def note(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(number, signal.SIG_DFL)  # whatever holds up the end
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise Interrupted

    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield check
    except Interrupted as error:
        raise Ended("interrupted", hint=outlook) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
