"""Splitting a recovery kit into shares, and joining them again. Neither needs the vault."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from donjon.app.wiring import Workspace
from donjon.core.errors import KeyNotAvailable, Refused
from donjon.keys.private import create_private, private_folder

if TYPE_CHECKING:
    from donjon.keys.shares import Joined, Share


@dataclass(frozen=True, slots=True)
class SplitKit:
    """A kit that was split. ``files`` are the shares in their order, ``pages`` those to print, if wanted."""

    fingerprint: str
    vault_name: str
    files: tuple[Path, ...]
    pages: tuple[Path, ...]
    set: str


@dataclass(frozen=True, slots=True)
class JoinedKit:
    """A kit that shares made, as it is known without its passphrase."""

    joined: Joined
    fingerprint: str
    vault_name: str
    vault_id: bytes
    set: str


def split(
    workspace: Workspace,
    needed: int,
    count: int,
    folder: Path,
    passphrase: str | None,
    now: int,
    *,
    pages: bool,
) -> SplitKit:
    """Split the kit that the user named into files in ``folder``, which is made if it is missing.

    With ``passphrase`` the kit on the shares is protected by it; without, it stays as it is. The kit is
    opened first, as shares of a kit that does not open are found out too late. All files are written, or
    none. Raises ``Refused`` if one exists, and what ``read_kit`` and ``split_kit`` raise.
    """
    from donjon.keys.kit_paper import printable
    from donjon.keys.recovery import kit_to_text, load_text
    from donjon.keys.share_text import show_set
    from donjon.keys.shares import read_share, split_kit

    kit = workspace.read_any_kit()
    assert workspace.settings.kit is not None  # noqa: S101  (or it could not have been read)
    text = kit_to_text(kit, passphrase) if passphrase is not None else load_text(workspace.settings.kit)
    texts = split_kit(text, needed, count, now)
    files = tuple(folder / f"share-{number}-of-{count}.txt" for number in range(1, count + 1))
    sheets = tuple(file.with_suffix(".html") for file in files) if pages else ()
    for path in (*files, *sheets):
        if os.path.lexists(path):
            msg = f"{path}: exists, and a share never overwrites anything"
            raise Refused(msg, hint="Choose another folder.")
    private_folder(folder)
    with ExitStack() as undo:
        for path, content in zip(
            (*files, *sheets), (*texts, *map(printable, texts[: len(sheets)])), strict=True
        ):
            create_private(path, content.encode())
            undo.callback(path.unlink, missing_ok=True)
        undo.pop_all()
    identifier = read_share(texts[0]).words.identifier
    return SplitKit(kit.fingerprint, kit.vault_name, files, sheets, show_set(identifier))


def read_shares(files: Sequence[Path]) -> list[Share]:
    """The shares in files. Raises ``KeyNotAvailable`` for the first that cannot be read."""
    from donjon.keys.shares import read_share

    return [read_share(file) for file in files]


def join(workspace: Workspace, shares: Sequence[Share], out: Path | None) -> JoinedKit:
    """Make the kit of these shares, into the new file ``out`` if there is one.

    A kit without a passphrase is opened, so its keys are those of its fingerprint. Raises ``Refused`` if
    ``out`` exists, and what ``shares.join`` raises.
    """
    from donjon.keys import kit_payload, kit_text
    from donjon.keys.recovery import read_kit
    from donjon.keys.share_text import show_set
    from donjon.keys.shares import join as join_shares

    if out is not None and os.path.lexists(out):
        msg = f"{out}: exists, and a recovery kit never overwrites anything"
        raise Refused(msg, hint="Choose another file name.")
    made = join_shares(shares)
    if not made.is_protected or workspace.has_passphrase:
        read_kit(made.text, workspace.passphrase("Passphrase of the recovery kit: "))
    head, _ = kit_payload.decode(kit_text.to_payload(made.text, "joined kit"), "joined kit")
    if out is not None:
        create_private(out, made.text.encode())
    mark = kit_payload.show_fingerprint(head.fingerprint)
    identifier = shares[0].words.identifier
    return JoinedKit(made, mark, head.vault_name, head.vault_id, show_set(identifier))


def check_enough(shares: Sequence[Share]) -> None:
    """Raises ``KeyNotAvailable`` if no share was given and nobody can be asked for any."""
    if not shares:
        msg = "no share was given"
        raise KeyNotAvailable(
            msg, hint="Name the files of the shares, or run this on a terminal to type them."
        )
