"""`donjon dump`: one file of a point to standard output."""

from __future__ import annotations

import sys

from donjon.cli.common import KitOption, PassphraseOption, VaultOption, workspace
from donjon.cli.items import KIND_NAMES
from donjon.cli.ls import PointPathArgument
from donjon.cli.output import shown, visible
from donjon.cli.permits import AlthoughOption, ApprovalOption, permit

EPILOG = """\b
Examples:
  donjon dump latest:/etc/fstab
  donjon dump db@2026-11-23T10:00:/dump.sql | psql"""


def dump(
    point: PointPathArgument,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    approval: ApprovalOption = None,
    although_suspect: AlthoughOption = False,
) -> int:
    """Write the bytes of one file to standard output, holes as zeros.

    Every byte is checked before it is written; at a damaged one the command ends with 12, so look at the
    exit code when piping. A suspect point takes approvals, as to restore it.
    """
    from donjon.app.backups import open_to_use, split_name
    from donjon.core.errors import PathNotFound
    from donjon.format.entries import Kind
    from donjon.recovery.ranges import ChunkCache, FileRanges
    from donjon.recovery.view import TreeView

    name, path = split_name(point)
    space = workspace(vault, kit, passphrase_file)
    opened = open_to_use(space, name, permit(approval, although=although_suspect))
    view = TreeView(opened.point, opened.reader)
    entry = view.get(path)
    if entry.kind != Kind.FILE:
        msg = f"{shown(path)}: is a {KIND_NAMES[entry.kind]}, not a file"
        hint = "Look into it with `donjon ls`, or restore it with `donjon restore`."
        if entry.kind == Kind.SYMLINK:
            hint = f"It leads to {visible(entry.target)}; dump that."
        raise PathNotFound(msg, hint=hint)
    space.spool(opened.vault, opened.point, opened.reader, entry.data_bytes)
    file = FileRanges(view, entry, ChunkCache())
    for piece in file.pieces(0, file.size):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0
