"""The open rows of index objects, which say whose each pack is: no key is needed to read them."""

from __future__ import annotations

from blake3 import blake3

from donjon.codec.digest import DIGEST_BYTES, digest
from donjon.format.table import PackRow, pack_rows
from donjon.repository.cache import Cache, with_digest
from donjon.repository.index import read_index_object
from donjon.repository.vault import Vault


def read_rows(vault: Vault, cache: Cache, name: str) -> tuple[bytes, list[PackRow]]:
    """The writer of an index object and its rows, from the cache if they were read before.

    Raises ``IntegrityFailure``, ``ObjectNotFound``.
    """
    path = cache.path("rows", blake3(name.encode()).hexdigest(16))
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    if len(kept) > DIGEST_BYTES and digest(kept[:-DIGEST_BYTES]) == kept[-DIGEST_BYTES:]:
        writer, rows = kept[:16], kept[16:-DIGEST_BYTES]
    else:
        index = read_index_object(vault, name)
        writer, rows = index.writer, index.packs
        cache.write(path, with_digest([writer, rows]))
    return writer, pack_rows(rows, name)
