"""Rebuilds what the index does not know from the footers of the packs."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.core.errors import IntegrityFailure, ObjectNotFound
from donjon.core.events import Progress
from donjon.format import names
from donjon.format.pack import (
    TRAILER_BYTES,
    Frame,
    Trailer,
    footer_key,
    footer_length,
    open_footer,
    parse_trailer,
)
from donjon.format.table import PackRow, build_table
from donjon.repository.index import Index
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo
from donjon.stores.first_versions import first_of_each

#: Parts of rebuilt tables are numbered from here on, so that they never meet a stored part.
_FIRST_PART = 9000
_PACKS_PER_TABLE = 512


@dataclass(frozen=True, slots=True)
class ReadFooter:
    """A pack as its own footer describes it."""

    writer: bytes
    row: PackRow
    frames: list[Frame]


def pack_digest(info_name: str) -> bytes:
    """The digest in the name of a pack. Raises ``IntegrityFailure`` for a name that holds none."""
    text = info_name.rpartition("/")[2]
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32 or info_name != names.pack(found):
        msg = f"{info_name}: is no name of a pack"
        raise IntegrityFailure(msg, hint="Something that is not Donjon's lies in the vault.")
    return found


def read_trailer(vault: Vault, name: str) -> Trailer:
    """The trailer of a pack, its signature checked; needs no key. Raises ``IntegrityFailure``."""
    trailer = parse_trailer(vault.store.get(name, offset=-TRAILER_BYTES), name)
    vault.verify_pack(trailer, name)
    return trailer


def read_footer(vault: Vault, info: ObjectInfo) -> ReadFooter:
    """The trailer and the footer of a pack, both checked. Raises ``IntegrityFailure``."""
    name = info.name
    trailer = read_trailer(vault, name)
    key = footer_key(vault.secret.index_key, trailer.writer, trailer.session, trailer.ordinal)
    length = footer_length(key, trailer, info.size_bytes, name)
    body_bytes = info.size_bytes - TRAILER_BYTES - length
    sealed = vault.store.get(name, offset=body_bytes, length=length)
    frames = open_footer(key, sealed, body_bytes, name)
    row = PackRow(
        pack_digest(name),
        trailer.session,
        trailer.ordinal,
        trailer.kind,
        info.size_bytes,
        info.retain_until or 0,
    )
    return ReadFooter(trailer.writer, row, frames)


def complete_index(
    vault: Vault, index: Index, progress: Progress, damaged: list[IntegrityFailure] | None = None
) -> bool:
    """Read the footers of all packs that the index does not know; whether there were any.

    Packs whose footers are damaged go into ``damaged``.
    """
    known = {row.name for _, row in index.packs()}
    gathered: dict[bytes, list[tuple[PackRow, list[Frame]]]] = {}
    found = False
    part = _FIRST_PART

    for info in first_of_each(vault.store.list(names.PACKS)):
        try:
            if pack_digest(info.name) in known:
                continue
            footer = read_footer(vault, info)
        except (IntegrityFailure, ObjectNotFound) as error:
            if damaged is not None and isinstance(error, IntegrityFailure):
                damaged.append(error)
            continue
        progress.note(f"{info.name}: not in the index; read from its footer")
        found = True
        packs = gathered.setdefault(footer.writer, [])
        packs.append((footer.row, footer.frames))
        if len(packs) == _PACKS_PER_TABLE:
            index.add(footer.writer, 0, part, build_table(packs))
            gathered.pop(footer.writer)
            part += 1
    for writer, packs in gathered.items():
        index.add(writer, 0, part, build_table(packs))
        part += 1
    return found
