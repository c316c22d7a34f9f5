"""`donjon ls`: look into a point."""

from __future__ import annotations

from typing import Annotated

import typer

from donjon.cli.common import JsonOption, KitOption, PassphraseOption, VaultOption, output, workspace
from donjon.cli.items import item_data, item_line
from donjon.cli.output import shown

EPILOG = """\b
Examples:
  donjon ls latest
  donjon ls web@latest:/srv/web/static
  donjon ls latest:/etc --recursive | less

\b
JSON: {"point", "path", "items": [{"path", "type", "mode", "uid", "gid",
"user", "group", "size", "mtime", "mtime_ns", "links", ...}]}"""

PointPathArgument = Annotated[
    str, typer.Argument(metavar="POINT[:/PATH]", help="latest, WORKLOAD@latest, WORKLOAD@TIME or an id.")
]


def ls(
    point: PointPathArgument,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Also all that is below.")] = False,
    json: JsonOption = False,
) -> int:
    """List a directory of a point: mode, owner, group, size in bytes, time (UTC), path.

    Only the part of the metadata that holds the directory is read. Names that are not UTF-8 are shown
    with escapes.
    """
    from donjon.app.backups import open_named_point, split_name
    from donjon.format.entries import Kind
    from donjon.recovery.view import TreeView

    out = output(json=json)
    name, path = split_name(point)
    opened = open_named_point(workspace(vault, kit, passphrase_file), name)
    view = TreeView(opened.point, opened.reader)
    entry = view.get(path)
    found = iter([(path, entry)]) if entry.kind != Kind.DIRECTORY else view.children(path)
    if recursive and entry.kind == Kind.DIRECTORY:
        found = ((inner, item) for inner, item in view.entries(path) if inner != path)
    head: dict[str, object] = {"point": opened.point.point_id.hex(), "path": shown(path)}
    with out.json_list(head, "items") as items:
        for inner, item in found:
            if json:
                items.add(item_data(inner, item))
            else:
                out.line(item_line(inner, item))
    return 0
