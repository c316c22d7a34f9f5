"""How commands talk: results, progress, errors. The only module that prints."""

from __future__ import annotations

import enum
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from donjon.core.errors import DonjonError
from donjon.core.events import Progress, Silent
from donjon.core.secrecy import redacted
from donjon.core.units import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_MAX_NOTES = 20
_LINE_EVERY_S = 60
_DRAW_EVERY_S = 0.1
_RATE_AFTER_S = 0.5
_BAR_WIDTH = 16
_AROUND = 26  # spinner, description, time left and what is between the columns
_SHORTEST_PATH = 8


class Colour(enum.IntEnum):
    """Colours of a terminal (ECMA-48, 8.3.117)."""

    RED = 31
    GREEN = 32


@dataclass(slots=True)
class Output:
    """What the user wants to see."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    notes_shown: int = field(default=0)

    def result(self, data: object, text: str) -> None:
        """The result of a command: one JSON object, or text for people."""
        if self.json:
            sys.stdout.write(_json(data) + "\n")
        elif not self.quiet and text:
            say(text)

    def line(self, text: str) -> None:
        """One line of a listing."""
        if not self.json:
            say(text)

    def painted(self, parts: Iterable[tuple[str, Colour | None]]) -> None:
        """A line of a listing, in colours on a terminal unless ``NO_COLOR`` is set (https://no-color.org)."""
        if self.json:
            return
        with_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        texts = (
            f"\x1b[{colour.value}m{one_line(text)}\x1b[0m" if colour and with_colours else one_line(text)
            for text, colour in parts
        )
        sys.stdout.write("".join(texts).rstrip() + "\n")

    @contextmanager
    def json_list(self, head: dict[str, object], key: str) -> Iterator[JsonList]:
        """One JSON object whose member ``key`` is a list too long to keep; nothing without ``--json``.

        ``head`` are the members before the list; those after it are set on ``tail``.
        """
        items = JsonList(self.json)
        items.begin(head, key)
        yield items
        items.end()

    def warn(self, text: str) -> None:
        """Something that the user should know, on standard error."""
        sys.stderr.write(f"donjon: warning: {printable(redacted(text))}\n")

    def warn_all(self, texts: list[str]) -> None:
        """Many warnings: the first ones, and how many there are, unless all are wanted."""
        for text in texts if self.verbose else texts[:_MAX_NOTES]:
            self.warn(text)
        if len(texts) > _MAX_NOTES and not self.verbose:
            self.warn(f"{len(texts) - _MAX_NOTES} more of that kind (--verbose shows all)")

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """Bars on a terminal, a line a minute elsewhere; with ``--json`` only what is wrong, with ``--quiet``
        nothing.
        """
        if self.quiet:
            yield Silent()
        elif self.json or not sys.stderr.isatty():
            yield _Lines(self, what)
        else:
            with _bars() as bars:
                yield _OnTerminal(bars, what)


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(printable(text) + "\n")


def printable(text: str) -> str:
    """Text that any terminal can show: names that are no text are written with escapes."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in safe)


def one_line(text: str) -> str:
    """Text that cannot pass for further lines of ours."""
    return printable(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def shown(path: bytes) -> str:
    """A path of a point for people: absolute, on one line, and always text."""
    return visible(b"/" + path.lstrip(b"/"))


def visible(name: bytes) -> str:
    """A name for people: on one line, and always text."""
    text = name.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else f"\\x{ord(character):02x}"


class JsonList:
    """Writes the members of a list within a JSON object one by one, so that none has to be kept."""

    def __init__(self, enabled: bool) -> None:
        self.tail: dict[str, object] = {}
        self._enabled = enabled
        self._separator = ""

    def begin(self, head: dict[str, object], key: str) -> None:
        """Start the object."""
        members = _json(head)[1:-1]
        self._write(f"{{{members}{',' if members else ''}{_json(key)}:[")

    def add(self, item: object) -> None:
        """One more member of the list."""
        if self._enabled:
            self._write(self._separator + _json(item))
            self._separator = ","

    def end(self) -> None:
        """End the object."""
        members = _json(self.tail)[1:-1]
        self._write(f"]{',' if members else ''}{members}}}\n")

    def _write(self, text: str) -> None:
        if self._enabled:
            sys.stdout.write(text)


def _json(value: object) -> str:
    return msgspec.json.encode(_plain(value)).decode()


def report_error(error: DonjonError) -> None:
    """The error and what to do, on standard error."""
    sys.stderr.write(f"donjon: {printable(redacted(error.message))}\n")
    if error.hint:
        sys.stderr.write(f"  {printable(redacted(error.hint))}\n")


def _plain(value: object) -> object:
    """The value with bytes, and texts that are not UTF-8, as texts with escapes; JSON has no others."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


class _Tally:
    """How much is done of how much, as far as that is known. Several threads may count."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.items = self.size_bytes = 0
        self.total_items: int | None = None
        self.total_bytes: int | None = None
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()

    def expect(self, items: int | None, size_bytes: int | None) -> None:
        self.total_items, self.total_bytes = items or None, size_bytes or None

    def add(self, items: int, size_bytes: int) -> None:
        with self._lock:
            self.items += items
            self.size_bytes += size_bytes

    @property
    def done(self) -> int:
        """In bytes if they are the measure, else in items."""
        return self.items if self.total_bytes is None else self.size_bytes

    @property
    def total(self) -> int | None:
        """The same for all of it; never less than what is done, as things grow."""
        total = self.total_items if self.total_bytes is None else self.total_bytes
        return None if total is None else max(total, self.done)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    @property
    def left_s(self) -> float | None:
        """The time that the rest takes at the speed so far."""
        if self.total is None or not self.done:
            return None
        return self.elapsed_s * (self.total - self.done) / self.done

    def figures(self) -> str:
        """Items, bytes and rate."""
        items, size = f"{self.items}", format_size(self.size_bytes)
        if self.total_items is not None:
            items += f" of {max(self.total_items, self.items)}"
        if self.total_bytes is not None:
            size += f" of {format_size(max(self.total_bytes, self.size_bytes))}"
        elapsed = self.elapsed_s
        rate = f"  {format_size(self.size_bytes / elapsed)}/s" if elapsed > _RATE_AFTER_S else ""
        return f"{items} items  {size}{rate}"


class _Lines:
    """For logs: what is wrong, and a line a minute about how far the work is."""

    def __init__(self, output: Output, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._what = what
        self._clock = clock
        self._tally = _Tally(clock)
        self._next = clock() + _LINE_EVERY_S

    def total(self, *, items: int | None = None, size_bytes: int | None = None) -> None:
        self._tally.expect(items, size_bytes)

    def advance(self, *, items: int = 0, size_bytes: int = 0, current: str = "") -> None:
        self._tally.add(items, size_bytes)
        if self._clock() < self._next or self._output.json:
            return
        self._next = self._clock() + _LINE_EVERY_S
        left = self._tally.left_s
        text = f"{self._what}: {self._tally.figures()}"
        if left is not None:
            text += f"  {format_duration(left)} left"
        sys.stderr.write(f"donjon: {text}  {one_line(current)}".rstrip() + "\n")

    def note(self, message: str) -> None:
        self._output.notes_shown += 1
        if self._output.notes_shown <= _MAX_NOTES or self._output.verbose:
            sys.stderr.write(f"donjon: {printable(redacted(message))}\n")
        elif self._output.notes_shown == _MAX_NOTES + 1:
            sys.stderr.write("donjon: more of the same is not shown (--verbose shows all)\n")


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=_BAR_WIDTH),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[current]}", style="dim", markup=False),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
    )


class _OnTerminal:
    """Counts for the bars; the screen is drawn by a thread of its own a few times a second."""

    def __init__(self, bars: Bars, what: str) -> None:
        self._bars = bars
        self._task: TaskID = bars.add_task(what, total=None, figures="", current="")
        self._tally = _Tally(time.monotonic)
        self._current = ""
        self._drawn = -_DRAW_EVERY_S

    def total(self, *, items: int | None = None, size_bytes: int | None = None) -> None:
        self._tally.expect(items, size_bytes)

    def advance(self, *, items: int = 0, size_bytes: int = 0, current: str = "") -> None:
        tally = self._tally
        tally.add(items, size_bytes)
        elapsed = tally.elapsed_s
        self._current = current or self._current
        if elapsed < self._drawn + _DRAW_EVERY_S:
            return
        self._drawn = elapsed
        figures = tally.figures()
        self._bars.update(
            self._task,
            completed=tally.done,
            total=tally.total,
            figures=figures,
            current=_short(self._current, self._bars.console.width - _BAR_WIDTH - _AROUND - len(figures)),
        )

    def note(self, message: str) -> None:
        self._bars.console.print(printable(redacted(message)), style="yellow", markup=False, highlight=False)


def _short(path: str, width: int) -> str:
    path = one_line(path)
    if width < _SHORTEST_PATH:
        return ""
    return path if len(path) <= width else "…" + path[-width + 1 :]
