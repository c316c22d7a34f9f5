"""A recovery kit as people print it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from donjon.core.errors import KeyNotAvailable
from donjon.keys.private import create_private


@dataclass(frozen=True, slots=True)
class Paper:
    """A kit to show: where it lies, its text and its QR code in block characters. All of it is secret."""

    kit: str
    text: str = field(repr=False)
    qr: str = field(repr=False)


def print_kit(kit: Path | None, page: Path | None) -> Paper:
    """The kit as it is, protected or not; no passphrase is needed. ``page`` is a new file of HTML.

    Raises ``KeyNotAvailable`` if there is no kit or it is damaged, ``Refused`` if ``page`` exists.
    """
    from donjon.keys.kit_paper import printable, qr_terminal
    from donjon.keys.recovery import load_text

    if kit is None:
        msg = "which recovery kit is to be printed?"
        raise KeyNotAvailable(msg, hint="Give it with --kit FILE or DONJON_KIT.")
    text = load_text(kit)
    html = printable(text)
    if page is not None:
        create_private(page, html.encode())
    return Paper(str(kit.absolute()), text, qr_terminal(text))
