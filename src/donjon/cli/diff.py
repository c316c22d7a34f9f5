"""`donjon diff`: what changed between two points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VaultOption,
    VerboseOption,
    output,
    workspace,
)
from donjon.cli.items import KIND_NAMES, item_data, minute
from donjon.cli.output import Output, shown
from donjon.core.units import format_size

if TYPE_CHECKING:
    from donjon.app.diff import Difference
    from donjon.format.entries import Entry

EPILOG = """\b
Examples:
  donjon diff web@2026-11-23 web@latest
  donjon diff 3f9a c017 --quiet            the summary only
  donjon diff 3f9a c017 --content          leaves out mere metadata

\b
Lines start with + (added), - (removed) or M (changed, and what of it).
JSON: {"old", "new", "changes": [{"change", "path", "aspects", "old", "new"}],
"added", "removed", "changed", "bytes_added", "bytes_removed"}"""

_SIGNS = {"added": "+", "removed": "-", "changed": "M"}


def diff(
    old: Annotated[str, typer.Argument(metavar="POINT", help="The older point.")],
    new: Annotated[str, typer.Argument(metavar="POINT", help="The newer point.")],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    content: Annotated[
        bool, typer.Option("--content", help="Leave out items of which only metadata changed.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Compare two points: what was added, removed and changed, and what of it.

    Only metadata is read, and only where the points differ. Ends with 0 whether they differ or not.
    """
    from donjon.app.diff import Effort, compare
    from donjon.app.queries import find_two
    from donjon.repository.tree import Tree

    out = output(json=json, quiet=quiet, verbose=verbose)
    space = workspace(vault, kit, passphrase_file)
    opened = space.open_for_reading()
    first, second = find_two(opened, old, new)
    reader = space.reader(opened)
    effort, counts = Effort(), _Counts()
    head: dict[str, object] = {"old": first.point_id.hex(), "new": second.point_id.hex()}
    with out.json_list(head, "changes") as changes:
        for found in compare(Tree(first, reader), Tree(second, reader), effort):
            if content and found.aspects and not {"type", "content"} & set(found.aspects):
                continue
            counts.add(found)
            if json:
                changes.add(_data(found))
            elif not quiet:
                out.line(_line(found))
        changes.tail = counts.data() | {"segments": effort.segments, "segments_skipped": effort.skipped}
    _summarize(out, counts)
    if verbose and not json:
        out.line(f"{effort.skipped} of {effort.segments} metadata segments are equal and were not read")
    return 0


class _Counts:
    """Sums over all differences."""

    def __init__(self) -> None:
        self.items = {"added": 0, "removed": 0, "changed": 0}
        self.bytes_added = self.bytes_removed = 0

    def add(self, found: Difference) -> None:
        self.items[found.change.value] += 1
        if not found.aspects or {"type", "content"} & set(found.aspects):
            self.bytes_added += found.new.size if found.new else 0
            self.bytes_removed += found.old.size if found.old else 0

    def data(self) -> dict[str, object]:
        return {**self.items, "bytes_added": self.bytes_added, "bytes_removed": self.bytes_removed}


def _summarize(out: Output, counts: _Counts) -> None:
    items = counts.items
    out.line(
        f"{items['added']} added, {items['removed']} removed, {items['changed']} changed; "
        f"{format_size(counts.bytes_added)} of new content, "
        f"{format_size(counts.bytes_removed)} replaced or gone"
    )


def _data(found: Difference) -> dict[str, object]:
    return {
        "change": found.change.value,
        "path": shown(found.path),
        "aspects": list(found.aspects),
        "old": item_data(found.path, found.old) if found.old else None,
        "new": item_data(found.path, found.new) if found.new else None,
    }


def _line(found: Difference) -> str:
    line = f"{_SIGNS[found.change.value]} {shown(found.path)}"
    if found.old is None or found.new is None:
        return line + ("/" if _is_directory(found.new or found.old) else "")
    return f"{line}  ({', '.join(_aspect(aspect, found.old, found.new) for aspect in found.aspects)})"


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and KIND_NAMES[entry.kind] == "directory"


def _aspect(aspect: str, old: Entry, new: Entry) -> str:
    if aspect == "mode":
        return f"mode {old.mode:04o} to {new.mode:04o}"
    if aspect == "owner":
        return f"owner {_owner(old)} to {_owner(new)}"
    if aspect == "time":
        return f"time {minute(old.mtime_s)} to {minute(new.mtime_s)}"
    if aspect == "content" and old.size != new.size:
        return f"content, {old.size} to {new.size} bytes"
    return aspect


def _owner(entry: Entry) -> str:
    return f"{entry.user or entry.uid}:{entry.group or entry.gid}"
