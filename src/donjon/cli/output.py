"""How commands talk: results, progress, errors. The only module that prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from donjon.core.errors import DonjonError
from donjon.core.events import Progress, Silent
from donjon.core.units import format_size

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_MAX_NOTES = 20


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
        sys.stderr.write(f"donjon: warning: {printable(text)}\n")

    def warn_all(self, texts: list[str]) -> None:
        """Many warnings: the first ones, and how many there are, unless all are wanted."""
        for text in texts if self.verbose else texts[:_MAX_NOTES]:
            self.warn(text)
        if len(texts) > _MAX_NOTES and not self.verbose:
            self.warn(f"{len(texts) - _MAX_NOTES} more of that kind (--verbose shows all)")

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """Bars on a terminal, lines for what deserves one elsewhere, nothing with ``--quiet``."""
        if self.quiet:
            yield Silent()
        elif self.json or not sys.stderr.isatty():
            yield _Lines(self)
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
    sys.stderr.write(f"donjon: {printable(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"  {printable(error.hint)}\n")


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


class _Lines(Silent):
    """Where nobody watches, only what is wrong is worth a line; the result lists all of it."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def note(self, message: str) -> None:
        self._output.notes_shown += 1
        if self._output.notes_shown <= _MAX_NOTES or self._output.verbose:
            sys.stderr.write(f"donjon: {printable(message)}\n")
        elif self._output.notes_shown == _MAX_NOTES + 1:
            sys.stderr.write("donjon: more of the same is not shown (--verbose shows all)\n")


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as RichProgress,
    )

    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[current]}", style="dim"),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
    )


class _OnTerminal:
    """Counts for the bars; the screen is drawn by a thread of its own a few times a second."""

    def __init__(self, bars: Bars, what: str) -> None:
        self._bars = bars
        self._task: TaskID = bars.add_task(what, total=None, figures="", current="")
        self._items = self._bytes = self._calls = 0
        self._total_bytes: int | None = None

    def total(self, *, items: int | None = None, size_bytes: int | None = None) -> None:
        self._total_bytes = size_bytes
        self._bars.update(self._task, total=size_bytes if size_bytes is not None else items)

    def advance(self, *, items: int = 0, size_bytes: int = 0, current: str = "") -> None:
        self._items += items
        self._bytes += size_bytes
        self._calls += 1
        if self._calls & 0xF and size_bytes < 1 << 20:
            return
        elapsed = self._bars.tasks[0].elapsed or 0
        rate = f"{format_size(self._bytes / elapsed)}/s" if elapsed > 0.5 else ""
        self._bars.update(
            self._task,
            completed=self._bytes if self._total_bytes is not None else self._items,
            figures=f"{self._items} items  {format_size(self._bytes)}  {rate}",
            current=_short(current),
        )

    def note(self, message: str) -> None:
        self._bars.console.print(printable(message), style="yellow", markup=False, highlight=False)


def _short(path: str) -> str:
    width = max(os.get_terminal_size(2).columns - 90, 10) if os.isatty(2) else 40
    path = printable(path)
    return path if len(path) <= width else "…" + path[-width + 1 :]
